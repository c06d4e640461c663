"""Blocks of texture that move rigidly, each by itself, in a soft surrounding: a pair with known motions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from carlreg.spaces import VolumeGrid
from scipy.ndimage import gaussian_filter, map_coordinates


@dataclass(frozen=True)
class Block:
    """A box of texture around a center (LPS mm), and its motion: degrees about an axis and mm, at the center."""

    center: tuple[float, float, float]
    half: tuple[float, float, float]
    axis: tuple[float, float, float]
    degrees: float
    shift: tuple[float, float, float]

    @property
    def matrix(self) -> np.ndarray:
        """4x4, moving_from_fixed; SimpleITK's rotation."""
        turn = sitk.VersorRigid3DTransform()
        turn.SetRotation(self.axis, float(np.radians(self.degrees)))
        turn.SetCenter(self.center)
        turn.SetTranslation(self.shift)
        matrix = np.eye(4)
        matrix[:3, :3] = np.reshape(turn.GetMatrix(), (3, 3))
        matrix[:3, 3] = turn.TransformPoint((0.0, 0.0, 0.0))
        return matrix

    def holds(self, points: np.ndarray) -> np.ndarray:
        return np.all(np.abs(points - self.center) <= self.half, axis=-1)

    def share(self, points: np.ndarray, voxel_mm: float) -> np.ndarray:
        """How much of a voxel around each point is the block's: its faces are known to a part of a voxel."""
        inside = np.asarray(self.half) - np.abs(points - self.center)
        return np.clip(0.5 + inside / (2 * voxel_mm), 0, 1).prod(axis=-1)


TWO = (
    Block((-27.0, 0.0, 2.0), (17.0, 20.0, 16.0), (0.3, 0.2, 0.93), 12.0, (-5.0, 5.0, 3.7)),
    Block((27.0, 2.0, -3.0), (16.0, 18.0, 18.0), (0.8, -0.5, 0.3), -7.0, (3.0, -4.0, 2.0)),
)


@dataclass(frozen=True)
class BodyPair:
    fixed: sitk.Image
    moving: sitk.Image
    labels: sitk.Image
    blocks: tuple[Block, ...]
    grid: VolumeGrid


def body_pair(blocks=TWO, size=(64, 50, 46), spacing=2.0, seed=0, direction=None) -> BodyPair:
    """Fixed and moving image (about 0 to 1000, 'mr') and the blocks' labels 1, 2, ... on the fixed grid."""
    rng = np.random.default_rng(seed)
    direction = np.eye(3) if direction is None else np.asarray(direction, dtype=float)
    origin = -direction @ ((np.asarray(size) - 1) / 2 * spacing)
    grid = VolumeGrid(size, np.full(3, spacing), origin, direction)
    textures = [_texture(rng) for _ in range(len(blocks) + 1)]
    points = grid.centers()
    images = []
    for moving in (False, True):
        values = 250 + 30 * textures[-1](points)
        body = np.linalg.norm(points / (0.47 * np.asarray(size) * spacing), axis=-1) < 1.0
        values = np.where(body, values, 0.0)
        for block, texture in zip(blocks, textures, strict=False):
            own = points
            if moving:
                back = np.linalg.inv(block.matrix)
                own = points @ back[:3, :3].T + back[:3, 3]
            share = block.share(own, spacing)
            values = (1 - share) * values + share * (700 + 150 * texture(own))
        images.append(grid.image((gaussian_filter(values, 0.5) + rng.normal(0, 5, values.shape)).astype(np.float32)))
    labels = np.zeros(grid.shape_dhw, dtype=np.uint8)
    for number, block in enumerate(blocks, 1):
        labels[block.holds(points)] = number
    return BodyPair(images[0], images[1], grid.image(labels), tuple(blocks), grid)


def _texture(rng, scale_mm: float = 4.0):
    noise = gaussian_filter(rng.normal(0, 1, (64, 64, 64)), 1.6, mode="wrap")
    noise /= noise.std()

    def at(points: np.ndarray) -> np.ndarray:
        return map_coordinates(noise, np.moveaxis(points / scale_mm + 32, -1, 0), order=1, mode="grid-wrap")

    return at


def sampled_displacement(transform: sitk.Transform, reference: sitk.Image) -> np.ndarray:
    """D H W 3 mm of a transform on an image's grid, by SimpleITK."""
    field = sitk.TransformToDisplacementField(
        transform,
        sitk.sitkVectorFloat64,
        reference.GetSize(),
        reference.GetOrigin(),
        reference.GetSpacing(),
        reference.GetDirection(),
    )
    return sitk.GetArrayFromImage(field)
