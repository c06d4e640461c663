"""Every similarity is known everywhere by one name, and an unknown one is refused wherever it could arrive."""

from __future__ import annotations

import typing

import numpy as np
import pytest
import torch
from carlreg import settings
from carlreg.errors import InputError
from carlreg.losses.paper import dissimilarity
from carlreg.losses.registry import SIMILARITIES, similarity_named
from carlreg.optimize.affine import AffineProblem
from carlreg.optimize.field import LevelLoss
from carlreg.optimize.levels import LevelImages, schedule
from carlreg.registration.pair import PreparedPair
from carlreg.spaces import VolumeGrid
from carlreg.training.images_stage import ImagesSettings
from carlreg.training.similarity_stage import SimilaritySettings

GRID = VolumeGrid((12, 12, 12), np.full(3, 2.0), np.zeros(3), np.eye(3))


def test_the_lists_name_the_same_similarities():
    assert list(SIMILARITIES) == list(settings.SIMILARITIES)
    for stage in (SimilaritySettings, ImagesSettings):
        assert typing.get_args(typing.get_type_hints(stage)["similarity"]) == tuple(SIMILARITIES)


def test_unknown_ones_are_refused_everywhere():
    image = torch.rand(1, 1, 12, 12, 12)
    images = LevelImages(image, GRID, image, GRID)
    level = schedule(4, 2.0, 1.0)[0]
    modalities = [type("Volume", (), {"modality": modality}) for modality in ("ct", "mr")]
    for use in (
        similarity_named,
        lambda name: dissimilarity(image, image, name),
        lambda name: AffineProblem(images, window_mm=10.0, similarity=name),
        lambda name: LevelLoss(images, np.eye(4), GRID, level, name),
        PreparedPair(*modalities, None, None).modality_warnings,
    ):
        for name in SIMILARITIES:
            use(name)
        with pytest.raises(InputError, match="Similarity: expected one of lncc, lncc2, mind; got 'ncc'"):
            use("ncc")


def test_what_each_makes_of_inverted_contrast():
    image = torch.randn(1, 1, 24, 24, 24, generator=torch.Generator().manual_seed(0))
    found = {name: float(dissimilarity(-image, image, name)) for name in SIMILARITIES}
    assert found["lncc"] == pytest.approx(2.0, abs=0.01)  # the opposite
    assert found["lncc2"] == pytest.approx(0.0, abs=0.01)
    assert found["mind"] == pytest.approx(0.0, abs=1e-5)
