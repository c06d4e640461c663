"""What guided a registration, and how well the map follows it: for `quality.json`."""

from __future__ import annotations

import numpy as np

from ..optimize.segments import SegmentPair
from ..physical import PhysicalTransform
from ..quality.labels import warp_labels
from ..quality.measure import landmark_errors, lattice_step, subsampled
from ..quality.metrics import dice_per_label
from ..spaces import VolumeGrid, apply_affine
from .landmarks import accuracy_of
from .result import RegistrationResult


def guidance_of(result: RegistrationResult, before_lps: np.ndarray) -> dict | None:
    """Landmarks and segments before and after a registration, and what it ignored; None where nothing guided it.

    before_lps: 4x4, the alignment that 'before' means. Of what is there: landmarks (accuracy_mm; points: name,
    before_mm, after_mm; contradicting: pairs of names), segments (name, weight, dice_before, dice_after), ignored_ml
    by side.
    """
    found: dict = {}
    if result.guide is not None:
        fixed, moving, names = result.guide.used
        errors = landmark_errors(result.transform.apply, before_lps, (fixed, moving))
        each = [errors[when]["errors_mm"] for when in ("before", "after")]
        found["landmarks"] = {
            "accuracy_mm": accuracy_of(result.settings, result.fixed.grid, result.moving.grid),
            "points": [
                {"name": name, "before_mm": before, "after_mm": after}
                for name, before, after in zip(names, *each, strict=True)
            ],
            "contradicting": (result.info.get("landmarks_guide") or result.info.get("mended") or {}).get(
                "contradicting", []
            ),
        }
    if result.segments:
        still = PhysicalTransform.from_affine(before_lps)
        found["segments"] = [
            {
                "name": pair.name,
                "weight": pair.weight,
                "dice_before": overlap(pair, still, result.fixed.grid),
                "dice_after": overlap(pair, result.transform, result.fixed.grid),
            }
            for pair in result.segments
        ]
    ignored = {
        side: np.count_nonzero(volume.array) * float(np.prod(volume.grid.spacing)) / 1000
        for side, volume in zip(("fixed", "moving"), result.ignored, strict=True)
        if volume is not None
    }
    return {**found, **({"ignored_ml": ignored} if ignored else {})} or None


def overlap(pair: SegmentPair, transform: PhysicalTransform, fixed: VolumeGrid) -> float:
    """Dice of a segment under a map, on the fixed voxels (every n-th in large volumes)."""
    lattice = _around(pair, transform.affine_lps, fixed)
    ours = warp_labels(PhysicalTransform.from_affine(np.eye(4)), lattice, pair.fixed.inside, pair.fixed.grid)
    theirs = warp_labels(transform, lattice, pair.moving.inside, pair.moving.grid)
    return dice_per_label(ours, theirs, [1])[1]


def _around(pair: SegmentPair, affine_lps: np.ndarray, fixed: VolumeGrid) -> VolumeGrid:
    """The fixed voxels around both of a segment's sides. The margin around them covers what a deformation moves."""
    theirs = apply_affine(np.linalg.inv(affine_lps), pair.moving.grid.corners_lps())
    index = fixed.index(np.concatenate([pair.fixed.grid.corners_lps(), theirs]))
    low = np.clip(np.floor(index.min(0)), 0, fixed.size_ijk).astype(int)
    high = np.clip(np.ceil(index.max(0)) + 1, 0, fixed.size_ijk).astype(int)
    box = fixed.cropped(low, high)
    return subsampled(box, lattice_step(box))
