"""Habits that ruff cannot check."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENGINE = ROOT / "CARLRegistration" / "carlreg"
MOST_LINES, MOST_MEGABYTES, MOST_MEGABYTES_IN_ALL = 400, 30, 90


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    """The files that belong to the project."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [path for name in done.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


def test_errors_are_typed():
    """Nothing is raised as a RuntimeError or BaseException; ruff sees to bare Exceptions and asserts."""
    raised = [
        (path.name, node.lineno)
        for path in ENGINE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
        if getattr(node.exc.func, "id", "") in ("RuntimeError", "BaseException")
    ]
    assert raised == []


def test_files_stay_readable(tracked):
    lines = {
        path.relative_to(ROOT).as_posix(): path.read_bytes().count(b"\n") for path in tracked if path.suffix == ".py"
    }
    assert len(lines) > 300
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}


def test_line_ends(tracked):
    with_cr = []
    for path in tracked:
        content = path.read_bytes()
        if b"\0" not in content[:8000] and b"\r" in content:
            with_cr.append(path.relative_to(ROOT).as_posix())
    assert with_cr == []


def test_sizes(tracked):
    sizes = {path.relative_to(ROOT).as_posix(): path.stat().st_size / 2**20 for path in tracked}
    assert {name: size for name, size in sizes.items() if size > MOST_MEGABYTES} == {}
    assert sum(sizes.values()) < MOST_MEGABYTES_IN_ALL


def test_nothing_built_is_tracked(tracked):
    names = {path.relative_to(ROOT).as_posix() for path in tracked}
    assert not [
        n for n in names if n.endswith((".pyc", ".egg-info", ".so")) or n.startswith(("demo_output/", ".venv/"))
    ]
