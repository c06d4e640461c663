"""Numbers that a file can hold: JSON knows neither NaN nor infinity."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def finite(content: Any) -> tuple[Any, list[str]]:
    """The content with None for each number that is not finite, and where these were (`landmarks.after.mean_mm`)."""
    lost: list[str] = []

    def kept(value: Any, place: str) -> Any:
        if isinstance(value, dict):
            return {key: kept(one, f"{place}.{key}" if place else str(key)) for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            return [kept(one, place) for one in value]
        if isinstance(value, np.ndarray):
            return kept(value.tolist(), place)
        if isinstance(value, (float, np.floating)) and not math.isfinite(value):
            lost.append(place)
            return None
        return value

    return kept(content, ""), list(dict.fromkeys(lost))
