"""Series: what is read, smooth in time, jumps, and a breath whose true maps are known (the phantom's)."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg import CarlError, RegistrationSettings
from carlreg.phantom import make_breathing
from carlreg.physical import PhysicalTransform
from carlreg.progress import Progress
from carlreg.series import Carried, SeriesSettings, read_series, register_series, series_of, write_series
from carlreg.series.averaging import recentered
from carlreg.series.register import _Found, _Run
from carlreg.series.temporal import jumps, smoothing_weights
from carlreg.spaces import VolumeGrid
from carlreg.volumes import Volume

GRID = VolumeGrid((12, 11, 10), np.full(3, 2.0), np.zeros(3), np.eye(3))
FAST = RegistrationSettings(threads=1, grid=64, io_steps=40)


@pytest.fixture(scope="module")
def breath():
    return make_breathing(spacing_mm=8.0, phases=3)


def shifted(*mm: float) -> PhysicalTransform:
    matrix = np.eye(4)
    matrix[:3, 3] = mm
    return PhysicalTransform.from_affine(matrix)


def test_smoothing_solves_its_least_squares():
    values = np.array([0.0, 3.0, 1.0, 4.0, 1.0, 5.0])
    found = smoothing_weights(6, 0.7, kept=0, cyclic=True) @ values
    second = np.sqrt(0.7) * (np.roll(np.eye(6), 1, 1) - 2 * np.eye(6) + np.roll(np.eye(6), -1, 1))
    stacked = np.vstack([np.eye(6), second])[:, 1:]
    best, *_ = np.linalg.lstsq(stacked, np.concatenate([values, np.zeros(6)]), rcond=None)
    assert found[0] == 0
    assert np.allclose(found[1:], best)
    assert np.allclose(smoothing_weights(5, 1e6) @ [0, 1, 2, 3, 4.0], [0, 1, 2, 3, 4])  # a line is smooth already


def test_jumps_are_named_once():
    inside = np.ones(GRID.shape_dhw, bool)
    steady = [shifted(0.3 * n, 0, 0) for n in range(9)]
    assert jumps(steady, GRID, inside) == []
    steady[4] = shifted(9, 0, 0)  # out and back
    assert jumps(steady, GRID, inside) == [4]
    assert jumps([shifted(0.3 * n + 9 * (n > 5), 0, 0) for n in range(9)], GRID, inside) == [6]
    # Of a cycle the step from the last frame to the first counts, too.
    breath = [shifted(3 * np.sin(2 * np.pi * n / 9), 0, 0) for n in range(9)]
    assert jumps(breath, GRID, inside, cyclic=True) == []
    for n in (0, 4, 8):
        leaps = [*breath[:n], shifted(25, 0, 0), *breath[n + 1 :]]
        assert jumps(leaps, GRID, inside, cyclic=True) == [n]
    assert jumps([shifted(0.3 * n, 0, 9 * n) for n in range(9)], GRID, inside) == []
    assert jumps([shifted(0.3 * n, 0, 9 * n) for n in range(9)], GRID, inside, cyclic=True) == [0]
    assert jumps([shifted(0, 0, 0)] * 9, GRID, inside, cyclic=True) == []


def test_a_mask_moves_along_from_frame_to_frame():
    marked = np.zeros(GRID.shape_dhw, np.uint8)
    marked[2:5, 3:6, 4:8] = 1
    images = [GRID.image(np.random.default_rng(n).random(GRID.shape_dhw).astype(np.float32)) for n in range(3)]
    mask = Volume(GRID.image(marked), None, "mask")
    run = _Run(series_of(images), FAST, SeriesSettings(chain="frames"), mask, Progress())
    moved = run._mask_in(1, _Found(shifted(4, -2, 6), "frames"))
    assert np.array_equal(np.argwhere(moved.array), np.argwhere(marked) + np.array([3, -1, 2]))
    assert run._mask_in(0, _Found(shifted(0, 0, 0), "reference")) is mask
    with pytest.raises(CarlError, match="frame 2 does not"):
        run._mask_in(2, _Found(shifted(90, 0, 0), "frames"))


def test_recentered_maps_have_no_mean():
    found = recentered([shifted(4, 0, 0), shifted(-1, 3, 0), shifted(0, 0, 6)], GRID)
    places = np.mean([each.apply(np.ones((1, 3))) for each in found], axis=0)
    assert np.allclose(places, 1.0)
    turn = np.eye(4)
    turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    rigid = [PhysicalTransform.from_affine(each, "rigid") for each in (turn, turn.T, np.eye(4))]
    for given, each in zip(rigid, recentered(rigid, GRID), strict=True):  # turned to both sides alike: no size changes
        assert each.kind == "rigid"
        assert np.allclose(each.affine_lps[:3, :3], given.affine_lps[:3, :3])
    # With a deformation, too: turned to both sides and wider and narrower by as much, nothing is to be mended.
    off = GRID.centers() - GRID.center_lps
    about = np.eye(4)
    about[:3, 3] = GRID.center_lps
    both = [
        PhysicalTransform(about @ each @ np.linalg.inv(about), (sign * 0.05 * off).astype(np.float32), GRID)
        for each, sign in ((turn, 1), (turn.T, -1))
    ]
    inner = GRID.center_lps + 0.5 * off[::3, ::3, ::3].reshape(-1, 3)
    for given, each in zip(both, recentered(both, GRID), strict=True):
        assert np.abs(each.apply(inner) - given.apply(inner)).max() < 0.01


@pytest.mark.whole  # two registrations: the first neighbor is searched, the next begins with its map
def test_a_breath_is_followed(breath, tmp_path):
    grid = VolumeGrid.of(breath.frames[0])
    points = breath.landmarks
    result = register_series(series_of(breath.frames, [0.0, 1.5, 3.0]), FAST)
    assert [frame.start for frame in result.frames] == ["reference", "searched", "neighbor"]
    for frame, truth in zip(result.frames, breath.maps, strict=True):
        errors = np.linalg.norm(frame.transform.apply(points) - truth(points), axis=1)
        before = np.linalg.norm(points - truth(points), axis=1)
        assert errors.mean() <= max(0.5 * before.mean(), 1e-9)
        assert np.abs(frame.inverse.apply(frame.transform.apply(points)) - points).max() < 0.5
    labels = breath.labels[0]
    write_series(result, str(tmp_path / "out"), carried=Carried(labels, points, ["p"] * len(points)))
    with open(tmp_path / "out" / "segments.csv", encoding="utf-8") as file:
        rows = {(int(row["label"]), int(row["frame"])): float(row["volume_ml"]) for row in csv.DictReader(file)}
    own = sitk.GetArrayFromImage(breath.labels[1]) == 4  # the liver, whole in all frames: painted anew there
    assert rows[4, 1] == pytest.approx(own.sum() * 0.512, rel=0.06)
    moved = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "labels" / "001.nii.gz"))) == 4
    assert 2 * (moved & own).sum() / (moved.sum() + own.sum()) > 0.85
    warped = read_series([tmp_path / "out" / "warped.seq.nrrd"])
    assert warped.times == (0.0, 1.5, 3.0)
    assert np.array_equal(warped.frames[0].array, sitk.GetArrayFromImage(breath.frames[0]).astype(np.float32))
    assert warped.frames[2].grid.same_as(grid)


def test_what_is_no_series_is_refused(breath, tmp_path):
    one = tmp_path / "one.nii.gz"
    sitk.WriteImage(breath.frames[0], str(one))
    other = sitk.Image(breath.frames[1])
    other.SetSpacing((7.0, 8.0, 8.0))
    (tmp_path / "broken.nii.gz").write_text("no image")
    rigid, smooth = RegistrationSettings(transform="rigid"), SeriesSettings(temporal_smoothness=0.1)
    for call, words in (
        (lambda: read_series([one]), "several frames, got one volume"),
        (lambda: series_of(breath.frames[:1]), "at least two frames, got 1"),
        (lambda: series_of([breath.frames[0], other]), "frame 1"),
        (lambda: read_series([one, tmp_path / "broken.nii.gz"]), "frame 1"),
        (lambda: register_series(series_of(breath.frames), FAST, SeriesSettings(reference=7)), "from 0 to 2"),
        (lambda: register_series(series_of(breath.frames), rigid, smooth), "got rigid"),
        (lambda: SeriesSettings(chain="frames", reference="mean"), "reference mean"),
    ):
        with pytest.raises(CarlError, match=words) as caught:
            call()
        assert caught.value.exit_code == 2
