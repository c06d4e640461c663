"""A picture of what training in the plane sees: its pairs, and the moving image warped by a true map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ...errors import InputError
from ...maps import sample
from ...maps.exchange import array_from_tensor
from ..data_settings import DataSettings
from ..preview import check_pillow, save
from ..settings import PlanarSettings
from .stage import PlanarStage

_CELL, _GAP = 192, 4  # pixels


def preview(path: Path, data: DataSettings, *, seed: int = 0, pairs: int = 6) -> None:
    """Write a PNG with one pair per row: fixed, moving, and the moving image warped by the true map where it is known.

    Args:
        seed: of the first pair; the others have the seeds after it. pairs: rows.
    Raises: InputError without Pillow (the extra `report`), for less than one pair, or where nothing can be written.
    """
    if pairs < 1:
        raise InputError(f"Preview: expected one or more pairs, got {pairs}.")
    check_pillow()
    from PIL import Image

    stage = PlanarStage(PlanarSettings(), data)
    sheet = Image.new("L", (3 * (_CELL + _GAP) + _GAP, pairs * (_CELL + _GAP) + _GAP), 24)
    for row in range(pairs):
        pair = stage.draw(seed + row, torch.device("cpu"))
        pictures = [pair.fixed, pair.moving]
        if pair.true_12hw is not None:
            pictures.append(sample(pair.moving, pair.true_12hw, padding="zeros"))
        for column, image in enumerate(pictures):
            gray = (255 * np.clip(array_from_tensor(image[0, 0]), 0, 1)).astype(np.uint8)
            place = _GAP + column * (_CELL + _GAP), _GAP + row * (_CELL + _GAP)
            sheet.paste(Image.fromarray(gray).resize((_CELL, _CELL)), place)
    save(sheet, path)
