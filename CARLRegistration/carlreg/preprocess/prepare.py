"""From two checked volumes to what the stages work on: normalized voxels, content boxes, images at any spacing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from ..maps.exchange import array_from_tensor, tensor_from_array
from ..spaces import VolumeGrid, apply_affine
from ..volumes import Volume
from .normalize import guess_modality, normalize
from .resample import resample_on_axes

#: Normalized intensity above which a voxel counts as content, not as air or background.
CONTENT_LEVEL = 0.05
#: Up to this it is background for sure, where background may vary at all.
FAINT_LEVEL = 0.02
_DATA_SIZE = 128
# Around the content, as a share of its diagonal: 8 voxels around a head at 1 mm.
_CONTENT_MARGIN = 0.025
# Fewest voxels along the longest content that a network is shown; coarser images are interpolated.
_FEWEST_VOXELS = 32
# Images up to this size are kept: searches and checks look at the same coarse ones.
_KEPT_VOXELS = 1_000_000
# Share of a face of the field of view that shows something, and slices that must remain; see `field_of_view`. Measured:
# abdomen and chest scans 0.12 to 0.99, heads cut out of their background 0.00 to 0.02.
_FLAT_FACE, _FEWEST_SLICES = 0.1, 4


@dataclass(frozen=True, eq=False)
class PreparedVolume:
    """One volume ready for work.

    voxels_dhw: normalized to [0, 1], float32, on `grid`. content: the sub-grid that holds the body.
    mask_dhw: the user's mask, float32 0/1 on `grid`, or None.
    valid_dhw: 0..1 on `valid_grid`, 0 where the volume is padded with a constant; None without padding.
    extended_dhw: the voxels with their padding replaced by a smooth continuation of the data; None = as `voxels_dhw`.
    ignored_dhw: float32 0/1 on `grid`, 1 where the voxels are a smooth continuation of what is around; None = nowhere.
    cut_out: the body goes on where the background begins, as around a brain without its skull (see `as_cut_out`).
    """

    voxels_dhw: Tensor
    grid: VolumeGrid
    content: VolumeGrid
    modality: str
    mask_dhw: Tensor | None = None
    valid_dhw: Tensor | None = None
    valid_grid: VolumeGrid | None = None
    extended_dhw: Tensor | None = None
    cut_out: bool = False
    ignored_dhw: Tensor | None = None
    _coarse: dict[tuple[float, float], tuple[Tensor, VolumeGrid]] = field(default_factory=dict, init=False, repr=False)

    @property
    def padding_is_missing(self) -> bool:
        """Whether filling with a constant is missing data, as in CT, and not background, whose edge tells something."""
        return self.modality == "ct" or self.cut_out

    def as_cut_out(self) -> PreparedVolume:
        """The same volume, its background counted as missing data: padding, and what is as good as 0 (not in CT)."""
        if self.modality == "ct":
            return replace(self, cut_out=True)
        faint = self.voxels_dhw * (self.voxels_dhw > FAINT_LEVEL)  # interpolation leaves ripples around a body
        data, data_grid = valid_parts(faint, self.grid)
        extended = None
        if data is not None and data_grid is not None:
            extended = _extended_volume(self.voxels_dhw, self.grid, data, data_grid)
        return replace(self, cut_out=True, valid_dhw=data, valid_grid=data_grid, extended_dhw=extended)

    def at(self, spacing_mm: float, *, margin_mm: float = 0.0) -> tuple[Tensor, VolumeGrid]:
        """1 x 1 x D x H x W image and its grid over the content at about this spacing.

        Axes whose own spacing is coarser keep it: nothing is invented between thick slices. The lattice hangs on the
        content, not on the volume's faces, so that the same body gives the same samples in any field of view; it is
        grown by whole voxels up to `margin_mm` on each side, within the volume.
        """
        known = self._coarse.get((spacing_mm, margin_mm))
        if known is not None:
            return known
        grid = level_grid(self.grid, self.content, spacing_mm)
        if margin_mm:
            offset = self.grid.direction.T @ (grid.origin_lps - self.grid.origin_lps)
            low = offset - 0.5 * grid.spacing + 0.5 * self.grid.spacing
            high = self.grid.extent_mm - low - grid.extent_mm
            room = np.floor(np.clip(np.stack([low, high]), 0, margin_mm) / grid.spacing + 1e-6).astype(int)
            grid = grid.cropped(-room[0], np.asarray(grid.size_ijk) + room[1])
        voxels = self.voxels_dhw if self.extended_dhw is None else self.extended_dhw
        found = resample_on_axes(voxels, self.grid, grid), grid
        if grid.voxel_count <= _KEPT_VOXELS:
            self._coarse[spacing_mm, margin_mm] = found
        return found

    def weight_at(self, grid: VolumeGrid, *, padding_is_background: bool = False) -> Tensor | None:
        """Where this volume counts, 1 x 1 x D x H x W in 0..1 on a grid with its axes; None = everywhere.

        The mask, and without the padded parts. padding_is_background: count those as image, as is right for a body
        cut out of its background; the default counts them as missing data.
        """
        weight = None if self.mask_dhw is None else resample_on_axes(self.mask_dhw, self.grid, grid)
        if self.valid_dhw is None or self.valid_grid is None or padding_is_background:
            return weight
        data = resample_on_axes(self.valid_dhw, self.valid_grid, grid, smooth=False)
        return data if weight is None else weight * data

    def ignored_at(self, grid: VolumeGrid) -> Tensor | None:
        """What is to be ignored, 1 x 1 x D x H x W in 0..1 on a grid with its axes; None = nothing."""
        return None if self.ignored_dhw is None else resample_on_axes(self.ignored_dhw, self.grid, grid)

    def mask_weight(self, points_lps: np.ndarray) -> np.ndarray:
        """The mask's value (0 or 1, nearest voxel) at n x 3 LPS points; outside the volume 0; 1 without a mask."""
        if self.mask_dhw is None:
            return np.ones(len(points_lps))
        return _nearest(self.mask_dhw, self.grid, points_lps)

    def is_valid(self, points_lps: np.ndarray) -> np.ndarray:
        """n: True where an n x 3 LPS point lies inside the volume, and, where padding is missing data, outside it."""
        normalized = apply_affine(self.grid.normalized_from_lps, points_lps)
        inside = np.all((normalized > 0) & (normalized < 1), axis=1)
        if self.valid_dhw is None or self.valid_grid is None or not self.padding_is_missing:
            return inside
        return inside & (_nearest(self.valid_dhw, self.valid_grid, points_lps) > 0.5)


