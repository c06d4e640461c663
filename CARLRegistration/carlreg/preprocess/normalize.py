"""Intensities to [0, 1], the same way for training, prediction and optimization."""

from __future__ import annotations

import numpy as np

CT_RANGE_HU = (-1000.0, 1000.0)


def guess_modality(array: np.ndarray) -> str:
    """'ct' when the values look like Hounsfield units, else 'mr'.

    Hounsfield units have air near -1000 and soft tissue around 0: much of the volume below -500 and much of it
    between -200 and 300. Unsigned or shifted images have no such values and count as 'mr'.
    """
    values = np.asarray(array).reshape(-1)
    values = values[:: max(1, values.size // 500_000)]
    if values.min() >= -150:
        return "mr"
    soft = np.mean((values > -200) & (values < 300))
    return "ct" if values.min() < -300 and soft > 0.02 else "mr"


def normalize(array: np.ndarray, modality: str) -> np.ndarray:
    """Float32 intensities in [0, 1].

    'ct': Hounsfield units clamped to [-1000, 1000]. 'mr': minimum .. 99.5th percentile of the non-background.
    """
    array = np.asarray(array, dtype=np.float32)
    if modality == "ct":
        low, high = CT_RANGE_HU
    else:
        low, high = mr_window(array)
    return np.clip((array - low) * (1.0 / (high - low)), 0.0, 1.0)


def mr_window(array: np.ndarray) -> tuple[float, float]:
    """Lower and upper intensity that become 0 and 1 for images without a fixed scale."""
    values = np.asarray(array).reshape(-1)
    values = values[:: max(1, values.size // 1_000_000)].astype(np.float32)
    low = float(np.percentile(values, 0.5))
    above = values[values > values.min()]  # padding and cut-away background do not shift the upper end
    values = above if above.size else values
    bright = float(np.percentile(values, 99.9))  # not the maximum: one hot voxel would hide the body
    body = values[values > low + 0.02 * (bright - low)]
    high = float(np.percentile(body, 99.5)) if body.size else float(values.max())
    return (low, high) if high > low else (float(values.min()), float(max(values.max(), values.min() + 1e-6)))
