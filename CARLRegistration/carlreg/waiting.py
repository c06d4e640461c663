"""How threads wait for each other: asleep. Spinning ones take many times as long as soon as other programs compute."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_VARIABLE = "OMP_WAIT_POLICY"


@contextmanager
def asleep() -> Iterator[None]:
    """What loads PyTorch for the first time in this process loads it with threads that sleep while they wait.

    The OpenMP library asks the environment once, when it is loaded; afterwards the environment is as before. A choice
    of the user's own counts, and a PyTorch that is there already stays as it is.
    """
    if _VARIABLE in os.environ or "torch" in sys.modules:
        yield
        return
    os.environ[_VARIABLE] = "passive"
    try:
        yield
    finally:
        os.environ.pop(_VARIABLE, None)
