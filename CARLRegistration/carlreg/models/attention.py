"""Coordinate attention: where in the moving image does each place of the fixed image match?

Shape suffixes: b batch, n queries, m keys, c token channels, k value channels; bcdhw on a token lattice of one to three
axes, bndhw with as many channels as it has axes.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from ..errors import InputError
from ..maps import DisplacementMap, identity_map, per_axis
from ..maps.separable import along_axes, gaussian
from .operators import Prediction, RegistrationNetwork

# Tokens that differ by less than this share of their length are the same: both are pure background.
_SAME_TOKEN = 1e-4
# Fused kernels never hold more than a tile of the scores; the plain formula is the one that would, so it is cut.
_FUSED = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
_SCORES_AT_ONCE = 2**25


def coordinate_attention(queries_bnc: Tensor, keys_bmc: Tensor, values_bmk: Tensor) -> Tensor:
    """`softmax(queries keys^T) values` per query, float32, without ever holding the n x m scores.

    Logits are the plain dot products: normalization and temperature belong to the tokens.

    Args:
        queries_bnc, keys_bmc: tokens of one length c. values_bmk: what is averaged, any k.
    Returns: b n k. Differentiable in all three.
    Raises: InputError when the shapes do not belong together.
    """
    b, _, c = queries_bnc.shape
    m, k = values_bmk.shape[1:]
    if keys_bmc.shape != (b, m, c) or values_bmk.shape[0] != b:
        raise InputError(
            "Attention: expected queries (b, n, c), keys (b, m, c) and values (b, m, k); got "
            f"{tuple(queries_bnc.shape)}, {tuple(keys_bmc.shape)} and {tuple(values_bmk.shape)}."
        )
    kind = queries_bnc.device.type
    # Coordinates in half precision would be off by a third of a voxel, whatever the caller's autocast says.
    with torch.autocast(kind, enabled=False) if kind in ("cpu", "cuda") else contextlib.nullcontext():
        if queries_bnc.dtype != torch.float64:
            queries_bnc, keys_bmc, values_bmk = queries_bnc.float(), keys_bmc.float(), values_bmk.float()
        if kind not in ("cpu", "cuda"):
            return _in_pieces(queries_bnc, keys_bmc, values_bmk)
        # The CPU's kernel wants values as long as tokens, CUDA's wants multiples of 8: zeros change nothing.
        length = -(-max(c, k) // 8) * 8 if kind == "cpu" else -(-c // 8) * 8
        value_length = length if kind == "cpu" else -(-k // 8) * 8
        with sdpa_kernel(_FUSED):
            out = F.scaled_dot_product_attention(
                _widened(queries_bnc, length), _widened(keys_bmc, length), _widened(values_bmk, value_length), scale=1.0
            )
        return out[:, 0, :, :k]


def _widened(tensor_bnc: Tensor, length: int) -> Tensor:
    """b 1 n length: one head, channels filled up with zeros."""
    if length > tensor_bnc.shape[2]:
        tensor_bnc = F.pad(tensor_bnc, (0, length - tensor_bnc.shape[2]))
    return tensor_bnc[:, None].contiguous()


def _in_pieces(queries_bnc: Tensor, keys_bmc: Tensor, values_bmk: Tensor) -> Tensor:
    """The plain formula on a few queries at a time; recomputed, not kept, for the backward pass."""

    def one(queries: Tensor) -> Tensor:
        return torch.softmax(queries @ keys_bmc.transpose(1, 2), dim=2) @ values_bmk

    piece = max(1, _SCORES_AT_ONCE // (keys_bmc.shape[0] * keys_bmc.shape[1]))
    if torch.is_grad_enabled():
        return torch.cat([checkpoint(one, q, use_reentrant=False) for q in queries_bnc.split(piece, dim=1)], dim=1)
    return torch.cat([one(q) for q in queries_bnc.split(piece, dim=1)], dim=1)


@dataclass(frozen=True)
class Match:
    """What attention says about each query.

    map_bndhw: the mean position of the attention, normalized coordinates of the moving image.
    certainty_b1dhw: 0..1; how much of the attention lies inside the moving image, divided by one plus its variance
        there (squared token spacings, summed over axes). A place without structure answers anywhere: near 0.
    spread_b1dhw: the root of that variance, token spacings of the moving image.
    """

    map_bndhw: Tensor
    certainty_b1dhw: Tensor
    spread_b1dhw: Tensor


def match(
    moving_tokens_bcdhw: Tensor,
    fixed_tokens_bcdhw: Tensor,
    padding_cells: int,
    *,
    align_corners: bool,
    background: tuple[Tensor, float] | None = None,
) -> Match:
    """Coordinate attention between two token lattices, both with `padding_cells` cells around their image.

    Queries are the fixed image's tokens without the padding; keys are all the moving image's tokens; values are the
    keys' coordinates, continued linearly into the padding.

    How much pure background a field of view holds, and where, says nothing about anatomy, yet each background key
    draws a share of the attention towards its own place. With `background`, the token of pure background (c) and a
    count, the keys equal to it are left out; one key that has no place and counts as so many takes their part.
    The map is then the mean over the other keys, and depends on the content alone.
    Source: CARL, section 3 (coordinate attention); the certainty and the key without a place are ours.
    """
    moving_shape = [n - 2 * padding_cells for n in moving_tokens_bcdhw.shape[2:]]
    queries = _cropped(fixed_tokens_bcdhw, padding_cells)
    b, _, *fixed_shape = queries.shape
    queries_bnc = queries.flatten(2).transpose(1, 2)
    keys_bmc = moving_tokens_bcdhw.flatten(2).transpose(1, 2)
    values = _values(moving_shape, padding_cells, queries.device)
    if background is not None:
        queries_bnc, keys_bmc, values = _with_background_key(queries_bnc, keys_bmc, values, *background)
    out = coordinate_attention(queries_bnc, keys_bmc, values[None].expand(b, -1, -1))
    out = out.transpose(1, 2).reshape(b, -1, *fixed_shape)
    position, square, inside, share = out.split([len(fixed_shape), 1, 1, 1], dim=1)
    share = share.clamp_min(1e-6)  # of the attention that has a place
    position, square = position / share, square / share
    variance = (square - (position**2).sum(1, keepdim=True)).clamp_min(0)
    certainty = inside.clamp(0, 1) / (1 + variance)
    shape = per_axis(moving_shape, position)
    normalized = 0.5 + position / ((shape - 1).clamp_min(1) if align_corners else shape)
    return Match(normalized, certainty, variance.sqrt())


def _with_background_key(
    queries_bnc: Tensor, keys_bmc: Tensor, values_mk: Tensor, background_c: Tensor, count: float
) -> tuple[Tensor, Tensor, Tensor]:
    """One more channel that shuts out background keys, and one more key (the last) in their place."""
    b, n, _ = queries_bnc.shape
    far = (keys_bmc - background_c).detach().abs().amax(2, keepdim=True)
    is_background = far < _SAME_TOKEN * background_c.detach().norm()
    shut = torch.where(is_background, -1e4, 0.0).to(keys_bmc.dtype)
    weight = keys_bmc.new_full((b, 1, 1), math.log(count))
    key = torch.cat([background_c.expand(b, 1, -1), weight], dim=2)
    return (
        torch.cat([queries_bnc, queries_bnc.new_ones(b, n, 1)], dim=2),
        torch.cat([torch.cat([keys_bmc, shut], dim=2), key], dim=1),
        torch.cat([values_mk, values_mk.new_zeros(1, values_mk.shape[1])]),
    )


def _cropped(tokens_bcdhw: Tensor, padding: int) -> Tensor:
    if padding == 0:
        return tokens_bcdhw
    return tokens_bcdhw[(slice(None), slice(None), *[slice(padding, -padding)] * (tokens_bcdhw.ndim - 2))]


def _values(shape_dhw, padding: int, device) -> Tensor:
    """m x (n + 3): position in token spacings from the image's center (n), its square, 1 inside the image, 1 always."""
    axes = [torch.arange(-padding, n + padding, device=device, dtype=torch.float32) for n in shape_dhw]
    position = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, len(axes))
    count = position.new_tensor(list(shape_dhw))
    inside = ((position >= 0) & (position < count)).all(1, keepdim=True).float()
    position = position - (count - 1) / 2
    return torch.cat([position, (position**2).sum(1, keepdim=True), inside, torch.ones_like(inside)], dim=1)


