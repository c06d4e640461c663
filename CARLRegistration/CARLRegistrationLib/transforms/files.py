"""What the section works on, as files that the engine reads; and what files of any program say of themselves."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from ..mrml.copies import withoutTransform
from ..mrml.geometry import parents
from ..mrml.transforms import checkNotUnder, checkTransform, writeNode
from ..mrml.volumes import checkVolume, writeGrid, writeVolume


@dataclass(frozen=True)
class TransformSelection:
    """What the section works on: nodes. Volumes may be missing where nothing asks for them.

    initial: what the moving volume was placed or resampled by before it was registered. inverse: the other way of this
    transform, where the registration made it.
    """

    transform: Any = None
    fixed: Any = None
    moving: Any = None
    initial: Any = None
    inverse: Any = None

    def check(self) -> None:
        """Raise RegistrationError for what can be seen to be wrong at once."""
        checkTransform(self.transform)
        if self.fixed is not None:
            checkVolume(self.fixed, _("fixed volume"))
        if self.moving is not None:
            checkVolume(self.moving, _("moving volume"))
        if self.fixed is not None and self.fixed is self.moving:
            raise RegistrationError(_("Fixed and moving are the same volume. Choose two different ones."))
        checkNotUnder(self.fixed, self.transform)


# --- nodes to files --------------------------------------------------------------------------------------------------


def writeSubject(subject: TransformSelection, folder: Path) -> tuple[list[str], list[str]]:
    """Write transform.h5 and both grids; (arguments of the engine's commands, notes in words).

    Raises: RegistrationError; the folder is the caller's to remove.
    """
    subject.check()
    images = {}
    for side, node, what in (
        ("fixed", subject.fixed, _("fixed volume")),
        ("moving", subject.moving, _("moving volume")),
    ):
        if node is not None:
            with withoutTransform(node, subject.transform) as placed:
                images[side] = writeGrid(placed, folder / f"{side}.mha", what)
    notes = [writeNode(subject.transform, folder / "transform.h5", images.get("fixed"))]
    if subject.inverse is not None:
        notes.append(writeNode(subject.inverse, folder / "inverse_transform.h5", images.get("moving")))
    arguments = ["transform.h5"]
    for side in images:
        arguments += [f"--{side}", f"{side}.mha"]
    return arguments, [note for note in notes if note]


def writeInitial(subject: TransformSelection, folder: Path) -> list[str]:
    """Write initial.h5, after `writeSubject`; returns notes. Raises RegistrationError.

    moving.mha becomes the volume as it was before, where that is known.
    """
    import SimpleITK as sitk

    initial, moving = subject.initial, folder / "moving.mha"
    checkTransform(initial)
    if initial is subject.transform:
        raise RegistrationError(
            _("{name} is chosen as transform and as initial transform.").format(name=initial.GetName())
        )
    note = writeNode(initial, folder / "initial.h5", sitk.ReadImage(str(moving)) if moving.is_file() else None)
    if initial in parents(subject.moving):
        with withoutTransform(subject.moving, initial) as before:
            writeGrid(before, moving, _("moving volume"))
    return [note] if note else []


def writeVolumes(subject: TransformSelection, folder: Path, without) -> None:
    """Put both volumes where `writeSubject` wrote their grids. without: a transform that is not part of their place."""
    if subject.fixed is not None:
        writeVolume(subject.fixed, folder / "fixed.mha", _("fixed volume"))
    if subject.moving is not None:
        with withoutTransform(subject.moving, without) as placed:
            writeVolume(placed, folder / "moving.mha", _("moving volume"))


# --- what a file says of itself --------------------------------------------------------------------------------------


def directionOf(path: Path) -> tuple[str, str]:
    """('forward' or 'inverse', why) where a file, its sidecar or its name says which way it leads; ('', '') otherwise.

    forward: from fixed to moving points.
    """
    says = _sidecarOf(path).get("maps")
    if says == "fixed points to moving points":
        return "forward", _("its sidecar says so")
    if says == "moving points to fixed points":
        return "inverse", _("its sidecar says so")
    name = path.name.lower()
    if name.endswith(("inversewarp.nii.gz", "inverse_transform.h5")):
        return "inverse", _("its name says so")
    if name.endswith((*_ANTS_WARPS, _ANTS_AFFINE)):
        return "forward", _("ANTs' name says so")
    if name == "transform.h5" and (path.parent / "settings.json").is_file():
        return "forward", _("it is the result of a registration")
    head = _headOf(path)
    if b'(Transform "' in head and b"(NumberOfParameters" in head:
        return "forward", _("elastix' parameter files do")
    if b"dst volume info" in head:
        return "forward", _("FreeSurfer's files name both sides")
    if name.endswith((".nii", ".nii.gz")):
        from carlreg.io.nifti_header import parse

        header = parse(head)
        if header is not None and header.intent in _FSL_INTENTS:
            return "forward", _("FSL's warps do")
    return "", ""


_ANTS_WARPS, _ANTS_AFFINE = ("0warp.nii.gz", "1warp.nii.gz"), "0genericaffine.mat"
_FSL_INTENTS = range(2006, 2010)  # fslio's warps and FNIRT's coefficients


def _sidecarOf(path: Path) -> dict:
    """What carlreg wrote beside a file, or {}; of ANTs' pair the name without 1Warp and 0GenericAffine counts."""
    from carlreg.errors import InputError
    from carlreg.text_files import read_json_object

    names = [path.name]
    for ending in (*_ANTS_WARPS, _ANTS_AFFINE):
        if path.name.lower().endswith(ending):
            names.append(f"{path.name[: -len(ending)]}.nii.gz")
    for name in names:
        try:
            found = read_json_object(path.with_name(f"{name}.json"), name)
        except InputError:
            continue
        files = found.get("files")
        if isinstance(files, list) and path.name in files:
            return found
    return {}


def _headOf(path: Path, count: int = 4096) -> bytes:
    """The first bytes, unpacked; b"" when they cannot be read."""
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
            return file.read(count)
    except (OSError, EOFError, zlib.error):
        return b""


def antsAffineBeside(path: Path) -> Path | None:
    """ANTs' affine that belongs to a warp of ANTs, where it lies beside it."""
    ending = "1Warp.nii.gz"
    if not path.name.endswith(ending):
        return None
    beside = path.with_name(path.name[: -len(ending)] + "0GenericAffine.mat")
    return beside if beside.is_file() else None


__all__ = [
    "TransformSelection",
    "antsAffineBeside",
    "directionOf",
    "writeInitial",
    "writeSubject",
    "writeVolumes",
]
