"""All or nothing: results appear whole, and an earlier one is there until then."""

from __future__ import annotations

import os
import time

import pytest
from carlreg.atomic import check_file, check_folder, cleaner, staged_file, staged_folder
from carlreg.errors import InputError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_folder_appears_at_the_end(tmp_path):
    with staged_folder(tmp_path / "a" / "out") as part:
        (part / "quality.json").write_text("1")
        assert not (tmp_path / "a" / "out").exists()
    assert names(tmp_path / "a") == ["out"] and names(tmp_path / "a" / "out") == ["quality.json"]


@pytest.mark.parametrize("out", ["out", "a/b/out"])
def test_nothing_stays_after_an_error(tmp_path, out):
    with pytest.raises(ZeroDivisionError), staged_folder(tmp_path / out) as part:
        (part / "quality.json").write_text("1")
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), staged_file(tmp_path / out) as part:
        part.write_text("1")
        raise ZeroDivisionError
    assert names(tmp_path) == []


def test_folders_of_a_killed_process_go_too_unless_something_is_in_them(tmp_path):
    (tmp_path / "there").mkdir()
    clean_up = cleaner(tmp_path / "there" / "a" / "b" / "out")
    (tmp_path / "there" / "a" / "b" / f".out.{os.getpid()}.part").mkdir(parents=True)
    (tmp_path / "there" / "a" / "other").write_text("x")
    clean_up()
    assert names(tmp_path / "there") == ["a"] and names(tmp_path / "there" / "a") == ["other"]
    (tmp_path / "there" / "a" / "other").unlink()
    clean_up()
    assert names(tmp_path) == ["there"] and names(tmp_path / "there") == []


def test_an_empty_folder_may_be_used(tmp_path):
    (tmp_path / "out").mkdir()
    with staged_folder(tmp_path / "out") as part:
        (part / "x").write_text("1")
    assert names(tmp_path) == ["out"] and names(tmp_path / "out") == ["x"]


def test_earlier_result_is_replaced_only_after_success(tmp_path):
    with staged_folder(tmp_path / "out") as part:
        (part / "quality.json").write_text("old")
        (part / "extra").write_text("old")
    with pytest.raises(InputError, match="not empty"), staged_folder(tmp_path / "out"):
        pass
    with pytest.raises(ZeroDivisionError), staged_folder(tmp_path / "out", overwrite=True):
        raise ZeroDivisionError
    assert (tmp_path / "out" / "quality.json").read_text() == "old"
    with staged_folder(tmp_path / "out", overwrite=True) as part:
        (part / "quality.json").write_text("new")
        assert (tmp_path / "out" / "quality.json").read_text() == "old"
    assert names(tmp_path) == ["out"] and names(tmp_path / "out") == ["quality.json"]
    assert (tmp_path / "out" / "quality.json").read_text() == "new"


def test_a_foreign_folder_is_never_overwritten(tmp_path):
    (tmp_path / "photo.jpg").write_text("dear")
    with pytest.raises(InputError, match="more than results of carlreg"):
        check_folder(tmp_path, overwrite=True)


def test_a_result_inside_a_staged_folder(tmp_path):
    with staged_folder(tmp_path / "out") as outer:
        with staged_folder(outer) as inner:
            (inner / "x").write_text("1")
        (outer / "y").write_text("1")
    assert names(tmp_path) == ["out"] and names(tmp_path / "out") == ["x", "y"]


@pytest.mark.parametrize("earlier_moved_away", [False, True])
def test_clean_up_after_a_killed_process(tmp_path, earlier_moved_away):
    out = tmp_path / "out"
    out.mkdir()
    (out / "quality.json").write_text("old")
    (tmp_path / f".out.{os.getpid()}.part").mkdir()
    (tmp_path / f".out.{os.getpid()}.part" / "warped.nii.gz").write_text("half")
    (tmp_path / f"..out.{os.getpid()}.part.{os.getpid()}.part").mkdir()
    if earlier_moved_away:
        out.rename(tmp_path / f".out.{os.getpid()}.old")
    cleaner(out)()
    assert names(tmp_path) == ["out"] and (out / "quality.json").read_text() == "old"


def test_two_runs_into_one_folder_keep_both_results(tmp_path, monkeypatch, caplog):
    with staged_folder(tmp_path / "out") as mine:
        (mine / "x").write_text("mine")
        monkeypatch.setenv("CARLREG_RUN", "another")
        with staged_folder(tmp_path / "out") as other:
            (other / "x").write_text("other")
        monkeypatch.delenv("CARLREG_RUN")
    assert names(tmp_path) == ["out", "out_2"] and "out_2" in caplog.text
    assert (tmp_path / "out" / "x").read_text() == "other" and (tmp_path / "out_2" / "x").read_text() == "mine"


def test_what_a_power_cut_left_goes_after_a_day(tmp_path):
    for name in (".out.1.part", ".out.2.part"):
        (tmp_path / name).mkdir()
    os.utime(tmp_path / ".out.1.part", (time.time() - 2 * 86400,) * 2)
    cleaner(tmp_path / "out")()
    assert names(tmp_path) == [".out.2.part"]


def test_files(tmp_path):
    with staged_file(tmp_path / "a" / "x.nii.gz") as part:
        assert part.name.endswith(".nii.gz")
        part.write_text("1")
        assert not (tmp_path / "a" / "x.nii.gz").exists()
    with pytest.raises(ZeroDivisionError), staged_file(tmp_path / "a" / "x.nii.gz") as part:
        part.write_text("2")
        raise ZeroDivisionError
    assert names(tmp_path / "a") == ["x.nii.gz"] and (tmp_path / "a" / "x.nii.gz").read_text() == "1"


@pytest.mark.parametrize("check", [lambda path: check_folder(path, False), check_file])
def test_places_that_cannot_be_written(tmp_path, check):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"nothing can be written|got a file"):
        check(tmp_path / "file" / "out")
    with pytest.raises(InputError, match="empty path"):
        check("")


def test_file_for_a_folder_and_folder_for_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="expected a folder for the results, got a file"):
        check_folder(tmp_path / "file", False)
    with pytest.raises(InputError, match="expected a file name, got a folder"):
        check_file(tmp_path)
