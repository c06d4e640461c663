"""ConvexAdam on MIND features with its defaults: FIXED MOVING FOLDER THREADS.

It needs both images on one grid: moving is put on fixed's, with the images' centers aligned, first.
"""

import json
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from convexAdam.convex_adam_MIND import convex_adam_pt

fixed_file, moving_file, folder, threads = sys.argv[1:5]
torch.set_num_threads(int(threads))
fixed, moving = sitk.ReadImage(fixed_file, sitk.sitkFloat32), sitk.ReadImage(moving_file, sitk.sitkFloat32)


def center(image):
    """The middle of an image's box, LPS mm."""
    return np.array(image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()]))


shift = center(moving) - center(fixed)
lowest = float(sitk.GetArrayViewFromImage(moving).min())
on_fixed = sitk.Resample(moving, fixed, sitk.TranslationTransform(3, tuple(shift)), sitk.sitkLinear, lowest)
# Voxels of the fixed grid, array axes (k, j, i), to the place in `on_fixed`.
voxels_kji = convex_adam_pt(sitk.GetArrayFromImage(fixed), sitk.GetArrayFromImage(on_fixed))
lps_from_ijk = np.reshape(fixed.GetDirection(), (3, 3)) * np.array(fixed.GetSpacing())
field = sitk.GetImageFromArray(voxels_kji[..., ::-1] @ lps_from_ijk.T + shift, isVector=True)
field.CopyInformation(fixed)
sitk.WriteImage(field, str(Path(folder) / "field.mha"))
(Path(folder) / "steps.json").write_text(json.dumps([{"kind": "field", "file": "field.mha"}]))
