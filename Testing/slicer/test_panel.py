"""The panel in the test host: what a user sees and presses, and what the engine then receives."""

import dataclasses
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from carlreg import phantom

from .conftest import MODULE_FILE
from .volumes import addLinear, addVolume

SPACING = 6.0


@pytest.fixture
def panel(host, scene, moduleWidget, tmp_path, monkeypatch):
    """The panel with an empty scene; job folders in tmp_path/temporary; no error in any slot."""
    import qt
    import slicer

    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(slicer.app, "temporaryPath", str(tmp_path / "temporary"))
    qt.QSettings().remove("CARLRegistration")
    host.errors.clear()
    host.messages.clear()
    moduleWidget.panel.forgetResult()
    moduleWidget.panel.setParameterNode(None)
    moduleWidget.enter()
    yield moduleWidget.panel
    moduleWidget.logic.abort()
    assert host.errors == []


@pytest.fixture
def pair(panel):
    from CARLRegistrationLib.register.sample_data import loadSamplePair

    fixed, moving = loadSamplePair(SPACING)
    panel.ui.fixedVolumeSelector.setCurrentNode(fixed)
    panel.ui.movingVolumeSelector.setCurrentNode(moving)
    return fixed, moving


def blank(name, className="vtkMRMLScalarVolumeNode"):
    return addVolume(np.zeros((9, 9, 9), np.int16), np.eye(4), name, className)


def waitForStage(host, panel, text, timeout=60):
    host.process_events(until=lambda: text in panel.ui.progressLabel.text or not panel.logic.isRunning, timeout=timeout)
    assert panel.logic.isRunning, panel.ui.warningLabel.text


def waitForEnd(host, panel, timeout=120):
    host.process_events(until=lambda: not panel.logic.isRunning, timeout=timeout)


# --- opening


def test_opening_needs_nothing():
    """In a fresh process: no volumes, no main window, no network, no engine packages."""
    code = f"""
        import sys, socket
        def refuse(*a, **k):
            raise OSError("no network here")
        socket.socket.connect = refuse
        import host
        running = host.start()
        import slicer
        assert slicer.util.mainWindow() is None
        widget = running.load_module({str(MODULE_FILE)!r})
        running.process_events(0.1)
        assert not running.errors, running.errors
        print("torch" in sys.modules, widget.ui.applyButton.enabled, widget.ui.whyLabel.text)
    """
    import textwrap

    environment = os.environ | {"PYTHONPATH": str(MODULE_FILE.parents[1] / "Testing")}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    torch, enabled, *why = done.stdout.strip().splitlines()[-1].split(" ")
    assert torch == "False" and enabled == "False"
    assert " ".join(why) == "Choose a fixed volume."


def test_metadata(host, moduleWidget):
    """What Slicer's generic test of a scripted module asks for."""
    import slicer

    module = slicer.modules.carlregistration
    assert module.title == "CARL Registration" and module.categories == ["Registration"]
    assert module.contributors and len(module.helpText) > 100 and "CVPR 2025" in module.acknowledgementText
    assert not module.icon.isNull()


def test_two_volumes_in_the_scene_are_taken(host, scene, moduleWidget, panel):
    moduleWidget.panel.setParameterNode(None)
    host.close_scene()
    blank("labels", "vtkMRMLLabelMapVolumeNode")
    one, two = blank("one"), blank("two")
    moduleWidget.panel.setParameterNode(None)
    moduleWidget.initializeParameterNode()
    assert panel.parameters.fixedVolume is one and panel.parameters.movingVolume is two
    assert panel.ui.fixedVolumeSelector.currentNode() is one


# --- every control reaches the engine


def settingsNow(panel):
    from CARLRegistrationLib.register.parameters import jobFrom

    return jobFrom(panel.parameters).settings


def choose(box, label):
    index = box.findText(label)
    assert index >= 0, [box.itemText(i) for i in range(box.count)]
    box.currentIndex = index


def isShown(widget):
    """True unless it was hidden itself."""
    return widget.isVisibleTo(widget.parentWidget())


