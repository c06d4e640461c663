"""A picture sheet of one registration: three planes, before and after, and where volume changes."""

from __future__ import annotations

import os

import numpy as np
import SimpleITK as sitk

from ..io.writing import write_picture
from ..quality.metrics import percentiles
from ..volumes import Volume

CELL = 240  # pixels
GAP = 6
HEADER, FOOTER = 26, 22
COLUMNS = (
    "Fixed",
    "Moving, before",
    "Moving, after",
    "Overlay",
    "Difference before",
    "Difference after",
    "Volume change",
)
PLANES = ("Axial", "Coronal", "Sagittal")
WHITE, BLUE, RED, FOLD = (245, 245, 245), (33, 80, 180), (190, 30, 35), (255, 0, 255)
_FOLD = np.array(FOLD, dtype=np.float32)


def write_sheet(
    fixed: Volume | sitk.Image, moving_before, warped, jacobian, path: str | os.PathLike, *, title: str | None = None
) -> None:
    """Write a PNG: axial, coronal and sagittal planes through the body's middle.

    Columns: fixed, moving before (as aligned before registration), moving after, overlay (fixed red, moved cyan: gray
    where they agree), differences before and after, and the Jacobian determinant on a logarithmic scale (blue shrinks,
    white keeps, red grows; folds magenta). Radiological orientation: the patient's right is on the left.

    Args:
        moving_before, warped, jacobian: (D, H, W) arrays or SimpleITK images on the fixed grid.
    Captions need Pillow (the extra `report`); without it the sheet has none.
    """
    image = fixed.image if isinstance(fixed, Volume) else fixed
    middle = _middle(image)
    fixed_planes, aspect = planes(image, middle)
    before_planes, after_planes, jacobian_planes = (
        planes(_on_grid(array, image), middle)[0] for array in (moving_before, warped, jacobian)
    )
    fixed_window = window(sitk.GetArrayViewFromImage(image))
    moving_window = window(warped if isinstance(warped, np.ndarray) else sitk.GetArrayViewFromImage(warped))

    height = HEADER + 3 * (CELL + GAP) + FOOTER
    sheet = np.zeros((height, len(COLUMNS) * (CELL + GAP) + GAP, 3), dtype=np.uint8)
    for row in range(3):
        fixed_gray = gray(fixed_planes[row], fixed_window)
        before, after = gray(before_planes[row], moving_window), gray(after_planes[row], moving_window)
        pictures = [
            _rgb(fixed_gray),
            _rgb(before),
            _rgb(after),
            np.stack([fixed_gray, after, after], axis=-1) * 255,
            _difference(fixed_gray, before),
            _difference(fixed_gray, after),
            volume_change(jacobian_planes[row]),
        ]
        for column, picture in enumerate(pictures):
            top, left = HEADER + row * (CELL + GAP), GAP + column * (CELL + GAP)
            sheet[top : top + CELL, left : left + CELL] = _cell(picture, aspect[row], smooth=column < 6)
    write_picture(_captioned(sheet, title), path)


def _on_grid(values, image: sitk.Image) -> sitk.Image:
    if isinstance(values, sitk.Image):
        return values
    out = sitk.GetImageFromArray(np.asarray(values))
    out.CopyInformation(image)
    return out


def planes(image: sitk.Image, at_ijk) -> tuple[list[np.ndarray], list[tuple[float, float]]]:
    """Axial, coronal, sagittal slices through a voxel, and mm per (row, column) of each."""
    out = [one_plane(image, at_ijk, number) for number in range(3)]
    return [plane for plane, _ in out], [mm for _, mm in out]


def one_plane(image: sitk.Image, at_ijk, number: int) -> tuple[np.ndarray, tuple[float, float]]:
    """One slice (0 axial, 1 coronal, 2 sagittal) as float32, rows from top, columns from left; mm per (row, column)."""
    axes = anatomical_axes(image)
    array = sitk.GetArrayViewFromImage(image)
    spacing = image.GetSpacing()
    # The anatomical axis it cuts, the one along its rows and the one along its columns.
    cut, down, right = ((2, 1, 0), (1, 2, 0), (0, 2, 1))[number]
    axis, _ = axes[cut]
    part = [slice(None)] * 3
    part[2 - axis] = at_ijk[axis]
    plane = np.array(array[tuple(part)], dtype=np.float32)
    (down_axis, down_sign), (right_axis, right_sign) = axes[down], axes[right]
    if down_axis < right_axis:  # array order is k, j, i: the lower axis is the last
        plane = plane.T
    # Rows go to posterior, or to inferior; columns to the patient's left, or to posterior.
    if (down_sign > 0) == (down == 2):
        plane = plane[::-1]
    if right_sign < 0:
        plane = plane[:, ::-1]
    return plane, (spacing[down_axis], spacing[right_axis])


def anatomical_axes(image: sitk.Image) -> list[tuple[int, int]]:
    """For L, P, S: (voxel axis that runs closest to it, +1 or -1 for its sense)."""
    direction = np.reshape(image.GetDirection(), (3, 3))
    best = max(
        ((i, j, k) for i in range(3) for j in range(3) for k in range(3) if len({i, j, k}) == 3),
        key=lambda p: sum(abs(direction[n, p[n]]) for n in range(3)),
    )
    return [(axis, 1 if direction[n, axis] >= 0 else -1) for n, axis in enumerate(best)]


