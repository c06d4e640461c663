"""The one way to start the engine, read its messages and tidy up; with small programs in the engine's place."""

import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the engine's stand-in is a shell script")


@pytest.fixture
def temporary(host, scene, tmp_path, monkeypatch):
    """Where the folders of tasks are made."""
    import slicer

    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(slicer.app, "temporaryPath", str(folder))
    return folder


@pytest.fixture
def task(temporary, tmp_path, moduleWidget):
    """Makes a task whose engine is a shell script."""
    from CARLRegistrationLib.engine.task import Task

    def made(script: str) -> Task:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return Task(str(path), graceSeconds=0.2)

    return made


def result(task, seconds=600.0):
    from CARLRegistrationLib.common.polling import waitFor

    end = time.monotonic() + seconds
    found = waitFor(task, 0.01)
    assert time.monotonic() < end
    return found


def test_a_result_is_made_of_the_folder_which_is_gone_then(task, temporary):
    made = task('echo \'{"figures": {"files": [["a", 3]], "notes": ["one"]}}\'; echo 42 > answer')

    def finish(ended):
        return int((ended.folder / "answer").read_text()), ended.told()

    assert result(made.start(["any"], finish)) == (42, {"files": [["a", 3]], "notes": ["one"]})
    assert list(temporary.iterdir()) == []


def test_a_folder_can_be_kept(task, temporary):
    made = task("exit 0")
    made.keepFolder = True
    assert result(made.start(["any"])) is made and list(temporary.iterdir()) == [made.folder]


@pytest.mark.parametrize(
    ("script", "text", "unexpected"),
    [
        ("echo 'Error: a smaller --grid is needed' >&2; exit 2", "a smaller Network size is needed", False),
        ("echo 'Error: first' >&2; echo 'Error: --device: none' >&2; exit 1", "Device: none", False),
        ("echo 'Error: Please report it.' >&2; exit 1", "code 1). Please report this with the log. Please", True),
        ("echo 'no word' >&2; exit 1", "The engine stopped unexpectedly (code 1).", True),
    ],
)
def test_what_the_engine_says_is_said_in_the_panels_words(task, temporary, script, text, unexpected):
    from CARLRegistrationLib.common.errors import RegistrationCancelled, RegistrationError
    from CARLRegistrationLib.engine import words

    with pytest.raises(RegistrationError) as caught:
        result(task(script).start(["any"], words=words.REGISTER))
    assert text in str(caught.value) and caught.value.unexpected == unexpected and caught.value.log
    assert not isinstance(caught.value, RegistrationCancelled) and list(temporary.iterdir()) == []


def test_a_result_that_cannot_be_read_is_to_be_reported(task, temporary):
    from CARLRegistrationLib.common.errors import RegistrationError

    with pytest.raises(RegistrationError, match=r"could not be loaded.*nothing there") as caught:
        result(task("exit 0").start(["any"], lambda ended: (ended.folder / "nothing there").read_text()))
    assert caught.value.unexpected and list(temporary.iterdir()) == []


@pytest.mark.parametrize("how", ["cancel", "abort"])
def test_who_waits_for_a_task_that_is_ended_hears_of_it(task, temporary, how):
    from CARLRegistrationLib.common.errors import RegistrationCancelled

    made = task("sleep 60").start(["any"])
    assert made.poll() is None and not made.cancelling
    getattr(made, how)()
    with pytest.raises(RegistrationCancelled, match="nothing was changed"):
        result(made)
    assert made.cancelling and list(temporary.iterdir()) == []


def test_what_cannot_be_started_leaves_nothing(temporary, moduleWidget):
    from CARLRegistrationLib.common.errors import RegistrationError
    from CARLRegistrationLib.engine.task import Task, preparing

    with pytest.raises(RegistrationError, match="could not be started"), preparing(Task("/nowhere/python")) as made:
        made.start(["any"])
    with pytest.raises(RegistrationError, match="the disk may be full"), preparing(Task()) as made:
        Path(made.folder / "not there" / "a file").write_text("")
    assert list(temporary.iterdir()) == []


def test_the_poller_is_idle_when_it_calls_back(host, moduleWidget):
    from CARLRegistrationLib.common.errors import RegistrationError
    from CARLRegistrationLib.common.polling import Poller

    class Counting:
        """Two polls, then the result, or the error."""

        cancelling = False

        def __init__(self, end) -> None:
            self.left, self.end = 2, end

        def poll(self):
            self.left -= 1
            if self.left < 0 and isinstance(self.end, Exception):
                raise self.end
            return self.end if self.left < 0 else None

    poller, seen = Poller(1), []
    for end in ("result", RegistrationError("wrong")):
        followed = Counting(end)
        poller.follow(
            followed,
            lambda found: seen.append(("done", found, poller.task)),
            lambda error: seen.append(("failed", str(error), poller.task)),
            lambda running: seen.append(("running", running is poller.task)),
        )
        host.process_events(until=lambda: poller.task is None)
    running = [("running", True)] * 2
    assert seen == [*running, ("done", "result", None), *running, ("failed", "wrong", None)]
    poller.follow(Counting("late"), seen.append, seen.append)
    assert poller.forget().end == "late" and poller.forget() is None
