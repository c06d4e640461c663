"""The small model between evidence and mm, kept as data: `weights/uncertainty.json`.

Of a place with evidence x_1 ... x_n (see `evidence`), in voxels of the network's grid:
    error = (m^2 + floor^2)^(1/2),  log m = b_0 + sum over i of b_i log(x_i + c_i),  b_i >= 0 for i > 0,
once for the expected error (fitted as the mean of a gamma distribution) and once for the bound (the 90 % quantile).
The more of any evidence, the larger both. The floors are chosen, not fitted: real scans differ by more than a smooth
motion, so that nothing much smaller than a voxel can be promised. Fitted by Testing/benchmarks/uncertainty.py on
generated pairs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from ..models.catalog import WEIGHTS_FOLDER

FILE = WEIGHTS_FOLDER / "uncertainty.json"
#: What is added to each evidence before its logarithm: where more of it begins to matter.
OFFSETS = {
    "attention": 1.0,
    "inverse_consistency": 0.5,
    "beyond_network": 0.2,
    "local_rest": 0.05,
    "local_attention": 0.3,
    "dissimilarity": 0.05,
    "edge": 0.1,
    "strain": 0.02,
}


@dataclass(frozen=True)
class Calibration:
    """expected, bound: 'constant' (b_0), 'floor', and b_i by the evidence's name; what is not named counts nothing."""

    expected: Mapping[str, float]
    bound: Mapping[str, float]

    def voxels(self, evidence: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """(expected error, 90 % bound) in network voxels, of the evidence's shape; the bound is never the smaller."""
        expected, bound = (self._of(numbers, evidence) for numbers in (self.expected, self.bound))
        return expected, np.maximum(bound, expected)

    @staticmethod
    def _of(numbers: Mapping[str, float], evidence: Mapping[str, np.ndarray]) -> np.ndarray:
        total = np.full(np.shape(next(iter(evidence.values()))), numbers["constant"])
        for name, factor in numbers.items():
            if name not in ("constant", "floor"):
                total = total + factor * np.log(np.asarray(evidence[name], dtype=np.float64) + OFFSETS[name])
        return np.hypot(np.exp(total), numbers["floor"])


@cache
def calibrations() -> dict:
    """What the file holds: model -> 'network' (without instance optimization) or 'final' -> `Calibration`."""
    content = json.loads(FILE.read_text(encoding="utf-8"))
    return {
        model: {stage: Calibration(**numbers) for stage, numbers in stages.items()}
        for model, stages in content["models"].items()
    }
