"""The order of a volume's slices, and whether they form a regular grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import GeometryError, InputError
from .groups import SAME_PLACE_MM, along_normal
from .instance import Frame


@dataclass(frozen=True)
class Placed:
    """Frames in the order of the grid's third axis, and that grid (LPS mm). numbers: slice of each frame.

    count: slices of the grid; as many as frames but for segmentations, which leave empty slices out.
    """

    frames: list[Frame]
    origin: tuple[float, ...]
    spacing: tuple[float, float, float]
    direction: tuple[float, ...]
    count: int
    numbers: list[int]


def place(frames: Sequence[Frame], name: str, notes: list[str], sparse: bool = False) -> Placed:
    """Sort frames along their normal and check that they are evenly spaced along it.

    sparse: slices may be missing where there is nothing to see. Raises GeometryError, InputError.
    """
    along = along_normal(frames)
    spacing = frames[0].spacing
    if spacing is None:
        notes.append(f"{name}: the DICOM header does not tell the size of a pixel; taken as 1 x 1 mm.")
        spacing = (1.0, 1.0)
    if along is None:
        return _unplaced(frames, name, notes, spacing)
    order = np.argsort(along, kind="stable")
    ordered = [frames[number] for number in order]
    positions = np.array([frame.position for frame in ordered], dtype=float)
    axes = np.array(frames[0].orientation, dtype=float)
    normal = np.cross(axes[:3], axes[3:])
    along, offsets = along[order] - along[order[0]], positions - positions[0]
    numbers = list(range(len(ordered)))
    if sparse:
        step = _sparse_step(along, frames[0].instance.gap)
        numbers = np.rint(along / step).astype(int).tolist()
        if np.abs(along / step - np.rint(along / step)).max() > 0.1:
            raise GeometryError(f"{name}: the slices of the segmentation are unevenly spaced.")
    elif len(ordered) > 1:
        _check_even(along, name, notes)
    if len(ordered) > 1:
        _check_tilt(along, offsets, normal, name)
    gaps = max(numbers[-1], 1)
    step = float(np.linalg.norm(offsets[-1])) / gaps if len(ordered) > 1 else frames[0].instance.gap or 1.0
    direction = _direction(ordered[0])
    return Placed(
        ordered,
        tuple(positions[0].tolist()),
        (spacing[1], spacing[0], step),
        tuple(direction.ravel().tolist()),
        numbers[-1] + 1,
        numbers,
    )


def _unplaced(frames: Sequence[Frame], name: str, notes: list[str], spacing: Sequence[float]) -> Placed:
    """Frames that do not say where they lie: by instance number, else by name."""
    numbers = [(frame.instance.number, frame.index) for frame in frames]
    if all(number is not None for number, _ in numbers) and len(set(numbers)) == len(numbers):
        told = "their numbers"
        ordered = sorted(frames, key=lambda frame: (frame.instance.number or 0, frame.index))
    else:
        told = "their names"
        ordered = sorted(frames, key=lambda frame: (str(frame.instance.path), frame.index))
    if frames[0].instance.count > 1:
        told = "the file"
    gap = frames[0].instance.gap
    distance = f"{gap:g} mm, the spacing or thickness of slices in the header" if gap else "1 mm"
    notes.append(
        f"{name}: the DICOM slices do not say where they lie; their order is taken from {told}, their distance "
        f"as {distance}."
    )
    direction = np.eye(3) if frames[0].orientation is None else _direction(frames[0])
    origin = frames[0].position or (0.0, 0.0, 0.0)
    return Placed(
        ordered,
        tuple(origin),
        (spacing[1], spacing[0], gap or 1.0),
        tuple(direction.ravel().tolist()),
        len(ordered),
        list(range(len(ordered))),
    )


def _direction(frame: Frame) -> np.ndarray:
    """Axes as columns, at right angles; the same to the last digit as ITK's own reader makes them."""
    axes = np.array(frame.orientation, dtype=float)
    across = _unit(np.cross(axes[:3], axes[3:]))
    rows = _unit(np.cross(axes[3:], across))
    return np.stack([rows, np.cross(across, rows), across], axis=1)


def _unit(vector: np.ndarray) -> np.ndarray:
    x, y, z = vector.tolist()
    return vector * (1 / math.sqrt(x * x + y * y + z * z))


def _check_tilt(along: np.ndarray, offsets: np.ndarray, normal: np.ndarray, name: str) -> None:
    sideways = np.linalg.norm(offsets - along[:, None] * normal, axis=1)
    tilt = math.degrees(math.atan2(sideways[-1], along[-1]))
    if sideways[-1] > 0.1 and tilt > 0.06:  # as large as the tolerance for sheared headers
        raise GeometryError(
            f"{name}: the slices are shifted sideways against each other (gantry tilt of {tilt:.1f} degrees). Resample "
            "the series to a regular grid first; dcm2niix does it (file name ending _Tilt)."
        )
    line = along[:, None] / along[-1] * offsets[-1]
    wander = float(np.linalg.norm(offsets - line, axis=1).max())
    if wander > 0.25 * along[-1] / (len(along) - 1) and wander > 0.1:
        raise GeometryError(
            f"{name}: the slices do not lie on one straight line: some are {wander:.3g} mm beside it. Give another "
            "series."
        )


def _check_even(along: np.ndarray, name: str, notes: list[str]) -> None:
    steps = np.diff(along)
    step = float(np.median(steps))
    if steps.min() < SAME_PLACE_MM:
        raise InputError(f"{name}: expected one volume, got several slices at one position.")
    uneven = np.abs(steps - step).max()
    if uneven > 0.25 * step:
        raise GeometryError(
            f"{name}: slices are missing or unevenly spaced: distances from {steps.min():.3g} to {steps.max():.3g} mm "
            f"where {step:.3g} mm is usual. Complete the series, or resample it to a regular grid first."
        )
    if uneven > 0.02 * step:
        notes.append(f"{name}: slice distances vary by {uneven:.2g} mm around {step:.3g} mm; taken as even.")


def _sparse_step(along: np.ndarray, gap: float | None) -> float:
    """The distance of slices of which some are left out."""
    steps = np.diff(along)
    least = float(steps.min()) if len(steps) else 0.0
    if gap and (not least or abs(least / gap - round(least / gap)) < 0.05):
        return gap
    return least or 1.0