def _nearest(values_dhw: Tensor, grid: VolumeGrid, points_lps: np.ndarray) -> np.ndarray:
    """n: the nearest voxels' values at n x 3 LPS points, 0 beyond the grid."""
    kji = np.rint(grid.index(points_lps)).astype(int)[:, ::-1]
    inside = ((kji >= 0) & (kji < grid.shape_dhw)).all(1)
    found = np.zeros(len(points_lps))
    found[inside] = array_from_tensor(values_dhw)[tuple(kji[inside].T)]
    return found


def level_grid(native: VolumeGrid, box: VolumeGrid, spacing_mm: float) -> VolumeGrid:
    """The grid over `box` with spacing max(native, spacing_mm) per axis; `box` itself where nothing changes."""
    spacing = np.maximum(native.spacing, spacing_mm)
    spacing = np.where(spacing < 1.15 * native.spacing, native.spacing, spacing)
    return box if np.allclose(spacing, box.spacing) else box.with_spacing(spacing)


def prepare(volume, modality: str = "auto", mask=None, ignored=None) -> PreparedVolume:
    """Normalize a volume and find its content.

    Args:
        volume: `volumes.Volume`. modality: 'auto' | 'ct' | 'mr'. mask, ignored: `volumes.Volume`s on the same grid, or
            None; the mask leaves out what is ignored.
    """
    array = volume.array
    chosen = guess_modality(array) if modality == "auto" else modality
    voxels = tensor_from_array(normalize(array, chosen))
    del array
    grid = volume.grid
    mask_dhw = None if mask is None else tensor_from_array((mask.array > 0).astype(np.float32))
    ignored_dhw = None if ignored is None else tensor_from_array((ignored.array > 0).astype(np.float32))
    if ignored_dhw is not None:  # searches, network and windows see nothing there
        known = 1 - ignored_dhw[None, None]
        voxels = _continued(voxels[None, None] * known, known)[0, 0].contiguous()
    content = content_box(voxels, grid)
    data, valid_grid = valid_parts(voxels, grid)
    extended = None
    if data is not None and valid_grid is not None and chosen == "ct":
        extended = _extended_volume(voxels, grid, data, valid_grid)
    return PreparedVolume(voxels, grid, content, chosen, mask_dhw, data, valid_grid, extended, ignored_dhw=ignored_dhw)