def _middle(image: sitk.Image) -> list[int]:
    """Index i, j, k of the middle of what is bright."""
    array = sitk.GetArrayViewFromImage(image)
    step = max(1, round((array.size / 1e6) ** (1 / 3)))
    some = np.asarray(array[::step, ::step, ::step], dtype=np.float32)
    low, high = np.percentile(some, (1, 99))
    body = some > low + 0.05 * (high - low)
    if not body.any():
        return [n // 2 for n in image.GetSize()]
    centers = [float(index.mean()) * step for index in np.nonzero(body)]
    return [min(round(c), n - 1) for c, n in zip(centers[::-1], image.GetSize(), strict=True)]


def window(array: np.ndarray) -> tuple[float, float]:
    low, high = percentiles(array, (1.0, 99.5))
    return low, high if high > low else low + 1.0


def gray(plane: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    return np.clip((plane - window[0]) / (window[1] - window[0]), 0.0, 1.0)


def _rgb(gray: np.ndarray) -> np.ndarray:
    return np.repeat(gray[..., None] * 255, 3, axis=-1)


def _difference(fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Gray where equal, brighter or darker where the moving one is."""
    return _rgb(np.clip(0.5 + 0.5 * (moving - fixed), 0.0, 1.0))


def diverging(share: np.ndarray) -> np.ndarray:
    """Colors 0-255 for shares from -1 (blue) over 0 (white) to 1 (red)."""
    share = np.clip(share, -1.0, 1.0)[..., None]
    white, blue, red = (np.array(c, dtype=np.float32) for c in (WHITE, BLUE, RED))
    return np.where(share < 0, white + (blue - white) * -share, white + (red - white) * share)


def volume_change(determinant: np.ndarray) -> np.ndarray:
    """Colors of determinants: half blue, same white, double red, folds magenta."""
    color = diverging(np.log2(np.maximum(determinant, 1e-3)))
    color[determinant <= 0] = _FOLD
    return color


def _cell(picture: np.ndarray, mm: tuple[float, float], smooth: bool) -> np.ndarray:
    """The picture in true proportions, as large as fits, in the middle of a black cell."""
    resized = in_proportion(picture, mm, CELL, smooth)
    rows, columns = resized.shape[:2]
    out = np.zeros((CELL, CELL, 3), dtype=np.uint8)
    top, left = (CELL - rows) // 2, (CELL - columns) // 2
    out[top : top + rows, left : left + columns] = resized
    return out


def in_proportion(picture: np.ndarray, mm: tuple[float, float], size: int, smooth: bool) -> np.ndarray:
    """The picture (rows, columns, 3; 0-255) in true proportions, its longer side `size` pixels; uint8."""
    lengths = np.array(picture.shape[:2]) * mm
    rows, columns = (max(1, round(length * size / lengths.max())) for length in lengths)
    resized = _resized(_resized(picture, rows, 0, smooth), columns, 1, smooth)
    return np.clip(np.rint(resized), 0, 255).astype(np.uint8)


def _resized(picture: np.ndarray, count: int, axis: int, smooth: bool) -> np.ndarray:
    length = picture.shape[axis]
    position = np.clip((np.arange(count) + 0.5) * length / count - 0.5, 0, length - 1)
    if not smooth:
        # Folds must not be averaged or skipped: nearest when enlarging, and magenta wins when shrinking.
        return _nearest_keeping_folds(picture, count, axis, position)
    low = np.minimum(np.floor(position).astype(int), max(length - 2, 0))
    weight = (position - low).reshape([-1 if a == axis else 1 for a in range(3)])
    high = np.minimum(low + 1, length - 1)
    return np.take(picture, low, axis) * (1 - weight) + np.take(picture, high, axis) * weight


def _nearest_keeping_folds(picture: np.ndarray, count: int, axis: int, position: np.ndarray) -> np.ndarray:
    length = picture.shape[axis]
    out = np.take(picture, np.rint(position).astype(int), axis)
    if count < length:
        folds = (picture == _FOLD).all(axis=-1)
        target = np.minimum((np.arange(length) + 0.5) * count / length, count - 1).astype(int)
        for source in np.flatnonzero(folds.any(axis=1 - axis)):
            line = np.take(folds, source, axis)
            if axis == 0:
                out[target[source], line] = _FOLD
            else:
                out[line, target[source]] = _FOLD
    return out


def _captioned(sheet: np.ndarray, title: str | None) -> np.ndarray:
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError:
        return sheet
    picture = Image.fromarray(sheet)
    draw = ImageDraw.Draw(picture)
    try:
        font, small = ImageFont.load_default(size=14), ImageFont.load_default(size=12)
    except TypeError:  # Pillow before 10.1 has one size
        font = small = ImageFont.load_default()
    for column, text in enumerate(COLUMNS):
        draw.text((GAP + column * (CELL + GAP) + 4, 5), text, fill=(230, 230, 230), font=font)
    sides = (("R", "L"), ("R", "L"), ("A", "P"))
    for row, text in enumerate(PLANES):
        top = HEADER + row * (CELL + GAP)
        draw.text((GAP + 4, top + CELL - 18), text, fill=(255, 220, 120), font=small)
        draw.text((GAP + 4, top + CELL // 2 - 8), sides[row][0], fill=(255, 220, 120), font=small)
        draw.text((GAP + CELL - 14, top + CELL // 2 - 8), sides[row][1], fill=(255, 220, 120), font=small)
    legend = (
        "Overlay: fixed red, moving after cyan, gray where they agree.   "
        "Volume change: blue half, white same, red double; folds magenta."
    )
    foot = sheet.shape[0] - FOOTER + 2
    draw.text((GAP + 4, foot), f"{title}.   {legend}" if title else legend, fill=(200, 200, 200), font=small)
    return np.asarray(picture)