def fill_uncertain(displacement_bndhw: Tensor, certainty_b1dhw: Tensor, sigma_cells: float | Tensor) -> Tensor:
    """The displacement averaged over its surroundings, weighted by certainty; same lattice.

    Where attention is certain it hardly changes; where it is not (background answers anywhere, and differently in
    every field of view) it takes the displacement of the nearest certain places. The window is a Gaussian of
    `sigma_cells` with faint wider ones below it, which only count where the narrower ones find nothing.
    """
    reach = max(displacement_bndhw.shape[2:])
    sum_of_weights, sum_of_values = 0.0, 0.0
    share, sigma = 1.0, sigma_cells
    # Squared, because even background has a little certainty, and in some fields of view there is much background.
    weight = certainty_b1dhw**2
    weighted = torch.cat([displacement_bndhw * weight, weight], dim=1)
    while True:
        blurred = gaussian_sum(weighted, sigma)
        sum_of_values = sum_of_values + share * blurred[:, :-1]
        sum_of_weights = sum_of_weights + share * blurred[:, -1:]
        if sigma > reach:
            return sum_of_values / sum_of_weights.clamp_min(1e-20)
        share, sigma = share * 1e-2, sigma * 2


def rigid_motion(points_bndhw: Tensor, targets_bndhw: Tensor, weight_b1dhw: Tensor) -> Tensor:
    """Where the rotation and shift that lead the points nearest to their targets (weighted least squares) take them.

    Points and targets in one unit of length; a constant for the backward pass. Where the weights leave a rotation open
    (points on a line, or one alone), it is the one that turns least. Returns bndhw.
    Source: Umeyama, IEEE TPAMI 13(4), 1991.
    """
    x, y, w = (tensor.detach().cpu().flatten(2).double() for tensor in (points_bndhw, targets_bndhw, weight_b1dhw))
    w = w / w.sum(2, keepdim=True).clamp_min(1e-20)
    center_x, center_y = (w * x).sum(2, keepdim=True), (w * y).sum(2, keepdim=True)
    crossed = (w * (y - center_y)) @ (x - center_x).transpose(1, 2)
    size = (w * (x - center_x) ** 2).sum((1, 2)).view(-1, 1, 1)
    u, _, vt = torch.linalg.svd(crossed + 1e-6 * size * torch.eye(x.shape[1], dtype=x.dtype))
    signs = torch.ones(u.shape[:2], dtype=x.dtype)
    signs[:, -1] = torch.linalg.det(u @ vt).sign()  # mirrored targets: the nearest proper rotation
    moved = (u * signs[:, None]) @ vt @ (x - center_x) + center_y
    return moved.to(points_bndhw).reshape(points_bndhw.shape)


