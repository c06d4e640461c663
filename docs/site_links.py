"""For `make docs`: pages link to files of the repository as GitHub shows them; here pictures come along, and links to
anything else outside docs/ lead to the repository."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
# Folders whose pictures the pages show.
PICTURES = ("Resources/Screenshots", "Testing/benchmarks")
_OUTSIDE = re.compile(r"\]\(\.\./([^)\s]+)\)")
_SCRIPT = re.compile(r"\]\((\w+\.py)\)")  # beside the page; no part of the site


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pictures to the site, under the paths that they have in the repository."""
    for folder in PICTURES:
        for path in sorted((ROOT / folder).glob("*.png")):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_) -> str:
    """`../x.png` becomes the site's own copy, `../anything` and scripts beside a page an address in the repository."""
    repository = f"{(config.repo_url or '').rstrip('/')}/blob/main"
    folder = f"{repository}/docs/{Path(page.file.src_uri).parent.as_posix()}"

    def target(found: re.Match) -> str:
        path = found[1]
        return f"]({path})" if path.endswith(".png") else f"]({repository}/{path})"

    return _SCRIPT.sub(rf"]({folder}/\1)", _OUTSIDE.sub(target, markdown))