CONTROLS = {
    "robustness": lambda ui: choose(ui.robustnessComboBox, "Rotation"),
    "io_steps": lambda ui: setattr(ui.ioStepsSlider, "value", 40),
    "io_method": lambda ui: choose(ui.ioMethodComboBox, "Network weights (as published, slow)"),
    "similarity": lambda ui: choose(ui.similarityComboBox, "MIND (different contrasts)"),
    "fixed_modality": lambda ui: choose(ui.fixedModalityComboBox, "CT"),
    "moving_modality": lambda ui: choose(ui.movingModalityComboBox, "MR"),
    "model": lambda ui: choose(ui.modelComboBox, "uniGradICON (your weights file)"),
    "weights": lambda ui: setattr(ui.weightsFileLineEdit, "text", "/some/weights file.trch"),
    "grid": lambda ui: setattr(ui.gridSpinBox, "value", 96),
    "field_spacing_mm": lambda ui: setattr(ui.fieldSpacingSpinBox, "value", 3.5),
    "smoothness": lambda ui: setattr(ui.smoothnessSpinBox, "value", 2.5),
    "device": lambda ui: choose(ui.deviceComboBox, "CPU"),
}
NOT_IN_THE_PANEL = {"allow_untrained", "seed", "threads"}


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_changes_one_setting(panel, name):
    before = settingsNow(panel)
    CONTROLS[name](panel.ui)
    after = settingsNow(panel)
    changed = [f.name for f in dataclasses.fields(after) if getattr(before, f.name) != getattr(after, f.name)]
    assert changed == [name]


def test_every_setting_has_a_control():
    from carlreg.settings import RegistrationSettings

    names = {field.name for field in dataclasses.fields(RegistrationSettings)}
    assert set(CONTROLS) | NOT_IN_THE_PANEL == names


def test_choices_are_the_engines(moduleWidget):
    from carlreg import settings
    from carlreg.models.registry import MODELS
    from CARLRegistrationLib.register import parameters

    for choice, allowed in (
        (parameters.Robustness, settings.ROBUSTNESS),
        (parameters.OptimizationMethod, settings.IO_METHODS),
        (parameters.Similarity, settings.SIMILARITIES),
        (parameters.Modality, settings.MODALITIES),
        (parameters.Model, MODELS),
    ):
        assert {member.value for member in choice} == set(allowed)
    said = {model.value for model in parameters.Model if model.label().endswith("(shipped)")}
    assert said == {name for name, model in MODELS.items() if model.shipped} and said
    assert parameters.Model("unigradicon").label() == "uniGradICON (your weights file)"
    assert parameters.Model("carl-paper-abdomen").label() == "CARL as published, abdomen (your weights file)"


def test_nodes_and_check_boxes_reach_the_job(panel, pair):
    import slicer
    from CARLRegistrationLib.register.parameters import jobFrom

    ui = panel.ui
    warped, transform = blank("warped"), slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "t")
    labels = blank("labels", "vtkMRMLLabelMapVolumeNode")
    initial = addLinear(np.eye(4), "initial")
    ui.outputWarpedSelector.setCurrentNode(warped)
    ui.outputTransformSelector.setCurrentNode(transform)
    ui.movingMaskSelector.setCurrentNode(labels)
    ui.initialTransformSelector.setCurrentNode(initial)
    ui.createInverseCheckBox.click()
    ui.placeMovingCheckBox.click()
    ui.keepJobFolderCheckBox.click()
    ui.enginePythonLineEdit.text = "/opt/python"
    job = jobFrom(panel.parameters)
    assert (job.fixedVolume, job.movingVolume) == pair
    assert job.outputWarped is warped and job.outputTransform is transform and job.outputInverse is None
    assert job.movingMask is labels and job.fixedMask is None and job.initialTransform is initial
    assert job.createTransform and not job.createInverse and job.placeMoving and job.keepJobFolder
    assert job.enginePython == "/opt/python"


def test_segments_are_offered(panel, pair):
    import slicer
    from CARLRegistrationLib.register.parameters import jobFrom

    ui = panel.ui
    ui.advancedCollapsibleButton.collapsed = False
    assert not isShown(ui.fixedMaskSegmentComboBox)
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "organs")
    for name in ("liver", "spleen"):
        segmentation.GetSegmentation().AddEmptySegment(f"id {name}", name)
    ui.fixedMaskSelector.setCurrentNode(segmentation)
    box = ui.fixedMaskSegmentComboBox
    assert [box.itemText(i) for i in range(box.count)] == ["All segments", "liver", "spleen"]
    assert isShown(box)
    choose(box, "spleen")
    assert jobFrom(panel.parameters).fixedMaskSegment == "id spleen"
    ui.swapButton.click()
    job = jobFrom(panel.parameters)
    assert job.movingMask is segmentation and job.movingMaskSegment == "id spleen" and job.fixedMask is None
    assert (job.movingVolume, job.fixedVolume) == pair
    ui.movingMaskSelector.setCurrentNode(None)
    assert jobFrom(panel.parameters).movingMaskSegment == ""


