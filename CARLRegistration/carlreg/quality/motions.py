"""How segments moved: of each its best rigid motion, and how far the map is from it. Data in, numbers out."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..physical import PhysicalTransform
from ..spaces import VolumeGrid, apply_affine, euler_degrees, fit_linear, rotation_vector

_COLUMNS = (
    ("segment", lambda one: one["name"]),
    ("kind", lambda one: one["kind"]),
    ("relative_to", lambda one: one["relative_to"] or ""),
    ("rotation_degrees", lambda one: one["rotation_degrees"]),
    *((f"axis_{name}", lambda one, n=n: one["axis_lps"][n]) for n, name in enumerate("lps")),
    *((f"euler_{name}_degrees", lambda one, n=n: one["euler_degrees"][n]) for n, name in enumerate("lps")),
    *((f"translation_{name}_mm", lambda one, n=n: one["translation_lps"][n]) for n, name in enumerate("lps")),
    ("translation_mm", lambda one: one["translation_mm"]),
    *((f"center_{name}_mm", lambda one, n=n: one["center_lps"][n]) for n, name in enumerate("lps")),
    ("voxels", lambda one: one["voxels"]),
    ("seen_percent", lambda one: one["seen_percent"]),
    ("deviation_rms_mm", lambda one: one["deviation_rms_mm"]),
    ("deviation_max_mm", lambda one: one["deviation_max_mm"]),
    ("determinant_min", lambda one: one["determinant"]["min"]),
    ("determinant_max", lambda one: one["determinant"]["max"]),
)


@dataclass(frozen=True, eq=False)
class Moving:
    """Segments whose motion is told. numbers: D H W on `grid`, 0 or the place in `names` + 1. rigid: b bool.

    labels: their values in the file. reference: the name of the one that motions are told relative to.
    """

    names: tuple[str, ...]
    labels: tuple[int, ...]
    rigid: tuple[bool, ...]
    numbers: np.ndarray
    grid: VolumeGrid
    reference: str | None = None


def motions_of(
    transform: PhysicalTransform, segments: Moving, jacobian: np.ndarray, moving_grid: VolumeGrid
) -> list[dict]:
    """One entry per segment, from all of its voxels.

    jacobian: D H W, the map's determinant on the segments' grid. Of each: rotation_degrees about axis_lps, the same as
    euler_degrees about the fixed axes L, P, S in turn, translation_lps of the segment's center_lps, matrix_lps
    (4x4, fixed points to moving points; with a reference: to where they would be had the reference not moved);
    deviation_*_mm: how far the map's points lie from that motion; determinant: min, max, mean, sd.
    """
    found = []
    for number, name in enumerate(segments.names):
        own = segments.numbers == number + 1
        points = segments.grid.points(np.argwhere(own)[:, ::-1])
        mapped = transform.apply(points)
        matrix = fit_linear(points, mapped, kind="rigid")
        off = np.linalg.norm(apply_affine(matrix, points) - mapped, axis=1)
        values = jacobian[own].astype(np.float64)
        found.append(
            {
                "name": name,
                "label": segments.labels[number],
                "kind": "rigid" if segments.rigid[number] else "stiff",
                "voxels": len(points),
                "seen_percent": 100.0 * float(moving_grid.contains(mapped).mean()),
                "center_lps": points.mean(0).tolist(),
                "matrix_lps": matrix,
                "deviation_rms_mm": float(np.sqrt(np.mean(off**2))),
                "deviation_max_mm": float(off.max()),
                "determinant": {
                    "min": float(values.min()),
                    "max": float(values.max()),
                    "mean": float(values.mean()),
                    "sd": float(values.std()),
                },
            }
        )
    reference = next((one["matrix_lps"] for one in found if one["name"] == segments.reference), None)
    back = np.eye(4) if reference is None else np.linalg.inv(reference)
    return [{**one, **_in_numbers(back @ one["matrix_lps"], one, segments.reference)} for one in found]


def _in_numbers(matrix: np.ndarray, one: dict, reference: str | None) -> dict:
    center = np.asarray(one["center_lps"])
    vector = rotation_vector(matrix[:3, :3])
    angle = float(np.linalg.norm(vector))
    translation = apply_affine(matrix, center) - center
    return {
        "relative_to": reference,
        "rotation_degrees": float(np.degrees(angle)),
        "axis_lps": (vector / angle if angle > 1e-12 else np.zeros(3)).tolist(),
        "euler_degrees": euler_degrees(matrix[:3, :3]).tolist(),
        "translation_lps": translation.tolist(),
        "translation_mm": float(np.linalg.norm(translation)),
        "matrix_lps": matrix.tolist(),
    }


def motions_table(motions: Sequence[dict]) -> str:
    """The motions as CSV, one row per segment; degrees and mm, axes L, P, S."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([name for name, _ in _COLUMNS])
    for one in motions:
        cells = [read(one) for _, read in _COLUMNS]
        writer.writerow([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in cells])
    return out.getvalue()
