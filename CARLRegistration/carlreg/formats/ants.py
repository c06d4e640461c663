"""ANTs' pair of files, written: a field in a NIfTI file and an affine in an ITK file, or one of them alone.

Neither needs a reader of its own: `reading.py` reads the field by its header (5-D NIfTI, intent 1007: vectors in LPS
mm) and the affine as the ITK transform that it is.
"""

from __future__ import annotations

from ..io import nifti_field
from ..io.itk_transform import affine_to_sitk
from ..io.writing import write_transform
from .content import Content


def write_pair(content: Content, place, name: str) -> None:
    """STEM1Warp.nii.gz and STEM0GenericAffine.mat; an identity beside a field is left out."""
    if content.has_field:
        warp = place(f"{content.name}1Warp.nii.gz")
        nifti_field.write_field(warp, *content.field(), nifti_field.VECTOR)
    if not content.has_field or not content.affine_is_identity:
        write_transform(affine_to_sitk(content.affine_lps), place(f"{content.name}0GenericAffine.mat"))


def command_of_one_file(name: str, first: str, second: str) -> str:
    """How antsApplyTransforms resamples the second volume onto the first by one file of the pair alone."""
    return f"antsApplyTransforms -d 3 -i {second.upper()} -r {first.upper()} -t {name} -o OUT"
