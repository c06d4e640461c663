"""Figures per segment of a label map: how its volume changes, and how far surfaces lie apart. Data in, numbers out."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import SimpleITK as sitk

from ..spaces import VolumeGrid

# Surface distances work on boxes around a label; larger ones are thinned to every n-th voxel, so that many labels in
# a large volume stay a matter of seconds.
BOX_VOXELS, ALL_BOX_VOXELS = 6_000_000, 40_000_000
_PERCENTILE_VALUES = 4_000_000
_FEWEST_VOXELS = 64


def label_names(image: sitk.Image) -> dict[int, str]:
    """Names by label value as 3D Slicer stores them in a segmentation file (.seg.nrrd); empty for other images."""
    names = {}
    for key in image.GetMetaDataKeys():
        part = re.fullmatch(r"Segment(\d+)_LabelValue", key)
        name = f"Segment{part[1]}_Name" if part else ""
        if part and image.HasMetaDataKey(name) and image.GetMetaData(key).strip().isdigit():
            names[int(image.GetMetaData(key))] = image.GetMetaData(name)
    return names


def volume_changes(
    labels: np.ndarray, jacobian: np.ndarray, grid: VolumeGrid, names: Mapping[int, str] | None = None
) -> list[dict]:
    """One entry per label above or below 0: label, name, volume_mm3, volume_change_percent, determinant.

    volume_change_percent is how much larger (+) or smaller (-) the segment is in the moving image than in the fixed
    one: 100 times the mean determinant minus 1. determinant: mean, sd, p5, p50, p95 over the segment's voxels.
    """
    labels, jacobian = labels.reshape(-1), jacobian.reshape(-1)
    at = np.flatnonzero(labels)
    if not at.size:
        return []
    present, place = np.unique(labels[at], return_inverse=True)
    values = jacobian[at].astype(np.float64)
    counts = np.bincount(place)
    means = np.bincount(place, values) / counts
    squares = np.bincount(place, (values - means[place]) ** 2) / counts
    # Percentiles of every n-th voxel of large segmentations; of at least one voxel per label.
    step = max(1, at.size // _PERCENTILE_VALUES)
    order = np.argsort(place, kind="stable")
    ends = np.cumsum(counts)
    voxel_mm3 = float(np.prod(grid.spacing))
    out = []
    for n, label in enumerate(present.tolist()):
        p5, p50, p95 = np.percentile(values[order[ends[n] - counts[n] : ends[n] : step]], (5, 50, 95)).tolist()
        out.append(
            {
                "label": int(label),
                "name": (names or {}).get(int(label)),
                "volume_mm3": float(counts[n] * voxel_mm3),
                "volume_change_percent": float(100.0 * (means[n] - 1.0)),
                "determinant": {
                    "mean": float(means[n]),
                    "sd": float(np.sqrt(squares[n])),
                    "p5": p5,
                    "p50": p50,
                    "p95": p95,
                },
            }
        )
    return out


def surface_distances(first: np.ndarray, second: np.ndarray, grid: VolumeGrid, labels) -> dict[int, dict | None]:
    """Per label of two label arrays on one grid: `mean` (symmetric) and `hausdorff95`, mm; None where one is empty.

    A surface is the voxels of a label with a face on another; the mean is over both surfaces' distances to the other,
    the 95 % Hausdorff distance the larger of the two directions' 95th percentiles.
    """
    labels = [int(label) for label in labels]
    boxes = [_boxes(array, labels) for array in (first, second)]
    most = max(1, min(BOX_VOXELS, ALL_BOX_VOXELS // max(len(labels), 1)))
    out: dict[int, dict | None] = {}
    for label in labels:
        ends = [box[label] for box in boxes if label in box]
        if len(ends) < 2:
            out[label] = None
            continue
        low = np.min([each[0] for each in ends], axis=0)
        high = np.max([each[1] for each in ends], axis=0)
        step = max(1, int(np.ceil((np.prod(high - low) / most) ** (1 / 3) - 1e-9)))
        in_first, in_second = (_cut(array, label, low, high, step) for array in (first, second))
        out[label] = _distances(in_first, in_second, grid.spacing, step)
    return out


def _boxes(array: np.ndarray, labels: list[int]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """First and last-plus-one index k, j, i of each label that is there."""
    shapes = sitk.LabelShapeStatisticsImageFilter()
    shapes.ComputePerimeterOff()
    shapes.Execute(sitk.GetImageFromArray(array.astype(np.int32, copy=False)))
    found = {}
    for label in set(labels) & set(shapes.GetLabels()):
        box = shapes.GetBoundingBox(label)
        start, size = np.array(box[:3])[::-1], np.array(box[3:])[::-1]
        found[label] = (start, start + size)
    return found


def _cut(array: np.ndarray, label: int, low: np.ndarray, high: np.ndarray, step: int) -> np.ndarray:
    """One label in a box with a rim of one voxel, at every n-th voxel unless that leaves next to nothing."""
    whole = array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] == label
    thin = whole[::step, ::step, ::step]
    if step > 1 and np.count_nonzero(thin) < _FEWEST_VOXELS:
        # Small parts of a large box: every cell that holds a voxel counts.
        pads = [(0, -n % step) for n in whole.shape]
        cells = np.pad(whole, pads)
        shape = [part for n in cells.shape for part in (n // step, step)]
        thin = cells.reshape(shape).any(axis=(1, 3, 5))
    return np.pad(thin, 1).astype(np.uint8)


def _distances(first: np.ndarray, second: np.ndarray, spacing: np.ndarray, step: int) -> dict[str, float]:
    images = [sitk.GetImageFromArray(array) for array in (first, second)]
    for image in images:
        image.SetSpacing((spacing * step).tolist())
    # Faces count, corners do not.
    surfaces = [sitk.LabelContour(image, False) for image in images]
    maps = [
        sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(surface, squaredDistance=False, useImageSpacing=True))
        for surface in surfaces
    ]
    on = [sitk.GetArrayViewFromImage(surface) > 0 for surface in surfaces]
    forward, backward = np.abs(maps[1][on[0]]), np.abs(maps[0][on[1]])
    return {
        "mean": float(
            (forward.sum(dtype=np.float64) + backward.sum(dtype=np.float64)) / (forward.size + backward.size)
        ),
        "hausdorff95": float(max(np.percentile(forward, 95), np.percentile(backward, 95))),
    }
