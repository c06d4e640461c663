"""While a map is optimized it is shown, and it can be stopped there: what is delivered is what was shown last."""

from __future__ import annotations

import dataclasses

import carlreg
import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.progress import Progress
from carlreg.registration.finishing import finish
from carlreg.registration.live import coarse_grid
from carlreg.settings import RegistrationSettings
from carlreg.spaces import VolumeGrid

from .conftest import body_points, pair_at

SPACING_MM = 12.0
SETTINGS = RegistrationSettings(grid=64, io_steps=12)


@pytest.fixture(scope="module")
def pair():
    return pair_at(SPACING_MM)


class Watcher(Progress):
    """Sees every map, and asks to stop after some of them."""

    def __init__(self, stop_after: int) -> None:
        super().__init__(on_map=self.see)
        self.maps, self.stop_after = [], stop_after

    def see(self, found) -> None:
        self.maps.append(found)
        if len(self.maps) == self.stop_after:
            self.stop_here()


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"symmetric": True},
        {"io_method": "functional"},
        pytest.param({"io_method": "network"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_what_was_shown_last_is_delivered(pair, how, monkeypatch):
    """Coarse as it was shown, its displacement differs by little more than what a spline takes between its nodes."""
    monkeypatch.setattr("carlreg.progress._MAP_SECONDS", 0.0)  # every map is shown
    monkeypatch.setattr("carlreg.progress._MAP_SHARE", 1e9)
    progress = Watcher(stop_after=8)
    settings = dataclasses.replace(SETTINGS, **how)
    result = carlreg.register(pair.fixed, pair.moving, settings, progress=progress)
    assert len(result.steps) == len(progress.maps) == 8
    points = body_points(pair)
    delivered, shown = result.transform.apply(points), progress.maps[-1].apply(points)
    apart = np.linalg.norm(delivered - shown, axis=1)
    first = np.linalg.norm(progress.maps[0].apply(points) - shown, axis=1)
    assert apart.mean() < 0.1 * SPACING_MM
    assert first.mean() > 0
    assert max(progress.maps[-1].grid.size_ijk) <= 40
    said = "Instance optimization was stopped after 8 of 12 steps, as asked: the map may be coarse."
    assert said in result.warnings
    assert result.settings.io_steps == 12  # what was asked for; another run of it goes to the end


def test_stopped_before_the_first_step_the_start_is_delivered(pair):
    """The same as without optimization, to the last bit."""
    progress = Progress()
    progress.stop_here()
    stopped = carlreg.register(pair.fixed, pair.moving, SETTINGS, progress=progress)
    plain = carlreg.register(pair.fixed, pair.moving, dataclasses.replace(SETTINGS, io_steps=0))
    np.testing.assert_array_equal(stopped.transform.affine_lps, plain.transform.affine_lps)
    np.testing.assert_array_equal(stopped.transform.displacement_lps, plain.transform.displacement_lps)
    assert "stopped before its first step" in " ".join(stopped.warnings) and not plain.warnings


def test_quality_tells_of_the_steps(pair):
    progress = Progress(on_record=lambda record: record.step and record.step.done == 3 and progress.stop_here())
    result = finish(carlreg.register(pair.fixed, pair.moving, SETTINGS, progress=progress))
    told = result.finished.quality["optimization"]
    assert (told["asked"], told["done"], told["similarity"]) == (12, 3, "lncc2")
    assert told["curve"] == [step.similarity for step in progress.steps] and sum(told["levels"]) == 3
    assert 0 < told["curve"][0] < 1
    assert any("stopped after 3 of 12" in warning for warning in result.finished.quality["warnings"])


def test_a_coarse_grid_covers_its_box_in_few_nodes():
    """Thin boxes too: SimpleITK finds all corners of the box between the nodes."""
    for size, spacing in (((160, 192, 224), (1, 1, 1)), ((512, 512, 5), (0.7, 0.7, 4)), ((2, 2, 2), (1, 1, 1))):
        box = VolumeGrid(size, spacing, (3, -40, 7), np.diag([-1.0, -1.0, 1.0]))
        grid = coarse_grid(box)
        assert max(grid.size_ijk) <= 40 and min(grid.size_ijk) >= 3
        image = sitk.Image(grid.size_ijk, sitk.sitkUInt8)
        image.CopyInformation(grid.image(np.zeros(grid.shape_dhw, dtype=np.uint8)))
        for corner in box.corners_lps():
            index = np.array(image.TransformPhysicalPointToContinuousIndex(corner.tolist()))
            assert (index >= 0).all() and (index <= np.array(grid.size_ijk) - 1).all()