def gaussian_sum(image_bcdhw: Tensor, sigma: float | Tensor) -> Tensor:
    """Sum over a Gaussian window (1 at its center) without limit; nothing lies beyond the lattice."""
    *others, last = (_gaussian_matrix(n, sigma, image_bcdhw) for n in image_bcdhw.shape[2:])
    return along_axes(image_bcdhw, *others, last.T)  # symmetric; so it is read as it lies in memory


def _gaussian_matrix(count: int, sigma: float | Tensor, like: Tensor) -> Tensor:
    index = torch.arange(count, device=like.device, dtype=like.dtype)
    return gaussian(index[:, None] - index[None], sigma)


class CoordinateAttention(RegistrationNetwork):
    """Registration by coordinate attention (Xi): equivariant to shifts of either image.

    Args:
        encoder: one network for both images; maps b1dhw to tokens with `padding_cells` cells of surrounding, and
            names its `stride`, `settings.padding_cells` and `background()` (see `match`). The dot product of two
            tokens is the logit.
        extrapolate: for images that may be turned: beyond the fixed image the map goes on linearly (see
            `maps.DisplacementMap`), and uncertain places are filled with what their surroundings do beside the rigid
            motion of the whole. So turning the moving image turns the map along.
        fill_sigma_cells: see `fill_uncertain`; 0 = the attention's answer as it is (published).
        align_corners: the published weights' coordinates.
    """

    encoder: Any  # nn.Module's attributes are typed as tensors or modules

    def __init__(
        self,
        encoder: nn.Module,
        *,
        extrapolate: bool = False,
        fill_sigma_cells: float = 0.0,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.extrapolate = extrapolate
        self.fill_sigma_cells = fill_sigma_cells
        self.align_corners = align_corners

    @property
    def stride(self) -> int:
        return self.encoder.stride

    def predict(self, moving_b1dhw: Tensor, fixed_b1dhw: Tensor) -> Prediction:
        return self._prediction(moving_b1dhw, fixed_b1dhw, self.encoder(moving_b1dhw), self.encoder(fixed_b1dhw))

    def predict_both(self, moving_b1dhw: Tensor, fixed_b1dhw: Tensor) -> tuple[Prediction, Prediction]:
        moving_tokens, fixed_tokens = self.encoder(moving_b1dhw), self.encoder(fixed_b1dhw)
        return (
            self._prediction(moving_b1dhw, fixed_b1dhw, moving_tokens, fixed_tokens),
            self._prediction(fixed_b1dhw, moving_b1dhw, fixed_tokens, moving_tokens),
        )

    def _prediction(self, moving: Tensor, fixed: Tensor, moving_tokens: Tensor, fixed_tokens: Tensor) -> Prediction:
        found = match(
            moving_tokens,
            fixed_tokens,
            self.encoder.settings.padding_cells,
            align_corners=self.align_corners,
            background=self.encoder.background(),
        )
        # Where nothing is known, go on voxel by voxel: both images have one voxel size.
        scale = [f / m for f, m in zip(fixed.shape[2:], moving.shape[2:], strict=True)]
        identity = identity_map(found.map_bndhw.shape[2:], align_corners=self.align_corners, device=fixed.device)
        displacement = found.map_bndhw - identity * per_axis(scale, identity)
        if self.fill_sigma_cells > 0:
            usual = self._rigid(found, identity, fixed, moving, scale) if self.extrapolate else 0.0
            filled = fill_uncertain(displacement - usual, found.certainty_b1dhw, self.fill_sigma_cells)
            displacement = usual + filled
        field = DisplacementMap(
            displacement, scale=scale, extrapolate=self.extrapolate, align_corners=self.align_corners
        )
        return Prediction(field, found.map_bndhw, found.certainty_b1dhw, found.spread_b1dhw)

    def _rigid(self, found: Match, identity: Tensor, fixed: Tensor, moving: Tensor, scale: list[float]) -> Tensor:
        """The displacement of the rigid motion that the certain places make together, on their lattice.

        Of a turned image neighbors differ in displacement, and a mean of those around one pulls the map towards rest.
        """
        spans = ([max(1, n - self.align_corners) for n in image.shape[2:]] for image in (fixed, moving))
        voxels, moving_voxels = (per_axis(span, identity) for span in spans)
        # To the fourth power: the little certainty of far background has a long lever.
        motion = rigid_motion(identity * voxels, found.map_bndhw * moving_voxels, found.certainty_b1dhw**4)
        return motion / moving_voxels - identity * per_axis(scale, identity)
