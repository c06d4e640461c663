"""Next doubtful place: local maxima in the body, worst first, against SciPy's filters and planted places."""

# ruff: noqa: F811 (fixtures that are imported)
from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage

from .test_inspect_jacobian import addField
from .test_inspect_panel import section  # noqa: F401
from .test_inspect_views import SIZE, placed
from .test_panel import panel  # noqa: F401
from .volumes import OBLIQUE, addVolume, matrix

APART = 20.0


def expected(values, inside, toMm, most=10):
    """Voxels that equal the maximum around them (SciPy), largest first, none within 20 mm of a larger one."""
    masked = np.where(inside, values, -np.inf)
    highest = scipy.ndimage.maximum_filter(masked, size=3, mode="constant", cval=-np.inf)
    found = sorted(map(tuple, np.argwhere(inside & (masked == highest))), key=lambda at: -values[at])
    kept = []
    for at in found:
        point = toMm[:3, :3] @ np.array(at[::-1]) + toMm[:3, 3]
        if all(np.linalg.norm(point - other) >= APART for _at, other in kept):
            kept.append((at, point))
    return np.array([at for at, _point in kept[:most]])


@pytest.mark.parametrize("direction", [np.eye(3), OBLIQUE], ids=["axes", "oblique"])
def test_maxima_are_those_of_scipy(scene, moduleWidget, direction):
    from CARLRegistrationLib.inspect.doubtful import maxima

    rng = np.random.default_rng(3)
    values = scipy.ndimage.gaussian_filter(rng.random((30, 36, 40)), 2.0).astype(np.float32)
    inside = scipy.ndimage.gaussian_filter(rng.random(values.shape), 4.0) > 0.5
    toMm = matrix(direction, (2.0, 3.0, 4.0), (5.0, -7.0, 11.0))
    found = maxima(values, inside, toMm)
    assert len(found) == 10
    np.testing.assert_array_equal(found, expected(values, inside, toMm))


def bumps(*of):
    """Sums of Gaussians (center RAS mm, mm wide, height) on the grid of the section's volumes."""
    k, j, i = np.meshgrid(*[np.arange(SIZE)] * 3, indexing="ij")
    at = np.stack([i, j, k], axis=-1) @ placed()[:3, :3].T + placed()[:3, 3]
    values = np.full((SIZE,) * 3, 0.2, np.float32)
    for center, width, height in of:
        values += height * np.exp(-0.5 * ((at - center) ** 2).sum(-1) / width**2).astype(np.float32)
    return values


def center(name="Red"):
    import slicer
    from CARLRegistrationLib.mrml.geometry import arrayFrom

    return arrayFrom(slicer.mrmlScene.GetNodeByID(f"vtkMRMLSliceNode{name}").GetSliceToRAS())[:3, 3]


def test_the_worst_places_of_the_uncertainty_are_offered_in_turn(host, section):
    import slicer

    ui = section.ui
    body = np.zeros((SIZE,) * 3, np.int16)
    margin = SIZE // 8
    body[margin:-margin, margin:-margin, margin:-margin] = 500
    slicer.util.updateVolumeFromArray(section._case.fixed, body + (bumps() * 0).astype(np.int16))
    middle = placed()[:3, :3] @ np.full(3, (SIZE - 1) / 2) + placed()[:3, 3]
    reach = 0.3 * SIZE * np.linalg.norm(placed()[:3, 0])
    aside = np.array([0.8 * reach, 0.0, 0.0])
    worst, second = middle + aside, middle - aside
    outside = placed()[:3, :3] @ np.ones(3) + placed()[:3, 3]
    values = bumps((worst, 4.0, 4.0), (second, 4.0, 3.0), (outside, 4.0, 9.0))
    values[:2] = -1.0  # unknown
    node = addVolume(values, placed(), "uncertainty")
    assert ui.doubtfulComboBox.currentText == "Dissimilarity"
    ui.inspectUncertaintySelector.setCurrentNode(node)
    assert ui.doubtfulComboBox.currentText == "Uncertainty" and ui.doubtfulComboBox.count == 3
    edge = float(np.linalg.norm(placed()[:3, 0]))
    for number, (place, height) in enumerate(((worst, 4.2), (second, 3.2)), start=1):
        ui.doubtfulButton.click()
        first, said = ui.doubtfulLabel.text.split(": ")
        assert first.startswith(f"{number} of ") and float(said.split()[0]) == pytest.approx(height, abs=0.6)
        assert np.linalg.norm(center() - place) < edge and np.linalg.norm(center("Green") - place) < edge
    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    np.testing.assert_allclose(crosshair.GetCrosshairRAS(), center(), atol=1e-6)
    assert crosshair.GetCrosshairMode() != crosshair.NoCrosshair and section.views.mode.value == "uncertainty"
    count = int(ui.doubtfulLabel.text.split()[2].rstrip(":"))
    for _n in range(count - 1):
        ui.doubtfulButton.click()
    assert ui.doubtfulLabel.text.startswith("1 of ")  # after the last the first


def test_where_both_volumes_differ_is_found(host, section):
    """A ball that only the fixed volume has, in volumes that are equal but for a change of contrast."""
    import slicer
    from CARLRegistrationLib.inspect import doubtful

    rng = np.random.default_rng(1)
    texture = 100 * scipy.ndimage.gaussian_filter(rng.standard_normal((SIZE,) * 3), 2.0) / 0.06 + 600
    middle = placed()[:3, :3] @ np.full(3, (SIZE - 1) / 2) + placed()[:3, 3]
    place = middle + placed()[:3, :3] @ [SIZE / 6, -SIZE / 8, 0]
    slicer.util.updateVolumeFromArray(section._case.moving, (texture * 0.5 + 40).astype(np.int16))
    slicer.util.updateVolumeFromArray(section._case.fixed, (texture + bumps((place, 6.0, 900.0))).astype(np.int16))
    section.ui.inspectTransformSelector.setCurrentNode(addField(lambda points: 0 * points))
    section.ui.doubtfulButton.click()
    assert section.ui.doubtfulLabel.text.startswith("1 of ") and "dissimilarity" in section.ui.doubtfulLabel.text
    assert np.linalg.norm(center() - place) < 12.0
    found = doubtful.dissimilar(section._case)
    values = [float(one.text.split()[-1]) for one in found]
    assert values == sorted(values, reverse=True) and values[0] > 3 * values[-1]


def test_folds_are_offered_and_none_is_said(host, section):
    ui = section.ui
    ui.doubtfulComboBox.currentIndex = ui.doubtfulComboBox.findText("Folds")
    ui.doubtfulButton.click()
    assert ui.doubtfulLabel.text == "No folds."
    place = np.array([10.0, -6.0, 4.0])

    def displace(points):
        away = points - place
        moved = np.zeros_like(points)
        moved[:, 0] = -1.6 * away[:, 0] * np.exp(-0.5 * (away**2).sum(axis=1) / 36.0)
        return moved

    ui.inspectTransformSelector.setCurrentNode(addField(displace))
    ui.doubtfulButton.click()
    assert ui.doubtfulLabel.text.startswith("1 of 1: ") and np.linalg.norm(center() - place) < 2.5
