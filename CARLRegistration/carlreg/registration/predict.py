"""What the network says about a pair: correspondences, its map, and all that the uncertainty is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from ..maps import CoordinateMap
from ..models.consistent import ConsistentNetwork
from ..models.nephi import Nephi
from ..models.operators import TwoStep, without_refinement
from ..models.predict import (
    Correspondences,
    NetworkImages,
    correspondences,
    mapped_lps,
    network_images,
    refined_from,
    renormalized,
)
from ..models.registry import LoadedModel
from ..spaces import fit_linear
from ..uncertainty import NetworkAnswer
from .pair import PreparedPair

#: n x 3 points in LPS mm -> n x 3.
PointMap = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class NetworkPrediction:
    """A network's answer about a pair.

    points: correspondences. map_lps: its map from fixed to moving points; None where only its attention is trained.
    refine: what it makes of a 4x4 matrix as its start instead; None where it cannot. answer: all it said.
    """

    points: Correspondences
    map_lps: PointMap | None
    refine: Callable[[np.ndarray], PointMap] | None
    answer: NetworkAnswer


def untrained_warnings(loaded: LoadedModel, name: str) -> list[str]:
    """One sentence where no weights of a model were trained."""
    if any(loaded.trained.values()):
        return []
    return [f"{name} ran with untrained weights; its prediction means nothing."]


def predict(
    loaded: LoadedModel, pair: PreparedPair, grid: int, device: torch.device, *, only_points: bool = False
) -> NetworkPrediction | None:
    """Both directions of the network; None for an untrained one. grid: voxels along the longest side of its grid.

    only_points: correspondences are all that is wanted; nothing is computed but what they take.
    """
    if not any(loaded.trained.values()):
        return None
    images = images_for(loaded, pair, grid, device)
    network = loaded.network
    # Attention alone answers anywhere where there is no structure: only its affine is used.
    refined = loaded.trained.get("refinement", True) and not only_points
    steps = network if refined and not network.align_corners and isinstance(network, TwoStep) else None
    again: Callable[[CoordinateMap], CoordinateMap] | None = None
    if steps is not None:
        again = steps.refiner(images.moving_b1dhw, images.fixed_b1dhw)
    elif refined and isinstance(network, Nephi | ConsistentNetwork) and not network.align_corners:
        again = partial(network.refine, moving_b1dhw=images.moving_b1dhw, fixed_b1dhw=images.fixed_b1dhw)
    with torch.no_grad():
        if steps is not None and again is not None:  # one direction suffices of what follows the attention
            forward, backward = without_refinement(network).predict_both(images.moving_b1dhw, images.fixed_b1dhw)
            found = again(forward.map)
        else:
            seeing = without_refinement(network) if only_points else network
            forward, backward = seeing.predict_both(images.moving_b1dhw, images.fixed_b1dhw)
            found = forward.map
    points = correspondences(images, forward, backward)
    weights = (
        points.weights * pair.fixed.mask_weight(points.fixed_lps) * pair.moving.mask_weight(points.moving_lps) + 1e-12
    )

    def on_lps(found: CoordinateMap, beyond_33: np.ndarray | None = None) -> PointMap:
        return lambda points: mapped_lps(found, images, points, beyond_33)

    found_lps = None
    if refined:
        # Turned as it is: its stretches are those of the motion that was seen, which need not go on.
        mapped = mapped_lps(found, images, points.fixed_lps)
        found_lps = on_lps(found, fit_linear(points.fixed_lps, mapped, weights, kind="rigid")[:3, :3])
    return NetworkPrediction(
        Correspondences(points.fixed_lps, points.moving_lps, weights),
        found_lps,
        None if again is None else lambda matrix: on_lps(refined_from(again, images, matrix), matrix[:3, :3]),
        NetworkAnswer(network, images, forward, backward, found),
    )


def images_for(loaded: LoadedModel, pair: PreparedPair, grid: int, device: torch.device) -> NetworkImages:
    """Both images as the network was trained to see them."""
    style = loaded.info.normalization
    return network_images(
        loaded,
        renormalized(pair.fixed, pair.fixed_view, style),
        renormalized(pair.moving, pair.moving_view, style),
        grid,
        device,
    )
