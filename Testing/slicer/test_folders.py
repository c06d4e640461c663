"""Temporary folders that cannot be removed at once, and paths as people type them."""

import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from CARLRegistrationLib.common import files

from .volumes import addVolume


@pytest.fixture
def held(monkeypatch):
    """As Windows after a forced kill: the first attempts to remove a folder fail. Set the number of them."""
    attempts = {"left": 0}
    remove = shutil.rmtree

    def rmtree(folder, ignore_errors=False, **options):
        if attempts["left"] > 0:
            attempts["left"] -= 1
            if not ignore_errors:
                raise PermissionError(13, "used by another process", str(folder))
        else:
            remove(folder, ignore_errors=ignore_errors, **options)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    return attempts


def newFolder(parent) -> Path:
    return Path(tempfile.mkdtemp(prefix=files.PREFIX, dir=parent))


def test_what_is_held_for_a_moment_is_removed(held, tmp_path):
    folder = newFolder(tmp_path)
    (folder / "log.txt").touch()
    held["left"] = 3
    files.removeFolder(folder)
    assert held["left"] == 0 and not folder.exists()
    files.removeFolder(folder)  # not there: nothing to do


def test_what_is_held_for_longer_is_removed_by_the_next(held, tmp_path):
    folder = newFolder(tmp_path)
    held["left"] = 1000
    files.removeFolder(folder)
    assert folder.exists()
    held["left"] = 0
    assert list(tmp_path.iterdir()) == [folder]
    files.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_stale_folders_go_and_others_stay(tmp_path):
    week = time.time() - 8 * 86400
    made = {}
    for name in ("stale", "kept", "busy"):
        made[name] = newFolder(tmp_path)
        (made[name] / "progress.jsonl").touch()
    files.keep(made["kept"])
    for folder in made.values():
        for path in (*folder.iterdir(), folder):
            os.utime(path, (week, week))
    os.utime(made["busy"] / "progress.jsonl")
    foreign = tmp_path / "other"
    foreign.mkdir()
    os.utime(foreign, (week, week))
    files.sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {made["kept"].name, made["busy"].name, "other"}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("~/weights.trch", "{home}/weights.trch"),
        ("weights.trch", "{here}/weights.trch"),
        ("./a/../weights.trch", "{here}/weights.trch"),
        ('  "{here}/with blank.trch" ', "{here}/with blank.trch"),
        ("{here}/weights.trch", "{here}/weights.trch"),
        ("", None),
        ("  ", None),
        (None, None),
    ],
)
def test_typed_paths(monkeypatch, tmp_path, typed, meant):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    places = {"home": str(tmp_path / "home"), "here": str(tmp_path)}
    found = files.typedPath(typed.format(**places) if typed else typed)
    assert found == (str(Path(meant.format(**places))) if meant else None)


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
@pytest.mark.parametrize("form", ["~/{name}", "{name}", "./{name}"])
def test_the_engine_gets_whole_paths(scene, moduleWidget, logic, tmp_path, monkeypatch, form):
    """The engine runs in a folder of its own, where a relative path leads elsewhere, and knows no `~`."""
    import json

    from carlreg.settings import RegistrationSettings
    from CARLRegistrationLib.common.errors import RegistrationError

    def volume(name):
        return addVolume(np.arange(729, dtype=np.int16).reshape(9, 9, 9), np.eye(4), name)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    fit = json.dumps({"python": "3.12.0", "missing": {}, "devices": []})
    script = tmp_path / "engine python"
    copy = f"cp settings.json {tmp_path}/got.json; echo 'Error: stopped here' >&2; exit 2"
    script.write_text(f"#!/bin/sh\nif [ $3 = check ]; then echo '{fit}'; exit 0; fi\n{copy}\n")
    script.chmod(0o755)
    (tmp_path / "my weights.trch").write_bytes(b"x")
    settings = RegistrationSettings(weights=form.format(name="my weights.trch"))
    with pytest.raises(RegistrationError, match="stopped here"):
        logic.register(volume("a"), volume("b"), settings=settings, enginePython=form.format(name="engine python"))
    assert json.loads((tmp_path / "got.json").read_text())["weights"] == str(tmp_path / "my weights.trch")
    for options in ({"enginePython": "~/nowhere"}, {"settings": RegistrationSettings(weights="~/nowhere")}):
        with pytest.raises(RegistrationError, match=f"{tmp_path}/nowhere is not there"):
            logic.register(volume("a"), volume("b"), **options)


def test_a_new_task_sweeps(host, scene, moduleWidget, tmp_path, monkeypatch):
    import slicer
    from CARLRegistrationLib.engine.task import Task

    monkeypatch.setattr(slicer.app, "temporaryPath", str(tmp_path))
    left = newFolder(tmp_path)
    monkeypatch.setattr(files, "_STALE_SECONDS", -1.0)
    task = Task()
    assert not left.exists() and task.folder.parent == tmp_path
    task.close()
    assert list(tmp_path.iterdir()) == []
