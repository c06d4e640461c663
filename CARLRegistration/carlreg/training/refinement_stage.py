"""Training of the refinement steps: local attention, shown maps that are nearly right.

The true map of a synthetic pair, disturbed by a smooth error, takes the place of what the first network would say. The
network's own steps then run one after another, each on what the one before it left. What a step should answer is known
at every place (the point that the map so far sends to the true match), so each is taught directly: cross-entropy of
its window against the true offset, the end-point error of its answer, and the gradient of that error.

Shape suffixes: b batch, c channels, k offsets of a window, d h w axes; normalized coordinates as in `maps.sampling`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..errors import InputError
from ..maps import CompositeMap, CoordinateMap, DisplacementMap, identity_map
from ..models.local_attention import LocalAttention
from ..models.operators import RegistrationNetwork, TwoStep, warped_by
from .known_pair import OneWay, one_way, turn_degrees
from .settings import RefinementSettings
from .stage import Stage, Terms, bin_names
from .synthetic import Views, make_views


@dataclass(frozen=True)
class Task:
    """One pair to refine.

    moving_b1dhw, fixed_b1dhw: images. way: the true map and where it counts. start: the disturbed map. linear_33: the
    linear part of the true map. structure_b1dhw: local deviation on a lattice of any shape over the fixed image.
    """

    moving_b1dhw: Tensor
    fixed_b1dhw: Tensor
    way: OneWay
    start: CoordinateMap
    linear_33: Tensor
    structure_b1dhw: Tensor

    @property
    def true_b3dhw(self) -> Tensor:
        return self.way.true_b3dhw

    @property
    def valid_b1dhw(self) -> Tensor:
        """1 on the body where both images have data, lattice of `true_b3dhw`."""
        return self.way.seen_b1dhw * self.way.body_b1dhw


class RefinementStage(Stage):
    Settings = RefinementSettings
    settings: RefinementSettings

    def prepare(self, network: RegistrationNetwork, model: str) -> None:
        steps = network.refinements() if isinstance(network, TwoStep) else []
        if not steps or not all(isinstance(step, LocalAttention) for step, _ in steps):
            raise InputError(
                f"stage: expected a network that refines by local attention (carl-compact) for kind 'refinement'; "
                f"{model} does not. Train it with kind 'joint', 'similarity' or 'images'."
            )

    def draw(self, seed: int, device: torch.device) -> Task:
        views = make_views(seed, replace(self.data.synthetic, views=2), device=device)
        return make_task(views, 1, 0, self.settings.largest_voxels, Generator().manual_seed(seed))

    def losses(self, network: RegistrationNetwork, draw: Task, generator: Generator) -> Terms:
        if not isinstance(network, TwoStep):
            raise TypeError(f"Expected the network that `prepare` checked, got {type(network).__name__}.")
        s = self.settings
        terms = refinement_losses(
            network,
            draw,
            end_point_weight=s.end_point_weight,
            gradient_weight=s.gradient_weight,
            structure=s.minimum_structure,
        )
        last = terms[f"step_{len(network.refinements())}"]
        names = bin_names("end_point_voxels", draw.way.overlap, turn_degrees(draw.true_b3dhw))
        return terms | dict.fromkeys(names, last)


def disturbance(shape_dhw, largest_voxels: float, generator: Generator) -> Tensor:
    """1 3 d h w smooth random displacement in voxels, on two scales: `largest_voxels` is its usual largest length."""

    def noise(nodes: int, amplitude: float) -> Tensor:
        values = torch.randn((1, 3, nodes, nodes, nodes), generator=generator) * amplitude
        return F.interpolate(values, size=tuple(shape_dhw), mode="trilinear", align_corners=True)

    size = largest_voxels * torch.rand((), generator=generator).item()
    coarse, fine = (int(torch.randint(low, high, (), generator=generator)) for low, high in ((2, 4), (4, 7)))
    return noise(coarse, size * 0.4) + noise(fine, size * 0.25)


def make_task(views: Views, moving: int, fixed: int, largest_voxels: float, generator: Generator) -> Task:
    """Views number `moving` and `fixed` of one anatomy as a pair to refine."""
    way = one_way(views, moving, fixed)
    lattice = identity_map(way.true_b3dhw.shape[2:], device=way.true_b3dhw.device)
    voxels = lattice.new_tensor(views.images_k1dhw.shape[2:]).view(1, 3, 1, 1, 1)
    error = disturbance(lattice.shape[2:], largest_voxels, generator).to(lattice)
    start = DisplacementMap(views.moving_from_fixed(moving, fixed, lattice + error / voxels) - lattice)
    linear = torch.linalg.inv(views.views[moving].matrix) @ views.views[fixed].matrix
    images, structure = views.images_k1dhw, views.structure_k1dhw
    return Task(
        images[moving : moving + 1], images[fixed : fixed + 1], way, start, linear, structure[fixed : fixed + 1]
    )


def point_sent_to(found: CoordinateMap, target_b3dhw: Tensor, linear_33: Tensor, iterations: int = 8) -> Tensor:
    """The fixed point that `found` sends to each target; both normalized coordinates, lattice of the targets.

    linear_33: about the linear part of `found`. Begins at the same place of the lattice.
    """
    backward = torch.linalg.inv(linear_33)
    point = identity_map(target_b3dhw.shape[2:], device=target_b3dhw.device)
    for _ in range(iterations):
        point = point + torch.einsum("xy,bydhw->bxdhw", backward, target_b3dhw - found(point))
    return point


def refinement_losses(
    network: TwoStep,
    task: Task,
    *,
    end_point_weight: float = 1.0,
    gradient_weight: float = 0.3,
    structure: float = 0.03,
) -> dict[str, Tensor]:
    """Losses of one pair, means over the network's refinement steps.

    Returns: loss; cross_entropy (nats), end_point (cells), gradient; and without gradients the mean distance to the
    true map in voxels before (`start`) and after each step (`step_1`, ...).
    """
    shape = task.fixed_b1dhw.shape[2:]
    voxels = task.true_b3dhw.new_tensor(shape).view(1, 3, 1, 1, 1)
    found: CoordinateMap = task.start
    terms: dict[str, list[Tensor]] = {"cross_entropy": [], "end_point": [], "gradient": []}
    distances = {"start": _distance(found, task, voxels)}
    steps = network.refinements()
    for number, (step, relax) in enumerate(steps, 1):
        if not isinstance(step, LocalAttention):
            raise TypeError(f"Expected the network that `prepare` checked, got {type(step).__name__} in it.")
        with torch.no_grad():
            outer, warped = warped_by(found, task.moving_b1dhw, shape, relax)
            # As it is sampled, so that the search below reads a field and not a chain of maps.
            outer_field = DisplacementMap(outer.on_grid(shape) - identity_map(shape, device=voxels.device))
            point = point_sent_to(outer_field, task.true_b3dhw, task.linear_33)
            here = identity_map(point.shape[2:], device=point.device)
            offset = (point - here) * voxels / step.stride
        answer = step.match(warped, task.fixed_b1dhw)
        lattice = answer.displacement_bndhw.shape[2:]
        offset, valid = _on(offset, lattice), _on(task.valid_b1dhw, lattice) > 0.99
        valid &= (offset.abs() < step.settings.radius - 0.01).all(1, keepdim=True)
        deviation = F.interpolate(task.structure_b1dhw, size=lattice, mode="trilinear", align_corners=False)
        textured = valid & (deviation > structure)
        terms["cross_entropy"].append(_cross_entropy(step, answer.logits_bkdhw, offset, textured))
        difference = answer.displacement_bndhw - offset
        length = (difference**2).sum(1, keepdim=True).add(1e-4).sqrt()
        terms["end_point"].append((length * valid).sum() / valid.sum().clamp_min(1))
        terms["gradient"].append(_gradient(difference, valid))
        cells = voxels / step.stride
        found = CompositeMap(outer=outer, inner=DisplacementMap(answer.displacement_bndhw.detach() / cells))
        distances[f"step_{number}"] = _distance(found, task, voxels)
    means = {name: torch.stack(values).mean() for name, values in terms.items()}
    loss = means["cross_entropy"] + end_point_weight * means["end_point"] + gradient_weight * means["gradient"]
    return {"loss": loss, **means, **distances}


def _on(image_bcdhw: Tensor, shape) -> Tensor:
    """An image on a coarser lattice over the same box."""
    factor = image_bcdhw.shape[2] // shape[0]
    return F.avg_pool3d(image_bcdhw, factor) if factor > 1 else image_bcdhw


@torch.no_grad()
def _distance(found: CoordinateMap, task: Task, voxels: Tensor) -> Tensor:
    """Mean distance to the true map over valid places, voxels."""
    apart = ((found.on_grid(task.true_b3dhw.shape[2:]) - task.true_b3dhw) * voxels).square().sum(1, keepdim=True).sqrt()
    return (apart * task.valid_b1dhw).sum() / task.valid_b1dhw.sum().clamp_min(1)


def _cross_entropy(step: LocalAttention, logits_bkdhw: Tensor, offset_b3dhw: Tensor, where_b1dhw: Tensor) -> Tensor:
    """Against the true offset (cells), spread trilinearly over the eight offsets of the window around it."""
    radius = step.settings.radius
    span = 2 * radius + 1
    at = where_b1dhw[:, 0]
    logits_nk = logits_bkdhw.movedim(1, -1)[at]
    offset_n3 = offset_b3dhw.movedim(1, -1)[at] + radius
    if not len(offset_n3):
        return logits_bkdhw.sum() * 0
    log_weights = logits_nk.log_softmax(1)
    corner = offset_n3.floor().clamp(0, span - 2).long()
    fraction = (offset_n3 - corner).clamp(0, 1)
    total = torch.zeros_like(offset_n3[:, 0])
    for bits in range(8):
        bit = torch.tensor([(bits >> a) & 1 for a in range(3)], device=corner.device)
        share = torch.where(bit.bool(), fraction, 1 - fraction).prod(1)
        place = corner + bit
        index = (place[:, 0] * span + place[:, 1]) * span + place[:, 2]
        total = total - share * log_weights.gather(1, index[:, None])[:, 0]
    return total.mean()


def _gradient(difference_b3dhw: Tensor, valid_b1dhw: Tensor) -> Tensor:
    """Mean squared difference of the error between valid neighbors, summed over axes."""

    def along(axis: int) -> Tensor:
        n = valid_b1dhw.shape[axis]
        both = valid_b1dhw.narrow(axis, 0, n - 1) & valid_b1dhw.narrow(axis, 1, n - 1)
        return (difference_b3dhw.diff(dim=axis).square() * both).sum() / both.sum().clamp_min(1)

    return along(2) + along(3) + along(4)
