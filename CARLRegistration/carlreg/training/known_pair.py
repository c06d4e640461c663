"""A generated pair with everything that is known about it.

Shape suffixes: b batch (1), d h w axes. True maps live on a lattice of 2-voxel cells: they are smooth, and inverting
the generator's deformation on every voxel would cost more than the network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..losses.points import drawn, picked
from ..maps import CoordinateMap, identity_map, sample
from .synthetic import SyntheticSettings, Views, make_views

_EVERY = 2  # voxels between the nodes of true maps


@dataclass(frozen=True)
class OneWay:
    """What is known about one direction.

    true_b3dhw: where points of the fixed image lie in the moving one, normalized coordinates, on the coarse lattice.
    seen_b1dhw: 1 where the fixed image has data and the match lies within the moving image's; same lattice.
    body_b1dhw: 1 where the fixed image shows the body; same lattice.
    """

    true_b3dhw: Tensor
    seen_b1dhw: Tensor
    body_b1dhw: Tensor

    @property
    def overlap(self) -> float:
        """Share of the fixed image's body that the moving image shows too."""
        return ((self.seen_b1dhw * self.body_b1dhw).sum() / self.body_b1dhw.sum().clamp_min(1)).item()

    @property
    def degrees(self) -> float:
        """Angle of the rotation that fits the true map best."""
        return turn_degrees(self.true_b3dhw)

    def end_point(
        self, found: CoordinateMap, shape, *, count: int = 0, generator: torch.Generator | None = None
    ) -> Tensor:
        """Mean distance in voxels between a map and the true one over the body that both images show; with gradient.

        count: at so many of the lattice's points there, drawn at random by `generator`; 0 = all. It expects the same.
        """
        lattice = self.true_b3dhw.shape[2:]
        voxels = self.true_b3dhw.new_tensor(list(shape)).view(1, 3, 1, 1, 1)
        true, weight = self.true_b3dhw, self.seen_b1dhw * self.body_b1dhw
        if count:
            points = identity_map(lattice, align_corners=found.align_corners, device=true.device)
            places = drawn_where(weight, count, generator)
            true, weight = picked(true, places), picked(weight, places)
            difference = (found(picked(points, places)) - true) * voxels
        else:
            difference = (found.on_grid(lattice) - true) * voxels
        distance = difference.square().sum(1, keepdim=True).add(1e-6).sqrt()
        return (distance * weight).sum() / weight.sum().clamp_min(1)


def drawn_where(weight_b1dhw: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """1 x k places of a lattice, drawn from those whose weight (of one image) is not 0; place 0 where there is none."""
    where = weight_b1dhw.flatten().nonzero().flatten()
    if not len(where):
        return torch.zeros((1, 1), dtype=torch.long)
    return where[drawn(len(where), count, generator)[0].to(where.device)][None]


@dataclass(frozen=True)
class KnownPair:
    """Two views of one anatomy; images, labels and `inside` (1 where a view has data) are b1dhw of one shape."""

    moving: Tensor
    fixed: Tensor
    moving_labels: Tensor
    fixed_labels: Tensor
    moving_inside: Tensor
    fixed_inside: Tensor
    forward: OneWay
    backward: OneWay

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.fixed.shape[2:])


def draw_pair(seed: int, settings: SyntheticSettings, device) -> KnownPair:
    """The pair of a seed: view 0 moves, view 1 is fixed."""
    views = make_views(seed, replace(settings, views=2), device=device)
    moving, fixed = slice(0, 1), slice(1, 2)
    return KnownPair(
        views.images_k1dhw[moving],
        views.images_k1dhw[fixed],
        views.labels_k1dhw[moving],
        views.labels_k1dhw[fixed],
        views.inside_k1dhw[moving],
        views.inside_k1dhw[fixed],
        one_way(views, 0, 1),
        one_way(views, 1, 0),
    )


def one_way(views: Views, moving: int, fixed: int) -> OneWay:
    """What is known about the map from view `fixed` to view `moving`."""
    labels, inside = views.labels_k1dhw, views.inside_k1dhw
    lattice = identity_map([n // _EVERY for n in labels.shape[2:]], device=labels.device)
    true = views.moving_from_fixed(moving, fixed, lattice)
    shown = sample(inside[moving : moving + 1], true, padding="zeros") > 0.9
    data = F.avg_pool3d(inside[fixed : fixed + 1], _EVERY) > 0.9
    body = F.avg_pool3d((labels[fixed : fixed + 1] > 0).float(), _EVERY) > 0.5
    return OneWay(true, (shown & data).float(), (body & data).float())


def turn_degrees(map_b3dhw: Tensor) -> float:
    """Angle of the rotation that is nearest to a map's linear part (both images with one voxel size and shape)."""
    points = identity_map(map_b3dhw.shape[2:], device=map_b3dhw.device).flatten(2)[0]
    mapped = map_b3dhw.flatten(2)[0]
    points, mapped = (x - x.mean(1, keepdim=True) for x in (points, mapped))
    u, _, v = torch.linalg.svd((mapped @ points.T).double().cpu())
    sign = torch.det(u @ v).sign()
    rotation = u @ torch.diag(torch.tensor([1.0, 1.0, sign], dtype=u.dtype)) @ v
    return math.degrees(math.acos(max(-1.0, min(1.0, (rotation.trace().item() - 1) / 2))))