def test_presets_say_what_they_set(panel):
    from CARLRegistrationLib.register.parameters import PRESETS, Preset

    ui = panel.ui
    assert ui.presetComboBox.count == len(Preset) == len(PRESETS)
    choose(ui.presetComboBox, "CT to MR (or MR to CT)")
    assert settingsNow(panel).similarity == "mind" and "MIND" in ui.presetInfoLabel.text
    choose(ui.presetComboBox, "Lung CT")
    now = settingsNow(panel)
    assert (now.similarity, now.fixed_modality, now.moving_modality, now.io_steps) == ("lncc2", "ct", "ct", 150)
    assert "changed" not in ui.presetInfoLabel.text
    ui.ioStepsSlider.value = 60
    assert settingsNow(panel).io_steps == 60 and "changed" in ui.presetInfoLabel.text


# --- why Apply is disabled


def test_apply_says_why_it_is_disabled(panel):
    import slicer

    ui = panel.ui

    def why():
        assert ui.applyButton.enabled == (not ui.whyLabel.text)
        return ui.whyLabel.text

    assert why() == "Choose a fixed volume."
    volume = blank("one")
    ui.fixedVolumeSelector.setCurrentNode(volume)
    ui.movingVolumeSelector.setCurrentNode(volume)
    assert "the same volume" in why()
    other = blank("two")
    ui.movingVolumeSelector.setCurrentNode(other)
    assert why() == ""
    for box in (
        ui.createTransformCheckBox,
        ui.createInverseCheckBox,
        ui.createWarpedCheckBox,
        ui.createJacobianCheckBox,
        ui.createUncertaintyCheckBox,
    ):
        box.click()
    assert "No output" in why()
    ui.createWarpedCheckBox.click()
    ui.outputWarpedSelector.setCurrentNode(other)
    assert "both an input and an output" in why()
    ui.outputWarpedSelector.setCurrentNode(None)
    choose(ui.modelComboBox, "uniGradICON (your weights file)")
    assert "Choose your weights file" in why()
    ui.weightsFileLineEdit.text = "/nowhere/w.trch"
    assert "is not there" in why()
    choose(ui.modelComboBox, "carl-compact (shipped)")
    ui.weightsFileLineEdit.text = ""
    assert why() == ""
    slicer.mrmlScene.RemoveNode(other)
    assert why() == "Choose a moving volume." or "same volume" in why()


# --- a run


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
    assert ui.applyButton.text == "Cancel" and not ui.inputsCollapsibleButton.enabled
    assert isShown(ui.progressWidget)
    waitForStage(host, panel, ": step")
    assert 0 < ui.progressBar.value < 1000
    assert "Refining the map: step" in ui.progressLabel.text and "elapsed" in ui.progressLabel.text
    assert "left" in ui.progressLabel.text and "predict" in ui.logText.plainText
    host.grab(panel.ui.applyButton.window(), tmp_path / "running.png")
    waitForEnd(host, panel)
    assert ui.applyButton.text == "Apply" and ui.applyButton.enabled and ui.inputsCollapsibleButton.enabled
    assert ui.resultLabel.text.startswith("Done in ") and "no folds" in ui.resultLabel.text
    assert ui.warningLabel.text == ""
    parameters = panel.parameters
    outputs = [parameters.outputTransform, parameters.outputInverse, parameters.outputWarped, parameters.outputJacobian]
    assert all(outputs) and ui.outputWarpedSelector.currentNode() is outputs[2]
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
    assert "on this computer." in ui.timeInfoLabel.text
    ui.copyLogButton.click()
    assert "optimize" in slicer.app.clipboard().text()
    # back
    ui.restoreViewsButton.click()
    now = views.remember()
    assert now.layers == before.layers
    assert all(np.allclose(now.slices[k][0], before.slices[k][0]) for k in before.slices)
    ui.undoButton.click()
    assert not set(outputs) & set(slicer.util.getNodesByClass("vtkMRMLTransformableNode"))
    assert parameters.outputWarped is None and not ui.undoButton.enabled
    assert "taken back" in ui.resultLabel.text
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
    waitForEnd(host, panel, 10)
    assert panel.ui.warningLabel.text == "Cancelled; nothing was changed." and panel.ui.applyButton.text == "Apply"
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
    assert "all voxels have the value 7" in panel.ui.warningLabel.text and panel.ui.applyButton.enabled


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
    assert not panel.logic.isRunning and panel.ui.applyButton.text == "Apply"
    assert panel.ui.whyLabel.text == "Choose a fixed volume."


