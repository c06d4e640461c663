"""How each image of a template differs in volume: maps, and a table of segments with how sure each change is."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..atomic import staging
from ..io.nifti_writing import rounded_mantissa, write_nifti_gz
from ..io.writing import write_transform
from ..physical import invert, jacobian_determinant
from ..progress import Progress, ProgressRecord
from ..quality.labels import label_array
from ..quality.segments import label_names, volume_changes
from ..series.tables import table
from ..spaces import VolumeGrid
from .build import Template

COLUMNS = ("image", "label", "name", "volume_ml", "change_percent", "sd_percent", "sure")
#: Within which errors of a map are taken as alike, mm.
ALIKE_MM = 20.0
# A vector whose components have the standard deviation 1 is shorter than this in 90 % of cases (chi, 3 degrees).
_CHI_90 = 2.5003
_SURE = 1.96


def write_changes(
    template: Template, folder: str | Path, labels: sitk.Image | None = None, progress: Progress | None = None
) -> list[dict]:
    """Write, into a template's folder, its maps both ways and each image's change of volume; returns the table's rows.

    maps/NAME.h5: the template's points to the image's; inverse/NAME.h5; changes/NAME.nii.gz: volume there by the
    template's (Jacobian). labels: on the template's grid; adds changes.csv, one row per image and segment.
    Raises ResourceError; Cancelled.
    """
    progress, place, grid = progress or Progress(), Path(folder).resolve(), template.image.grid
    rows: list[dict] = []
    with staging() as stage:
        for number, (member, transform) in enumerate(zip(template.members, template.maps, strict=True)):
            progress.check()
            share = number / len(template.members)
            progress.report(ProgressRecord("changes", 0.95 + 0.05 * share, None, member.name))
            inverse, _ = invert(transform, member.volume.grid)
            write_transform(transform.to_sitk(), stage.file(place / "maps" / f"{member.name}.h5"))
            write_transform(inverse.to_sitk(), stage.file(place / "inverse" / f"{member.name}.h5"))
            jacobian = jacobian_determinant(transform, grid)
            write_nifti_gz(stage.file(place / "changes" / f"{member.name}.nii.gz"), rounded_mantissa(jacobian), grid)
            if labels is not None:
                rows += change_rows(member.name, labels, jacobian, template.bounds[number], grid)
        if labels is not None:
            stage.file(place / "changes.csv").write_text(table(COLUMNS, rows), encoding="utf-8")
        about = {"maps": len(template.maps), "errors_alike_within_mm": ALIKE_MM}
        stage.file(place / "settings.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return rows


def change_rows(
    name: str, labels: sitk.Image, jacobian: np.ndarray, bound_mm: np.ndarray | None, grid: VolumeGrid
) -> list[dict]:
    """The change of each segment's volume, from the template to an image, with its standard deviation.

    A volume changes by what its surface moves along its normal. The map's 90 % bound says how far a point may be off;
    a component's standard deviation is that by 2.5. Errors are taken as alike within 20 mm and independent beyond, so
    that those of a surface A add up to a volume of sd * 20 mm * sqrt(A). sure: whether the change is more than 1.96
    standard deviations; nothing where the bound is unknown on more than half of the surface.
    """
    array = label_array(labels)
    rows = []
    for entry in volume_changes(array, jacobian, grid, label_names(labels)):
        area, off = _surface(array == entry["label"], bound_mm, grid)
        change, sd = entry["volume_change_percent"], None
        if off is not None:
            sd = 100.0 * off / _CHI_90 * min(ALIKE_MM, math.sqrt(area)) * math.sqrt(area) / entry["volume_mm3"]
        sure = None if sd is None else int(abs(change) > _SURE * sd)
        volume = entry["volume_mm3"] * (1 + change / 100) / 1000
        values = (name, entry["label"], entry["name"] or "", volume, change, sd, sure)
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def _surface(inside: np.ndarray, bound_mm: np.ndarray | None, grid: VolumeGrid) -> tuple[float, float | None]:
    """(area, mm2, root mean square of the bound there, mm) of a segment's faces; None where that is unknown."""
    padded = np.pad(inside, 1).astype(np.int8)
    spacing_kji = grid.spacing[::-1]
    # Faces of a staircase have, on average over all directions, 1.5 times the surface's area.
    area, weight = 0.0, np.zeros(inside.shape)
    for axis in range(3):
        face = float(np.prod(spacing_kji) / spacing_kji[axis])
        area += face * float(np.abs(np.diff(padded, axis=axis)).sum()) / 1.5
        for step in (1, -1):
            beside = np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1]
            weight += face * (inside & (beside == 0))
    if bound_mm is None:
        return area, None
    known = np.isfinite(bound_mm)
    if weight[known].sum() <= 0.5 * weight.sum():
        return area, None
    return area, math.sqrt(float((weight[known] * bound_mm[known] ** 2).sum() / weight[known].sum()))
