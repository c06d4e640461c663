"""The panel in the test host: what a user sees and presses, and what the engine then receives."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest

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


def waitForStage(host, panel, text):
    host.process_events(until=lambda: text in panel.ui.progressLabel.text or not panel.logic.isRunning)
    assert panel.logic.isRunning, panel.ui.warningLabel.text


def waitForEnd(host, panel):
    host.process_events(until=lambda: not panel.logic.isRunning)


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
    "transform": lambda ui: choose(ui.transformKindComboBox, "Rigid (turn and shift)"),
    "robustness": lambda ui: choose(ui.robustnessComboBox, "Any rotation (slower)"),
    "effort": lambda ui: choose(ui.effortComboBox, "Fast"),
    "io_steps": lambda ui: setattr(ui.ioStepsSlider, "value", 40),
    "io_method": lambda ui: choose(ui.ioMethodComboBox, "Network weights (as published, slow)"),
    "similarity": lambda ui: choose(ui.similarityComboBox, "MIND (different contrasts)"),
    "fixed_modality": lambda ui: choose(ui.fixedModalityComboBox, "CT"),
    "moving_modality": lambda ui: choose(ui.movingModalityComboBox, "MR"),
    "model": lambda ui: choose(ui.modelComboBox, "uniGradICON (your weights file)"),
    "weights": lambda ui: setattr(ui.weightsFileLineEdit, "text", "/some/weights file.trch"),
    "grid": lambda ui: setattr(ui.gridSpinBox, "value", 96),
    "field_spacing_mm": lambda ui: setattr(ui.fieldSpacingSpinBox, "value", 3.5),
    "landmarks_accuracy_mm": lambda ui: setattr(ui.landmarksAccuracySpinBox, "value", 2.0),
    "smoothness": lambda ui: setattr(ui.smoothnessSpinBox, "value", 2.5),
    "symmetric": lambda ui: setattr(ui.symmetricCheckBox, "checked", True),
    "device": lambda ui: choose(ui.deviceComboBox, "CPU"),
}
NOT_IN_THE_PANEL = {"allow_untrained", "stretch_bounds", "seed", "threads"}


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
        (parameters.TransformKind, settings.TRANSFORMS),
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


def test_each_model_says_what_it_is_good_for_and_what_it_needs(panel, pair):
    import qt
    from carlreg.models.catalog import MODELS
    from carlreg.resources import by_model
    from CARLRegistrationLib.register.estimate import duration, secondsHere, voxelsOf

    ui = panel.ui
    fixed, moving = pair
    needs = by_model(voxelsOf(fixed), voxelsOf(moving))
    for label, name in (("carl-compact (shipped)", "carl-compact"), ("uniGradICON (your weights file)", "unigradicon")):
        choose(ui.modelComboBox, label)
        text = ui.modelInfoLabel.text
        assert text.startswith(MODELS[name].good_for) and f"License: {MODELS[name].license}." in text
        assert f"{needs[name].memory_mb / 1024:.1f} GB" in text and text in ui.modelComboBox.toolTip
        assert text == ui.modelComboBox.itemData(ui.modelComboBox.currentIndex, qt.Qt.ToolTipRole)
        # Nothing like it was timed: the panel's own line has a range around the estimate.
        seconds = secondsHere(voxelsOf(fixed), voxelsOf(moving), settingsNow(panel))
        assert f"about {duration(seconds)}" in text
        assert f"Between {duration(0.7 * seconds)} and {duration(2.5 * seconds)} on" in ui.timeInfoLabel.text
    assert ui.weightsFileLineEdit.placeholderText == "Choose a file"
    assert "Weights: Download https://github.com/uncbiag" in text and duration(1e4) == "167 min"
    ui.movingVolumeSelector.setCurrentNode(None)
    assert "For this pair" not in ui.modelInfoLabel.text and "For this pair" not in ui.modelComboBox.toolTip


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
    ui.showProgressCheckBox.click()
    ui.enginePythonLineEdit.text = "/opt/python"
    job = jobFrom(panel.parameters)
    assert (job.fixedVolume, job.movingVolume) == pair
    assert job.outputWarped is warped and job.outputTransform is transform and job.outputInverse is None
    assert job.movingMask is labels and job.fixedMask is None and job.initialTransform is initial
    assert job.createTransform and not job.createInverse and job.placeMoving and job.keepJobFolder
    assert not job.showProgress  # it is on where nobody asked
    assert job.enginePython == "/opt/python"


def test_segments_are_offered(panel, pair):
    import slicer
    from CARLRegistrationLib.register.parameters import jobFrom

    ui = panel.ui
    ui.masksCollapsibleButton.collapsed = False
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


def test_the_choices_can_be_run_without_the_panel(panel, pair):
    """The command is read by the command line's own parser, the lines by Python."""
    import shlex

    import slicer
    from carlreg.cli.main import build_parser
    from carlreg.cli.options import settings_from

    for name in CONTROLS:
        if name not in ("transform", "io_method"):
            CONTROLS[name](panel.ui)
    mask = blank("mask", "vtkMRMLLabelMapVolumeNode")
    panel.ui.fixedMaskSelector.setCurrentNode(mask)
    panel.ui.copyCommandLineButton.click()
    words = shlex.split(slicer.app.clipboard().text())
    assert words[:6] == ["carlreg", "register", "FIXED", "MOVING", "--out", "RESULT"]
    assert settings_from(build_parser().parse_args(words[1:])) == settingsNow(panel)
    panel.ui.copyPythonButton.click()
    lines = slicer.app.clipboard().text().replace("slicer.modules.CARLRegistrationWidget.logic", "Told()")
    told = {}

    class Told:
        def register(self, *nodes, **options):
            told.update(options, nodes=nodes)

    exec(lines, {"slicer": slicer, "Told": Told})
    assert told["nodes"] == pair and told["fixedMask"] is mask and told["settings"] == settingsNow(panel)


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
    ui.enginePythonLineEdit.text = "/nowhere/python"
    assert why().startswith("Engine Python: /nowhere/python is not there.")
    ui.enginePythonLineEdit.text = ""
    ui.fixedMaskSelector.setCurrentNode(blank("nothing", "vtkMRMLLabelMapVolumeNode"))
    assert why() == "nothing: the fixed mask is empty. Choose another, or none."
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "organs")
    segmentation.GetSegmentation().AddEmptySegment("id", "liver")
    ui.fixedMaskSelector.setCurrentNode(segmentation)
    assert why() == "organs: the fixed mask is empty. Choose another, or none."
    # One of two segments that share their voxels.
    both = addVolume(np.ones((9, 9, 9), np.int16), np.eye(4), "both", "vtkMRMLLabelMapVolumeNode")
    slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(both, segmentation)
    full = segmentation.GetSegmentation().GetNthSegment(1)
    lost = slicer.vtkSegment()
    lost.SetName("lost")
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    lost.AddRepresentation(name, full.GetRepresentation(name))
    lost.SetLabelValue(full.GetLabelValue() + 1)
    segmentation.GetSegmentation().AddSegment(lost, "lost")
    ui.fixedMaskSelector.setCurrentNode(None)
    ui.fixedMaskSelector.setCurrentNode(segmentation)
    assert why() == ""
    choose(ui.fixedMaskSegmentComboBox, "lost")
    assert why() == "organs: the fixed mask is empty. Choose another, or none."
    ui.fixedMaskSelector.setCurrentNode(None)
    panel.machine.checked = {"devices": [{"name": "cpu"}]}  # as of a computer without a card
    panel.machine._checkedPython = ""
    choose(ui.deviceComboBox, "CUDA")
    assert why().startswith("Device: the engine's Python finds no CUDA card here.")
    choose(ui.deviceComboBox, "CPU")
    assert why() == ""
    panel.machine.checked = {}
    slicer.mrmlScene.RemoveNode(other)
    assert why() == "Choose a moving volume." or "same volume" in why()