# --- packages


def test_declining_the_installation_changes_nothing(host, panel, pair, monkeypatch):
    import slicer
    from CARLRegistrationLib.engine import dependencies

    monkeypatch.setattr(dependencies, "missing", lambda: ["torch", "safetensors"])
    monkeypatch.setattr(dependencies, "_pytorchLogic", lambda: object())
    asked = []
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text, **_: asked.append(text) and False)
    count = slicer.mrmlScene.GetNumberOfNodes()
    panel.ui.applyButton.click()
    assert len(asked) == 1 and "torch" in asked[0] and "GB" in asked[0] and "safetensors" in asked[0]
    assert not panel.logic.isRunning and slicer.mrmlScene.GetNumberOfNodes() == count
    assert "Nothing was installed" in panel.ui.warningLabel.text and panel.ui.applyButton.enabled


def test_without_the_pytorch_extension(host, panel, pair, monkeypatch):
    from CARLRegistrationLib.engine import dependencies

    monkeypatch.setattr(dependencies, "missing", lambda: ["torch"])
    panel.ui.applyButton.click()
    assert "PyTorch extension is missing" in panel.ui.warningLabel.text


def test_what_is_missing_is_installed_the_right_way(panel, monkeypatch):
    """torch by the extension, the rest by Slicer's pip; Slicer's own packages never."""
    import slicer
    from CARLRegistrationLib.engine import dependencies

    installed, calls = set(), []

    class Logic:
        def installTorch(self, askConfirmation):
            assert askConfirmation is False
            installed.add("torch")
            import torch  # as the extension's does

            pytest.fail(f"{torch} was imported")

    monkeypatch.setattr(dependencies, "_installed", lambda name: name in installed)
    monkeypatch.setattr(dependencies, "_pytorchLogic", Logic)
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text, **_: True)

    def pip(lines):
        calls.append(lines)
        installed.update(dependencies._name(line) for line in lines)

    monkeypatch.setattr(dependencies, "_pipInstall", pip)
    kept = sys.modules.pop("torch", None)  # the other tests' own
    try:
        dependencies.ensure()
        assert "torch" not in sys.modules
    finally:
        if kept is not None:
            sys.modules["torch"] = kept
    assert calls == [["safetensors>=0.4"]] and installed == {"torch", "safetensors"}
    dependencies.ensure()
    assert len(calls) == 1


# --- scene and reload


def test_settings_come_back_with_the_scene(host, panel, pair, moduleWidget, tmp_path):
    import slicer

    ui = panel.ui
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "organs")
    segmentation.GetSegmentation().AddEmptySegment("id liver", "liver")
    ui.fixedMaskSelector.setCurrentNode(segmentation)
    choose(ui.fixedMaskSegmentComboBox, "liver")
    choose(ui.presetComboBox, "Brain MR")
    for name in CONTROLS:
        CONTROLS[name](ui)
    saved = settingsNow(panel)
    names = [node.GetName() for node in pair]
    path = host.save_scene(tmp_path / "scene.mrb")
    host.close_scene()
    moduleWidget.enter()
    assert settingsNow(panel) != saved and panel.parameters.fixedVolume is None
    host.load_scene(path)
    moduleWidget.enter()
    assert settingsNow(panel) == saved
    assert [panel.parameters.fixedVolume.GetName(), panel.parameters.movingVolume.GetName()] == names
    assert ui.weightsFileLineEdit.text == "/some/weights file.trch" and ui.gridSpinBox.value == 96
    assert ui.fixedMaskSelector.currentNode().GetName() == "organs"
    assert ui.fixedMaskSegmentComboBox.currentText == "liver"
    assert ui.presetComboBox.currentText == "Brain MR"


def test_another_computers_device_is_shown_as_it_is(panel):
    panel.parameters.device = "cuda:3"
    assert panel.ui.deviceComboBox.currentText == "cuda:3" and settingsNow(panel).device == "cuda:3"


