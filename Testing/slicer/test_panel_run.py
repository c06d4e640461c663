"""The panel in the test host: a run as a user sees it, stopping, and errors."""

# ruff: noqa: F811 (fixtures that are imported)
import numpy as np
import pytest
from carlreg import phantom

from .test_panel import (  # noqa: F401
    SPACING,
    blank,
    isShown,
    pair,
    panel,
    waitForEnd,
    waitForStage,
)
from .volumes import addVolume


@pytest.mark.whole
def test_a_run_as_a_user_sees_it(host, panel, pair, tmp_path):
    import slicer
    from CARLRegistrationLib.mrml import views

    ui = panel.ui
    for name in ("Red", "Green", "Yellow"):
        host.grab_view(name, tmp_path / "before.png")
    formerLayers = blank("what was shown before")
    views.showLayers(formerLayers, None)
    before = views.remember()
    ui.applyButton.click()
    assert ui.applyButton.text == "Cance&l" and not ui.inputsCollapsibleButton.enabled
    assert isShown(ui.progressWidget)
    waitForStage(host, panel, ": step")
    assert 0 < ui.progressBar.value < 1000
    assert "Refining the transform: step" in ui.progressLabel.text and "elapsed" in ui.progressLabel.text
    assert "left" in ui.progressLabel.text and "predict" in ui.logText.plainText
    host.grab(panel.ui.applyButton.window(), tmp_path / "running.png")
    waitForEnd(host, panel)
    assert ui.applyButton.text == "&Apply" and ui.applyButton.enabled and ui.inputsCollapsibleButton.enabled
    assert ui.resultLabel.text.startswith("Done in ") and "no folds" in ui.resultLabel.text
    assert ui.warningLabel.text == ""
    parameters = panel.parameters
    made = panel.results.result.nodes
    outputs = [made[kind] for kind in ("transform", "inverse_transform", "warped", "jacobian")]
    assert outputs[2].GetName() == "Warped: CARLSampleMoving to CARLSampleFixed"
    assert parameters.outputWarped is None  # the next run makes its own
    # fixed behind, warped in front at 50 %, centered on the common part
    box = views.commonBox(pair[0], outputs[2]).mean(axis=0)
    for sliceNode, composite in views.sliceViews():
        assert composite.GetBackgroundVolumeID() == pair[0].GetID()
        assert composite.GetForegroundVolumeID() == outputs[2].GetID()
        assert composite.GetForegroundOpacity() == 0.5
        center = np.array([sliceNode.GetSliceToRAS().GetElement(i, 3) for i in range(3)])
        assert np.linalg.norm(center - box) < 10
        assert max(sliceNode.GetFieldOfView()[:2]) < 700
    # the Jacobian, colored, with its legend, folds in their own color
    plain = host.grab_view("Green", tmp_path / "warped.png").read_bytes()
    ui.showJacobianCheckBox.click()
    assert all(c.GetForegroundVolumeID() == outputs[3].GetID() for _s, c in views.sliceViews())
    legend = slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(outputs[3])
    assert legend.GetVisibility() and legend.GetTitleText().startswith("Jacobian")
    shown = readPng(host.grab_view("Green", tmp_path / "jacobian.png"))
    assert (tmp_path / "jacobian.png").read_bytes() != plain
    assert colored(shown) > 0.02 and colored(readPng(tmp_path / "warped.png")) == 0
    ui.showJacobianCheckBox.click()
    assert not legend.GetVisibility()
    assert all(c.GetForegroundVolumeID() == outputs[2].GetID() for _s, c in views.sliceViews())
    # the time is learned
    assert ui.timeInfoLabel.text.startswith("About ") and "guess" not in ui.timeInfoLabel.text
    ui.copyLogButton.click()
    assert "optimize" in slicer.app.clipboard().text()
    # back
    ui.restoreViewsButton.click()
    now = views.remember()
    assert now.layers == before.layers
    assert all(np.allclose(now.slices[k][0], before.slices[k][0]) for k in before.slices)
    ui.undoButton.click()
    assert not set(outputs) & set(slicer.util.getNodesByClass("vtkMRMLTransformableNode"))
    assert not isShown(ui.resultWidget) and ui.resultLabel.text == "Registration undone."
    assert list((tmp_path / "temporary").iterdir()) == []


def colored(picture) -> float:
    """Share of the pixels that are not gray."""
    return float((picture.max(axis=2).astype(int) - picture.min(axis=2) > 20).mean())


def readPng(path):
    from PIL import Image

    return np.asarray(Image.open(path).convert("RGB"))


def test_folds_have_a_color_of_their_own(host, panel, tmp_path):
    """Rendered: a volume with a folded half. Magenta only there."""
    from CARLRegistrationLib.mrml import views

    host.grab_view("Red", tmp_path / "first.png")
    values = np.full((10, 40, 40), 1.0, np.float32)
    values[:, :, :20] = -0.5
    values[:, :10, :20] = 0.0
    values[:, :, 30:] = 0.02
    volume = addVolume(values, np.diag([1.0, 1.0, 1.0, 1.0]))
    views.styleJacobian(volume)
    views.showLayers(volume, None)
    views.fitTo(np.array([[0.0, 0, 0], [40, 40, 10]]))
    picture = readPng(host.grab_view("Red", tmp_path / "folds.png")).astype(int)
    magenta = (picture[..., 0] > 200) & (picture[..., 1] < 60) & (picture[..., 2] > 200)
    lit = picture.max(axis=2) > 20
    assert 0.4 < magenta.sum() / lit.sum() < 0.6


