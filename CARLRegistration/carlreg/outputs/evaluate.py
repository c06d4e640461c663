"""Any transform judged on any pair, by the same measures as a registration's own."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import SimpleITK as sitk

from ..errors import GeometryError, InputError
from ..io.itk_transform import map_points, read_transform
from ..io.nifti_writing import rounded_mantissa, write_nifti_gz
from ..physical import PhysicalTransform, invert
from ..physical.general import sample_transform
from ..progress import Progress, StageTiming, peak_memory_mb
from ..quality.judged import judged
from ..quality.measure import measure, read_uncertainty
from ..quality.metrics import uncertainty_metrics
from ..spaces import VolumeGrid
from ..volumes import Volume

log = logging.getLogger(__name__)


def evaluate(
    transform: str | os.PathLike | sitk.Transform | PhysicalTransform,
    fixed: Volume,
    moving: Volume,
    *,
    labels: tuple[sitk.Image, sitk.Image | None] | None = None,
    label_names: Mapping[int, str] | None = None,
    landmarks: tuple[np.ndarray, np.ndarray] | None = None,
    fixed_mask: sitk.Image | None = None,
    uncertainty: str | os.PathLike | None = None,
    warped_path: str | os.PathLike | None = None,
    jacobian_path: str | os.PathLike | None = None,
    progress: Progress | None = None,
) -> dict:
    """The figures of `quality.json` for any transform that ITK reads (fixed points to moving points, LPS mm).

    Transforms that are not one affine after one displacement field are sampled on the fixed grid (said in `notes`);
    landmarks go through the transform itself.

    Args: labels: fixed and moving label maps; the fixed one alone gives the segments' volume changes. uncertainty: an
        `uncertainty.nii.gz` of this fixed volume. warped_path, jacobian_path: .nii.gz files to write.
    """
    begin = time.perf_counter()
    values = None if uncertainty is None else read_uncertainty(uncertainty, fixed.grid)
    physical, apply, sampled = _as_physical(transform, fixed.grid)
    if progress is not None:
        progress.check()
    inverse, inverse_report = invert(physical, moving.grid)
    if progress is not None:
        progress.check()
    measured = measure(
        physical,
        inverse,
        fixed,
        moving,
        fixed_mask=fixed_mask,
        labels=labels,
        label_names=label_names,
        landmarks=landmarks,
        apply=apply,
        progress=progress,
    )
    if values is not None:
        measured.metrics["uncertainty"] = uncertainty_metrics(values, measured.body)
    if warped_path is not None:
        write_nifti_gz(warped_path, measured.warped, fixed.grid)
    if jacobian_path is not None:
        write_nifti_gz(jacobian_path, rounded_mantissa(measured.jacobian), fixed.grid)
    return judged(
        measured.metrics,
        start="given transform",
        timings=[StageTiming("evaluate", time.perf_counter() - begin, peak_memory_mb())],
        inverse_report=inverse_report,
        notes=None if sampled is None else {"sampled_at_mm": sampled},
    )


def _as_physical(
    transform, fixed_grid: VolumeGrid
) -> tuple[PhysicalTransform, Callable[[np.ndarray], np.ndarray], float | None]:
    if isinstance(transform, PhysicalTransform):
        return transform, transform.apply, None
    if not isinstance(transform, sitk.Transform):
        transform = read_transform(transform)
    try:
        physical = PhysicalTransform.from_sitk(transform)
    except GeometryError:
        raise
    except InputError:
        log.info("A general transform: its displacement is sampled on the fixed grid.")
        physical = sample_transform(transform, fixed_grid)
        return physical, partial(map_points, transform), float(physical.grid.spacing.max())
    return physical, physical.apply, None
