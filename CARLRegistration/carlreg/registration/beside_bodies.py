"""The space between rigid segments, optimized anew after they were given their motions.

What is held rigid takes its surroundings along, as far as the way from the one to the other needs: they were found with
another map beside them. So the steps of an optimization are parted: the first find the motions, the others what is
left, a change that vanishes in the segments and grows to all of it at some nodes from them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..maps import sample
from ..maps.exchange import tensor_from_array
from ..optimize.field import FieldResult, LevelLoss, descend
from ..optimize.guide import PointGuide
from ..optimize.levels import FieldLevel, LevelImages, level_images
from ..optimize.onward import Known, informed
from ..optimize.rigidity import RigidGuide
from ..optimize.segments import SegmentPair
from ..physical import PhysicalTransform
from ..physical.rigid_parts import RigidPart, changed_beside, share_beside
from ..progress import Progress
from ..settings import RegistrationSettings
from ..spaces import VolumeGrid, apply_affine
from .course import course_for
from .landmarks import Landmarks
from .live import LiveMap
from .onward import planned_onward, residual_before
from .pair import PreparedPair

log = logging.getLogger(__name__)

# Of the steps; nodes from the segments to where a change is whole (over fewer of them it folds, over more it comes too
# late: beside bones of a lung 4, 6 and 8 nodes left 1.50, 1.53 and 1.54 mm); controls farther apart than so many mm
# would hold nothing that was not found before (a breath moves ribs by less).
_FIRST, _REACH_NODES, _COARSEST_MM = 0.6, 6.0, 20.0
# Points with less of the change are the segments' own.
_BESIDE = 0.5


def parted(settings: RegistrationSettings, any_rigid: bool) -> tuple[RegistrationSettings, int]:
    """The settings of the optimization that finds the motions, and the steps that are left for the space between."""
    if not any_rigid or settings.steps < 2:
        return settings, 0
    first = max(1, round(_FIRST * settings.steps))
    return replace(settings, io_steps=first), settings.steps - first


@dataclass(frozen=True, eq=False)
class Held:
    """Rigid segments as they are held while the space between them is optimized.

    share_dhw: on the transform's grid, how much of a change is made there. nodes_dhw: bool, those that stay.
    """

    grid: VolumeGrid
    share_dhw: np.ndarray
    nodes_dhw: np.ndarray

    @classmethod
    def of(cls, parts: Sequence[RigidPart], nodes_dhw: np.ndarray, grid: VolumeGrid) -> Held:
        share = share_beside(grid, parts, _REACH_NODES)
        share[nodes_dhw] = 0
        return cls(grid, share, nodes_dhw)

    def share_at(self, points_lps: np.ndarray) -> torch.Tensor:
        """1 1 d h w at d h w 3 points."""
        normalized = apply_affine(self.grid.normalized_from_lps, points_lps).astype(np.float32)
        where = tensor_from_array(np.ascontiguousarray(np.moveaxis(normalized, -1, 0)[None]))
        return sample(tensor_from_array(self.share_dhw)[None, None], where)

    def beside(self, guide: PointGuide) -> PointGuide:
        """Those points that a change can move."""
        share = self.share_at(guide.points_lps[None, None])[0, 0, 0, 0].numpy()
        free = share >= _BESIDE
        return replace(guide, points_lps=guide.points_lps[free], displacement_lps=guide.displacement_lps[free])


def optimized_beside(
    transform: PhysicalTransform,
    held: Held,
    steps: int,
    pair: PreparedPair,
    settings: RegistrationSettings,
    device: torch.device,
    progress: Progress,
    *,
    landmarks: Landmarks | None = None,
    segments: Sequence[SegmentPair] = (),
    stiff: RigidGuide | None = None,
) -> PhysicalTransform:
    """The transform with the space between its rigid segments optimized by so many steps; the segments stay."""
    if not steps or progress.stopping:
        return transform
    affine, box, live = transform.affine_lps, pair.fixed.content, LiveMap(progress)
    levels, spacings = planned_onward(
        box, _COARSEST_MM, replace(settings, io_steps=steps), course_for(settings, pair, halfway=False)
    )
    known = Known(residual_before(transform), box, share_11dhw=lambda lattice: held.share_at(lattice.centers()))

    def loss_for(images: LevelImages, level: FieldLevel) -> LevelLoss:
        loss = LevelLoss(images, affine, box, level, settings.similarity)
        loss.share_11dhw = held.share_at(images.fixed_grid.centers()).to(device)
        return loss

    def displacement(found: FieldResult, grid: VolumeGrid) -> np.ndarray:
        nodes = grid.centers()
        share = held.share_at(nodes)[0, 0, ..., None].numpy()
        before = known.displacement_lps(nodes.reshape(-1, 3)).reshape(nodes.shape)
        return (before + share * found.displacement_lps(grid)).astype(np.float32)

    guide = None if landmarks is None else held.beside(landmarks.guide(affine))
    change = descend(
        (level_images(pair.fixed, pair.moving, spacing, device) for spacing in spacings),
        levels,
        box,
        informed(
            loss_for,
            lambda images, _: images.fixed_grid,
            box,
            guide=guide if guide is not None and len(guide.points_lps) else None,
            segments=segments,
            bodies=stiff,
            known=known,
        ),
        whole_for=known.whole_for,
        progress=progress,
        watch=lambda found: live.offer(affine, lambda grid: displacement(found, grid), box),
    )
    added = held.share_dhw[..., None] * change.displacement_lps(transform.grid)
    found, report = changed_beside(transform, added, held.nodes_dhw)
    log.info("between rigid segments: %s", report)
    return found