def _extended_volume(voxels_dhw: Tensor, grid: VolumeGrid, valid_dhw: Tensor, valid_grid: VolumeGrid) -> Tensor:
    """The volume with its padding replaced by a smooth continuation of the data.

    Smoothing before shrinking would otherwise darken the data next to the padding, which looks like an edge, and
    optimization pulls edges to where the other image has none.
    """
    inside = resample_on_axes(valid_dhw, valid_grid, grid, smooth=False)[0, 0].clamp(0, 1)
    share = resample_on_axes(inside, grid, valid_grid)
    coarse = resample_on_axes(voxels_dhw * inside, grid, valid_grid) / share.clamp_min(1e-3)
    continued = resample_on_axes(_continued(coarse, (share > 0.05).float())[0, 0], valid_grid, grid, smooth=False)[0, 0]
    return continued.lerp_(voxels_dhw, inside)


def _continued(image_11dhw: Tensor, known_11dhw: Tensor) -> Tensor:
    """Unknown voxels from averages of ever larger surroundings of known ones (pull and push)."""
    if bool((known_11dhw > 0).all()) or max(image_11dhw.shape[2:]) == 1:
        return image_11dhw
    size = tuple(min(2, n) for n in image_11dhw.shape[2:])
    share = torch.nn.functional.avg_pool3d(known_11dhw, size, ceil_mode=True)
    mean = torch.nn.functional.avg_pool3d(image_11dhw * known_11dhw, size, ceil_mode=True) / share.clamp_min(1e-6)
    around = _continued(mean, (share > 0).float())
    around = torch.nn.functional.interpolate(around, size=image_11dhw.shape[2:], mode="trilinear", align_corners=False)
    return torch.where(known_11dhw > 0, image_11dhw, around)


def field_of_view(volume: Volume, modality: str = "auto", mask: Volume | None = None) -> tuple[Volume, Volume | None]:
    """The volume without what was added around its field of view, and the mask likewise; both unchanged without any.

    Padding goes on beyond a flat face on which the scan was still seeing something, where a body cut out of its
    background has round ends. A volume padded with background is thus registered as it is without.
    Args, returns: `volumes.Volume`s; mask may be None.
    """
    array = volume.array
    seen = normalize(array, guess_modality(array) if modality == "auto" else modality) > 0
    ranges = []
    for axis in range(3):
        filled = np.flatnonzero(seen.any(axis=tuple(a for a in range(3) if a != axis)))
        if not len(filled):
            return volume, mask
        ranges.append([int(filled[0]), int(filled[-1]) + 1])
    inner = seen[tuple(slice(*r) for r in ranges)]
    for axis, (one, shape) in enumerate(zip(ranges, seen.shape, strict=True)):
        if inner.take(0, axis).mean() < _FLAT_FACE:
            one[0] = 0
        if inner.take(-1, axis).mean() < _FLAT_FACE:
            one[1] = shape
        if one[1] - one[0] < _FEWEST_SLICES:
            return volume, mask
    if all(one == [0, shape] for one, shape in zip(ranges, seen.shape, strict=True)):
        return volume, mask
    (k0, k1), (j0, j1), (i0, i1) = ranges

    def cut(whole: Volume) -> Volume:
        return replace(whole, image=whole.image[i0:i1, j0:j1, k0:k1])

    cut_mask = None if mask is None else cut(mask)
    if cut_mask is not None and not cut_mask.array.any():  # the user means the padding
        return volume, mask
    return cut(volume), cut_mask


def valid_parts(voxels_dhw: Tensor, grid: VolumeGrid) -> tuple[Tensor | None, VolumeGrid | None]:
    """Where a volume has data: 0..1 on a coarse grid, and that grid; (None, None) when nothing is filled up.

    Resampled, padded and round fields of view are filled with one value, the lowest. Noise and air that was clamped
    hit it here and there, so a place counts as filled when most voxels around it have exactly that value; beyond the
    volume there is nothing either, so that a thin wedge of padding along a face is seen.
    """
    filled = voxels_dhw == 0
    if float(filled[::2, ::2, ::2].float().mean()) < 0.01:
        return None, None
    coarse = grid.with_spacing(np.maximum(grid.spacing, float(grid.extent_mm.max()) / _DATA_SIZE))
    share = resample_on_axes(filled, grid, coarse)
    around = torch.nn.functional.pad(share, (1,) * 6, value=1.0)
    mostly = (torch.nn.functional.avg_pool3d(around, 3, 1) > 0.7).float()
    data = 1 - torch.nn.functional.max_pool3d(mostly, 3, 1, 1)
    return data[0, 0], coarse


