"""Stage B: the whole network on synthetic pairs, whose labels and true map are known.

Loss: soft Dice of the moving labels warped onto the fixed ones + end-point error in voxels + GradICON, which asks both
directions to be inverse to each other. Dice and error are means over both directions. Where each point of a map costs,
as of maps that are functions, all three look at some points only, drawn anew for each pair (`points`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..losses.points import picked
from ..maps import CoordinateMap, identity_map, sample
from ..models.operators import RegistrationNetwork
from .known_pair import KnownPair, OneWay, draw_pair, drawn_where
from .regularity import sparse_gradicon
from .settings import JointSettings
from .stage import Stage, Terms, bin_names


class JointStage(Stage):
    Settings = JointSettings
    settings: JointSettings

    def draw(self, seed: int, device: torch.device) -> KnownPair:
        return draw_pair(seed, self.data.synthetic, device)

    def losses(self, network: RegistrationNetwork, draw: KnownPair, generator: Generator) -> Terms:
        s, pair = self.settings, draw
        forward, backward = network(pair.moving, pair.fixed)
        labels = common_labels(pair.moving_labels, pair.fixed_labels, s.labels, generator)
        dice = 0.5 * (
            dice_loss(forward.map, pair.moving_labels, pair.fixed_labels, labels, pair.forward, s.points, generator)
            + dice_loss(backward.map, pair.fixed_labels, pair.moving_labels, labels, pair.backward, s.points, generator)
        )
        forward_error = pair.forward.end_point(forward.map, pair.shape, count=s.points, generator=generator)
        backward_error = pair.backward.end_point(backward.map, pair.shape, count=s.points, generator=generator)
        with torch.set_grad_enabled(torch.is_grad_enabled() and s.gradicon_weight > 0):  # else only for the log
            irregularity = sparse_gradicon(forward.map, backward.map, pair.shape, generator, count=s.points)
        end_point = 0.5 * (forward_error + backward_error)
        loss = s.dice_weight * dice + s.end_point_weight * end_point + s.gradicon_weight * irregularity
        terms = {"loss": loss, "dice_loss": dice, "end_point": end_point, "gradicon": irregularity}
        return terms | end_point_bins(pair.forward, forward_error)


def end_point_bins(way: OneWay, end_point: Tensor) -> Terms:
    """The error under the names of the pair's bins."""
    return {name: end_point.detach() for name in bin_names("end_point", way.overlap, way.degrees)}


def common_labels(first: Tensor, second: Tensor, most: int, generator: Generator) -> Tensor:
    """Up to `most` of the labels (not 0) that both images show, a random choice."""
    in_first, in_second = (image.flatten().unique() for image in (first, second))
    common = in_first[torch.isin(in_first, in_second) & (in_first > 0)]
    order = torch.randperm(len(common), generator=generator)[:most]
    return common[order.to(common.device)]


def dice_loss(
    found: CoordinateMap,
    moving_labels: Tensor,
    fixed_labels: Tensor,
    labels: Tensor,
    way: OneWay,
    count: int = 0,
    generator: Generator | None = None,
) -> Tensor:
    """1 - mean soft Dice of some labels, where the fixed image has data and its match is in the moving one's.

    count: the warped labels' sums from so many voxels, drawn there at random by `generator`, those of the fixed labels
        from all; 0 = all. Sums expect what all voxels give; Dice, their ratio, is too low by about 1 / (4 m) of itself
        for a label that m of the voxels meet.
    """
    if not len(labels):
        return found.on_grid((1, 1, 1)).sum() * 0.0
    choice = labels.view(1, -1, 1, 1, 1)
    moving, fixed = ((image == choice).to(torch.float32) for image in (moving_labels, fixed_labels))
    weight = F.interpolate(way.seen_b1dhw, size=fixed.shape[2:], mode="nearest")
    if not count:
        return 1 - soft_dice(sample(moving, found.on_grid(fixed.shape[2:]), padding="zeros"), fixed, weight).mean()
    places = drawn_where(weight, count, generator)
    points = picked(identity_map(fixed.shape[2:], align_corners=found.align_corners, device=fixed.device), places)
    warped = sample(moving, found(points), padding="zeros")
    here = picked(weight, places) * (weight.sum() / places.shape[1])  # each point stands for so many voxels
    return 1 - _dice(warped * picked(fixed, places) * here, warped * here, fixed * weight).mean()


def soft_dice(first_bldhw: Tensor, second_bldhw: Tensor, weight_b1dhw: Tensor) -> Tensor:
    """Dice of each label (l values) between images of 0..1; labels that neither shows have 1."""
    return _dice(first_bldhw * second_bldhw * weight_b1dhw, first_bldhw * weight_b1dhw, second_bldhw * weight_b1dhw)


def _dice(common: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Of what both show at each point and of each, b l and any lattices: over their sums."""
    common, first, second = (values.transpose(0, 1).flatten(1).sum(1) for values in (common, first, second))
    return (2 * common + 1e-3) / (first + second + 1e-3)
