"""The rooms of the Slicer side: each imports only from rooms below it, and no file imports itself over others."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

LIB = Path(__file__).resolve().parents[2] / "CARLRegistration" / "CARLRegistrationLib"
# From the ground up. register holds the whole panel and what it keeps in the scene, so it knows all other sections.
ROOMS = ("common", "mrml", "engine", "inspect", "transforms", "apply", "cohort", "series", "register")
MODULES = sorted(LIB.rglob("*.py"))
MOST_LINES = 400


def name_of(path: Path) -> str:
    return path.relative_to(LIB).with_suffix("").as_posix()


def imports_of(path: Path) -> set[str]:
    """The files of the Lib that a file imports, at its top or in functions; `room/file`. Type checking aside."""
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or id(node) in for_types:
            continue
        if node.level:
            base = list(path.relative_to(LIB.parent).parts[: -node.level])
        elif (node.module or "").startswith("CARLRegistrationLib"):
            base = []
        else:
            continue
        base += node.module.split(".") if node.module else []
        for alias in node.names:
            target = LIB.parent.joinpath(*base, alias.name).with_suffix(".py")
            if not target.is_file():
                target = LIB.parent.joinpath(*base).with_suffix(".py")
            if target.is_file():
                found.add(name_of(target))
    return found


def each_module():
    return pytest.mark.parametrize("path", MODULES, ids=name_of)


def test_the_rule_sees_imports():
    assert imports_of(LIB / "register" / "run.py") >= {"engine/task", "mrml/volumes", "register/job", "engine/words"}
    assert {path.parent.name for path in MODULES if path.parent != LIB} == set(ROOMS)


@each_module()
def test_rooms_import_downward(path):
    if path.parent == LIB:
        assert not imports_of(path)
        return
    allowed = ROOMS[: ROOMS.index(path.parent.name) + 1]
    assert {name.split("/")[0] for name in imports_of(path)} <= set(allowed)


def test_no_file_imports_itself_over_others():
    graph = {name_of(path): imports_of(path) for path in MODULES}
    reached = {name: set(below) for name, below in graph.items()}
    for _ in graph:
        reached = {name: below.union(*(graph[other] for other in below)) for name, below in reached.items()}
    assert [name for name, below in reached.items() if name in below] == []


@each_module()
def test_files_are_short_and_say_what_they_are_for(path):
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text))
    assert text.count("\n") <= MOST_LINES


# The files that may turn RAS into LPS: of the engine's matrices and of points.
RAS_TO_LPS = {"mrml/geometry", "mrml/transforms"}


@each_module()
def test_ras_becomes_lps_in_mrml_alone(path):
    text = path.read_text(encoding="utf-8")
    if name_of(path) not in RAS_TO_LPS:
        assert "LPS_FROM_RAS" not in text and "-1.0, -1.0, 1.0" not in text


@each_module()
def test_the_engine_is_started_in_one_place(path):
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    names = {getattr(call.func, "id", getattr(call.func, "attr", "")) for call in calls}
    if name_of(path) not in ("engine/task", "engine/process"):
        assert not names & {"EngineProcess", "mkdtemp", "engine_environment"}
    if name_of(path) != "engine/process":
        assert "Popen" not in names
