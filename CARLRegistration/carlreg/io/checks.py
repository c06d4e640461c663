"""Checks of paths and of what is in them, and the errors they raise."""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path

from ..errors import GeometryError, InputError
from ..paths import given_path

MIN_VOXELS_PER_AXIS = 4
READABLE = "NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd) or a folder with one DICOM series"


def existing_path(path: str | os.PathLike, name: str) -> Path:
    """The path, when a file with something in it, or a folder, is there that can be read. Raises InputError."""
    file = given_path(path, name)
    try:
        if os.path.islink(file) and not file.exists():
            raise InputError(f"{name}: {file} is a link to {os.readlink(file)}, which does not exist.")
        if not file.exists():
            raise InputError(f"{name}: {file} does not exist. Check the path for typing errors.")
        kind = file.stat().st_mode
        if stat.S_ISDIR(kind):
            next(file.iterdir(), None)
        elif not stat.S_ISREG(kind):  # reading one may never end
            raise InputError(f"{name}: {file} is a device or a pipe, not a file. Save its content as a file first.")
        else:
            with file.open("rb") as stream:
                if not stream.read(1):
                    raise InputError(f"{name}: {file} is empty (0 bytes). Copy or download it again.")
    except OSError as error:
        raise InputError(f"{name}: {file} cannot be opened: {error.strerror or error}.") from error
    return file


def check_kind(size: tuple[int, ...], components: int, name: str) -> None:
    """Raise InputError unless an image of this size and number of components is a scalar 3-D volume."""
    size = tuple(int(n) for n in size)
    shown = " x ".join(str(n) for n in size)
    if len(size) > 3 and math.prod(size[3:]) > 1:
        raise InputError(
            f"{name}: expected one 3-D volume, got a series of {math.prod(size[3:])} volumes ({shown}). "
            f"Extract one, in Python: SimpleITK.WriteImage(SimpleITK.ReadImage(FILE)[..., 0], 'first.nii.gz')."
        )
    if components > 1:
        what = "a color image" if components in (3, 4) else "a vector image"
        raise InputError(
            f"{name}: expected one value per voxel, got {what} with {components} per voxel. Extract one, in Python: "
            "SimpleITK.WriteImage(SimpleITK.VectorIndexSelectionCast(SimpleITK.ReadImage(FILE), 0), 'one.nii.gz')."
        )
    if len(size) < 3 or min(size[:3]) == 1:
        hint = "Give the folder of the whole series, or a file with all slices."
        raise InputError(f"{name}: expected a 3-D volume, got a single slice ({shown}). {hint}")
    if min(size[:3]) < MIN_VOXELS_PER_AXIS:
        raise InputError(
            f"{name}: expected at least {MIN_VOXELS_PER_AXIS} voxels along each axis, got {shown}: "
            "too few slices to register in 3-D."
        )


def not_finite(bad: int, count: int, name: str) -> InputError:
    """The error for voxels that are NaN or infinite."""
    return InputError(
        f"{name}: {bad} of {count} voxels are NaN or infinite. Replace them by the background value, in Python: "
        "numpy.nan_to_num(array, nan=BACKGROUND, posinf=BACKGROUND, neginf=BACKGROUND)."
    )


def read_error(error: RuntimeError, name: str) -> InputError:
    """The typed error for what SimpleITK raised while reading."""
    text = str(error)
    if "Unable to determine ImageIO" in text:
        return InputError(f"{name}: not an image file that can be read. Expected {READABLE}.")
    if any(word in text for word in ("orthonormal", "Bad direction", "Zero-valued spacing", "Negative spacing")):
        return GeometryError(
            f"{name}: its geometry is singular or sheared (image axes that are not at right angles, or a voxel size of "
            f"zero). Resample it to a regular grid first. The reader says: {reason(error)}"
        )
    return InputError(f"{name}: cannot be read; it may be damaged or cut off. The reader says: {reason(error)}")


def reason(error: BaseException) -> str:
    """What ITK says went wrong, without its file names and line numbers."""
    text = str(error)
    for mark in ("sitk::ERROR:", "ITK ERROR:"):
        text = text.split(mark)[-1]
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1] if lines[-1].startswith("[") else lines[0]  # NRRD's last line is its reason
