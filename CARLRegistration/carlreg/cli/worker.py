"""The computing half of the command line: `python -m carlreg.cli.worker ARGUMENTS`, started by the supervisor.

Reads its standard input: a line `cancel` asks the run to stop, a line `stop` its optimization to keep what it has; its
end means that the supervisor is gone.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress

from ..atomic import DISK_ERRORS, abandon, delivered
from ..errors import CarlError, ResourceError
from ..io.being_read import take_notes
from ..progress import Progress
from .console import Display, say, say_error
from .supervisor import (
    CANCEL,
    CANCELLED,
    FAILED,
    MEMORY_WORDS,
    REPORTED,
    STOP_HERE,
    UNEXPECTED,
    USER_STDERR,
    StopPolicy,
)

_DISK_WORDS = ("no space left", "disk full", "file too large", "disk quota exceeded")


def main(argv: Sequence[str] | None = None, progress: Progress | None = None) -> int:
    """Run one command in this process; returns 0 or a code for the supervisor. progress: carries the cancel flag."""
    from .main import COMMANDS, build_parser

    arguments = list(sys.argv[1:] if argv is None else argv)
    args = build_parser(arguments).parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    display = Display(getattr(args, "progress", "none"))
    progress = progress or Progress()
    progress.on_record = display.show
    command = COMMANDS[args.command]
    return guarded(lambda: command.run(args, progress, display), display, getattr(command, "STOP_POLICY", StopPolicy()))


def guarded(job, display: Display, policy: StopPolicy = StopPolicy()) -> int:  # noqa: B008 (frozen)
    """Call `job()`; turn what it raises into one clear line and a code for the supervisor."""
    earlier = len(delivered())

    def kept() -> str:
        places = ", ".join(map(str, delivered()[earlier:]))
        return f"the results are in {places}" if places else policy.kept

    try:
        job()
        display.close()
    except CarlError as error:
        display.close()
        if error.exit_code != CANCELLED:  # the supervisor tells about a cancel
            say_error(error)
        return REPORTED if error.exit_code == FAILED else error.exit_code
    except KeyboardInterrupt:
        display.close()
        return CANCELLED
    except BaseException as error:
        display.close()
        known = resource_error(error, policy)
        if known is not None:
            say_error(known)
            return REPORTED
        say(traceback.format_exc().rstrip())
        say(f"Error: an unexpected {type(error).__name__}; {kept()}. Please report it with all of this.")
        return UNEXPECTED
    if display.broken is not None:
        if len(delivered()) == earlier:
            say(f"Error: standard output could not be written ({display.broken}).")
            return REPORTED
        say(f"Standard output could not be written ({display.broken}); {kept()}.")
    return 0


def resource_error(error: BaseException, policy: StopPolicy = StopPolicy()) -> ResourceError | None:  # noqa: B008 (frozen)
    """The typed error when the machine ran out of memory or disk, else None."""
    text = str(error).lower()
    full = isinstance(error, (RuntimeError, ImportError)) and any(word in text for word in MEMORY_WORDS)
    if full or isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        device = " on the GPU" if "cuda out of memory" in text else ""
        return ResourceError(f"The run needed more memory than is free{device}; {policy.kept}. {policy.memory_remedy}")
    if (isinstance(error, OSError) and error.errno in DISK_ERRORS) or any(word in text for word in _DISK_WORDS):
        return ResourceError(f"The disk is full; {policy.kept}. Free some space, or choose another --out.")
    return None


def listen(progress: Progress) -> None:
    """Obey standard input from a thread: the lines `cancel` and `stop`; its end ends this process."""

    def read() -> None:
        pending = b""
        while True:
            try:
                block = os.read(0, 4096)
            except OSError:
                block = b""
            if not block:  # the supervisor died: nobody waits for the result
                with suppress(Exception):
                    abandon()
                os._exit(CANCELLED)
            pending += block
            *lines, pending = pending.split(b"\n")
            for line in lines:
                if line == CANCEL:
                    progress.cancel()
                elif line == STOP_HERE:
                    progress.stop_here()

    threading.Thread(target=read, name="carlreg-cancel", daemon=True).start()


def _speak_to_the_user() -> None:
    """Speak where the supervisor speaks; file descriptor 2 is left to the C libraries."""
    stream = os.environ.pop(USER_STDERR, None)
    if stream is not None:
        sys.stderr = open(int(stream), "w", buffering=1, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115


if __name__ == "__main__":
    _speak_to_the_user()
    take_notes()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path must not end a run on a terminal without its letters
    progress = Progress()
    listen(progress)
    code = main(progress=progress)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed or full, which has been said
            stream.flush()
    os._exit(code)  # skips the teardown of the libraries, which takes long and can crash
