"""FreeSurfer's linear transforms (.lta), read and written by the package nitransforms."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from ..errors import GeometryError, InputError
from ..io.itk_transform import check_affine
from ..spaces import VolumeGrid
from ..spaces.grid import lps_from_ras
from ..text_files import cut, read_text
from .content import Content, require_both

_MOST_BYTES = 2**20


def is_lta(text: str) -> bool:
    """Whether a file that starts with this text is a .lta file."""
    return "nxforms" in text and "dst volume info" in text


def read_lta(file: Path, label: str) -> np.ndarray:
    """4x4 fixed to moving points, LPS mm. Raises InputError or GeometryError, which name the file by its label."""
    lta = _nitransforms().io.lta
    text = read_text(file, label, "a FreeSurfer .lta file", _MOST_BYTES)
    _check_one(text, label)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            struct = lta.FSLinearTransform.from_string(text)
            matrix = np.asarray(struct.to_ras(), dtype=np.float64).reshape(4, 4)
    except Exception as error:  # its parser raises whatever it stumbles on
        why = cut(str(error).strip().split("\n")[0] or type(error).__name__, 120)
        raise InputError(f"{label}: cannot be read as a FreeSurfer .lta file: {why}.") from error
    try:
        check_affine(matrix)
    except GeometryError as error:
        raise GeometryError(f"{label}: {error}") from error
    return lps_from_ras() @ matrix @ lps_from_ras()


def _check_one(text: str, label: str) -> None:
    """Raise InputError unless the file holds one transform, as its parser expects without asking."""
    counts = [line.partition("=")[2].strip() for line in text.splitlines() if line.strip().startswith("nxforms")]
    if counts != ["1"]:
        got = cut(", ".join(counts) or "none", 40)
        raise InputError(f"{label}: expected a FreeSurfer .lta file with one transform (nxforms = 1), got {got}.")


def write_lta(content: Content, place, name: str) -> None:
    """The .lta file of an affine. Needs both grids (InputError)."""
    fixed, moving = require_both(*content.sides.grids, "FreeSurfer's .lta file")
    lta = _nitransforms().io.lta
    ras = lps_from_ras() @ content.affine_lps @ lps_from_ras()
    # FreeSurfer's file leads from src (here: the moving volume) to dst; the package calls dst "moving".
    struct = lta.FSLinearTransform.from_ras(ras, moving=_empty(fixed), reference=_empty(moving))
    place(name).write_text(struct.to_string(), encoding="utf-8")


def _nitransforms():
    """The package, or InputError saying how to get it."""
    try:
        import nitransforms
        import nitransforms.io.lta
    except ImportError as error:
        raise InputError("FreeSurfer's .lta files need the package nitransforms: pip install nitransforms.") from error
    return nitransforms


def _empty(grid: VolumeGrid):
    """A NIfTI image with a grid's geometry and no memory of its own."""
    import nibabel

    data = np.broadcast_to(np.zeros(1, dtype=np.uint8), grid.size_ijk)
    return nibabel.Nifti1Image(data, lps_from_ras() @ grid.lps_from_ijk)
