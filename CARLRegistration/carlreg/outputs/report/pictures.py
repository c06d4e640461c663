"""The report's slices as data URIs: before and after, overlays, checkerboards, differences, Jacobian, uncertainty."""

from __future__ import annotations

import base64
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..sheet import FOLD, diverging, gray, in_proportion, one_plane, volume_change, window
from .case import ReportCase

SIZE = 340  # pixels of a picture's longer side
CHECKS = 8  # fields of the checkerboard along a picture's longer side
PLANES = ("Axial", "Coronal", "Sagittal")
SIDES = (("R", "L"), ("R", "L"), ("A", "P"))
MONTAGE = (0.15, 0.325, 0.5, 0.675, 0.85)
# Dark blue for certain over violet and orange to light yellow.
UNCERTAIN = ((13, 8, 60), (84, 16, 120), (180, 50, 95), (240, 115, 45), (252, 245, 165))
UNKNOWN = ((138, 138, 138), (85, 85, 85))
UNSEEN = (168, 168, 168)
_LAYER = 0.7


@dataclass(frozen=True)
class Picture:
    """One slice: its data URI, the plane's name, and what lies left and right."""

    uri: str
    plane: str
    left: str
    right: str


class Slices:
    """Draws the slices of a case; rows are planes through the middle of what both images show."""

    def __init__(self, case: ReportCase) -> None:
        self.case = case
        self.windows = {
            "fixed": window(sitk.GetArrayViewFromImage(case.fixed)),
            "moving": window(sitk.GetArrayViewFromImage(case.warped)),
        }
        self.largest_mm = largest_shown(case.uncertainty_mm)
        # How much of the common part lies below each i, j, k.
        counts = [case.common.sum(axis=axes) for axes in ((0, 1), (0, 2), (1, 2))]
        self._below = [np.cumsum(count) / count.sum() for count in counts]
        self.middle = self._at(0.5)

    def _at(self, share: float) -> list[int]:
        """Index i, j, k below which, along its axis, so large a share of the common part lies."""
        return [int(np.searchsorted(below, share)) for below in self._below]

    def rows(self, kinds: list[str]) -> list[list[Picture]]:
        """Per plane a row of the named kinds."""
        return [[self._picture(kind, plane, self.middle) for kind in kinds] for plane in range(3)]

    def montage(self, plane: int, kinds: list[str]) -> list[list[Picture]]:
        """Per kind a row of slices of one plane, through the common part."""
        return [[self._picture(kind, plane, self._at(share)) for share in MONTAGE] for kind in kinds]

    def at_point(self, kind: str, center_lps) -> list[Picture]:
        """Three planes of one kind through a point, LPS mm."""
        index = self.case.fixed.TransformPhysicalPointToIndex([float(x) for x in center_lps])
        inside = [min(max(i, 0), n - 1) for i, n in zip(index, self.case.fixed.GetSize(), strict=True)]
        return [self._picture(kind, plane, inside) for plane in range(3)]

    def _picture(self, kind: str, plane: int, at_ijk) -> Picture:
        colors, mm = self._colors(kind, plane, at_ijk)
        flat = kind in ("jacobian", "uncertainty")
        left, right = SIDES[plane]
        return Picture(data_uri(in_proportion(colors, mm, SIZE, smooth=not flat), flat), PLANES[plane], left, right)

    def _plane(self, name: str, plane: int, at_ijk) -> tuple[np.ndarray, tuple[float, float]]:
        return one_plane(getattr(self.case, name), at_ijk, plane)

    def _colors(self, kind: str, plane: int, at_ijk) -> tuple[np.ndarray, tuple[float, float]]:
        values, mm = self._plane("fixed", plane, at_ijk)
        fixed = gray(values, self.windows["fixed"])
        if kind == "fixed":
            return _gray_colors(fixed), mm
        if kind == "jacobian":
            determinant = self._plane("jacobian", plane, at_ijk)[0]
            colors = _over(volume_change(determinant), fixed)
            colors[determinant <= 0] = FOLD
            return colors, mm
        if kind == "uncertainty":
            return _uncertain(self._plane("uncertainty_mm", plane, at_ijk)[0], fixed, self.largest_mm), mm
        what, _, when = kind.partition(" ")
        name = "moving_before" if when == "before" else "warped"
        moving = gray(self._plane(name, plane, at_ijk)[0], self.windows["moving"])
        if what == "moving":
            return _gray_colors(moving), mm
        if what == "overlay":
            return np.stack([fixed, moving, moving], axis=-1) * 255, mm
        if what == "difference":
            seen = self._plane(f"seen_{when}", plane, at_ijk)[0] > 0.5
            return np.where(seen[..., None], diverging(moving - fixed), np.array(UNSEEN, dtype=np.float32)), mm
        return _gray_colors(np.where(_checkerboard(fixed.shape, mm), fixed, moving)), mm


def data_uri(picture: np.ndarray, flat: bool) -> str:
    """A (rows, columns, 3) uint8 picture for an <img>: PNG where colors carry values, else JPEG."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(picture), isVector=True)
    kind = "png" if flat else "jpeg"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"picture.{kind}"
        sitk.WriteImage(image, str(path), useCompression=True, compressionLevel=6 if flat else 88)
        return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def largest_shown(uncertainty_mm: sitk.Image | None) -> float:
    """The upper end of the uncertainty's colors, mm: its 98th percentile, as a round number."""
    if uncertainty_mm is None:
        return 1.0
    values = sitk.GetArrayViewFromImage(uncertainty_mm)
    known = values[np.isfinite(values)]
    if not known.size:
        return 1.0
    high = float(np.percentile(known[:: max(1, known.size // 1_000_000)], 98))
    unit = 100.0 ** math.floor(math.log10(high) / 2) if high > 0 else 1.0
    return next(n * unit for n in (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 40, 50, 75, 100) if n * unit >= 0.999999 * high)


def uncertain_colors(share: np.ndarray) -> np.ndarray:
    """Colors 0-255 for shares from 0 (certain) to 1."""
    stops = np.array(UNCERTAIN, dtype=np.float32)
    at = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(share, at, stops[:, channel]) for channel in range(3)], axis=-1)


def _uncertain(values: np.ndarray, fixed: np.ndarray, largest_mm: float) -> np.ndarray:
    unknown = ~np.isfinite(values)
    colors = _over(uncertain_colors(np.where(unknown, 0.0, values) / largest_mm), fixed)
    rows, columns = np.indices(values.shape)
    stripes = np.where(
        np.asarray((rows + columns) // 3 % 2)[..., None], *(np.array(c, dtype=np.float32) for c in UNKNOWN)
    )
    return np.where(unknown[..., None], 0.75 * stripes + 0.25 * _gray_colors(fixed), colors)


def _gray_colors(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None] * 255, 3, axis=-1)


def _over(colors: np.ndarray, below: np.ndarray) -> np.ndarray:
    return _LAYER * colors + (1 - _LAYER) * _gray_colors(below)


def _checkerboard(shape: tuple[int, int], mm: tuple[float, float]) -> np.ndarray:
    """True in every other field; fields are squares in mm."""
    field = max(n * length for n, length in zip(shape, mm, strict=True)) / CHECKS
    rows, columns = (np.floor((np.arange(n) + 0.5) * length / field) for n, length in zip(shape, mm, strict=True))
    return (rows[:, None] + columns[None]) % 2 == 0
