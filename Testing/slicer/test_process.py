"""The child process as Slicer runs it: progress through files, cancel, kill, nothing left."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from CARLRegistrationLib.engine.process import CANCELLED, DONE, EngineProcess, engine_environment

pytestmark = pytest.mark.cold_start


def wait(process, seconds=60.0):
    """Poll to the end; all reports."""
    end, reports = time.monotonic() + seconds, []
    while time.monotonic() < end:
        reports.append(process.poll())
        if not reports[-1].running:
            return reports
        time.sleep(0.02)
    process.kill()
    pytest.fail("still running")


def fake_engine(tmp_path, code) -> dict:
    """An environment in which `python -m carlreg` is this code."""
    folder = tmp_path / "fake"
    (folder / "carlreg").mkdir(parents=True)
    (folder / "carlreg" / "__init__.py").write_text("")
    (folder / "carlreg" / "__main__.py").write_text(textwrap.dedent(code))
    return engine_environment(None) | {"PYTHONPATH": str(folder)}


def is_alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


def test_records_arrive_as_they_are_written(tmp_path):
    code = """
        import json, sys, time
        for i in range(3):
            print(json.dumps({"stage": "optimize", "fraction": i / 2, "message": str(i)}), flush=True)
            time.sleep(0.3)
        print("not a record")
        print("for people", file=sys.stderr)
    """
    process = EngineProcess([], tmp_path, environment=fake_engine(tmp_path, code))
    reports = wait(process)
    assert [r["message"] for report in reports for r in report.records] == ["0", "1", "2"]
    assert len([report for report in reports if report.records]) == 3
    assert reports[-1].exit_code == DONE and process.log() == "for people\n"


def test_half_a_line_waits_for_its_end(tmp_path):
    code = """
        import sys, time
        sys.stdout.write('{"stage": "re'); sys.stdout.flush(); time.sleep(0.5); print('ad", "fraction": 0}')
    """
    process = EngineProcess([], tmp_path, environment=fake_engine(tmp_path, code))
    assert [r["stage"] for report in wait(process) for r in report.records] == ["read"]


@pytest.mark.parametrize("arguments", [["check"], ["models", "--json"]])
def test_the_real_engine_is_found_without_being_installed(tmp_path, arguments, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    process = EngineProcess(arguments, tmp_path)
    assert wait(process)[-1].exit_code == DONE
    assert "carl" in process.output()


def test_cancel_is_cooperative_first(tmp_path):
    code = """
        import sys
        assert sys.stdin.readline() == "cancel\\n"
        open("asked", "w").close()
        sys.exit(3)
    """
    process = EngineProcess([], tmp_path, environment=fake_engine(tmp_path, code))
    process.cancel()
    assert wait(process)[-1].exit_code == CANCELLED and (tmp_path / "asked").exists()


@pytest.mark.skipif(os.name == "nt", reason="looks into /proc")
def test_a_deaf_process_is_killed_with_its_children(tmp_path):
    code = """
        import subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        open("pids", "w").write(str(child.pid))
        time.sleep(600)
    """
    process = EngineProcess([], tmp_path, environment=fake_engine(tmp_path, code))
    while not (tmp_path / "pids").exists() or not (tmp_path / "pids").read_text():
        process.poll()
        time.sleep(0.02)
    grandchild = int((tmp_path / "pids").read_text())
    assert is_alive(grandchild)
    process.cancel()
    assert wait(process, 10.0)[-1].exit_code == CANCELLED
    time.sleep(0.1)
    assert not is_alive(grandchild) and not is_alive(process.pid)


def test_killed_from_outside(tmp_path):
    process = EngineProcess([], tmp_path, environment=fake_engine(tmp_path, "import time; time.sleep(600)"))
    os.kill(process.pid, signal.SIGKILL)
    assert wait(process)[-1].exit_code not in (DONE, CANCELLED)


def test_another_python_is_not_led_astray(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONHOME", "/somewhere")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/slicer/lib")
    environment = engine_environment("/usr/bin/python3")
    assert "PYTHONHOME" not in environment and "LD_LIBRARY_PATH" not in environment
    assert engine_environment("/usr/bin/python3", {"HOME": "/h"})["HOME"] == "/h"
    paths = environment["PYTHONPATH"].split(os.pathsep)
    assert (Path(paths[0]) / "carlreg" / "__main__.py").is_file() and len(paths) == 1


def test_no_python_there(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        EngineProcess(["check"], tmp_path, python=str(tmp_path / "nowhere"))


def test_torch_stays_out_of_this_process():
    code = "import sys, CARLRegistrationLib.engine.process, carlreg.resources, carlreg.phantom"
    code += "; print('torch' in sys.modules)"
    environment = engine_environment(None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
