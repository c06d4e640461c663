"""Continue from: a former map goes on as it is, with other settings; the engine looks for nothing."""

# ruff: noqa: F811 (fixtures that are imported)
from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from .test_panel import SPACING, pair, panel, waitForEnd  # noqa: F401
from .volumes import addLinear, composite

TURN = np.array([-1.0, -1.0, 1.0])  # LPS to RAS


def truthNode(folder, push=None):
    """The generated pair's true map as a transform node, as the engine delivers maps; and the pair.

    push: displacements (n x 3 mm, LPS) that are added at n x 3 fixed points.
    """
    import SimpleITK as sitk
    from carlreg.phantom import make_pair
    from carlreg.physical import PhysicalTransform
    from carlreg.spaces import VolumeGrid
    from CARLRegistrationLib.mrml.transforms import addTransform

    made = make_pair(seed=0, spacing_mm=SPACING)
    nodes = VolumeGrid.of(made.fixed).padded(20.0).with_spacing(2 * SPACING)
    truth = made.moving_from_fixed
    points = nodes.centers().reshape(-1, 3)
    field = truth.displacement(points) + (0.0 if push is None else push(points))
    field = field.reshape(*nodes.shape_dhw, 3)
    sitk.WriteTransform(PhysicalTransform(truth.pose, field, nodes).to_sitk(), str(folder / "truth.h5"))
    return addTransform(folder / "truth.h5", "truth"), made


def through(node, points_lps):
    from CARLRegistrationLib.mrml.transforms import lpsPointsThrough

    return lpsPointsThrough(node, points_lps)


def missed(node, made):
    fixedPoints, movingPoints = made.landmarks
    return float(np.linalg.norm(through(node, fixedPoints) - movingPoints, axis=1).mean())


def test_the_engine_gets_the_map_itself(panel, pair, tmp_path):
    """A composite of a large turn and a field: what files hold maps as the node does, by SimpleITK."""
    import SimpleITK as sitk
    from carlreg.cli.main import build_parser
    from CARLRegistrationLib.mrml.transforms import addTransform
    from CARLRegistrationLib.register.parameters import jobFrom
    from CARLRegistrationLib.register.run import writeInputs, writePair

    given, _field = composite(70.0)
    sitk.WriteTransform(given, str(tmp_path / "given.h5"))
    node = addTransform(tmp_path / "given.h5", "former")
    panel.ui.continueTransformSelector.setCurrentNode(node)
    panel.ui.ioStepsSlider.value, panel.ui.smoothnessSpinBox.value = 40, 2.0
    job = jobFrom(panel.parameters)
    assert job.continueTransform is node and job.initialTransform is None
    arguments, notes = writeInputs(job, tmp_path)
    args = build_parser().parse_args(["register", *arguments, "--out", "result"])
    assert (args.continue_from, args.initial_transform, notes) == ("continue.h5", None, [])
    assert "--continue" not in writePair(job, tmp_path)[0]  # of the preview
    written = sitk.ReadTransform(str(tmp_path / "continue.h5"))
    for point in np.random.default_rng(0).uniform(-40, 40, (50, 3)).tolist():
        np.testing.assert_allclose(written.TransformPoint(point), given.TransformPoint(point), atol=1e-4)
    settings = (tmp_path / "settings.json").read_text()
    assert '"io_steps": 40' in settings and '"smoothness": 2.0' in settings


def test_what_does_not_go_together_is_said(panel, pair):
    from carlreg.settings import RegistrationSettings
    from CARLRegistrationLib.register.job import problemOf
    from CARLRegistrationLib.register.parameters import jobFrom

    one, other = addLinear(np.eye(4), "one"), addLinear(np.eye(4), "other")
    panel.ui.continueTransformSelector.setCurrentNode(one)
    assert panel.ui.applyButton.enabled
    assert panel.ui.robustnessInfoLabel.text == "Continues from one: no start is looked for."
    panel.ui.initialTransformSelector.setCurrentNode(other)
    assert not panel.ui.applyButton.enabled and "or one to continue from" in panel.ui.whyLabel.text
    panel.ui.initialTransformSelector.setCurrentNode(None)
    job = jobFrom(panel.parameters)
    for settings, text in (
        (RegistrationSettings(transform="rigid"), "choose the transform Deformable"),
        (RegistrationSettings(io_method="network"), "choose the displacement field as method"),
    ):
        assert text in problemOf(dataclasses.replace(job, settings=settings))
    assert problemOf(dataclasses.replace(job, settings=RegistrationSettings(io_method="network", io_steps=0))) == ""
    pair[1].SetAndObserveTransformNodeID(one.GetID())
    assert "which would count twice" in problemOf(job)
    pair[1].SetAndObserveTransformNodeID(None)
    pair[0].SetAndObserveTransformNodeID(one.GetID())
    assert "fixed" in problemOf(job).lower() and problemOf(job) != ""
    pair[0].SetAndObserveTransformNodeID(None)
    panel.ui.startButton.click()
    assert panel.ui.startLabel.text == "No start is looked for: it continues from one. Inspect shows it."


@pytest.mark.whole
def test_without_steps_the_map_stays_and_with_some_it_goes_on_from_there(host, panel, pair, tmp_path):
    """Both scans lie 800 mm apart: without the map, so few steps would find nothing. Undo gives the former map back."""
    node, made = truthNode(tmp_path)
    fixedPoints = made.landmarks[0]
    before = through(node, fixedPoints)
    ui = panel.ui
    ui.continueTransformSelector.setCurrentNode(node)
    for box in (ui.createInverseCheckBox, ui.createWarpedCheckBox, ui.createJacobianCheckBox):
        box.checked = False
    ui.ioStepsSlider.value = 0
    ui.applyButton.click()
    waitForEnd(host, panel)
    kept = panel.results.result.nodes["transform"]
    assert kept is not None and kept is not node, ui.warningLabel.text
    np.testing.assert_allclose(through(kept, fixedPoints), before, atol=0.02)
    ui.ioStepsSlider.value = 5
    ui.continueTransformSelector.setCurrentNode(kept)
    ui.outputTransformSelector.setCurrentNode(kept)
    ui.applyButton.click()
    waitForEnd(host, panel)
    assert panel.results.result.nodes["transform"] is kept
    moved = np.linalg.norm(through(kept, fixedPoints) - before, axis=1)
    assert 1e-3 < moved.max() < 12 and missed(kept, made) < 3.0
    panel.results.onUndo()
    assert panel.results.result.nodes["transform"] is kept  # of the run before
    np.testing.assert_allclose(through(kept, fixedPoints), before, atol=0.02)
