"""The frames of a series as files that the engine reads: of a sequence node, or of a file or folder."""

from __future__ import annotations

import re
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from ..common.files import typedPath
from ..mrml.geometry import rasFromIjk
from ..mrml.sequences import frames, proxyOf
from ..mrml.volumes import checkVolume, placedImage, writeImage

_ENDINGS = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")


def checkSequence(sequence) -> int:
    """How many frames it has. Raises RegistrationError unless these are at least two scalar volumes; cheap."""
    if sequence is None:
        raise RegistrationError(_("Choose a sequence of volumes."))
    name, given = sequence.GetName(), frames(sequence)
    for frame in given:
        if frame.GetClassName() != "vtkMRMLScalarVolumeNode":
            raise RegistrationError(
                _("{name}: expected a sequence of scalar volumes, got one of {kind}. Choose another.").format(
                    name=name, kind=frame.GetNodeTagName()
                )
            )
    if len(given) < 2:
        raise RegistrationError(
            _("{name}: expected at least two frames, got {count}. Choose another sequence.").format(
                name=name, count=len(given)
            )
        )
    return len(given)


def writeSequence(sequence, path: Path) -> list:
    """Write all frames, where the views show them, into one file with their times; their images (SimpleITK).

    path: ends in .seq.nrrd. Raises RegistrationError for frames without voxels or on different grids.
    """
    import SimpleITK as sitk

    checkSequence(sequence)
    shown = proxyOf(sequence)
    images = []
    for number, frame in enumerate(frames(sequence)):
        what = _("frame {number}").format(number=number)
        checkVolume(frame, what)
        # The node that shows a frame says where in the scene the series is.
        image, _note = placedImage(shown or frame, frame.GetImageData(), rasFromIjk(frame), what, False)
        if images and not _sameGrid(image, images[0]):
            raise RegistrationError(
                _("{name}: frame {number} lies on another grid than frame 0. Resample it onto that first.").format(
                    name=sequence.GetName(), number=number
                )
            )
        images.append(image)
    kinds = {image.GetPixelID() for image in images}
    if len(kinds) > 1:
        images = [sitk.Cast(image, sitk.sitkFloat32) for image in images]
    whole = sitk.Compose(images)
    times = [sequence.GetNthIndexValue(number) for number in range(len(images))]
    if sequence.GetIndexType() == slicer.vtkMRMLSequenceNode.NumericIndex:
        whole.SetMetaData("axis 0 index type", "numeric")
        whole.SetMetaData("axis 0 index values", " ".join(times))
    writeImage(whole, path)
    return images


def _sameGrid(one, other) -> bool:
    tight = 1e-4 * min(other.GetSpacing())
    near = lambda a, b: all(abs(x - y) <= tight for x, y in zip(a, b, strict=True))  # noqa: E731
    return (
        one.GetSize() == other.GetSize()
        and near(one.GetOrigin(), other.GetOrigin())
        and near(one.GetSpacing(), other.GetSpacing())
        and near(one.GetDirection(), other.GetDirection())
    )


def framesOf(typed: str) -> list[str]:
    """What the engine is told of a typed path: the file; of a folder the images in it, its subfolders, or itself.

    A folder of DICOM files is divided by the engine.
    Raises RegistrationError where there is nothing.
    """
    path = typedPath(typed)
    if path is None:
        raise RegistrationError(_("Choose the series: a file with a time axis, or a folder of frames."))
    place = Path(path)
    if not place.exists():
        raise RegistrationError(_("{path} is not there. Choose another.").format(path=path))
    if place.is_file():
        return [path]
    try:
        inside = sorted((each for each in place.iterdir() if not each.name.startswith(".")), key=_inOrder)
    except OSError as error:
        raise RegistrationError(
            _("{path} cannot be read ({error}). Choose another.").format(path=path, error=error.strerror)
        ) from error
    if not inside:
        raise RegistrationError(_("{path} is empty. Choose another.").format(path=path))
    images = [each for each in inside if each.is_file() and each.name.lower().endswith(_ENDINGS)]
    if images:
        return list(map(str, images))
    folders = [each for each in inside if each.is_dir()]
    return list(map(str, folders)) if len(folders) > 1 and len(folders) == len(inside) else [path]


def _inOrder(path: Path) -> list:
    """Frame 10 comes after frame 9."""
    return [(int(word), "") if word.isdigit() else (-1, word) for word in re.split(r"(\d+)", path.name.lower())]


__all__ = ["checkSequence", "framesOf", "writeSequence"]