def content_box(voxels_dhw: Tensor, grid: VolumeGrid) -> VolumeGrid:
    """The smallest sub-grid with all content and a margin; a few stray voxels do not count.

    A slice belongs to the content when more than 0.1 % of its voxels are above the content level. The margin is a share
    of the content's diagonal and stays within the volume.
    """
    inside = voxels_dhw > CONTENT_LEVEL
    start, stop = np.zeros(3, dtype=int), np.asarray(grid.size_ijk).copy()
    found = np.zeros(3, dtype=bool)
    for ijk_axis in range(3):
        dim = 2 - ijk_axis
        others = [d for d in range(3) if d != dim]
        share = inside.sum(others).float() / (inside.numel() / inside.shape[dim])
        slices = torch.nonzero(share > 1e-3).flatten()
        if len(slices):
            found[ijk_axis] = True
            start[ijk_axis], stop[ijk_axis] = int(slices[0]), int(slices[-1]) + 1
    margin_mm = _CONTENT_MARGIN * float(np.linalg.norm((stop - start) * grid.spacing))
    margin = np.where(found, np.ceil(margin_mm / grid.spacing - 1e-6), 0).astype(int)
    return grid.cropped(np.maximum(start - margin, 0), np.minimum(stop + margin, grid.size_ijk))


def network_image(prepared: PreparedVolume, spacing_mm: float, stride: int) -> tuple[Tensor, VolumeGrid]:
    """The content at one isotropic spacing, padded with background to a multiple of `stride` on every axis.

    Returns 1 x 1 x D x H x W and its grid. Padding lies evenly on both sides and continues with background (0).
    """
    box = prepared.content.with_spacing(spacing_mm)
    size = np.asarray(box.size_ijk)
    padded = -(-size // stride) * stride
    before = (padded - size) // 2
    image = resample_on_axes(prepared.voxels_dhw, prepared.grid, box)
    after = padded - size - before
    pad = [int(p) for ijk_axis in range(3) for p in (before[ijk_axis], after[ijk_axis])]
    return torch.nn.functional.pad(image, pad), box.cropped(-before, size + after)


def stretched_image(prepared: PreparedVolume, shape_dhw, direction=None) -> tuple[Tensor, VolumeGrid]:
    """The whole volume stretched to a network's fixed shape, as the published weights were trained.

    Returns 1 x 1 x D x H x W along the volume's own axes, and its grid. direction: 3 x 3; the shape is that which the
    image has once it is `stored_along` it (None: as it is).
    """
    grid = prepared.grid
    size = np.empty(3)
    size[list(grid.axes_along(grid.direction if direction is None else direction)[0])] = shape_dhw[::-1]
    stretched = grid.resized(size)
    return resample_on_axes(prepared.voxels_dhw, grid, stretched), stretched


def stored_along(image_11dhw: Tensor, grid: VolumeGrid, direction=None) -> tuple[Tensor, VolumeGrid]:
    """The same voxels stored along the axes nearest to a 3 x 3 direction's columns (None: L, P, S), and their grid.

    Networks see arrays: of two scans stored along other axes, one looks mirrored or turned to them.
    """
    order, signs = grid.axes_along(direction)
    dims = [4 - axis for axis in order[::-1]]
    turned = image_11dhw.permute(0, 1, *dims).flip([4 - axis for axis in range(3) if signs[axis] < 0])
    return turned.contiguous(), grid.reordered(order, signs)


def network_spacing(fixed: PreparedVolume, moving: PreparedVolume, max_size: int) -> float:
    """The common isotropic spacing (mm) at which no content exceeds `max_size` voxels; at least native.

    Below native only where few voxels would be left: a network answers nothing on a handful of them.
    """
    return common_spacing([fixed, moving], max_size)


def common_spacing(volumes: Sequence[PreparedVolume], max_size: int) -> float:
    """As `network_spacing`, of any number of volumes: the coarsest that any two of them have in common."""
    extent = max(float(volume.content.extent_mm.max()) for volume in volumes)
    native = max(float(volume.grid.spacing.min()) for volume in volumes)
    return max(extent / max_size, min(native, extent / _FEWEST_VOXELS))
