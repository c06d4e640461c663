"""Rows of numbers in text files, and how large one may be."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ..errors import InputError
from ..text_files import shown

FARTHEST_MM = 1e7  # ten kilometers: nothing of a patient lies beyond it, and all that is computed stays finite
_PLAIN = re.compile(r"[0-9eE+\-.]*")


def numbers_of(words: Sequence[str], where: str) -> np.ndarray:
    """The words as float64. Raises InputError, which begins with `where`, for what is no finite number."""
    try:
        if not _PLAIN.fullmatch("".join(words)):
            raise ValueError  # noqa: TRY301 (such as nan, or 1_0)
        values = np.array(words, dtype=np.float64)
    except ValueError as error:
        wrong = next((word for word in words if not _is_number(word)), "")
        raise InputError(f"{where}: expected finite numbers, got {shown(wrong)}. The file is damaged.") from error
    return values


def within_reach(values: np.ndarray, where: str) -> np.ndarray:
    """The values (mm, or factors), when all are finite and within ten kilometers. Raises InputError."""
    bad = int(values.size - np.count_nonzero(np.abs(values) <= FARTHEST_MM))
    if bad:
        raise InputError(
            f"{where}: expected finite numbers (mm, up to ten kilometers), got {bad} that are NaN, infinite or larger."
        )
    return values


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return bool(_PLAIN.fullmatch(word))
