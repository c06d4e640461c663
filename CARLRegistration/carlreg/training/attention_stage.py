"""Stage A: the encoder of coordinate attention, on synthetic views with known correspondence.

Each draw is one anatomy; all ordered pairs of its views count. Loss: cross-entropy of attention rows against the true
key (spread trilinearly over its eight neighbors) + 0.1 x end-point error in cells, over voxels with structure whose
match lies inside the moving view. `data.synthetic.size` is the edge after the encoder's own average pooling, so size
64 trains what a 128^3 grid runs.

Shape suffixes: k views, b batch, n points, c channels, m keys, d h w lattice axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from ..errors import InputError
from ..maps.sampling import identity_map, sample
from ..models.compact_encoder import CompactEncoder
from ..models.operators import RegistrationNetwork
from .known_pair import turn_degrees
from .settings import AttentionSettings
from .stage import Stage, Terms, bin_names
from .synthetic import Views, make_views

CELL = 4  # voxels of a view per lattice cell, given by the encoder's two strides of 2


@dataclass(frozen=True)
class Rows:
    """Attention rows with known answers, of one ordered pair.

    query_n: flat indices into the fixed view's lattice. key_cells_n3: true position in the moving view's lattice, in
    cells; the first cell's center is 0. overlap: share of the fixed view's structure that the moving view shows.
    degrees: turn between the views.
    """

    fixed: int
    moving: int
    query_n: Tensor
    key_cells_n3: Tensor
    overlap: float = 1.0
    degrees: float = 0.0


@dataclass(frozen=True)
class Anatomies:
    """images_k1dhw: the views of one anatomy. rows: of its ordered pairs."""

    images_k1dhw: Tensor
    rows: list[Rows]


def choose_rows(views: Views, settings: AttentionSettings, seed: int) -> list[Rows]:
    """Random queries with structure and with a match inside the other view's data, for every ordered pair."""
    generator = Generator().manual_seed(seed)
    device = views.images_k1dhw.device
    edge = views.images_k1dhw.shape[-1] // CELL
    points = identity_map((edge,) * 3, device=device)
    count = len(views.views)
    canvas = [view.canvas_from_view(points) for view in views.views]
    rows = []
    for fixed in range(count):
        structured = views.structure_k1dhw[fixed, 0] > settings.minimum_structure
        structured &= sample(views.inside_k1dhw[fixed : fixed + 1], points)[0, 0] > 0.5
        for moving in range(count):
            if moving == fixed:
                continue
            match = views.views[moving].view_from_canvas(canvas[fixed])
            inside = sample(views.inside_k1dhw[moving : moving + 1], match, padding="zeros")[0, 0] > 0.9
            valid = (structured & inside).flatten().nonzero()[:, 0]
            if len(valid) < 16:
                continue
            chosen = torch.randperm(len(valid), generator=generator)[: settings.queries]
            query = valid[chosen.to(device)]
            key = match[0].flatten(1).T[query] * edge - 0.5
            overlap = len(valid) / max(int(structured.sum()), 1)
            rows.append(Rows(fixed, moving, query, key, overlap, turn_degrees(match)))
    return rows


class AttentionStage(Stage):
    Settings = AttentionSettings
    settings: AttentionSettings

    def prepare(self, network: RegistrationNetwork, model: str) -> None:
        self.view_scale = encoder_of(network).settings.pooling

    def draw(self, seed: int, device: torch.device) -> Anatomies:
        views = make_views(seed, self.data.synthetic, device=device)
        return Anatomies(views.images_k1dhw, choose_rows(views, self.settings, seed))

    def losses(self, network: RegistrationNetwork, draw: Anatomies, generator: Generator) -> Terms:
        return self.batch_losses(network, [draw], [0])

    def batch_losses(self, network: RegistrationNetwork, draws: Sequence[Anatomies], seeds: Sequence[int]) -> Terms:
        """One pass of the encoder for all views of all samples."""
        encoder = encoder_of(network)
        images = torch.cat([draw.images_k1dhw for draw in draws])
        tokens = encoder.encode_pooled(images, self.settings.padding_cells)
        found: dict[str, list[Any]] = {}
        views_of = tokens.split([len(draw.images_k1dhw) for draw in draws])
        for draw, views in zip(draws, views_of, strict=True):
            terms = attention_loss(views, draw.rows, self.settings.padding_cells)
            for name, value in terms.items():
                found.setdefault(name, []).append(value)
        if not found:  # no view sees what another sees
            return {"loss": tokens.sum() * 0.0}
        # A sample without rows adds nothing, and counts.
        share = {name: len(values) / len(draws) for name, values in found.items()}
        means = {name: torch.stack(values).mean() for name, values in found.items()}
        loss = means["cross_entropy"] + self.settings.end_point_weight * means["end_point"]
        loss = loss * share["cross_entropy"]
        return {"loss": loss, **means, "temperature": encoder.log_temperature.detach().exp()}


