"""Stage C: the whole network by image similarity, on synthetic pairs painted in one contrast.

Loss: dissimilarity (by default 1 - LNCC^2, in both directions) + weight x GradICON (or another regularizer), the form
of the loss that own images are trained with; `images_stage` takes 1 - LNCC by default. Instance optimization
(`optimize.field`) is another matter: it has no second direction, and asks for a smooth displacement instead of
GradICON.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Generator

from ..losses.paper import dissimilarity_both_ways
from ..losses.registry import similarity_named
from ..models.operators import RegistrationNetwork
from .joint_stage import end_point_bins
from .known_pair import KnownPair, draw_pair
from .regularity import irregularity
from .settings import SimilaritySettings
from .stage import Stage, Terms


class SimilarityStage(Stage):
    Settings = SimilaritySettings
    settings: SimilaritySettings

    def draw(self, seed: int, device: torch.device) -> KnownPair:
        settings = self.data.synthetic
        # Local correlation means nothing between contrasts.
        if not similarity_named(self.settings.similarity).descriptors:
            settings = replace(settings, same_contrast=1.0)
        return draw_pair(seed, settings, device)

    def losses(self, network: RegistrationNetwork, draw: KnownPair, generator: Generator) -> Terms:
        pair = draw
        forward, backward = network(pair.moving, pair.fixed)
        unlike = dissimilarity_both_ways(
            forward.map,
            backward.map,
            pair.moving,
            pair.fixed,
            self.settings.similarity,
            pair.moving_inside,
            pair.fixed_inside,
        )
        name = self.settings.regularity
        unsmooth = irregularity(name, forward.map, backward.map, pair.shape, pair.shape, generator)
        with torch.no_grad():
            error = pair.forward.end_point(forward.map, pair.shape)
        loss = unlike + self.settings.weight * unsmooth
        terms = {"loss": loss, "dissimilarity": unlike, name: unsmooth, "end_point": error}
        return terms | end_point_bins(pair.forward, error)