def test_checking_the_engines_python(host, panel, pair, tmp_path):
    ui = panel.ui
    ui.advancedCollapsibleButton.collapsed = True
    panel.machine.checked = {}
    ui.advancedCollapsibleButton.collapsed = False  # asks by itself, the first time
    host.process_events(until=lambda: "GB free" in ui.deviceInfoLabel.text, timeout=60)
    assert "CPU" in ui.deviceInfoLabel.text and "GB needed" in ui.deviceInfoLabel.text
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexit 1\n")
    script.chmod(0o755)
    for path, message in ((str(script), "no Python that can run"), ("/nowhere/python", "could not be started")):
        ui.enginePythonLineEdit.text = path
        ui.checkPythonButton.click()
        host.process_events(until=lambda m=message: m in ui.deviceInfoLabel.text.replace("This is", ""), timeout=60)


def test_what_is_missing_in_a_python_is_said():
    from CARLRegistrationLib.engine.dependencies import checkProblem

    found = {"python": "3.12.1", "missing": {"torch": "ModuleNotFoundError"}}
    assert checkProblem(found, False) == "Not there yet: torch; Apply offers to install them"
    assert "that Python's pip" in checkProblem(found, True)
    assert "3.9.2 is too old" in checkProblem({"python": "3.9.2", "missing": {}}, True)
    assert checkProblem({"python": "3.10.0", "missing": {}}, True) == ""


def test_sample_data_without_a_network(host, panel):
    import slicer

    host.sample_data.press_button("CARLRegistration", "CARLRegistrationPair")
    names = [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")]
    assert names == ["CARLSampleFixed", "CARLSampleMoving"]


@pytest.mark.slow
@pytest.mark.cold_start
def test_reload_in_mid_run_ends_it_and_the_panel_works_again(host, panel, pair):
    """In a process of its own: reloading replaces the module that the other tests use."""
    code = f"""
        import sys, time
        import host
        running = host.start()
        widget = running.load_module({str(MODULE_FILE)!r})
        from CARLRegistrationLib.register.sample_data import loadSamplePair
        fixed, moving = loadSamplePair({SPACING})
        widget.panel.parameters.fixedVolume, widget.panel.parameters.movingVolume = fixed, moving
        widget.panel.parameters.ioSteps = 500
        widget.ui.applyButton.click()
        running.process_events(until=lambda: ": step" in widget.ui.progressLabel.text, timeout=60)
        process = widget.logic._registration.task.process._process
        old = sys.modules["CARLRegistrationLib.register.panel"].Panel
        widget.onReload()
        assert process.poll() is not None
        import slicer
        new = slicer.modules.CARLRegistrationWidget
        assert new is not widget and sys.modules["CARLRegistrationLib.register.panel"].Panel is not old
        assert new.panel.parameters.fixedVolume is fixed and new.panel.parameters.ioSteps == 500
        new.panel.parameters.ioSteps = 0
        new.ui.applyButton.click()
        running.process_events(until=lambda: not new.logic.isRunning, timeout=120)
        assert "Done in" in new.ui.resultLabel.text, new.ui.warningLabel.text
        new.ui.applyButton.click()
        running.process_events(0.3)
        process = new.logic._registration.task.process._process
        running.quit()
        assert process.poll() is not None
        assert not running.errors, running.errors
        print("fine")
    """
    import textwrap

    environment = os.environ | {"PYTHONPATH": str(MODULE_FILE.parents[1] / "Testing")}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "fine" in done.stdout, done.stderr[-3000:]


@pytest.mark.whole
def test_self_test(host, panel):
    """Slicer's own way to run it; it checks numbers on the generated pair."""
    import slicer

    slicer.selfTests["CARLRegistration"](msec=1)


def test_every_bound_control_has_its_parameter(moduleWidget):
    from CARLRegistrationLib.register.parameters import CARLRegistrationParameterNode

    folder = Path(MODULE_FILE).parent / "Resources" / "UI"
    bound = {
        p.findtext("string")
        for ui in sorted(folder.glob("*.ui"))
        for p in ElementTree.parse(ui).getroot().iter("property")
        if p.get("name") == "SlicerParameterName"
    }
    byHand = {
        "fixedMask",
        "fixedMaskSegment",
        "movingMask",
        "movingMaskSegment",
        "weightsFile",
        "device",
        "enginePython",
    }
    assert bound | byHand == set(CARLRegistrationParameterNode.allParameters) and not bound & byHand