def encoder_of(network: RegistrationNetwork) -> CompactEncoder:
    """The encoder that stage A trains. Raises InputError for a network without one."""
    for module in network.modules():
        if isinstance(module, CompactEncoder):
            return module
    raise InputError(
        "stage: expected a network with the compact encoder (carl-compact) for kind 'attention'; this one has none. "
        "Train it with kind 'joint', 'similarity' or 'images'."
    )


def attention_loss(tokens_kcdhw: Tensor, rows: list[Rows], padding_cells: int) -> Terms:
    """Mean over all rows of the cross-entropy (nats) and of the end-point error (cells), with diagnostics.

    Args: tokens_kcdhw: keys of all views with `padding_cells` of background on each side.
    Returns: cross_entropy, end_point; floor (entropy of the targets), hits (share of rows whose best key lies within
    1.5 cells of the truth), end_point by bins of overlap and turn. Nothing without rows.
    """
    p = padding_cells
    channels, shape = tokens_kcdhw.shape[1], tokens_kcdhw.shape[2:]
    queries_kcm = tokens_kcdhw[:, :, p:-p, p:-p, p:-p].flatten(2)
    keys_kcm = tokens_kcdhw.flatten(2)
    axes = [torch.arange(n, dtype=torch.float32, device=tokens_kcdhw.device) - p for n in shape]
    coordinates_m3 = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    sums: dict[str, Any] = {}
    counts: dict[str, int] = {}
    for row in rows:
        query_nc = queries_kcm[row.fixed].T[row.query_n]
        logits_nm = query_nc @ keys_kcm[row.moving].reshape(channels, -1)
        log_weights_nm = logits_nm.log_softmax(1)
        index_n8, share_n8 = trilinear(row.key_cells_n3 + p, shape)
        found_n3 = log_weights_nm.exp() @ coordinates_m3
        terms = {
            "cross_entropy": -(share_n8 * log_weights_nm.gather(1, index_n8)).sum(),
            "end_point": (found_n3 - row.key_cells_n3).square().sum(1).add(1e-6).sqrt().sum(),
        }
        with torch.no_grad():
            best = coordinates_m3[logits_nm.argmax(1)]
            terms["hits"] = ((best - row.key_cells_n3).norm(dim=1) < 1.5).float().sum()
            terms["floor"] = -(share_n8 * share_n8.clamp_min(1e-9).log()).sum()
            for name in bin_names("end_point", row.overlap, row.degrees):
                terms[name] = terms["end_point"].detach()
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + value
            counts[name] = counts.get(name, 0) + len(row.query_n)
    return {name: value / counts[name] for name, value in sums.items()}


def trilinear(position_n3: Tensor, shape_dhw) -> tuple[Tensor, Tensor]:
    """Flat indices (n 8) and weights (n 8) of the lattice points around positions in cells."""
    last = position_n3.new_tensor(list(shape_dhw), dtype=torch.long) - 2
    corner_n3 = position_n3.floor().long().clamp_min(0).minimum(last)
    fraction_n3 = (position_n3 - corner_n3).clamp(0, 1)
    indices, weights = [], []
    for bits in range(8):
        bit_3 = last.new_tensor([(bits >> a) & 1 for a in range(3)])
        at = corner_n3 + bit_3
        indices.append((at[:, 0] * shape_dhw[1] + at[:, 1]) * shape_dhw[2] + at[:, 2])
        weights.append(torch.where(bit_3.bool(), fraction_n3, 1 - fraction_n3).prod(1))
    return torch.stack(indices, 1), torch.stack(weights, 1)
