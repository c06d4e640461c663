"""Training on one's own images, as the paper does: image similarity and GradICON, after a while of diffusion.

In place of GradICON the configuration may name another regularizer.

With `rotation`, both images of a pair are turned at random before the network sees them, and the loss is taken on the
map between the unturned ones (CARL: rotations inside the loss), so that the network learns to undo any turn without
the regularizer ever seeing it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ..losses.paper import dissimilarity_both_ways
from ..maps import Affine, CompositeMap, CoordinateMap, sample
from ..models.operators import RegistrationNetwork
from .images import Pairs, load_images
from .networks import info_of
from .regularity import irregularity
from .settings import ImagesSettings
from .stage import Stage, Terms


@dataclass(frozen=True)
class ImagePair:
    """Two images of one voxel size, b1dhw, and their masks or None. turns: 3 x 3 rotations (of the moving, of the fixed
    image) in tensor axes (d, h, w), or None."""

    moving: Tensor
    fixed: Tensor
    moving_mask: Tensor | None
    fixed_mask: Tensor | None
    turns: tuple[Tensor, Tensor] | None


class ImagesStage(Stage):
    Settings = ImagesSettings
    settings: ImagesSettings
    synthetic = False

    def prepare(self, network: RegistrationNetwork, model: str) -> None:
        self.images = load_images(self.data.images, network, info_of(model))
        self.pairs = Pairs([image.group for image in self.images], self.data.images.pairs)
        self._diffusion = self.settings.diffusion_steps > 0

    def draw(self, seed: int, device: torch.device) -> ImagePair:
        generator = Generator().manual_seed(seed)
        moving, fixed = (self.images[index] for index in self.pairs.draw(generator))
        turns = None
        if self.settings.rotation:
            of_moving, of_fixed = (random_rotation(self.settings.rotation_degrees, generator) for _ in range(2))
            turns = of_moving.to(device), of_fixed.to(device)
        moving_mask, fixed_mask = (
            None if image.mask_b1dhw is None else image.mask_b1dhw.to(device) for image in (moving, fixed)
        )
        return ImagePair(moving.image_b1dhw.to(device), fixed.image_b1dhw.to(device), moving_mask, fixed_mask, turns)

    def begin_step(self, step: int) -> None:
        self._diffusion = step < self.settings.diffusion_steps

    def losses(self, network: RegistrationNetwork, draw: ImagePair, generator: Generator) -> Terms:
        s, pair = self.settings, draw
        forward, backward = turned_inside(network, pair.moving, pair.fixed, pair.turns)
        unlike = dissimilarity_both_ways(
            forward, backward, pair.moving, pair.fixed, s.similarity, pair.moving_mask, pair.fixed_mask
        )
        moving_shape, fixed_shape = pair.moving.shape[2:], pair.fixed.shape[2:]
        name = "diffusion" if self._diffusion else s.regularity
        unsmooth = irregularity(name, forward, backward, moving_shape, fixed_shape, generator, sparse=s.sparse)
        return {"loss": unlike + s.weight * unsmooth, "dissimilarity": unlike, name: unsmooth}


def random_rotation(largest_degrees: float, generator: Generator) -> Tensor:
    """3 x 3 rotation about a random axis; for 180 degrees evenly distributed over all rotations."""
    q = torch.randn(4, generator=generator, dtype=torch.float64)
    if largest_degrees < 180:
        angle = torch.rand((), generator=generator, dtype=torch.float64) * largest_degrees * torch.pi / 180
        axis = torch.nn.functional.normalize(q[1:], dim=0)
        q = torch.cat([torch.cos(angle / 2).view(1), torch.sin(angle / 2) * axis])
    w, x, y, z = (q / q.norm()).tolist()
    return torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ],
        dtype=torch.float32,
    )


def rotation_map(turn_33: Tensor, shape, *, align_corners: bool = False) -> Affine:
    """The map of an image's points that turns them, as voxels, about the image's center; normalized coordinates."""
    size = turn_33.new_tensor(list(shape))
    matrix = torch.eye(4, dtype=turn_33.dtype, device=turn_33.device)
    matrix[:3, :3] = turn_33 * size / size[:, None]
    matrix[:3, 3] = 0.5 - matrix[:3, :3].sum(1) * 0.5
    return Affine(matrix, align_corners=align_corners)


def turned_inside(
    network: RegistrationNetwork, moving_b1dhw: Tensor, fixed_b1dhw: Tensor, turns: tuple[Tensor, Tensor] | None
) -> tuple[CoordinateMap, CoordinateMap]:
    """Both maps between two images, found by a network that sees them turned.

    The network sees `M o R` and `F o Q`; with its answer Phi the map is `R o Phi o Q^-1`, because a point x of the
    fixed image lies at `Q^-1 x` of the turned one, and a point y of the turned moving image shows `M(R y)`.
    Source: CARL, rotations inside the loss; the paper writes `R^-1` for what is R in this convention.
    """
    if turns is None:
        forward, backward = network(moving_b1dhw, fixed_b1dhw)
        return forward.map, backward.map
    of_moving, of_fixed = turns
    maps = []
    for image, turn in ((moving_b1dhw, of_moving), (fixed_b1dhw, of_fixed)):
        shape = image.shape[2:]
        maps.append([rotation_map(matrix, shape, align_corners=network.align_corners) for matrix in (turn, turn.T)])
    (r, r_back), (q, q_back) = maps
    seen_moving = sample(
        moving_b1dhw, r.on_grid(moving_b1dhw.shape[2:]), padding="zeros", align_corners=network.align_corners
    )
    seen_fixed = sample(
        fixed_b1dhw, q.on_grid(fixed_b1dhw.shape[2:]), padding="zeros", align_corners=network.align_corners
    )
    forward, backward = network(seen_moving, seen_fixed)
    return (
        CompositeMap(outer=r, inner=CompositeMap(outer=forward.map, inner=q_back)),
        CompositeMap(outer=q, inner=CompositeMap(outer=backward.map, inner=r_back)),
    )