def test_cancel_from_the_panel(host, panel, pair, tmp_path, heldEngine):
    import slicer

    count = slicer.mrmlScene.GetNumberOfNodes()
    panel.ui.ioStepsSlider.value = 500
    panel.ui.applyButton.click()
    waitForStage(host, panel, ": step")
    panel.ui.applyButton.click()
    assert panel.ui.applyButton.text == "Cancelling ..." and not panel.ui.applyButton.enabled
    waitForEnd(host, panel)
    assert panel.ui.warningLabel.text == "Cancelled; nothing was changed." and panel.ui.applyButton.text == "&Apply"
    assert slicer.mrmlScene.GetNumberOfNodes() == count and list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.whole
def test_the_demo_button(host, panel, monkeypatch):
    """On a coarser pair than a user's: it is the one of the other tests."""
    paint = phantom.make_pair
    monkeypatch.setattr(phantom, "make_pair", lambda seed=0, spacing_mm=3.0: paint(seed, SPACING))
    panel.ui.demoButton.click()
    assert panel.logic.isRunning
    waitForEnd(host, panel)
    assert "no folds" in panel.ui.resultLabel.text
    assert panel.parameters.fixedVolume.GetName() == "CARLSampleFixed"


def test_an_error_of_the_engine_is_shown(host, panel, pair):
    import slicer

    slicer.util.updateVolumeFromArray(pair[1], np.full((20, 20, 20), 7, np.int16))
    panel.ui.applyButton.click()
    waitForEnd(host, panel)
    text = "CARLSampleMoving: all voxels have the value 7: there is nothing to register. Check the file."
    assert panel.ui.warningLabel.text == text and panel.ui.applyButton.enabled


def test_voxels_that_are_no_numbers_are_asked_about(host, panel, pair, replayedEngine, tmp_path):
    import SimpleITK as sitk
    import slicer

    values = slicer.util.arrayFromVolume(pair[1]).astype(np.float32)
    values[2, 3, 4], values[5, 6, 7] = np.nan, np.inf
    slicer.util.updateVolumeFromArray(pair[1], values)
    host.answers[:] = [False]
    panel.ui.applyButton.click()
    text = "CARLSampleMoving: 2 voxels are NaN or infinite. Nothing was done."
    assert panel.ui.warningLabel.text == text and not panel.logic.isRunning
    panel.ui.keepJobFolderCheckBox.click()
    host.answers[:] = [True]
    panel.ui.applyButton.click()
    waitForEnd(host, panel)
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(panel.results.result.job_folder / "moving.mha")))
    assert written[2, 3, 4] == written[5, 6, 7] == np.nanmin(values) and written[0, 0, 0] == values[0, 0, 0]
    assert "2 voxels that are NaN or infinite were taken as background" in panel.ui.warningLabel.text
    assert np.isnan(slicer.util.arrayFromVolume(pair[1])[2, 3, 4])  # the volume itself stays
    panel.ui.keepJobFolderCheckBox.click()


def test_a_crash_offers_the_log(host, panel, pair, tmp_path):
    script = tmp_path / "python"
    fit = """{"python": "3.12.0", "missing": {}, "devices": []}"""
    fall = "echo 'Traceback: the engine fell over' >&2; exit 1"
    script.write_text(f"#!/bin/sh\nif [ $3 = check ]; then echo '{fit}'; else {fall}; fi\n")
    script.chmod(0o755)
    panel.ui.enginePythonLineEdit.text = str(script)
    panel.ui.applyButton.click()
    waitForEnd(host, panel)
    assert "Please report this with the log" in panel.ui.warningLabel.text
    assert "the engine fell over" in panel.ui.logText.plainText and not panel.ui.logCollapsibleButton.collapsed


def test_nothing_follows_the_parameters_of_closed_scenes(host, panel):
    """The node stays when a scene is closed; what listened to it for the former scene must not."""
    import gc

    def listeners():
        gc.collect()
        kind = type(panel.parameters)
        return sum(type(found) is kind for found in gc.get_objects())

    host.close_scene()
    before = listeners()
    for _ in range(3):
        host.close_scene()
    assert panel.parameters is not None and listeners() == before


def test_closing_the_scene_ends_the_run(host, panel, pair, moduleWidget, heldEngine):
    panel.ui.ioStepsSlider.value = 500
    panel.ui.applyButton.click()
    waitForStage(host, panel, ": step")
    host.close_scene()
    assert not panel.logic.isRunning and panel.ui.applyButton.text == "&Apply"
    assert panel.ui.whyLabel.text == "Choose a fixed volume."
