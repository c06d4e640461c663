"""For `make docs`: pages link to files of the repository as GitHub shows them; here pictures come along, and links to
anything else outside docs/ lead to the repository."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
# Folders whose pictures the pages show.
PICTURES = ("Resources/Screenshots", "Testing/benchmarks")
_OUTSIDE = re.compile(r"\]\(\.\./([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pictures to the site, under the paths that they have in the repository."""
    for folder in PICTURES:
        for path in sorted((ROOT / folder).glob("*.png")):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, config: MkDocsConfig, **_) -> str:
    """`../x.png` becomes the site's own copy, `../anything` an address in the repository."""

    def target(found: re.Match) -> str:
        path = found[1]
        return f"]({path})" if path.endswith(".png") else f"]({config.repo_url.rstrip('/')}/blob/main/{path})"

    return _OUTSIDE.sub(target, markdown)
