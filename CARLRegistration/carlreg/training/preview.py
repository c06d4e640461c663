"""A picture of what training sees: synthetic pairs, and the moving image warped by the map that is known to be true.

Shape suffixes: b batch (1), c channels, d h w axes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..atomic import DISK_ERRORS
from ..errors import InputError
from ..maps.exchange import array_from_tensor
from ..maps.sampling import identity_map, sample
from .synthetic import SyntheticSettings, Views, make_views

CELL = 128  # pixels
GAP, GROUP_GAP, TITLE, HEADER = 2, 10, 20, 22
COLUMNS = ("Fixed", "Moving", "Moving, warped by the true map", "Checkerboard, warped outlines", "True map's grid")
_GRID_LINES = 10  # of the moving image, per edge
_TILES = 6  # of the checkerboard, per edge
_OUTLINE, _LINES = (255, 196, 0), (70, 200, 255)


@dataclass(frozen=True)
class PairMetrics:
    """How two views lie to each other.

    shift: distance between the moving view's center and the match of the fixed view's center, in view edges.
    degrees: angle of the rotation. zoom: moving voxels per fixed voxel along an edge.
    overlap: share of the fixed view's data whose match lies in the moving view's data.
    """

    shift: float
    degrees: float
    zoom: float
    overlap: float

    @classmethod
    def of(cls, views: Views, moving: int, fixed: int) -> PairMetrics:
        device = views.images_k1dhw.device
        center = torch.full((1, 3, 1, 1, 1), 0.5, device=device)
        shift = float((views.moving_from_fixed(moving, fixed, center) - 0.5).norm())
        matrix = torch.linalg.solve(views.views[moving].matrix, views.views[fixed].matrix).cpu().double()
        u, stretch, v = torch.linalg.svd(matrix)
        cosine = (float((u @ v).trace()) - 1) / 2
        points = identity_map((24,) * 3, device=device)
        match = views.moving_from_fixed(moving, fixed, points)
        own = sample(views.inside_k1dhw[fixed : fixed + 1], points) > 0.5
        seen = sample(views.inside_k1dhw[moving : moving + 1], match, padding="zeros") > 0.5
        overlap = float((own & seen).sum() / own.sum().clamp_min(1))
        degrees = math.degrees(math.acos(min(1.0, max(-1.0, cosine))))
        return cls(shift, degrees, float(stretch.prod()) ** (1 / 3), overlap)


def preview(path: Path, settings: SyntheticSettings, *, seed: int = 0, pairs: int = 6) -> None:
    """Write a PNG with one synthetic pair per row: view 0 moves, view 1 is fixed, as in training.

    Columns, three planes each: the fixed view, the moving view, the moving view warped by the true map, a checkerboard
    of fixed and warped with outlines of the warped labels, and the moving view's regular grid as the map bends it.
    The title of a row says shift (view edges), rotation, zoom, overlap, body part and contrasts.

    Args:
        seed: of the first pair; the others have the seeds after it. pairs: rows.
    Raises: InputError without Pillow (the extra `report`), for less than one pair, or where nothing can be written.
    """
    if pairs < 1:
        raise InputError(f"Preview: expected one or more pairs, got {pairs}.")
    check_pillow()
    from PIL import Image, ImageDraw, ImageFont

    try:
        font = ImageFont.load_default(size=13)
    except TypeError:  # Pillow before 10.1 has one size
        font = ImageFont.load_default()
    width = len(COLUMNS) * (3 * (CELL + GAP) + GROUP_GAP) + GROUP_GAP
    height = HEADER + pairs * (TITLE + CELL + GAP)
    sheet = Image.new("RGB", (width, height), (18, 18, 22))
    draw = ImageDraw.Draw(sheet)
    for column, text in enumerate(COLUMNS):
        draw.text((_left(column, 0), 4), text, fill=(230, 230, 230), font=font)
    for row in range(pairs):
        top = HEADER + row * (TITLE + CELL + GAP)
        views = make_views(seed + row, replace(settings, views=2))
        draw.text((GROUP_GAP, top + 2), _title(seed + row, views), fill=(255, 220, 120), font=font)
        for column, planes in enumerate(_pictures(views)):
            for plane, picture in enumerate(planes):
                sheet.paste(Image.fromarray(picture), (_left(column, plane), top + TITLE))
    save(sheet, path)


def check_pillow() -> None:
    """Raise InputError unless Pillow is there to draw with."""
    try:
        import PIL.Image  # noqa: F401 (only whether it is there)
    except ImportError as error:
        raise InputError(
            "Preview: expected Pillow to draw with, which is not installed; pip install pillow."
        ) from error


def save(sheet: Any, path: Path) -> None:
    """Write a Pillow image as PNG. Raises InputError where nothing can be written."""
    try:
        sheet.save(path, format="PNG")
    except OSError as error:
        if error.errno in DISK_ERRORS:
            raise
        raise InputError(f"{path}: expected a place to write a picture to; {error}.") from error


def _left(column: int, plane: int) -> int:
    return GROUP_GAP + column * (3 * (CELL + GAP) + GROUP_GAP) + plane * (CELL + GAP)


def _title(seed: int, views: Views) -> str:
    metrics = PairMetrics.of(views, 0, 1)
    (moving_kind, fixed_kind), same = views.modality, views.contrast[0] == views.contrast[1]
    contrast = (
        f"{fixed_kind.upper()}, same contrast" if same else f"{fixed_kind.upper()} - {moving_kind.upper()}, repainted"
    )
    return (
        f"seed {seed}: {views.kind}, {contrast}; shift {metrics.shift:.2f} of an edge, rotation {metrics.degrees:.0f} "
        f"degrees, zoom {metrics.zoom:.2f}, overlap {100 * metrics.overlap:.0f} %"
    )


def _pictures(views: Views) -> list[list[np.ndarray]]:
    """Per column, three CELL x CELL x 3 pictures."""
    size = views.images_k1dhw.shape[-1]
    points = identity_map((size,) * 3, device=views.images_k1dhw.device)
    match = views.moving_from_fixed(0, 1, points)
    moving, fixed = views.images_k1dhw[:1], views.images_k1dhw[1:2]
    warped = sample(moving, match, padding="zeros")
    labels = sample(views.labels_k1dhw[:1], match, mode="nearest", padding="zeros")
    cut = _middle(((views.labels_k1dhw[1:2] > 0) & (labels > 0))[0, 0])
    own = _middle((views.labels_k1dhw[:1] > 0)[0, 0])
    columns: list[list[np.ndarray]] = [[] for _ in COLUMNS]
    for axis in range(3):
        fixed_hw, warped_hw = (_enlarged(x, axis, cut[axis]) for x in (fixed, warped))
        moving_hw = _enlarged(moving, axis, own[axis])
        labels_hw = _enlarged(labels, axis, cut[axis], mode="nearest")
        match_3hw = np.stack([_enlarged(match[:, a : a + 1], axis, cut[axis]) for a in range(3)])
        tiles = (np.arange(CELL) * _TILES // CELL) % 2
        checker = np.where(tiles[:, None] ^ tiles[None], warped_hw, fixed_hw)
        columns[0].append(_rgb(fixed_hw))
        columns[1].append(_rgb(moving_hw))
        columns[2].append(_rgb(warped_hw))
        columns[3].append(_colored(_rgb(checker), _edges(labels_hw), _OUTLINE))
        columns[4].append(_colored(_rgb(0.6 * fixed_hw), _edges(np.floor(match_3hw * _GRID_LINES)), _LINES))
    return columns


def _middle(body_dhw: Tensor) -> list[int]:
    """Index d, h, w of the middle of a mask; of the volume where the mask is empty."""
    where = body_dhw.nonzero().float()
    if not len(where):
        return [n // 2 for n in body_dhw.shape]
    return [int(value) for value in where.mean(0).round()]


def _enlarged(image_11dhw: Tensor, axis: int, index: int, mode: str = "bilinear") -> np.ndarray:
    plane = image_11dhw.select(2 + axis, index)
    corners = {"align_corners": False} if mode == "bilinear" else {}
    return array_from_tensor(F.interpolate(plane.contiguous(), size=(CELL, CELL), mode=mode, **corners)[0, 0].cpu())


def _rgb(plane_hw: np.ndarray) -> np.ndarray:
    return np.repeat((np.clip(plane_hw, 0, 1) * 255).astype(np.uint8)[..., None], 3, axis=-1)


def _edges(values: np.ndarray) -> np.ndarray:
    """H x W bool: where values differ from those above or on the left; values H x W or n x H x W."""
    values = values.reshape(-1, *values.shape[-2:])
    out = np.zeros(values.shape[-2:], dtype=bool)
    out[1:] |= (values[:, 1:] != values[:, :-1]).any(0)
    out[:, 1:] |= (values[:, :, 1:] != values[:, :, :-1]).any(0)
    return out


def _colored(picture: np.ndarray, where: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """Half transparent, so that what lies below stays visible."""
    picture = picture.copy()
    picture[where] = (0.4 * picture[where] + 0.6 * np.array(color)).astype(np.uint8)
    return picture
