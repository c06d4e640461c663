"""`python -m carlreg`, and the command `carlreg`: signals and standard files are seen to before anything is loaded."""

import contextlib
import os
import signal
import sys
from typing import NoReturn

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_CANCELLED = 3


def run() -> NoReturn:
    """Run the command line and end the process: 0 done, 2 bad input, 3 cancelled, 1 anything else."""
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup, or a shell's job in the background
            signal.signal(number, _stop)
    if hasattr(signal, "SIGUSR1"):  # "stop here", of which the system would make an end; the worker is told otherwise
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    _open_standard_files()
    from .cli.main import main

    code = main(to_the_end=True)
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # what is done is done
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed or full, which has been said
            stream.flush()
    os._exit(code)


def _stop(*_) -> NoReturn:
    """Nothing has begun yet."""
    with contextlib.suppress(OSError):
        os.write(2, b"Cancelled: the run was stopped on request; nothing was written.\n")
    os._exit(_CANCELLED)


def _open_standard_files() -> None:
    """Put something in the place of standard files that are closed, else the next file that is opened takes it.

    What cannot be used: a write to a closed standard output is to fail, and not to end up in a result.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_WRONLY if number == 0 else os.O_RDONLY), True)


if __name__ == "__main__":
    run()
