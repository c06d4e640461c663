"""Endings of file names that can be written, in any case; known before a library is loaded."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import InputError

#: Images: formats that keep where the voxels lie. The last four are of two files each.
IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".nhdr", ".mhd", ".img", ".hdr")


def check_image_name(name: str | os.PathLike) -> None:
    """Raise InputError unless a name ends as a format that images can be written in."""
    file = Path(name)
    if not file.name.lower().endswith(IMAGE_ENDINGS):
        raise InputError(f"{file.name}: expected a name that ends in .nii.gz, .nrrd or .mha.")
