"""The picture of synthetic pairs: it shows something, its figures are right, and what is missing is said."""

import builtins
import math

import numpy as np
import pytest
import torch
from carlreg.errors import InputError
from carlreg.training.preview import CELL, COLUMNS, PairMetrics, _pictures, preview
from carlreg.training.synthetic import SyntheticSettings, View, Views, make_views

SMALL = SyntheticSettings(size=32)


def test_preview_writes_a_row_per_pair_with_something_in_every_picture(tmp_path):
    from PIL import Image

    preview(tmp_path / "pairs.png", SMALL, seed=3, pairs=2)
    picture = np.asarray(Image.open(tmp_path / "pairs.png").convert("RGB"))
    preview(tmp_path / "one.png", SMALL, seed=3, pairs=1)
    one = np.asarray(Image.open(tmp_path / "one.png").convert("RGB"))
    assert picture.shape[1] == one.shape[1]
    assert picture.shape[0] - one.shape[0] > CELL
    np.testing.assert_array_equal(picture[: one.shape[0]], one)
    assert picture[one.shape[0] :].std() > 20


def test_warped_picture_resembles_the_fixed_one_more_than_the_moving_one_does():
    gains = []
    for seed in range(6):
        views = make_views(seed, SyntheticSettings(size=32, views=2, same_contrast=1.0, missing=0.0))
        columns = _pictures(views)
        assert len(columns) == len(COLUMNS)
        for fixed, moving, warped in zip(*columns[:3], strict=True):
            assert fixed.shape == moving.shape == warped.shape == (CELL, CELL, 3)
            seen = warped[..., 0] > 5
            if seen.mean() > 0.1:
                before, after = (np.abs(fixed[seen].astype(float) - x[seen]).mean() for x in (moving, warped))
                gains.append(after < before)
    assert np.mean(gains) > 0.8


def test_figures_of_a_known_pair():
    angle = math.radians(30)
    turned = torch.tensor([[1.0, 0, 0], [0, math.cos(angle), -math.sin(angle)], [0, math.sin(angle), math.cos(angle)]])
    still = torch.zeros(1, 3, 4, 4, 4)
    fixed = View(torch.eye(3) / 2, torch.full((3,), 0.5), still)
    moving = View(turned / 2.5, torch.tensor([0.5, 0.5, 0.5]), still)
    ones = torch.ones(2, 1, 8, 8, 8)
    metrics = PairMetrics.of(Views(ones, ones, ones, ones, (moving, fixed), ones), 0, 1)
    assert metrics.degrees == pytest.approx(30, abs=0.01)
    assert metrics.zoom == pytest.approx(1.25, abs=1e-4)
    assert metrics.shift == pytest.approx(0, abs=1e-5)
    backward = PairMetrics.of(Views(ones, ones, ones, ones, (moving, fixed), ones), 1, 0)
    assert backward.overlap == pytest.approx(1.0, abs=0.02)  # the smaller view lies within the other, all but two edges
    aside = View(torch.eye(3) / 2, torch.tensor([0.5, 0.5, 0.75]), still)
    shifted = PairMetrics.of(Views(ones, ones, ones, ones, (aside, fixed), ones), 0, 1)
    assert shifted.shift == pytest.approx(0.5, abs=1e-5)
    assert shifted.overlap == pytest.approx(0.5, abs=0.05)


def test_preview_without_pillow_says_what_to_install(tmp_path, monkeypatch):
    original = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.split(".")[0] == "PIL":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(InputError, match="pip install pillow"):
        preview(tmp_path / "pairs.png", SMALL)
    assert not list(tmp_path.iterdir())


def test_preview_refuses_no_pairs_and_places_that_do_not_exist(tmp_path):
    with pytest.raises(InputError, match="one or more pairs"):
        preview(tmp_path / "pairs.png", SMALL, pairs=0)
    with pytest.raises(InputError, match="place to write"):
        preview(tmp_path / "nowhere" / "pairs.png", SMALL, pairs=1)
