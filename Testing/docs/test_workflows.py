"""The workflows and forms are well-formed and call what is there. They run on GitHub only."""

from __future__ import annotations

import re

import pytest
from support.documents import ROOT

from .commands import check_make, check_script

yaml = pytest.importorskip("yaml")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")


def each(paths):
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.name)


def steps(path) -> list[dict]:
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    assert all(job["timeout-minutes"] and job["runs-on"] for job in jobs.values())
    return [step for job in jobs.values() for step in job["steps"]]


def test_what_the_workflows_cover():
    texts = {path.stem: path.read_text(encoding="utf-8") for path in WORKFLOWS}
    assert set(texts) == {"tests", "smoke", "nightly", "slicer"}
    assert '["3.10", "3.13"]' in texts["tests"] and "windows-latest, macos-latest" in texts["smoke"]


@each(WORKFLOWS)
def test_workflow(path):
    """Actions are pinned by major version; make targets and scripts exist; nothing may write to the repository."""
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["permissions"] == {"contents": "read"}
    for step in steps(path):
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"]), step["uses"]
            continue
        for line in step["run"].splitlines():
            words = line.split()
            if words[0] == "make":
                check_make(words[1:])
            elif words[0] == "python" and words[1] != "-m":
                check_script(words[1:])
            elif words[:3] == ["python", "-m", "pytest"]:
                assert all((ROOT / word).is_dir() for word in words[3:])


@each(FORMS)
def test_form(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert form["name"] and form["description"]
    kinds = {"markdown", "textarea", "dropdown", "input", "checkboxes"}
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert {field["type"] for field in form["body"]} <= kinds
    assert len({field["id"] for field in fields}) == len(fields) >= 2
    assert all(field["attributes"]["label"] for field in fields)


def test_citation():
    """Names the version and license of the package, and the paper as a reference, not as the software itself."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    version = re.search(r'__version__ = "(.*)"', (ROOT / "CARLRegistration/carlreg/__init__.py").read_text("utf-8"))[1]
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert citation["version"] == version and citation["license"] == "Apache-2.0"
    assert "preferred-citation" not in citation
    assert any(reference["title"].startswith("CARL: A Framework") for reference in citation["references"])
