"""The last steps of a result: its inverse, its metrics, its verdict and warnings. What writes it only writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import SimpleITK as sitk

from ..physical import invert
from ..progress import Progress, Step
from ..quality.judged import judged
from ..quality.measure import measure
from ..quality.metrics import uncertainty_metrics
from ..quality.motions import motions_of
from .guided import guidance_of
from .result import Finished, RegistrationResult

# What the run knows about folds beyond the fixed voxels.
_OF_FOLDS = ("folded_nodes", "folded_nodes_percent", "deformation_kept_percent")
_NOTHING_KNOWN = {"mean_mm": None, "median_mm": None, "p90_mm": None, "unknown_percent": 100.0}


def finish(
    result: RegistrationResult,
    *,
    labels: tuple[sitk.Image, sitk.Image | None] | None = None,
    label_names: Mapping[int, str] | None = None,
    landmarks: tuple[np.ndarray, np.ndarray] | None = None,
    progress: Progress | None = None,
) -> RegistrationResult:
    """The same result with its inverse and its quality, in `finished`; an inverse that is there is kept.

    Args:
        labels: fixed and moving label maps (the fixed one alone: volume changes only). label_names: by value.
        landmarks: fixed and moving points (N, 3), LPS mm.
    """
    progress = progress or Progress()
    already = len(progress.timings)
    if result.finished is not None:
        inverse, inverse_report = result.finished.inverse, result.finished.inverse_report
    else:
        with progress.stage("inverse"):
            inverse, inverse_report = invert(
                result.transform, result.moving.grid, own=result.own_inverse, former=result.former
            )
    with progress.stage("measure"):
        measured = measure(
            result.transform,
            inverse,
            result.fixed,
            result.moving,
            fixed_mask=result.fixed_mask,
            fixed_modality=result.settings.fixed_modality,
            labels=labels,
            label_names=label_names,
            landmarks=landmarks,
            progress=progress,
        )
        bound_mm = None
        if result.uncertainty is not None:
            bound_mm = result.uncertainty.on_grid(result.fixed.grid, "bound")
            known = uncertainty_metrics(bound_mm, measured.body) or _NOTHING_KNOWN
            measured.metrics["uncertainty"] = {**known, "meaning": result.uncertainty.meaning}
        if result.bodies is not None:
            measured.metrics["motions"] = motions_of(
                result.transform, result.bodies.moving(), measured.jacobian, result.moving.grid
            )
    measured.metrics["optimization"] = optimization_of(result)
    measured.metrics["guidance"] = guidance_of(result, measured.before_lps)
    for name in ("orientation", "pose", "likeness"):  # what was looked for while registering
        measured.metrics[name] = result.info.get(name)
    measured.metrics["notes"] |= {name: result.info[name] for name in _OF_FOLDS if name in result.info}
    timings = [*result.timings, *progress.timings[already:]]
    quality = judged(
        measured.metrics,
        start=result.start,
        timings=timings,
        warnings=result.warnings,
        inverse_report=inverse_report,
        notes={"uncertainty": result.uncertainty_reason} if result.uncertainty_reason else None,
    )
    finished = Finished(
        inverse=inverse, inverse_report=inverse_report, measured=measured, bound_mm=bound_mm, quality=quality
    )
    return replace(result, timings=timings, finished=finished)


def optimization_of(result: RegistrationResult) -> dict | None:
    """What `quality.json` tells of instance optimization; None where none was asked for.

    asked, done: steps. similarity: its name, and curve: its value before each step, larger is more alike. levels: steps
    of each level, coarse to fine; figures of different levels are not comparable.
    """
    settings = result.settings
    if not settings.steps:
        return None
    levels = [step.level for step in result.steps]
    return {
        "asked": settings.steps,
        "done": len(levels),
        "similarity": settings.similarity,
        "curve": [step.similarity for step in result.steps],
        "levels": [levels.count(level) for level in range(max(levels, default=-1) + 1)],
    }


def stop_note(steps: Sequence[Step], asked: int) -> list[str]:
    """What to say where an optimization was stopped before its end."""
    if len(steps) >= asked:
        return []
    if not steps:
        return ["Instance optimization was stopped before its first step, as asked: this is the start alone."]
    return [f"Instance optimization was stopped after {len(steps)} of {asked} steps, as asked: the map may be coarse."]
