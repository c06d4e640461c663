"""The figures of a pair that a cohort's table has, and which end of each is the worse one."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

#: Figures by column: where `quality.json` has them, what they are called, and which end is worse (+1 the high one).
FIGURES: dict[str, tuple[tuple[str, ...], str, int]] = {
    "lncc_before": (("similarity", "before", "lncc"), "Local correlation before", 0),
    "lncc_after": (("similarity", "after", "lncc"), "Local correlation after", -1),
    "mi_after": (("similarity", "after", "mi"), "Mutual information after", -1),
    "dice_before": (("labels", "before", "mean"), "Dice of the labels before", 0),
    "dice_after": (("labels", "after", "mean"), "Dice of the labels after", -1),
    "landmarks_before_mm": (("landmarks", "before", "mean_mm"), "Landmarks before, mean, mm", 0),
    "landmarks_after_mm": (("landmarks", "after", "mean_mm"), "Landmarks after, mean, mm", 1),
    "landmarks_worst_mm": (("landmarks", "after", "max_mm"), "Landmarks after, largest, mm", 1),
    "overlap_percent": (("overlap_percent",), "Overlap of the volumes, %", -1),
    "fold_percent": (("jacobian", "fold_percent"), "Folded voxels, %", 1),
    "jacobian_min": (("jacobian", "min"), "Smallest Jacobian", -1),
    "jacobian_max": (("jacobian", "max"), "Largest Jacobian", 1),
    "inverse_error_mm": (("inverse_error_mm", "mean"), "Error of the inverse, mm", 1),
    "uncertainty_median_mm": (("uncertainty", "median_mm"), "Uncertainty, median, mm", 1),
    "uncertainty_p90_mm": (("uncertainty", "p90_mm"), "Uncertainty, 90 % below, mm", 1),
}


@dataclass
class Row:
    """One pair. state: as the study says. outlier_of: columns in which it lies far on the worse side."""

    name: str
    state: str
    files: dict[str, str]
    verdict: str = ""
    reason: str = ""
    seconds: float | None = None
    peak_mb: float | None = None
    figures: dict[str, float] = field(default_factory=dict)
    outlier_of: list[str] = field(default_factory=list)


def figures_of(quality: dict[str, Any]) -> dict[str, Any]:
    """The figures of `FIGURES` that a `quality.json` has, and `verdict`."""
    found: dict[str, Any] = {"verdict": (quality.get("verdict") or {}).get("word", "")}
    for column, (keys, _, _) in FIGURES.items():
        value: Any = quality
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            found[column] = float(value)
    return found
