"""Similarity of two images at sampled places only: small patches around points, whatever the images' size.

A map is known at the corners of a little simplex around each point, hence to first order in the patch. Nothing here is
larger than points x patch, so memory does not grow with the images. In any number of dimensions.

Letters: n points, k places of a patch, m corners of the simplex (dims + 1), s spatial axes in tensor order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..losses.registry import Similarity
from ..losses.similarity import VARIANCE_FLOOR
from ..maps import sample

_LEAST_SHARE = 0.3  # of a patch's places that must count
_NOISE_FLOOR = 1e-8
_SPREAD = 1e3  # of the descriptors' noise about its mean


def simplex(dims: int) -> Tensor:
    """m s: corners of a regular simplex about 0, at the distance 1 from it."""
    corners = torch.eye(dims + 1, dtype=torch.float64) - 1 / (dims + 1)
    # In the plane where the coordinates add up to 0: an orthonormal basis of it.
    basis = torch.linalg.qr(corners[:, :dims])[0]
    flat = corners @ basis
    return (flat / flat.norm(dim=1, keepdim=True)).float()


def first_order(values_nms: Tensor, corners_ms: Tensor) -> tuple[Tensor, Tensor]:
    """Mean n s and slope n s s (d value / d point) of a function known at the corners around n points."""
    dims = corners_ms.shape[1]
    square = corners_ms.square().sum() / dims  # sum over corners of c c^T is this times the identity
    slope = torch.einsum("nms,mt->nst", values_nms, corners_ms) / square
    return values_nms.mean(1), slope


@dataclass(frozen=True)
class PatchImage:
    """An image, where it counts (None = everywhere), and its normalized coordinates from the frame's: matrix, shift."""

    image_11s: Tensor
    weight_11s: Tensor | None
    matrix_ss: Tensor
    shift_s: Tensor

    def values(self, points_nks: Tensor) -> tuple[Tensor, Tensor]:
        """n k: intensities at points of the frame, and 1 where they count and 0 elsewhere (without gradient)."""
        normalized = points_nks @ self.matrix_ss.T + self.shift_s
        dims = normalized.shape[-1]
        where = normalized.permute(2, 0, 1).reshape(1, dims, *normalized.shape[:2], *[1] * (dims - 2))
        found = sample(self.image_11s, where).reshape(normalized.shape[:2])
        with torch.no_grad():
            counts = ((normalized > 0) & (normalized < 1)).all(2).to(found.dtype)
            if self.weight_11s is not None:
                counts = counts * sample(self.weight_11s, where).reshape(normalized.shape[:2])
        return found, counts


def window(dims: int, places: int, width: float) -> Tensor:
    """k s: a lattice of `places` per axis that stands for a window of some width."""
    axis = ((torch.arange(places) + 0.5) / places - 0.5) * width
    return torch.stack(torch.meshgrid(*[axis] * dims, indexing="ij"), dim=-1).reshape(-1, dims)


def patch_correlation(one_nk: Tensor, other_nk: Tensor, counts_nk: Tensor, *, squared: bool) -> Tensor:
    """Negative mean over points of the correlation coefficient (or its square) of two patches."""
    total = counts_nk.sum(1, keepdim=True)
    share = counts_nk / total.clamp_min(1e-6)
    one, other = (values - (share * values).sum(1, keepdim=True) for values in (one_nk, other_nk))
    first, second = ((share * values.square()).sum(1) + VARIANCE_FLOOR for values in (one, other))
    covariance = (share * one * other).sum(1)
    value = covariance.square() / (first * second) if squared else covariance * torch.rsqrt(first * second)
    used = (total[:, 0] > _LEAST_SHARE * counts_nk.shape[1]).to(value.dtype)
    return -(value * used).sum() / used.sum().clamp_min(1.0)


class SelfSimilarity:
    """MIND-SSC at single points, from the places around them: 12 distances of patches next to each other.

    step: distance of the six neighbors, in the frame's units. Source: Heinrich et al., MICCAI 2013 (3-D only).
    """

    def __init__(self, step: float, places: int = 3) -> None:
        around = window(3, places, step * places / 2)
        neighbors = torch.cat([torch.eye(3), -torch.eye(3)]) * step
        self.offsets_ks = (neighbors[:, None] + around[None]).reshape(-1, 3)
        apart = torch.cdist(neighbors, neighbors)
        first, second = torch.triu_indices(6, 6, offset=1)
        diagonal = (apart[first, second] - math.sqrt(2) * step).abs() < 1e-3 * step
        self.pairs = first[diagonal], second[diagonal]

    def __call__(self, values_nk: Tensor) -> Tensor:
        """n 12 in [0, 1]."""
        patches = values_nk.reshape(values_nk.shape[0], 6, -1)
        distance = (patches[:, self.pairs[0]] - patches[:, self.pairs[1]]).square().mean(2)
        distance = distance - distance.amin(1, keepdim=True)
        noise = distance.mean(1, keepdim=True)
        average = float(noise.detach().mean())
        noise = noise.clamp(average / _SPREAD, average * _SPREAD).clamp_min(_NOISE_FLOOR)
        return torch.exp(-distance / noise)


class PatchSimilarity:
    """What a similarity of `losses.registry` says of two images around sampled points; smaller is more alike.

    width: of the window, in the frame's units. places: per axis of the window.
    """

    def __init__(self, similarity: Similarity, dims: int, width: float, places: int, device) -> None:
        self.squared = similarity.squared
        self.descriptor = SelfSimilarity(2 * width / 7) if similarity.descriptors else None
        offsets = window(dims, places, width) if self.descriptor is None else self.descriptor.offsets_ks
        self.offsets_ks = offsets.to(device)

    def __call__(
        self, moving: PatchImage, fixed: PatchImage, points_ns: Tensor, moved_ns: Tensor, slope_nss: Tensor
    ) -> Tensor:
        """points_ns: of the frame, in the fixed image; moved_ns + slope_nss offset: where they lie in the other one."""
        one, seen = fixed.values(points_ns[:, None] + self.offsets_ks)
        other, also = moving.values(moved_ns[:, None] + torch.einsum("nst,kt->nks", slope_nss, self.offsets_ks))
        counts = seen * also
        if self.descriptor is None:
            return patch_correlation(one, other, counts, squared=self.squared)
        weight = counts.mean(1)
        difference = (self.descriptor(other) - self.descriptor(one)).square().mean(1)
        return (difference * weight).sum() / weight.sum().clamp_min(1e-6)
