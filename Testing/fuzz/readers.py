"""Every reader of files that users bring, as a fuzz target: files that are right, and what reading them may do.

A reader may refuse a damaged file with a `CarlError`, or accept it; what it accepts must be something that a file can
mean (`Absurd` otherwise). Anything else is a fault: another exception, a crash, no end, or much memory.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from . import seeds
from .seeds import Files

REFUSED, ACCEPTED = "refused", "accepted"
# Beyond these no scan and no transform was meant.
MOST_VOXELS, FARTHEST_MM, MOST_ANISOTROPIC = 10**8, 1e12, 1e7


class Absurd(AssertionError):
    """A reader accepted what no file can mean."""


@dataclass(frozen=True)
class Reader:
    """One fuzz target.

    make: the variants of a right input, each as {file name: content}; `damaged` names the file that is damaged.
    read: the reader, given the path of that file. judge: raises Absurd for an accepted result.
    whole: `read` gets the folder in place of the file.
    """

    name: str
    damaged: str
    make: Callable[[], list[Files]]
    read: Callable[[Path], object]
    judge: Callable[[object], None] = field(default=lambda found: None)
    whole: bool = False

    @cached_property
    def variants(self) -> list[Files]:
        return self.make()

    def attempt(self, content: bytes, variant: int = 0, folder: Path | None = None) -> str:
        """Read the input with the damaged file's content replaced; 'refused' or 'accepted', or whatever it raises.

        folder: where to write the files, emptied before; without one a temporary folder.
        """
        from carlreg.errors import CarlError

        place = Path(tempfile.mkdtemp(prefix="fuzz.")) if folder is None else folder
        try:
            for name, right in self.variants[variant % len(self.variants)].items():
                (place / name).write_bytes(content if name == self.damaged else right)
            try:
                found = self.read(place if self.whole else place / self.damaged)
            except CarlError:
                return REFUSED
            self.judge(found)
            return ACCEPTED
        finally:
            if folder is None:
                shutil.rmtree(place, ignore_errors=True)


def _judge_volume(volume) -> None:
    grid = volume.grid
    numbers = np.concatenate([grid.spacing, grid.origin_lps, np.ravel(grid.direction)])
    if not np.isfinite(numbers).all() or min(grid.spacing) <= 0:
        raise Absurd(f"spacing {grid.spacing}, origin {grid.origin_lps}")
    if max(grid.spacing) / min(grid.spacing) > MOST_ANISOTROPIC or np.abs(grid.origin_lps).max() > FARTHEST_MM:
        raise Absurd(f"spacing {grid.spacing}, origin {grid.origin_lps}")
    if math.prod(grid.size_ijk) > MOST_VOXELS:
        raise Absurd(f"{grid.size_ijk} voxels of a small file")
    if not np.isfinite(volume.array).all():
        raise Absurd("voxels that are no numbers")


def _judge_transform(imported) -> None:
    for point in ((0.0, 0.0, 0.0), (10.0, -20.0, 30.0)):
        found = np.array(imported.transform.TransformPoint(point))
        if not np.isfinite(found).all() or np.abs(found).max() > FARTHEST_MM:
            raise Absurd(f"{point} is sent to {found}")


def _judge_points(pairs) -> None:
    for points in pairs:
        if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
            raise Absurd(f"points {points!r}")


def _volume(path: Path):
    from carlreg.volumes import read_volume

    return read_volume(path)


def _sequence(path: Path):
    from carlreg.formats.applying import grid_of

    return grid_of(path)


def _on_a_scan(read: str) -> Callable[[Path], object]:
    def call(path: Path):
        from carlreg import volumes

        return getattr(volumes, read)(path, volumes.volume_from_image(seeds.scan()))

    return call


def _transform(path: Path):
    from carlreg import formats
    from carlreg.spaces import VolumeGrid

    grid = VolumeGrid.of(seeds.scan())
    convention = "fsl" if path.name == "flirt.mat" else None
    return formats.read(path, convention=convention, fixed=grid, moving=grid)


def _points(path: Path):
    from carlreg.io.points import map_points_file

    return map_points_file(path, lambda points: points + 1.0)


def _landmarks(path: Path):
    from carlreg.volumes import read_landmarks

    return read_landmarks(path)


def _label_names(path: Path):
    from carlreg.cli.register import read_label_names

    return read_label_names(str(path))


def _settings(path: Path):
    from carlreg.settings import RegistrationSettings

    return RegistrationSettings.from_json(path)


def _training(path: Path):
    from carlreg.training.settings import read_config

    return read_config(path)


def _surface(path: Path):
    from carlreg.formats.surfaces import map_surface

    return map_surface(path, path.with_name(f"out{path.suffix}"), lambda points: points + 1.0, "lps")


def _result(path: Path):
    from carlreg.outputs.report.case import read_case

    return read_case(path.parent)


def _weights(path: Path):
    from carlreg.models.checkpoints import read_weights

    return read_weights(path)


def _text(name: str, *texts: str, beside: Files | None = None) -> Callable[[], list[Files]]:
    return lambda: [{name: text.encode(), **(beside or {})} for text in texts]


def _settings_text() -> list[Files]:
    from carlreg.settings import RegistrationSettings

    return [{"settings.json": RegistrationSettings().to_json().encode()}]


def _training_text() -> list[Files]:
    import carlreg.training

    folder = Path(next(iter(carlreg.training.__path__))) / "configs"
    return [{"train.toml": path.read_bytes()} for path in sorted(folder.glob("*.toml"))]


def _elastix_field() -> list[Files]:
    text = (
        '(Transform "DeformationFieldTransform")\n(DeformationFieldFileName "f.mha")\n'
        "(DeformationFieldInterpolationOrder 1)\n"
    )
    return [{"e.txt": text.encode(), **seeds.field_file("f.mha")}]


READERS: dict[str, Reader] = {
    reader.name: reader
    for reader in (
        Reader(
            "nifti",
            "v.nii",
            lambda: [
                seeds.volume_files("v.nii"),
                seeds.volume_files("v.nii", np.float32),
                seeds.nifti_big_endian(),
            ],
            _volume,
            _judge_volume,
        ),
        Reader(
            "nifti-gz",
            "v.nii.gz",
            lambda: [seeds.volume_files("v.nii.gz"), seeds.volume_files("v.nii.gz", np.float64)],
            _volume,
            _judge_volume,
        ),
        Reader("nifti-pair", "v.hdr", lambda: [seeds.volume_files("v.hdr")], _volume, _judge_volume),
        Reader(
            "nrrd",
            "v.nrrd",
            lambda: [seeds.volume_files("v.nrrd"), seeds.volume_files("v.nrrd", np.float32, True)],
            _volume,
            _judge_volume,
        ),
        Reader(
            "nrrd-detached",
            "v.nhdr",
            lambda: [seeds.volume_files("v.nhdr"), seeds.volume_files("v.nhdr", np.uint8, True)],
            _volume,
            _judge_volume,
        ),
        Reader(
            "metaimage",
            "v.mha",
            lambda: [seeds.volume_files("v.mha"), seeds.volume_files("v.mha", np.float32, True)],
            _volume,
            _judge_volume,
        ),
        Reader(
            "metaimage-pair",
            "v.mhd",
            lambda: [seeds.volume_files("v.mhd"), seeds.volume_files("v.mhd", np.uint8, True)],
            _volume,
            _judge_volume,
        ),
        Reader("dicom-series", "3.dcm", lambda: [seeds.dicom_series()], _volume, _judge_volume, whole=True),
        Reader("dicom-frames", "frames.dcm", lambda: [seeds.dicom_frames()], _volume, _judge_volume),
        Reader("sequence", "s.nii", lambda: [seeds.sequence_file("s.nii")], _sequence),
        Reader("sequence-nrrd", "s.seq.nrrd", lambda: [seeds.sequence_file("s.seq.nrrd")], _sequence),
        Reader("mask", "m.nii.gz", lambda: [seeds.labels_file("m.nii.gz")], _on_a_scan("read_mask")),
        Reader("labels", "l.nrrd", lambda: [seeds.labels_file("l.nrrd")], _on_a_scan("read_labels")),
        Reader("itk-text", "t.tfm", seeds.linear_transforms, _transform, _judge_transform),
        Reader("itk-text-field", "t.tfm", lambda: [seeds.transform_text_field()], _transform, _judge_transform),
        Reader("itk-hdf5", "t.h5", seeds.transform_hdf5, _transform, _judge_transform),
        Reader("itk-matlab", "t.mat", lambda: [seeds.matlab_transform()], _transform, _judge_transform),
        Reader("field-nrrd", "f.nrrd", lambda: [seeds.field_file("f.nrrd")], _transform, _judge_transform),
        Reader("field-mha", "f.mha", lambda: [seeds.field_file("f.mha")], _transform, _judge_transform),
        Reader("field-nifti", "f.nii.gz", lambda: [seeds.nifti_field()], _transform, _judge_transform),
        Reader(
            "elastix",
            "e.txt",
            _text(
                "e.txt",
                seeds.AFFINE_PARAMETERS,
                seeds.SPLINE_PARAMETERS,
                beside={"first.txt": seeds.AFFINE_PARAMETERS.encode()},
            ),
            _transform,
            _judge_transform,
        ),
        Reader("elastix-field", "e.txt", _elastix_field, _transform, _judge_transform),
        Reader("flirt", "flirt.mat", _text("flirt.mat", seeds.FLIRT), _transform, _judge_transform),
        Reader("lta", "t.lta", _text("t.lta", seeds.LTA), _transform, _judge_transform),
        Reader("markups", "p.mrk.json", _text("p.mrk.json", seeds.MARKUPS), _points),
        Reader("fiducials", "p.fcsv", _text("p.fcsv", seeds.FIDUCIALS), _points),
        Reader("points", "p.csv", _text("p.csv", seeds.POINTS), _points),
        Reader("landmarks", "l.csv", _text("l.csv", seeds.LANDMARKS), _landmarks, _judge_points),
        Reader("label-names", "n.json", _text("n.json", seeds.LABEL_NAMES), _label_names),
        Reader("settings", "settings.json", _settings_text, _settings),
        Reader("result", "settings.json", lambda: [seeds.result_folder()], _result),
        Reader("result-quality", "quality.json", lambda: [seeds.result_folder()], _result),
        Reader("training", "train.toml", _training_text, _training),
        Reader("surface-vtk", "m.vtk", lambda: [seeds.surface_files("m.vtk")], _surface),
        Reader("surface-vtp", "m.vtp", lambda: [seeds.surface_files("m.vtp")], _surface),
        Reader("surface-stl", "m.stl", lambda: [seeds.surface_files("m.stl")], _surface),
        Reader("surface-ply", "m.ply", lambda: [seeds.surface_files("m.ply")], _surface),
        Reader("weights", "w.safetensors", lambda: [seeds.small_weights()], _weights),
        Reader("weights-pytorch", "w.pt", lambda: [seeds.state_dict()], _weights),
    )
}
