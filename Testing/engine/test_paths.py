"""Paths as users give them."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from carlreg.atomic import check_file, check_folder
from carlreg.cli.main import main
from carlreg.errors import InputError
from carlreg.io.checks import existing_path
from carlreg.paths import given_path
from carlreg.settings import RegistrationSettings
from carlreg.volumes import read_landmarks, read_transform, read_volume

posix = pytest.mark.skipif(os.name != "posix", reason="kinds of files that Windows has not")


def test_home_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert given_path("~/a.nii", "image") == tmp_path / "a.nii"
    assert given_path(Path("a") / "b", "image") == Path("a/b")


def test_a_file_may_begin_with_a_tilde(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("~results").mkdir()
    assert given_path("~results/a.nii", "image") == Path("~results/a.nii")
    assert given_path("./~results", "image") == Path("~results")


NO_PATHS = [
    ("", "empty path"),
    ("~nosuchuser/a.nii.gz", "no user 'nosuchuser'"),
    ("~nosuchuser", "no user 'nosuchuser'"),
    ("a\0b.nii", "zero byte"),
    ("\udcff.nii", "no UTF-8"),
    ("x" * 300 + ".nii.gz", "longer than the file system allows"),
    ("/".join(["x" * 200] * 30), "longer than the file system allows"),
]


@posix
@pytest.mark.parametrize(("text", "message"), NO_PATHS)
@pytest.mark.parametrize(
    "use",
    [
        check_file,
        lambda path: check_folder(path, True),
        read_volume,
        read_landmarks,
        read_transform,
        RegistrationSettings.from_json,
    ],
)
def test_what_is_no_path_is_refused_everywhere(use, text, message):
    with pytest.raises(InputError, match=message):
        use(text)
    assert not os.path.lexists("~nosuchuser")


@pytest.mark.parametrize(
    "arguments",
    [
        ["register", "~nosuchuser/f.nii", "m.nii", "--out", "r"],
        ["register", __file__, __file__, "--out", "~nosuchuser/r"],
        ["register", __file__, __file__, "--settings", "~nosuchuser/s.json", "--out", "r"],
        ["register", __file__, __file__, "--fixed-mask", "~nosuchuser/m.nii", "--out", "r"],
        ["register", __file__, __file__, "--landmarks", "~nosuchuser/l.csv", "--out", "r"],
        ["apply", "~nosuchuser/t.h5", __file__, "--out", "o.py"],
        ["apply", __file__, "~nosuchuser/a.nii", "--out", "o.nii"],
        ["apply", __file__, __file__, "--reference", "~nosuchuser/a.nii", "--out", "o.py"],
        ["apply", __file__, __file__, "--out", "~nosuchuser/o.py"],
        ["convert", "~nosuchuser/t.h5", "--out", "o.h5"],
        ["convert", __file__, "--out", "~nosuchuser/o.h5"],
        ["invert", "~nosuchuser/t.h5", "--out", "o.h5"],
        ["compose", "~nosuchuser/t.h5", __file__, "--out", "o.h5"],
        ["linear", "~nosuchuser/t.h5", "--out", "o.h5"],
        ["evaluate", "~nosuchuser/t.h5", "--fixed", __file__, "--moving", __file__, "--out", "q"],
        ["export", "~nosuchuser/r", "--out", "o"],
        ["report", "~nosuchuser/r"],
        ["demo", "--out", "~nosuchuser/d"],
        ["train", "run", "~nosuchuser/c.toml", "--out", "r"],
    ],
    ids=" ".join,
)
def test_an_unknown_home_is_bad_input_for_every_option(arguments, monkeypatch, tmp_path, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capfd.readouterr().err
    assert said.startswith("Error: ") and "Traceback" not in said
    assert not list(tmp_path.iterdir())


@posix
def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    began = time.monotonic()
    os.mkfifo(tmp_path / "pipe.nii.gz")
    (tmp_path / "device.csv").symlink_to("/dev/zero")
    for name in ("pipe.nii.gz", "device.csv"):
        with pytest.raises(InputError, match="a device or a pipe"):
            existing_path(tmp_path / name, "image")
    (tmp_path / "broken.nii").symlink_to(tmp_path / "gone.nii")
    with pytest.raises(InputError, match=r"a link to .*gone\.nii, which does not exist"):
        existing_path(tmp_path / "broken.nii", "image")
    (tmp_path / "circle.nii").symlink_to(tmp_path / "circle.nii")
    with pytest.raises(InputError, match="link that leads to itself"):
        existing_path(tmp_path / "circle.nii", "image")
    with pytest.raises(InputError, match="does not exist"):
        existing_path(tmp_path / "pipe.nii.gz" / "a.nii", "image")
    assert time.monotonic() - began < 2


@pytest.mark.skipif(sys.platform != "linux", reason="needs folders that nobody may look into")
def test_folders_that_may_not_be_looked_into(tmp_path):
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0)
    try:
        os.listdir(tmp_path / "closed")
    except PermissionError:
        with pytest.raises(InputError, match="cannot be opened"):
            existing_path(tmp_path / "closed" / "a.nii", "image")
    else:
        pytest.skip("this user may read everything")
    finally:
        (tmp_path / "closed").chmod(0o700)
