"""Judging a network during training: generated pairs with seeds never trained on, and real pairs never trained on."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from ..errors import CarlError, InputError
from ..maps import CoordinateMap
from ..models.operators import RegistrationNetwork
from ..models.predict import NetworkImages, mapped_lps, network_images, renormalized
from ..models.registry import LoadedModel
from ..preprocess import PreparedVolume, field_of_view, prepare
from ..spaces import VolumeGrid
from ..volumes import Volume, read_labels, read_landmarks, read_volume
from .images import read_table
from .known_pair import draw_pair
from .networks import info_of, trained_only
from .settings import TrainingConfig
from .stage import Stage, bin_names

log = logging.getLogger(__name__)

FIRST_SEED = 2**62  # training's seeds stay below it
_MOST_LABEL_VOXELS = 1_000_000
COLUMNS = ("fixed", "moving", "landmarks", "fixed_labels", "moving_labels")


class Validation:
    """Figures of a network; the same pairs each time.

    `score` (lower is better) chooses the best weights: the mean landmark error in mm on real pairs, else 1 - their mean
    Dice, else the mean end-point error in voxels on generated pairs, else the stage's loss.
    Raises InputError on construction when the list of real pairs, or a file in it, cannot be used.
    """

    def __init__(self, config: TrainingConfig, stage: Stage) -> None:
        self.config, self.stage = config, stage
        path = config.validation.images
        if path is not None and stage.dimension != 3:
            raise InputError(
                f"validation.images: expected none for stage {config.stage.kind}: it judges by volumes, and this stage "
                "trains on images of the plane."
            )
        self.real = [] if path is None else read_real_pairs(Path(path))

    @torch.no_grad()
    def __call__(self, network: RegistrationNetwork, trained_parts: list[str]) -> dict[str, float]:
        """Names and values; the network is in evaluation mode. Parts without trained weights are left out."""
        begin = time.monotonic()
        device = next(network.parameters()).device
        found = self._stage_terms(network, device)
        used = trained_only(network, trained_parts)
        if self.stage.synthetic:
            found |= self._generated(used, device)
        found |= self._real_pairs(used, device)
        for name in ("landmarks_mm", "dice", "end_point_voxels", "loss"):
            if name in found:
                found["score"] = 1 - found[name] if name == "dice" else found[name]
                break
        return found | {"seconds": time.monotonic() - begin}

    def _stage_terms(self, network: RegistrationNetwork, device) -> dict[str, float]:
        values: dict[str, list[float]] = {}
        for seed in range(FIRST_SEED, FIRST_SEED + self.config.validation.pairs):
            draw = self.stage.draw(seed, device)
            for name, value in self.stage.batch_losses(network, [draw], [seed]).items():
                values.setdefault(name, []).append(value.item())
        return _means(values)

    def _generated(self, network: RegistrationNetwork, device) -> dict[str, float]:
        """End-point error of the network's map, voxels, and by bins."""
        values: dict[str, list[float]] = {}
        settings = self.config.data.synthetic
        settings = replace(settings, size=settings.size * self.stage.view_scale)
        if settings.size % network.stride:
            log.warning("No end-point error: %d voxels are no multiple of %d.", settings.size, network.stride)
            return {}
        for seed in range(FIRST_SEED, FIRST_SEED + self.config.validation.pairs):
            pair = draw_pair(seed, settings, device)
            way = pair.forward
            error = way.end_point(network.predict(pair.moving, pair.fixed).map, pair.shape).item()
            values.setdefault("end_point_voxels", []).append(error)
            for name in bin_names("end_point_voxels", way.overlap, way.degrees):
                values.setdefault(name, []).append(error)
        return _means(values)

    def _real_pairs(self, network: RegistrationNetwork, device) -> dict[str, float]:
        name = self.config.model.name
        # A network that is only there to compare with has no entry in the catalog, and needs none here.
        loaded = LoadedModel(network, name, None, {}, info_of(name))  # pyright: ignore[reportArgumentType]
        values: dict[str, list[float]] = {}
        for pair in self.real:
            images = pair.images(loaded, self.config.validation.edge, device)
            found = network.predict(images.moving_b1dhw, images.fixed_b1dhw).map
            for what, value in pair.judged(found, images).items():
                values.setdefault(what, []).append(value)
                values[f"{what}_{pair.name}"] = [value]
        return _means(values)


