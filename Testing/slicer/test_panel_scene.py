"""The panel in the test host: packages, scenes, reload and the self-test."""

# ruff: noqa: F811 (fixtures that are imported)
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from .conftest import MODULE_FILE
from .test_panel import (  # noqa: F401
    CONTROLS,
    SPACING,
    choose,
    pair,
    panel,
    settingsNow,
)

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
    assert calls == [["safetensors>=0.4", "pydicom>=2.3"]] and installed == {"torch", "safetensors", "pydicom"}
    dependencies.ensure()
    assert len(calls) == 1


def test_nothing_is_installed_in_testing_mode(host, panel, pair, monkeypatch):
    """Slicer answers every question with "Ok" there."""
    from CARLRegistrationLib.engine import dependencies

    monkeypatch.setattr(dependencies, "missing", lambda: ["torch", "safetensors"])
    for name in ("_pytorchLogic", "_pipInstall"):
        monkeypatch.setattr(dependencies, name, lambda *_: pytest.fail("it would be installed"))
    host.app.set_testing_enabled(True)
    try:
        panel.ui.applyButton.click()
    finally:
        host.app.set_testing_enabled(False)
    assert "torch, safetensors" in panel.ui.warningLabel.text and not panel.logic.isRunning


@pytest.mark.parametrize("button", ["onTest", "onReloadAndTest"])
def test_the_self_test_without_the_packages(host, panel, moduleWidget, monkeypatch, button):
    """It says so, and neither fails nor clears the scene."""
    import slicer
    from CARLRegistrationLib.engine import dependencies

    monkeypatch.setattr(dependencies, "missing", lambda: ["torch"])
    monkeypatch.setattr(moduleWidget, "onReload", lambda: None)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "mine")
    host.dialogs.clear()
    getattr(moduleWidget, button)()
    assert [message.level for message in host.messages] == ["info"]
    assert "Not tested: torch missing" in host.messages[0].text
    assert slicer.mrmlScene.IsNodePresent(node)
    host.dialogs.clear()


@pytest.mark.parametrize(
    "written",
    [
        r"OSError: [WinError 206] The filename or extension is too long: 'C:\Users\x\torch\lib'",
        r'OSError: [WinError 126] The specified module was not found. Error loading "C:\s	orch\libbgemm.dll".',
        "ImportError: DLL load failed while importing _C: The specified module could not be found. (torch)",
        "ImportError: libtorch_cpu.so: cannot open shared object file: No such file or directory",
        "OSError: /opt/lib/libtorch_global_deps.so: cannot open shared object file",
    ],
)
def test_pytorch_that_cannot_be_loaded_is_said(written, panel):
    from CARLRegistrationLib.engine.dependencies import checkProblem
    from CARLRegistrationLib.engine.words import loadProblem

    traceback = f'Traceback (most recent call last):\n  File "torch/__init__.py", line 9\n{written}\n'
    text = loadProblem(traceback)
    assert text.startswith("PyTorch is installed, but it cannot be loaded") and "engine Python" in text
    assert "PyTorch Utils" in text and written.split(": ", 1)[1][:20] in text
    found = {"python": "3.12.1", "missing": {"torch": written}}
    assert "cannot be loaded" in checkProblem(found, False) and "cannot be loaded" in checkProblem(found, True)
    for other in ("ModuleNotFoundError: No module named 'torch'", "OSError: [Errno 28] No space left on device", ""):
        assert loadProblem(other) == ""


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
    ui.ioStepsSlider.value = 0  # the network's optimization cannot be symmetric
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
    host.process_events(until=lambda: "GB free" in ui.deviceInfoLabel.text)
    assert "CPU" in ui.deviceInfoLabel.text and "GB needed" in ui.deviceInfoLabel.text
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexit 1\n")
    script.chmod(0o755)
    for path, message in ((str(script), "no Python that can run"), ("/nowhere/python", "could not be started")):
        ui.enginePythonLineEdit.text = path
        ui.checkPythonButton.click()
        host.process_events(until=lambda m=message: m in ui.deviceInfoLabel.text.replace("This is", ""))


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
        running.process_events(until=lambda: ": step" in widget.ui.progressLabel.text)
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
        running.process_events(until=lambda: not new.logic.isRunning)
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
        "fixedIgnore",
        "fixedIgnoreSegment",
        "movingIgnore",
        "movingIgnoreSegment",
        "rigidSegmentation",
        "rigidSegmentationSegment",
        "weightsFile",
        "device",
        "enginePython",
    }
    assert bound | byHand == set(CARLRegistrationParameterNode.allParameters) and not bound & byHand
