"""All or nothing: results appear whole, and an earlier one is there until then."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time

import pytest
from carlreg import atomic, processes
from carlreg.atomic import check_file, check_folder, claim_folder, cleaner, staged_file, staged_folder, staging
from carlreg.errors import InputError, ResourceError
from carlreg.leftovers import RUN_VARIABLE
from carlreg.processes import is_running, own_mark


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def hidden(folder, mark, state, *parts, number=1):
    """What a run of that mark would have left in a folder; returns the hidden folder."""
    made = folder / f".carlreg.{mark}.{number}.{state}"
    made.joinpath(*parts).mkdir(parents=True)
    return made


@pytest.fixture(scope="module")
def dead():
    """The mark of a process that is gone."""
    code = "from carlreg.processes import own_mark; print(own_mark())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


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
    hidden(tmp_path / "there" / "a" / "b", own_mark(), "part", "files", "out")
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
    (hidden(out, own_mark(), "part", "out") / "out" / "warped.nii.gz").write_text("half")
    if earlier_moved_away:
        (out / "quality.json").rename(hidden(out, own_mark(), "old") / "quality.json")
    assert cleaner(out)() is False
    assert names(tmp_path) == ["out"] and names(out) == ["quality.json"]
    assert (out / "quality.json").read_text() == "old"


def test_what_was_complete_when_a_process_was_killed_is_delivered(tmp_path):
    """Killed between the moves: the hidden folder says that all is there, so the rest is moved."""
    (tmp_path / "first.nii.gz").write_text("new")
    done = hidden(tmp_path, own_mark(), "done", "files1", number=7)
    (done / "files1" / "second.nii.gz").write_text("new")
    (tmp_path / "second.nii.gz").write_text("old")
    elsewhere = tmp_path / "elsewhere"
    (hidden(elsewhere, own_mark(), "part", "files0", number=7) / "files0" / "third.json").write_text("new")
    clean_up = cleaner(tmp_path / "first.nii.gz", tmp_path / "second.nii.gz", elsewhere / "third.json")
    assert clean_up() is True
    assert names(tmp_path) == ["elsewhere", "first.nii.gz", "second.nii.gz"] and names(elsewhere) == ["third.json"]
    assert (tmp_path / "second.nii.gz").read_text() == "new"
    assert clean_up() is False  # settled


def test_a_folder_that_was_complete_replaces_the_earlier_one(tmp_path):
    out = tmp_path / "out"
    (hidden(out, own_mark(), "old") / "quality.json").write_text("old")
    (hidden(out, own_mark(), "done", "out") / "out" / "quality.json").write_text("new")
    assert cleaner(out)() is True
    assert names(tmp_path) == ["out"] and names(out) == ["quality.json"]
    assert (out / "quality.json").read_text() == "new"


def test_the_supervisor_learns_that_all_was_delivered(tmp_path, monkeypatch):
    clean_up = cleaner(tmp_path / "x.json")
    monkeypatch.setenv(RUN_VARIABLE, own_mark())
    with staged_file(tmp_path / "x.json", final=False) as part:
        part.write_text("1")
    assert names(tmp_path) == ["x.json"] and clean_up() is False
    with staged_file(tmp_path / "x.json") as part:
        part.write_text("2")
    assert len(names(tmp_path)) == 2 and clean_up() is True
    assert names(tmp_path) == ["x.json"]


def test_two_runs_into_one_folder_keep_both_results(tmp_path, monkeypatch, caplog):
    with staged_folder(tmp_path / "out") as mine:
        (mine / "x").write_text("mine")
        monkeypatch.setenv("CARLREG_RUN", "another")
        with staged_folder(tmp_path / "out") as other:
            (other / "x").write_text("other")
        monkeypatch.delenv("CARLREG_RUN")
    assert {"out", "out_2"} <= set(names(tmp_path)) and "out_2" in caplog.text
    assert (tmp_path / "out" / "x").read_text() == "other" and (tmp_path / "out_2" / "x").read_text() == "mine"


@pytest.mark.parametrize("there", [False, True], ids=["new", "empty folder"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_claim_made_before_a_run_is_kept_when_another_was_faster(tmp_path, there, overwrite):
    """Neither result is thrown away, and each run knows where its own is."""
    out = tmp_path / "out"
    if there:
        out.mkdir()
    claims = [claim_folder(out, overwrite) for _ in range(3)]
    for number, claim in enumerate(claims):
        with staged_folder(claim) as folder:
            (folder / "quality.json").write_text(str(number))
    assert [claim.written.name for claim in claims] == ["out", "out_2", "out_3"]
    assert names(tmp_path) == ["out", "out_2", "out_3"]
    assert [(claim.written / "quality.json").read_text() for claim in claims] == ["0", "1", "2"]


def test_a_folder_that_cannot_be_replaced_itself_gets_the_files(tmp_path, monkeypatch):
    """A mount point, or a folder in one that is not ours: only what is in it can be written."""
    out = tmp_path / "out"
    out.mkdir()
    identity = out.stat().st_ino
    (out / "quality.json").write_text("old")
    with staged_folder(out, overwrite=True) as part:
        (part / "quality.json").write_text("new")
        (part / "input").mkdir()
        (part / "input" / "a").write_text("new")
    assert out.stat().st_ino == identity and names(out) == ["input", "quality.json"]
    assert (out / "quality.json").read_text() == "new" and names(tmp_path) == ["out"]


def test_what_a_dead_run_left_goes_with_the_next_run_there(tmp_path, dead):
    left = hidden(tmp_path, dead, "part", "files0")
    (left / "files0" / "big.nii.gz").write_text("half")
    mine = hidden(tmp_path, own_mark(), "part", "files0", number=99)
    cleaner(tmp_path / "something_else.nii.gz")
    assert names(tmp_path) == [mine.name]


def test_what_a_dead_run_had_moved_aside_comes_back(tmp_path, dead):
    (hidden(tmp_path, dead, "old") / "quality.json").write_text("dear")
    with staged_file(tmp_path / "other.json") as part:
        part.write_text("1")
    assert names(tmp_path) == ["other.json", "quality.json"]


def test_a_number_that_another_process_has_got_is_not_taken_for_it(dead):
    host, _, _ = own_mark().split("-")
    assert is_running(own_mark()) is True and is_running(dead) is False
    assert is_running(f"{host}-{os.getpid()}-123abc") is False
    assert is_running(f"00000000-{os.getpid()}-123abc") is None


@pytest.mark.skipif(sys.platform == "win32", reason="ps")
def test_without_proc_the_system_is_asked(monkeypatch, dead):
    """As on macOS; what it says of a process does not change."""
    monkeypatch.setattr(processes, "_began", processes._began_posix)
    mark = own_mark()
    assert mark == own_mark() and not mark.endswith("-0")
    assert is_running(mark) is True
    assert is_running(dead) is False


def test_what_the_system_does_not_tell_is_unknown(monkeypatch, dead):
    def hidden(_):
        raise OSError

    monkeypatch.setattr(processes, "_began_linux", hidden)
    monkeypatch.setattr(processes, "_began_posix", hidden)
    monkeypatch.setattr(processes, "_began_windows", hidden)
    assert own_mark().endswith("-0") and is_running(dead) is None and is_running(own_mark()) is None


def test_what_a_run_on_another_computer_left_goes_after_a_day(tmp_path):
    for number, age in ((1, 2 * 86400), (2, 3600)):
        found = hidden(tmp_path, "0badcafe-1-1", "part", "files0", number=number)
        for path in (found / "files0", found):
            os.utime(path, (time.time() - age,) * 2)
    cleaner(tmp_path / "out")()
    assert names(tmp_path) == [".carlreg.0badcafe-1-1.2.part"]


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


def test_two_files_are_delivered_together_or_not_at_all(tmp_path):
    with pytest.raises(ResourceError, match=r"b\.json: it is empty or was not written"), staging() as stage:
        stage.file(tmp_path / "a.json").write_text("1")
        stage.file(tmp_path / "there" / "b.json")
    assert names(tmp_path) == []
    with staging() as stage:
        stage.file(tmp_path / "a.json").write_text("1")
        stage.file(tmp_path / "there" / "b.json").write_text("2")
    assert names(tmp_path) == ["a.json", "there"] and names(tmp_path / "there") == ["b.json"]


def test_endings_are_small_while_written_and_as_asked_in_the_end(tmp_path):
    with staged_file(tmp_path / "RESULT.NII.GZ") as part:
        assert part.name == "RESULT.nii.gz"
        part.write_text("1")
    assert names(tmp_path) == ["RESULT.NII.GZ"]


def test_the_second_file_of_a_format_of_two_goes_along(tmp_path):
    with staged_file(tmp_path / "a.mhd") as part:
        part.write_text("ElementDataFile = a.raw")
        part.with_suffix(".raw").write_text("1")
    assert names(tmp_path) == ["a.mhd", "a.raw"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("moment", ["fsync", "write"])
def test_a_place_that_takes_no_more_leaves_nothing(tmp_path, monkeypatch, moment, code):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "quality.json").write_text("old")
    if moment == "fsync":
        monkeypatch.setattr(atomic.os, "fsync", fail)
    for out in (tmp_path / "x.json", tmp_path / "new" / "x.json"):
        expected = pytest.raises(ResourceError, match=f"{os.strerror(code)}.*nothing was left")
        with expected as caught, staged_file(out) as part:
            part.write_text("1")
            if moment == "write":
                fail()
        assert ("The disk is full" in str(caught.value)) == (code == errno.ENOSPC)
    with pytest.raises(ResourceError), staged_folder(tmp_path / "out", overwrite=True) as folder:
        (folder / "quality.json").write_text("new")
        if moment == "write":
            fail()
    assert names(tmp_path) == ["out"] and (tmp_path / "out" / "quality.json").read_text() == "old"


def test_a_place_that_was_taken_away_is_told(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "a"))

    monkeypatch.setattr(atomic.Path, "mkdir", refuse)
    expected = pytest.raises(ResourceError, match=r"x\.json could not be written.*Permission denied")
    with expected, staged_file(tmp_path / "a" / "x.json") as part:
        part.write_text("1")


def test_devices_and_names_that_cannot_be(tmp_path):
    if os.path.exists("/dev/null"):
        with pytest.raises(InputError, match="got a device"):
            check_file("/dev/null")
    with pytest.raises(InputError, match="longer than"):
        check_file(tmp_path / ("x" * 300))
    with pytest.raises(InputError, match="no user"):
        check_file("~nobody_of_that_name/x")
