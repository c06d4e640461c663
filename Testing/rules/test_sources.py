"""Habits that a program can check."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENGINE = ROOT / "CARLRegistration" / "carlreg"
MODULES = sorted(ENGINE.rglob("*.py"))
MOST_LINES, MOST_MEGABYTES, MOST_MEGABYTES_IN_ALL = 700, 30, 90


def each_module():
    return pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ENGINE).as_posix())


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    """The files that belong to the project."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [path for name in done.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


@each_module()
def test_only_the_command_line_prints(path):
    if path.is_relative_to(ENGINE / "cli"):
        return
    calls = [node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    assert not [call for call in calls if isinstance(call, ast.Name) and call.id == "print"]


@each_module()
def test_grid_sample_lives_in_maps_only(path):
    if path.is_relative_to(ENGINE / "maps"):
        return
    names = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Attribute)]
    assert not [node.lineno for node in names if node.attr in ("grid_sample", "grid_sampler_3d", "affine_grid")]


@each_module()
def test_errors_are_typed(path):
    """No assert and no bare except; nothing is raised as a bare Exception."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        assert not isinstance(node, ast.Assert), f"line {node.lineno}: assert outside tests"
        assert not (isinstance(node, ast.ExceptHandler) and node.type is None), f"line {node.lineno}: bare except"
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            name = getattr(node.exc.func, "id", "")
            assert name not in ("Exception", "RuntimeError", "BaseException"), f"line {node.lineno}: raise {name}"


@each_module()
def test_modules_say_what_they_are_for_and_stay_readable(path):
    text = path.read_text(encoding="utf-8")
    assert text == "" or ast.get_docstring(ast.parse(text)), "no docstring"
    assert text.count("\n") <= MOST_LINES


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