def _means(values: dict[str, list[float]]) -> dict[str, float]:
    return {name: sum(all_of) / len(all_of) for name, all_of in values.items()}


@dataclass(frozen=True)
class RealPair:
    """Two volumes and what the map between them is judged by.

    points: n x 3 fixed and moving LPS mm, or None. labels: label maps on the volumes' grids, or None.
    """

    name: str
    fixed: Volume
    moving: Volume
    points: tuple[np.ndarray, np.ndarray] | None
    labels: tuple[sitk.Image, sitk.Image] | None

    def images(self, loaded: LoadedModel, edge: int, device) -> NetworkImages:
        """As prediction makes them."""
        style = "compact" if loaded.info is None else loaded.info.normalization

        def prepared(volume: Volume) -> PreparedVolume:
            view, _ = field_of_view(volume)
            return renormalized(prepare(view), view, style)

        return network_images(loaded, prepared(self.fixed), prepared(self.moving), edge, device)

    def judged(self, found: CoordinateMap, images: NetworkImages) -> dict[str, float]:
        """landmarks_mm: mean error; dice: mean over the fixed labels."""
        metrics = {}
        if self.points is not None:
            error = np.linalg.norm(mapped_lps(found, images, self.points[0]) - self.points[1], axis=1)
            metrics["landmarks_mm"] = float(error.mean())
        if self.labels is not None:
            metrics["dice"] = mean_dice(*self.labels, lambda points: mapped_lps(found, images, points))
        return metrics


def mean_dice(fixed_labels: sitk.Image, moving_labels: sitk.Image, moving_from_fixed) -> float:
    """Mean Dice of the fixed labels (not 0) and the moving ones under a map of n x 3 LPS points.

    On the fixed grid, thinned by whole steps where it has more than a million voxels.
    """
    fixed = sitk.GetArrayFromImage(fixed_labels)
    step = max(1, math.ceil((fixed.size / _MOST_LABEL_VOXELS) ** (1 / 3)))
    thinned = fixed[::step, ::step, ::step]
    points = VolumeGrid.of(fixed_labels).centers(step=step).reshape(-1, 3)
    index = np.rint(VolumeGrid.of(moving_labels).index(moving_from_fixed(points))).astype(int)
    moving = sitk.GetArrayFromImage(moving_labels)
    inside = ((index >= 0) & (index < np.array(moving.shape[::-1]))).all(1)
    warped = np.zeros(len(points), dtype=moving.dtype)
    warped[inside] = moving[tuple(index[inside].T[::-1])]
    flat = thinned.reshape(-1)
    labels = [label for label in np.unique(flat) if label]
    scores = []
    for label in labels:
        a, b = flat == label, warped == label
        scores.append(2 * float((a & b).sum()) / float(a.sum() + b.sum()))
    return float(np.mean(scores))


def read_real_pairs(path: Path) -> Sequence[RealPair]:
    """The pairs of a CSV file with the columns `COLUMNS`; paths in it are relative to it. Raises InputError."""
    pairs = []
    for number, row in enumerate(read_table(path, ("fixed", "moving"), COLUMNS, "validation.images"), 2):
        files = {name: path.parent / text for name, text in row.items() if text}
        where = f"validation.images: {path}, line {number}"
        if "fixed" not in files or "moving" not in files:
            raise InputError(f"{where}: expected a fixed and a moving volume.")
        if ("fixed_labels" in files) != ("moving_labels" in files):
            raise InputError(f"{where}: expected both fixed_labels and moving_labels, or neither.")
        if "landmarks" not in files and "fixed_labels" not in files:
            raise InputError(f"{where}: expected landmarks, or fixed_labels and moving_labels, to judge the pair by.")
        try:
            fixed, moving = read_volume(files["fixed"]), read_volume(files["moving"])
            points = read_landmarks(files["landmarks"]) if "landmarks" in files else None
            labels = None
            if "fixed_labels" in files:
                labels = read_labels(files["fixed_labels"], fixed), read_labels(files["moving_labels"], moving)
        except CarlError as error:
            raise type(error)(f"{where}: {error}") from error
        names = [files[side].name.split(".")[0] for side in ("fixed", "moving")]
        pairs.append(RealPair("-".join(names), fixed, moving, points, labels))
    return pairs
