"""Coordinates of voxel lattices, and sampling of images at coordinates.

Shape suffixes: b batch, c channels, dhw the image's axes, one to three of them (d h w, h w or w), n as many channels
as there are axes. Maps are bndhw (or bnk11 for lists of k points), channel order (d, h, w), normalized coordinates of
the sampled image: voxel faces at 0 and 1; with `align_corners=True` the published weights' convention, first center 0
and last center 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def axis_coordinates(count: int, *, align_corners: bool = False, device=None, dtype=torch.float32) -> Tensor:
    """Normalized coordinates of `count` voxel centers along one axis."""
    index = torch.arange(count, device=device, dtype=dtype)
    if align_corners:
        return index / max(count - 1, 1)
    return (index + 0.5) / count


def identity_map(shape_dhw, *, align_corners: bool = False, device=None, dtype=torch.float32) -> Tensor:
    """1 n d h w normalized coordinates of every voxel center of a lattice of n axes."""
    axes = [axis_coordinates(n, align_corners=align_corners, device=device, dtype=dtype) for n in shape_dhw]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


def per_axis(values: Sequence[float] | Tensor, like: Tensor) -> Tensor:
    """One number per axis (d, h, w), shaped to be added to or multiplied with the channels of a map like `like`."""
    row = values.to(like) if isinstance(values, Tensor) else like.new_tensor(list(values))
    return row.view(1, -1, *[1] * (like.ndim - 2))


def sample(
    image_bcdhw: Tensor,
    map_bndhw: Tensor,
    *,
    mode: str = "linear",
    padding: str = "border",
    align_corners: bool = False,
) -> Tensor:
    """Values of an image at normalized coordinates.

    Args:
        image_bcdhw: the image, of one to three axes; float32.
        map_bndhw: where to look, normalized coordinates of `image_bcdhw`, channel order (d, h, w). A batch of one goes
            with a batch of any size.
        mode: 'linear' or 'nearest'. padding: 'border' (edge value) or 'zeros' outside.
        align_corners: read coordinates in the published weights' convention.
    Returns: b c d h w on the map's lattice.
    """
    if map_bndhw.shape[1] == 1:  # PyTorch samples planes and volumes: a line is a plane of one row
        plane = torch.cat([torch.full_like(map_bndhw, 0.5), map_bndhw], dim=1)[:, :, None]
        found = sample(image_bcdhw[:, :, None], plane, mode=mode, padding=padding, align_corners=align_corners)
        return found[:, :, 0]
    grid = (map_bndhw * 2 - 1).movedim(1, -1).flip(-1)
    mode = {"linear": "bilinear", "nearest": "nearest"}[mode]
    slabs = torch.get_num_threads() if grid.device.type == "cpu" else 1
    if slabs > 1 and grid.shape[0] == image_bcdhw.shape[0] == 1 and grid.shape[1] >= slabs and grid.numel() > 3 * 32**3:
        # PyTorch's sampling on CPUs runs in parallel over the batch only: slabs of depth become a batch.
        depth = grid.shape[1]
        padded = F.pad(grid, (*(0,) * (2 * grid.ndim - 3), -depth % slabs)) if depth % slabs else grid
        grid_slabs = padded.reshape(slabs, -1, *grid.shape[2:])
        out = F.grid_sample(
            image_bcdhw.expand(slabs, *image_bcdhw.shape[1:]),
            grid_slabs,
            mode=mode,
            padding_mode=padding,
            align_corners=align_corners,
        )
        return out.transpose(0, 1).reshape(1, image_bcdhw.shape[1], -1, *grid.shape[2:-1])[:, :, :depth]
    if image_bcdhw.shape[0] != grid.shape[0]:  # one image at many maps, or many at one
        batch = max(image_bcdhw.shape[0], grid.shape[0])
        image_bcdhw, grid = (x.expand(batch, *x.shape[1:]) for x in (image_bcdhw, grid))
    return F.grid_sample(image_bcdhw, grid, mode=mode, padding_mode=padding, align_corners=align_corners)
