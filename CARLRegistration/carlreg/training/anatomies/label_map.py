"""Anatomies whose shapes come from a label map of one's own: each structure painted as if it were a new material.

Codes of FreeSurfer (brain and, from 165 on, what lies around it) get the materials that they name; structures of other
label maps, of which nothing is known, get any. The idea is SynthSeg's (Billot et al. 2023) and SynthMorph's (Hoffmann
et al. 2022).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .canvas import Canvas, axis_coordinates, smooth_noise, turn

_BRAIN = {
    "white": (2, 7, 16, 28, 60, 41, 46, 85, 251, 252, 253, 254, 255),
    "gray": (3, 8, 10, 11, 12, 13, 17, 18, 26, 42, 47, 49, 50, 51, 52, 53, 54, 58),
    "fluid": (4, 5, 14, 15, 24, 31, 43, 44, 63, 72),
    "blood": (30, 62),
}
_MATERIAL = {code: material for material, codes in _BRAIN.items() for code in codes}
_LEFT_OF = {41: 2, 42: 3, 43: 4, 44: 5, 46: 7, 47: 8, 49: 10, 50: 11, 51: 12, 52: 13, 53: 17, 54: 18, 58: 26, 60: 28}
_LEFT_OF |= {62: 30, 63: 31}
_OUTSIDE = 165  # FreeSurfer's first code of what is not brain, but for 251 to 255 (corpus callosum)
_CSF = 24
_CORTEX = {2, 3, 41, 42}  # maps that have these are FreeSurfer's
_MARGIN = 0.15  # of a view edge: how far a canvas may reach beyond a map that is longer
_FINE = 1.2  # voxels of a map per voxel of the canvas from which partial volumes are drawn


@dataclass(frozen=True)
class LabelMap:
    """index_dhw: uint8, places in `codes`; d from head to feet, h from front to back, w across. codes: the labels, 0
    first. spacing_mm: of d, h, w."""

    index_dhw: Tensor
    codes: tuple[int, ...]
    spacing_mm: tuple[float, float, float]


def paint_label_map(canvas: Canvas, found: LabelMap, shortest: float, longest: float) -> None:
    """Paint a label map's structures, its shape changed by a scale per axis, a small turn and a smooth warp.

    shortest, longest: its longest edge in view edges.
    """
    random = canvas.random
    codes = list(found.codes)
    brain = set(codes) >= _CORTEX
    if brain and random.chance(0.6) and all(contrast.modality == "mr" for contrast in canvas.contrasts):
        kept_csf = random.chance(0.5)
        hidden = [(c >= _OUTSIDE and not 251 <= c <= 255) or (c == _CSF and not kept_csf) for c in codes]
    else:
        hidden = [False] * len(codes)
    drawn: dict[int, list[tuple[float, float]]] = {}
    start = len(canvas.amplitudes)
    values, labels = torch.zeros(len(codes), 2), torch.zeros(len(codes), dtype=torch.int32)
    for place, code in enumerate(codes):
        if code == 0 or hidden[place]:
            continue
        material = _MATERIAL.get(code, "any") if brain else "any"
        like = _LEFT_OF.get(code, code) if brain else code
        if like not in drawn:
            drawn[like] = [contrast.paint(material) for contrast in canvas.contrasts]
        values[place] = torch.tensor([value for value, _ in drawn[like]])
        labels[place] = start + place
    for place in range(len(codes)):
        like = drawn.get(_LEFT_OF.get(codes[place], codes[place]) if brain else codes[place])
        canvas.amplitudes.append(tuple(a for _, a in like) if like and labels[place] else (0.0, 0.0))
    index = found.index_dhw.to(random.device)
    millimeters, voxel_mm = _positions(canvas, _shown(index, labels > 0), found.spacing_mm, shortest, longest)
    spacing = millimeters.new_tensor(found.spacing_mm).view(3, 1, 1, 1)
    values = values.to(random.device)
    shifts = (-0.25, 0.25) if voxel_mm > _FINE * max(found.spacing_mm) else (0.0,)
    total = torch.zeros_like(canvas.image_2dhw)
    for shift in itertools.product(shifts, repeat=3):
        moved = millimeters.new_tensor(shift).view(3, 1, 1, 1) * voxel_mm
        at = _looked_up(index, (millimeters + moved) / spacing)
        total += values[at].movedim(-1, 0)
    canvas.image_2dhw.copy_(total / len(shifts) ** 3)
    canvas.labels_dhw.copy_(labels.to(random.device)[_looked_up(index, millimeters / spacing)])


def _shown(index_dhw: Tensor, painted: Tensor) -> list[tuple[int, int]]:
    """First and last voxel, plus one, along each axis of the structures that are painted."""
    where = painted.to(index_dhw.device)[index_dhw.long()]
    lines = (where.any(1).any(1), where.any(0).any(1), where.any(0).any(0))
    return [(int(at[0]), int(at[-1]) + 1) for at in (line.nonzero()[:, 0] for line in lines)]


def _positions(
    canvas: Canvas, box: list[tuple[int, int]], spacing_mm: Sequence[float], shortest: float, longest: float
) -> tuple[Tensor, float]:
    """Where in the map each voxel of the canvas looks (3 d h w, mm from its first voxel's corner); its size in mm."""
    random = canvas.random
    low_mm, high_mm = torch.tensor(box).T * torch.tensor(spacing_mm)
    size_mm = high_mm - low_mm
    edges = shortest * (longest / shortest) ** random.uniform()
    per_edge_mm = float(size_mm.max()) / edges
    # The canvas looks at the middle of what it can show in full, and at any part of what it cannot.
    free = (size_mm / per_edge_mm - canvas.edges).clamp_min(0) / 2
    center = (low_mm + high_mm) / 2 + (2 * random.random(3) - 1) * (
        free + torch.where(free > 0, _MARGIN, 0.1)
    ) * per_edge_mm
    scale = torch.diag(0.9 + 0.2 * random.random(3))
    scale[2, 2] *= random.sign()
    linear = (turn(random, 10.0) @ scale * per_edge_mm).to(random.device)
    at = (axis_coordinates(canvas.size, device=random.device) - 0.5) * canvas.edges
    points = torch.stack(torch.meshgrid(at, at, at, indexing="ij"))
    nodes = random.integer(4, 8)
    # About an eighth of the distance between nodes: strong, and without folds.
    points = points + smooth_noise(random, 3, nodes, canvas.size) * (0.12 * canvas.edges / nodes * random.uniform())
    moved = torch.einsum("xy,ydhw->xdhw", linear, points) + center.to(random.device).view(3, 1, 1, 1)
    return moved, per_edge_mm / canvas.per_edge


def _looked_up(index_dhw: Tensor, at_3dhw: Tensor) -> Tensor:
    """Whole numbers of the voxels that positions (voxels, corners at whole numbers) lie in; 0 outside."""
    voxel = at_3dhw.floor().long()
    shape = torch.tensor(index_dhw.shape, device=voxel.device).view(3, 1, 1, 1)
    inside = ((voxel >= 0) & (voxel < shape)).all(0)
    d, h, w = voxel.clamp_min(0).minimum(shape - 1)
    return torch.where(inside, index_dhw[d, h, w].long(), 0)
