"""The uncertainty of a registration as a file on the fixed grid, and its figures over the body."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..io.nifti_writing import rounded_mantissa, write_nifti_gz
from ..physical.uncertainty import QUANTITIES, Uncertainty
from ..quality.metrics import uncertainty_figures
from ..spaces import VolumeGrid

UNCERTAINTY = "uncertainty.nii.gz"
_SIGNIFICANT_BITS = 8


def write_uncertainty(uncertainty: Uncertainty, grid: VolumeGrid, body: np.ndarray, folder: Path) -> dict:
    """Write the 90 % bound as `uncertainty.nii.gz` and return the block for `quality.json`.

    Args: grid: the fixed volume's; body: (D, H, W) bool on it. Raises OSError when the disk does not take it.
    """
    bound = uncertainty.on_grid(grid, "bound")
    write_nifti_gz(folder / UNCERTAINTY, rounded_mantissa(bound, _SIGNIFICANT_BITS), grid, QUANTITIES["bound"])
    found = uncertainty_figures(bound, body)
    if found is None:
        found = {"mean_mm": None, "median_mm": None, "p90_mm": None, "unknown_percent": 100.0}
    return {**found, "meaning": uncertainty.meaning}
