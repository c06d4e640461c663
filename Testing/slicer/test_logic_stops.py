"""Runs that are stopped, and engines that fail or are another Python's."""

# ruff: noqa: F811 (fixtures that are imported)
import os
import signal
import time

import pytest

from .test_logic import (  # noqa: F401
    contents,
    engineIsGone,
    landmarkError,
    pair,
    settings,
    temporary,
    truth,
)


class Callbacks:
    """What a run that is not waited for says."""

    def __init__(self) -> None:
        self.statuses, self.results, self.errors = [], [], []

    def arguments(self) -> dict:
        return {"onStatus": self.statuses.append, "onDone": self.results.append, "onFailed": self.errors.append}

    @property
    def over(self) -> bool:
        return bool(self.results or self.errors)


def started(host, logic, pair, until="optimize", **options):
    """A run that has come to a stage."""
    callbacks = Callbacks()
    given = settings(io_steps=400)
    assert logic.register(*pair, wait=False, settings=given, **callbacks.arguments(), **options) is None
    host.process_events(until=lambda: callbacks.over or any(s.stage == until for s in callbacks.statuses))
    assert not callbacks.over and logic.isRunning
    return callbacks, logic._registration.task.process.pid


def test_cancel(host, logic, pair, temporary, heldEngine):
    from CARLRegistrationLib.common.errors import RegistrationCancelled

    before = contents()
    callbacks, pid = started(host, logic, pair)
    logic.cancel()
    host.process_events(until=lambda: callbacks.over)
    assert isinstance(callbacks.errors[0], RegistrationCancelled) and callbacks.results == []
    assert contents() == before and list(temporary.iterdir()) == [] and engineIsGone(pid)
    assert not logic.isRunning and not logic.canUndo


def test_scene_closed_in_mid_run(host, logic, pair, temporary, heldEngine):
    callbacks, pid = started(host, logic, pair)
    host.close_scene()
    assert engineIsGone(pid)  # it does not wait for the run's end
    assert not logic.isRunning and "ended with the scene" in str(callbacks.errors[0])
    assert list(temporary.iterdir()) == []
    host.process_events(seconds=0.5)
    assert callbacks.results == [] and len(callbacks.errors) == 1


def test_child_killed_from_outside(host, logic, pair, temporary, heldEngine):
    before = contents()
    callbacks, pid = started(host, logic, pair)
    os.killpg(pid, signal.SIGKILL)
    host.process_events(until=lambda: callbacks.over)
    (error,) = callbacks.errors
    assert error.unexpected and "stopped unexpectedly" in str(error)
    assert contents() == before and list(temporary.iterdir()) == []


def test_one_at_a_time(host, logic, pair, heldEngine):
    from CARLRegistrationLib.common.errors import RegistrationError

    callbacks, _pid = started(host, logic, pair, until="prepare")
    with pytest.raises(RegistrationError, match="is running"):
        logic.register(*pair)
    logic.cancel()
    host.process_events(until=lambda: callbacks.over)


def fakeEngine(tmp_path, code):
    """A Python whose `-m carlreg` is this code: a script that stands for the interpreter."""
    script = tmp_path / "python"
    fit = """{"python": "3.12.0", "missing": {}, "devices": []}"""
    script.write_text(f"#!/bin/sh\nif [ $3 = check ]; then echo '{fit}'; exit 0; fi\n{code}\n")
    script.chmod(0o755)
    return str(script)


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
@pytest.mark.parametrize(
    ("code", "message", "unexpected"),
    [
        ("echo 'Error: The disk is full; nothing was written.' >&2; exit 1", "The disk is full", False),
        ("echo 'Error: Not enough memory. Choose --grid 96.' >&2; exit 2", "Choose Network size 96", False),
        ("echo 'Traceback: boom' >&2; exit 1", "stopped unexpectedly", True),
        ("kill -SEGV $$", "stopped unexpectedly", True),
        ("exit 0", "could not be loaded", True),
    ],
)
def test_what_the_engine_says_arrives(logic, pair, tmp_path, temporary, code, message, unexpected):
    from CARLRegistrationLib.common.errors import RegistrationError

    before = contents()
    python = fakeEngine(tmp_path, code)
    with pytest.raises(RegistrationError, match=message) as caught:
        logic.register(*pair, enginePython=python)
    assert caught.value.unexpected == unexpected
    assert contents() == before and list(temporary.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("exit 1", "no Python that can run the engine"),
        ("echo hello", "no Python that can run the engine"),
        ("""echo '{"python": "3.8.1", "missing": {}, "devices": []}'""", "Python 3.8.1 is too old"),
        ("""echo '{"python": "3.12.0", "missing": {"torch": "x"}, "devices": []}'""", "Missing there: torch"),
    ],
)
def test_another_python_is_checked_before_use(logic, pair, tmp_path, temporary, answer, message):
    from CARLRegistrationLib.common.errors import RegistrationError

    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\nif [ $3 = check ]; then {answer}; exit $?; fi\ntouch {tmp_path}/used\n")
    script.chmod(0o755)
    before = contents()
    with pytest.raises(RegistrationError, match=message):
        logic.register(*pair, enginePython=str(script))
    assert not (tmp_path / "used").exists() and contents() == before and list(temporary.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_cancel_while_another_python_is_checked(host, logic, pair, tmp_path, temporary):
    from CARLRegistrationLib.common.errors import RegistrationCancelled

    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexec sleep 600\n")
    script.chmod(0o755)
    callbacks = Callbacks()
    logic.register(*pair, wait=False, enginePython=str(script), **callbacks.arguments())
    host.process_events(until=lambda: callbacks.statuses and callbacks.statuses[-1].stage == "check")
    logic.cancel()
    host.process_events(until=lambda: callbacks.over)
    assert isinstance(callbacks.errors[0], RegistrationCancelled) and list(temporary.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_cancel_when_another_python_has_just_answered(pair, tmp_path, temporary, moduleWidget):
    """The answer is there, but nobody has asked for it yet: the job is not given to it any more."""
    from CARLRegistrationLib.common.errors import RegistrationCancelled
    from CARLRegistrationLib.common.polling import waitFor
    from CARLRegistrationLib.register.job import Job
    from CARLRegistrationLib.register.run import RegistrationRun

    run = RegistrationRun(Job(*pair, enginePython=fakeEngine(tmp_path, f"touch {tmp_path}/used")))
    run.start()
    check = run._check._task.process._process
    while check.poll() is None:
        time.sleep(0.01)
    run.cancel()
    assert run.cancelling
    with pytest.raises(RegistrationCancelled):
        waitFor(run)
    assert not (tmp_path / "used").exists() and list(temporary.iterdir()) == []


@pytest.mark.whole
def test_another_python_does_the_job(logic, pair, truth):
    """This one, by its path: as an environment of the user's would."""
    import sys

    result = logic.register(*pair, settings=settings(), enginePython=sys.executable, createInverse=False)
    assert landmarkError(result.nodes["transform"], truth) < 4.0
