"""Links lead somewhere, pictures are shown, and the README stays short."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest
from support.documents import PAGES, README, ROOT, anchors, inline_code, links, pictures

MOST_LINES = 160
DOCS = ROOT / "docs"
METHODS = ("before", "carlreg", "ants", "elastix", "greedy", "convexadam")
# The benchmark's cases in each row of the table.
CASES = (
    ("lung",),
    ("lung_40",),
    ("lung_shifted",),
    ("lung_rot30",),
    ("lung_rot90",),
    ("lung_rot180",),
    ("brain",),
    ("eth18_1_10", "eth18_3_10"),
    ("eth19_1_6", "eth19_1_9"),
    ("abdomen_40",),
    ("abdomen_repainted",),
)
SCREENSHOTS = ROOT / "Resources" / "Screenshots"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page):
    for target in links(page):
        if target.startswith(("https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(file), f"{page.name}: {target}"


def test_readme_is_short_and_has_one_picture():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
    assert len(pictures(README)) == 1


def test_every_screenshot_is_shown():
    shown = {(page.parent / target).resolve() for page in PAGES for target in pictures(page)}
    assert set(SCREENSHOTS.glob("*.png")) <= shown


def test_every_page_is_linked_from_the_readme_and_the_site():
    names = {page.name for page in DOCS.glob("*.md")}
    linked = {target.partition("#")[0] for target in links(README)}
    assert {f"docs/{name}" for name in names - {"index.md"}} <= linked
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")[1].split("\n\n")[0]
    assert set(re.findall(r"[\w-]+\.md", navigation)) == names | {page.name for page in DOCS.glob("tutorials/*.md")}


def result_rows(page) -> list[list[str]]:
    """The cells of the results table, without the marks of the best."""
    table = page.read_text(encoding="utf-8").split("| case | measure |")[1].split("\n\n")[0]
    return [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_results_are_those_of_the_benchmark():
    """README and page have one table, and each figure is the stored one, rounded to as many digits as are told."""
    rows = result_rows(README)
    assert len(rows) == len(CASES) and rows == result_rows(DOCS / "results.md")
    stored = json.loads((ROOT / "Testing" / "benchmarks" / "results.json").read_text(encoding="utf-8"))["rows"]
    compared = 0
    for cases, (_, measure, *cells) in zip(CASES, rows, strict=True):
        for method, cell in zip(METHODS, cells, strict=True):
            for case, told in zip(cases, cell.split(" / "), strict=False):
                if told == "-":
                    assert method not in stored[case]
                    continue
                kinds = ("dice_mean",) if "Dice" in measure else ("landmarks_mean_mm", "map_mean_mm")
                found = next(stored[case][method][kind] for kind in kinds if kind in stored[case][method])
                digits = len(told.partition(".")[2])
                assert abs(found - float(told)) <= 0.51 * 10**-digits, (case, method)
                compared += 1
    assert compared == 6 * 12 + 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_named_in_sentences_exist(page):
    for code in inline_code(page):
        if re.match(r"(carlreg|CARLRegistrationLib|CARLRegistration|Testing|docs)/[\w./*-]+$", code):
            under = ROOT / "CARLRegistration" if code.startswith(("carlreg/", "CARLRegistrationLib/")) else ROOT
            assert list(under.glob(code.rstrip("/"))), f"{page.name}: {code}"


@pytest.mark.parametrize("package", ["carlreg", "CARLRegistrationLib"])
def test_the_map_of_the_code_is_complete(package):
    """The parts in the map of architecture.md are those on disk."""
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    lines = page.split(f"\nCARLRegistration/{package}/")[1].split("\n")[1:]
    told = " ".join(line[:120].split("  ")[1] for line in itertools.takewhile(lambda line: line[:2] == "  ", lines))
    parts = {Path(word).stem for word in told.split()}
    folder = ROOT / "CARLRegistration" / package
    there = {path.stem for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert parts == {name for name in there if not name.startswith("__")}
