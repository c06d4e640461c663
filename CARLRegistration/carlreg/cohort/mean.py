"""The mean of a cohort on its common fixed image: of the warped images, and of volume change."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from ..atomic import staging
from ..errors import InputError
from ..io.writing import write_image
from ..progress import Progress
from ..volumes import read_image
from .study import DONE, Study

IMAGE, JACOBIAN = "mean.nii.gz", "mean_jacobian.nii.gz"
_PERCENTILES = (1.0, 99.0)
_LEAST_JACOBIAN = 1e-3


def write_mean(study: Study, progress: Progress) -> int:
    """Write `mean.nii.gz` and `mean_jacobian.nii.gz` of the pairs that are done; returns how many they are.

    The mean image has each warped image's 1st percentile at 0 and its 99th at 1: scans have scales of their own. The
    mean Jacobian is the geometric one, so that twice as large and half as large cancel out. Both are sums in the plan's
    order.

    Raises: InputError when nothing is done, or pairs have different fixed images; ResourceError.
    """
    done = [pair for pair in study.pairs if study.state(pair).word == DONE]
    fixed = {pair.files["fixed"] for pair in done}
    if len(fixed) != 1:
        raise InputError(
            f"mean: expected pairs that are done and have one fixed image in common; they have {len(fixed)}."
        )
    image_sum = log_sum = np.zeros(())
    like = None
    for number, pair in enumerate(done):
        progress.update(number / len(done), f"mean of {len(done)}: {pair.name}")
        warped = read_image(study.result(pair.name) / "warped.nii.gz", f"{pair.name}: warped")[0]
        jacobian = read_image(study.result(pair.name) / "jacobian.nii.gz", f"{pair.name}: Jacobian")[0]
        values = sitk.GetArrayFromImage(warped).astype(np.float64)
        low, high = np.percentile(values, _PERCENTILES)
        scaled = (values - low) / max(high - low, 1e-12)
        change = np.log(np.maximum(sitk.GetArrayViewFromImage(jacobian), _LEAST_JACOBIAN).astype(np.float64))
        image_sum, log_sum = image_sum + scaled, log_sum + change
        like = like or warped
    with staging(final=False) as stage:
        for name, array in ((IMAGE, image_sum / len(done)), (JACOBIAN, np.exp(log_sum / len(done)))):
            image = sitk.GetImageFromArray(array.astype(np.float32))
            image.CopyInformation(like)
            write_image(image, stage.file(study.folder / name))
    return len(done)
