"""What goes wrong during a run: one clear line, the right exit code, nothing half written."""

from __future__ import annotations

import pytest
import SimpleITK as sitk
from carlreg.cli import worker

from .command import carlreg, names

RAISED = {
    "MemoryError()": "needed more memory than is free",
    "RuntimeError('[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can\\'t allocate memory')": "more memory",
    "RuntimeError('CUDA out of memory. Tried to allocate 2.00 GiB')": "more memory than is free on the GPU",
    "RuntimeError('Exception thrown in SimpleITK: std::bad_alloc')": "more memory",
    "OSError(28, 'No space left on device')": "The disk is full",
    "OSError(27, 'File too large')": "The disk is full",
}


def assert_failed(outcome, tmp_path, pair, code=1):
    assert outcome.code == code
    assert names(tmp_path) == [pair[0].parent.name]


@pytest.mark.parametrize("raised", RAISED)
@pytest.mark.parametrize("where", ["registration", "outputs"])
def test_out_of_memory_or_disk(pair, tmp_path, fakes, raised, where):
    head = {"registration": "def run(progress):", "outputs": "import errno\ndef write(folder, progress):"}[where]
    folder_of_fakes = fakes(**{where: f"{head}\n    raise {raised}\n"})
    outcome = carlreg("register", *pair, "--out", tmp_path / "out", "--progress", "none", fakes=folder_of_fakes)
    assert_failed(outcome, tmp_path, pair)
    assert outcome.err.count("\n") == 1 and RAISED[raised] in outcome.err and outcome.out == ""


def test_a_defect_is_reported_with_its_traceback(pair, tmp_path, fakes):
    code = "def write(folder, progress):\n    return 1 / 0"
    outcome = carlreg("register", *pair, "--out", tmp_path / "out", fakes=fakes(outputs=code))
    assert_failed(outcome, tmp_path, pair)
    assert "ZeroDivisionError: division by zero" in outcome.err and "Please report it" in outcome.err


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "lack of memory"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "crashed (signal 11)"),
        ("os.write(2, b'terminate called: std::bad_alloc'); os.abort()", "lack of memory"),
        ("os.write(2, b''); os._exit(1)", "stopped with code 1"),
    ],
)
def test_ended_by_the_system_or_a_library(pair, tmp_path, fakes, how, message):
    code = f"import signal\ndef write(folder, progress):\n    {how}"
    outcome = carlreg("register", *pair, "--out", tmp_path / "out", "--progress", "none", fakes=fakes(outputs=code))
    assert_failed(outcome, tmp_path, pair)
    assert outcome.err.count("\n") == 1 and message in outcome.err


@pytest.mark.parametrize(
    ("how", "code", "message"),
    [
        (
            "signal.SIGSEGV",
            2,
            "moving image (moving.nrrd): cannot be read: the library that reads it crashes on it (signal 11); it is "
            "damaged, or not what its name says. Copy it again, or save it as .nrrd or .nii.gz",
        ),
        ("signal.SIGABRT", 2, "(signal 6)"),
        ("signal.SIGKILL", 1, "lack of memory"),
    ],
)
def test_a_reader_that_crashes_is_bad_input(pair, tmp_path, fakes, how, code, message):
    """The crash of a library in the process that computes: a file is to blame while it is read, and only then."""
    moving = pair[1].with_name("moving.nrrd")
    sitk.WriteImage(sitk.ReadImage(str(pair[1])), str(moving))
    crash = f"import os, signal, SimpleITK as s\ns.ImageFileReader.Execute = lambda _: os.kill(os.getpid(), {how})"
    command = ["register", pair[0], moving, "--out", tmp_path / "out", "--progress", "none"]
    outcome = carlreg(*command, fakes=fakes(first=crash))
    assert_failed(outcome, tmp_path, pair, code)
    assert outcome.err.count("\n") == 1 and message in outcome.err


def test_what_libraries_print_is_shown_only_with_a_defect(pair, tmp_path, fakes):
    noise = "def write(folder, progress):\n    os.write(2, b'HDF5-DIAG: error')\n    "
    for fate, shown in (("return", False), ("raise MemoryError", False), ("1 / 0", True), ("os.abort()", True)):
        out = tmp_path / f"out{len(fate)}"
        outcome = carlreg("register", *pair, "--out", out, "--progress", "none", fakes=fakes(outputs=noise + fate))
        assert (outcome.code == 0) == (fate == "return")
        assert ("HDF5-DIAG" in outcome.err) == shown


def test_typed_errors_keep_their_code(pair, tmp_path, fakes):
    for kind, code in (("CheckpointError", 2), ("OptimizationDiverged", 1), ("DeviceError", 2)):
        fake = f"from carlreg import errors\ndef run(progress):\n    raise errors.{kind}('said so')"
        outcome = carlreg("register", *pair, "--out", tmp_path / "out", fakes=fakes(registration=fake))
        assert_failed(outcome, tmp_path, pair, code)
        assert "Error: said so" in outcome.err


def test_too_little_memory_is_refused_before_the_run(pair, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("carlreg.registration.machine.memory_mb", lambda *a: 1e9 if a[-1].grid > 100 else 1.0)
    monkeypatch.setattr("carlreg.registration.run.prepare_pair", lambda *_: pytest.fail("the run has begun"))
    code = worker.main(["register", *map(str, pair), "--out", str(tmp_path / "out"), "--progress", "none"])
    assert code == 2 and names(tmp_path) == [pair[0].parent.name]
    said = capsys.readouterr().err
    assert "Not enough memory for this registration: about 976562.5 GB needed" in said
    assert "Choose --grid 96, or crop the images" in said


def test_earlier_result_stays_after_an_error(pair, tmp_path, fakes):
    out = tmp_path / "out"
    assert carlreg("register", *pair, "--out", out, fakes=fakes()).code == 0
    written = (out / "quality.json").stat().st_mtime_ns
    broken = fakes(outputs="def write(folder, progress):\n    raise MemoryError")
    assert carlreg("register", *pair, "--out", out, "--overwrite", fakes=broken).code == 1
    assert names(tmp_path) == sorted([pair[0].parent.name, "out"])
    assert (out / "quality.json").stat().st_mtime_ns == written
    assert carlreg("register", *pair, "--out", out, "--overwrite", fakes=fakes()).code == 0
    assert (out / "quality.json").stat().st_mtime_ns > written


def test_same_file_twice_is_a_warning(pair, tmp_path, fakes):
    outcome = carlreg("register", pair[0], pair[0], "--out", tmp_path / "out", fakes=fakes())
    assert outcome.code == 0
    assert "Warning: Fixed and moving are the same volume" in outcome.out
