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


def wait(process, seconds=600.0):
    """Poll to the end; all reports. The time only ends a test that hangs."""
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
        import json, sys
        for i in range(3):
            print(json.dumps({"stage": "optimize", "fraction": i / 2, "message": str(i)}), flush=True)
            sys.stdin.readline()  # until it was read
        print("not a record")
        print("for people", file=sys.stderr)
    """
    process = EngineProcess([], tmp_path, environment=fake_engine(tmp_path, code))
    reports = []
    while not reports or reports[-1].running:
        reports.append(process.poll())
        if reports[-1].records:
            process._process.stdin.write(b"read\n")
            process._process.stdin.flush()
        time.sleep(0.01)
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
def test_a_deaf_process_is_killed_with_its_children(tmp_path, monkeypatch):
    monkeypatch.setattr("CARLRegistrationLib.engine.process.CANCEL_SECONDS", 0.5)
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
    assert wait(process)[-1].exit_code == CANCELLED
    until_gone(grandchild, process.pid)


def until_gone(*pids):
    end = time.monotonic() + 600
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < end
        time.sleep(0.01)


def launcher(tmp_path) -> str:
    """As PythonSlicer: sets up an environment of its own and starts the real Python as its child."""
    path = tmp_path / "PythonSlicer"
    path.write_text(
        f'#!/bin/sh\nexport LD_LIBRARY_PATH=/slicer/lib SLICER_HOME=/slicer\n"{sys.executable}" "$@"\nexit $?\n'
    )
    path.chmod(0o755)
    return str(path)


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
@pytest.mark.parametrize("end", ["cancel", "kill", "by itself"])
def test_through_a_launcher(tmp_path, monkeypatch, end):
    """What is started is not the engine's Python but its parent; the engine has the launcher's environment."""
    monkeypatch.setattr(sys, "executable", launcher(tmp_path))
    code = """
        import json, os, sys
        open("pid", "w").write(f"{os.getpid()} {os.environ.get('LD_LIBRARY_PATH')}")
        print(json.dumps({"stage": "read", "fraction": 0}), flush=True)
        sys.exit(3 if sys.stdin.readline() == "cancel\\n" else 0)
    """.replace("\\\\n", "\\n")
    process = EngineProcess([], tmp_path, environment=fake_engine(tmp_path, code))
    while not process.poll().records:
        time.sleep(0.01)
    pid, libraries = (tmp_path / "pid").read_text().split()
    assert int(pid) != process.pid and libraries == "/slicer/lib" and is_alive(int(pid))
    if end == "kill":
        process.kill()
    elif end == "cancel":
        process.cancel()
    else:
        process._process.stdin.write(b"go on\n")
        process._process.stdin.flush()
    code = wait(process)[-1].exit_code
    assert code == {"cancel": CANCELLED, "by itself": DONE}.get(end, code)
    until_gone(int(pid), process.pid)


def test_windows_kills_the_tree_without_a_console(tmp_path, monkeypatch):
    from CARLRegistrationLib.engine import process as module

    called = []
    process = EngineProcess([], tmp_path, environment=fake_engine(tmp_path, "import time; time.sleep(600)"))

    class Windows:
        def __getattr__(self, name):
            return getattr(subprocess, name)

        @staticmethod
        def run(command, **options):
            called.append((command, options))
            os.kill(process.pid, signal.SIGKILL)

    monkeypatch.setattr(module, "_WINDOWS", True)
    monkeypatch.setattr(module, "subprocess", Windows())
    process.kill()
    ((command, options),) = called
    assert command == ["taskkill", "/T", "/F", "/PID", str(process.pid)]
    assert options["creationflags"] & 0x08000000  # CREATE_NO_WINDOW
    assert module._own_group()["creationflags"] == 0x08000000 | 0x00000200


def test_killed_from_outside(tmp_path):
    process = EngineProcess([], tmp_path, environment=fake_engine(tmp_path, "import time; time.sleep(600)"))
    os.kill(process.pid, signal.SIGKILL)
    assert wait(process)[-1].exit_code not in (DONE, CANCELLED)


def test_another_python_is_not_led_astray(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONHOME", "/somewhere")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/slicer/lib")
    environment = engine_environment("/usr/bin/python3")
    assert "PYTHONHOME" not in environment and "LD_LIBRARY_PATH" not in environment
    # where it is known what Slicer was started in, that is the user's own
    given = {
        "HOME": "/h",
        "LD_LIBRARY_PATH": "/opt/cuda/lib",
        "DYLD_LIBRARY_PATH": "/usr/local/lib",
        "PYTHONHOME": "/x",
    }
    found = engine_environment("/usr/bin/python3", given)
    assert found["HOME"] == "/h" and "PYTHONHOME" not in found
    assert (found["LD_LIBRARY_PATH"], found["DYLD_LIBRARY_PATH"]) == ("/opt/cuda/lib", "/usr/local/lib")
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
