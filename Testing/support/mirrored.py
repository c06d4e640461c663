"""Registrations without the look at the mirrored volume, a quarter of a small one: for tests of other things."""

from __future__ import annotations

import contextlib

import pytest

_KNOWN = {"as_given": 1.0, "mirrored": None, "ratio": None, "undecided": False}


@contextlib.contextmanager
def right_way_round():
    """Inside, every volume is taken for one that is not mirrored (registration/test_mirrored.py tests the look)."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("run", "linear"):
            patch.setattr(f"carlreg.registration.{module}.orientation_of", lambda *_: _KNOWN)
        yield
