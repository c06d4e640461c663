"""The folder of a series: maps of every frame both ways, the warped series, displacement and volume maps, tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .. import __version__
from ..atomic import FolderClaim, staged_folder
from ..io.nifti_writing import rounded_mantissa, write_nifti_gz
from ..io.writing import write_image, write_transform
from ..progress import Progress, ProgressRecord
from ..quality.labels import label_array, warp_labels
from ..quality.metrics import body_of
from ..quality.segments import label_names
from .averaging import warped
from .picture import draw
from .register import SeriesResult
from .tables import FRAME_COLUMNS, POINT_COLUMNS, SEGMENT_COLUMNS, frame_rows, point_rows, segment_rows, table

FILES = {
    "transforms/": "of each frame: the reference's points to the frame's, LPS mm",
    "inverse/": "of each frame: its points to the reference's",
    "warped.seq.nrrd": "the frames on the reference, as a sequence",
    "ventilation.seq.nrrd": "of each frame: its volume there less the reference's, as a share (Jacobian - 1)",
    "mean_displacement.nii.gz": "over the frames, mm",
    "max_displacement.nii.gz": "over the frames, mm",
    "frames.csv": "figures of each frame",
    "series.png": "displacement and volumes over time",
    "settings.json": "what was asked for, and what was said",
}


@dataclass(frozen=True, eq=False)
class Carried:
    """What belongs to the reference and is carried to all frames. labels: on its grid. points_lps: N x 3, names."""

    labels: sitk.Image | None = None
    points_lps: np.ndarray | None = None
    names: Sequence[str] = ()


def write_series(
    result: SeriesResult,
    out: str | FolderClaim,
    *,
    carried: Carried | None = None,
    carry: Callable[[Path, int, Path], None] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[dict]:
    """Write the folder of a series, whole or not at all; returns the rows of `frames.csv`.

    carried: labels and points of the reference; adds segments.csv with labels/, and trajectories.csv. carry: writes
    the segmentation's file of a frame in place of labels/: (inverse transform's file, frame, file to write).
    Raises: InputError (folder not empty), ResourceError (disk full), Cancelled; nothing is left behind then.
    """
    progress, carried = progress or Progress(), carried or Carried()
    grid = result.reference.grid
    with staged_folder(out, overwrite) as folder:
        (folder / "transforms").mkdir()
        (folder / "inverse").mkdir()
        body = body_of(result.reference.array)
        total, largest = np.zeros(grid.shape_dhw), np.zeros(grid.shape_dhw, np.float32)
        images, changes, lengths = [], [], []
        centers = grid.centers()
        for n, frame in enumerate(result.frames):
            progress.check()
            progress.report(ProgressRecord("write", 0.98, None, f"frame {n}"))
            write_transform(frame.transform.to_sitk(), folder / "transforms" / f"{n:03d}.h5")
            write_transform(frame.inverse.to_sitk(), folder / "inverse" / f"{n:03d}.h5")
            length = np.linalg.norm(frame.transform.on_grid(grid) - centers, axis=-1).astype(np.float32)
            total += length
            np.maximum(largest, length, out=largest)
            inside = length[body] if body.any() else length.reshape(-1)
            lengths.append((float(inside.mean()), float(inside.max())))
            values, jacobian = warped(result.series.frames[n], frame.transform, grid)
            images.append(_as_stored(values, result.series.frames[n].image))
            changes.append(rounded_mantissa((jacobian - 1).astype(np.float32)))
        _write_sequence(images, result, folder / "warped.seq.nrrd")
        _write_sequence(changes, result, folder / "ventilation.seq.nrrd")
        write_nifti_gz(folder / "mean_displacement.nii.gz", (total / len(result.frames)).astype(np.float32), grid)
        write_nifti_gz(folder / "max_displacement.nii.gz", largest, grid)
        if isinstance(result.how.reference, str):
            write_image(result.reference.image, folder / "reference.nii.gz")
        rows = frame_rows(result, lengths)
        (folder / "frames.csv").write_text(table(FRAME_COLUMNS, rows), encoding="utf-8")
        segments = _write_carried(result, carried, carry, folder, progress)
        draw(rows, segments, folder / "series.png")
        (folder / "settings.json").write_text(_described(result), encoding="utf-8")
    return rows


def _write_carried(result: SeriesResult, carried: Carried, carry, folder: Path, progress: Progress) -> list[dict]:
    """The segments and the points of the reference in every frame; returns the segments' rows."""
    if carried.points_lps is not None:
        rows = point_rows(result, carried.points_lps, carried.names)
        (folder / "trajectories.csv").write_text(table(POINT_COLUMNS, rows), encoding="utf-8")
    if carried.labels is None:
        return []
    names: Mapping[int, str] = label_names(carried.labels)
    labels = label_array(carried.labels)
    rows = segment_rows(result, labels, names)
    (folder / "segments.csv").write_text(table(SEGMENT_COLUMNS, rows), encoding="utf-8")
    (folder / "labels").mkdir()
    for n, frame in enumerate(result.frames):
        progress.check()
        if carry is not None:
            carry(folder / "inverse" / f"{n:03d}.h5", n, folder / "labels" / f"{n:03d}")
            continue
        grid = result.series.frames[n].grid
        moved = warp_labels(frame.inverse, grid, labels, result.reference.grid)
        write_image(grid.image(moved), folder / "labels" / f"{n:03d}.nii.gz")
    return rows


def _as_stored(values: np.ndarray, image: sitk.Image) -> np.ndarray:
    """In the frames' own type: whole numbers stay whole."""
    kind = sitk.GetArrayViewFromImage(image).dtype
    if kind.kind == "f":
        return values
    limits = np.iinfo(kind)
    return np.clip(np.rint(values), limits.min, limits.max).astype(kind)


def _write_sequence(arrays: Sequence[np.ndarray], result: SeriesResult, path: Path) -> None:
    """Frames as one file that 3D Slicer reads as a sequence: its first axis is a list of them."""
    grid = result.reference.grid
    image = sitk.GetImageFromArray(np.stack(arrays, axis=-1), isVector=True)
    image.CopyInformation(grid.image(np.zeros(grid.shape_dhw, np.uint8)))
    values = " ".join(f"{time:.9g}" for time in result.series.times)
    for key, text in (("axis 0 index type", "numeric"), ("axis 0 index values", values)):
        image.SetMetaData(key, text)
    image.SetMetaData("DataNodeClassName", "vtkMRMLScalarVolumeNode")
    write_image(image, path)
    head, rest = path.read_bytes().split(b"\n\n", 1)
    path.write_bytes(head.replace(b"kinds: vector", b"kinds: list") + b"\n\n" + rest)


def _described(result: SeriesResult) -> str:
    files = {**FILES, **({"reference.nii.gz": "the mean"} if isinstance(result.how.reference, str) else {})}
    content = {
        "carlreg": __version__,
        "settings": asdict(result.settings),
        "series": asdict(result.how),
        "frames": [{"name": volume.name, "time": time} for volume, time in zip(*_listed(result), strict=True)],
        "jumps": result.jumps,
        "warnings": list(result.warnings),
        "files": files,
    }
    return json.dumps(content, indent=2) + "\n"


def _listed(result: SeriesResult):
    return result.series.frames, result.series.times
