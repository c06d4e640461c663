"""The volumes inside the report, for its viewer: small, 8 bits, as base64 NIfTI."""

from __future__ import annotations

import base64
import gzip
import math
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ...io import nifti_header
from ..sheet import BLUE, FOLD, RED, WHITE, window
from .case import ReportCase
from .pictures import UNCERTAIN, UNKNOWN, largest_shown

MAX_SIZE = 128
_MARK = 0  # the 8-bit value of a fold, or of what is unknown


def viewer_data(case: ReportCase, middle_ijk: list[int]) -> dict:
    """What the viewer takes: layers (key, name, unit, digits, colors, low, high, nifti), color maps, first place."""
    fixed_window = window(sitk.GetArrayViewFromImage(case.fixed))
    moving_window = window(sitk.GetArrayViewFromImage(case.warped))
    layers = [
        _layer("fixed", "Fixed", _reduced(case.fixed), "carlreg_gray", *fixed_window),
        _layer("warped", "Warped", _reduced(case.warped), "carlreg_gray", *moving_window),
        _layer("before", "Moving, before", _reduced(case.moving_before), "carlreg_gray", *moving_window),
        _marked("jacobian", "Determinant", *_log2(case.jacobian), -1.0, 1.0, "carlreg_jacobian", digits=2),
    ]
    if case.uncertainty_mm is not None:
        values, unknown, image = _known(case.uncertainty_mm)
        largest = largest_shown(case.uncertainty_mm)
        digits = max(1, 1 - math.floor(math.log10(largest)))
        colors = "carlreg_uncertainty"
        layers.append(_marked("uncertainty", "Uncertainty", values, unknown, image, 0.0, largest, colors, "mm", digits))
    point = case.fixed.TransformIndexToPhysicalPoint(middle_ijk)
    return {
        "layers": layers,
        "colors": {
            "carlreg_gray": _color_map((0, 0, 0), ((0, 0, 0), (255, 255, 255))),
            "carlreg_jacobian": _color_map(FOLD, (BLUE, WHITE, RED)),
            "carlreg_uncertainty": _color_map(UNKNOWN[0], UNCERTAIN),
        },
        "center_ras": [-point[0], -point[1], point[2]],
    }


def _factors(image: sitk.Image) -> list[int]:
    return [max(1, math.ceil(n / MAX_SIZE)) for n in image.GetSize()]


def _reduced(image: sitk.Image) -> sitk.Image:
    factors = _factors(image)
    return sitk.BinShrink(image, factors) if max(factors) > 1 else image


def _cells(image: sitk.Image, lowest) -> sitk.Image:
    """True (1) where any voxel of a cell is marked; `lowest`: a bool array on the image's lattice."""
    mask = sitk.GetImageFromArray(lowest.astype(np.float32))
    mask.CopyInformation(image)
    return _reduced(mask)


def _log2(jacobian: sitk.Image) -> tuple[np.ndarray, np.ndarray, sitk.Image]:
    """Base-2 logarithm of the determinant, where it folds, and the image whose geometry both have."""
    values = sitk.GetArrayViewFromImage(jacobian)
    folds = sitk.GetArrayFromImage(_cells(jacobian, values <= 0)) > 0
    small = _reduced(jacobian)
    return np.log2(np.maximum(sitk.GetArrayFromImage(small), 1e-3)), folds, small


def _known(uncertainty: sitk.Image) -> tuple[np.ndarray, np.ndarray, sitk.Image]:
    values = sitk.GetArrayFromImage(uncertainty)
    known = np.isfinite(values)
    filled = sitk.GetImageFromArray(np.where(known, values, 0.0).astype(np.float32))
    filled.CopyInformation(uncertainty)
    share = sitk.GetArrayFromImage(_cells(uncertainty, known))
    small = _reduced(filled)
    mean = sitk.GetArrayFromImage(small) / np.maximum(share, 1e-6)
    return mean, share < 0.5, small


def _layer(key: str, name: str, image: sitk.Image, colors: str, low: float, high: float) -> dict:
    values = np.clip((sitk.GetArrayViewFromImage(image) - low) * (255.0 / (high - low)), 0, 255)
    step = (high - low) / 255.0
    packed = _nifti(np.rint(values).astype(np.uint8), image, step, low)
    digits = max(0, min(6, 2 - math.floor(math.log10(high - low))))
    # What is darkest is black, not transparent as values below the window are.
    return _entry(key, name, packed, colors, low - step, high, "", digits)


def _marked(key, name, values, marked, image, low, high, colors, unit="", digits=2) -> dict:
    """Values in 1 to 255, marked voxels 0: below everything, with a color of their own."""
    step = (high - low) / 254.0
    codes = np.rint(np.clip((values - low) / step, 0, 254)).astype(np.uint8) + 1
    codes[marked] = _MARK
    return _entry(key, name, _nifti(codes, image, step, low - step), colors, low - step, high, unit, digits)


def _entry(key, name, nifti, colors, low, high, unit, digits) -> dict:
    return {
        "key": key,
        "name": name,
        "nifti": nifti,
        "colors": colors,
        "low": low,
        "high": high,
        "unit": unit,
        "digits": digits,
    }


def _nifti(codes: np.ndarray, like: sitk.Image, slope: float, intercept: float) -> str:
    """Base64 of a .nii.gz whose 8-bit values mean slope times value plus intercept."""
    image = sitk.GetImageFromArray(codes)
    image.CopyInformation(like)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "volume.nii"
        sitk.WriteImage(image, str(path))
        content = bytearray(path.read_bytes())
    nifti_header.put(content, "scl_slope", slope, intercept)
    return base64.b64encode(gzip.compress(bytes(content), compresslevel=6, mtime=0)).decode()


def _color_map(mark: tuple[int, int, int], stops) -> dict:
    """Of NiiVue: the mark's color at 0, then the stops spread over 1 to 255, all opaque."""
    rows = [mark, *stops]
    return {
        **{name: [int(color[n]) for color in rows] for n, name in enumerate("RGB")},
        "A": [255] * len(rows),
        "I": [0, *np.rint(np.linspace(1, 255, len(stops))).astype(int).tolist()],
    }
