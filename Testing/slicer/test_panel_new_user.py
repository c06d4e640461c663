"""The panel as it is met for the first time: what is offered, what fits, what the keyboard reaches."""

# ruff: noqa: F811 (fixtures that are imported)

import dataclasses

from .test_panel import CONTROLS, blank, choose, isShown, pair, panel, settingsNow  # noqa: F401


def test_presets_say_what_they_set(panel):
    from CARLRegistrationLib.register.parameters import Preset
    from CARLRegistrationLib.register.presets import PRESETS

    ui = panel.ui
    assert ui.presetComboBox.count == len(Preset) == len(PRESETS)
    choose(ui.presetComboBox, "CT to MR (or MR to CT)")
    assert settingsNow(panel).similarity == "mind" and "MIND" in ui.presetInfoLabel.text
    choose(ui.presetComboBox, "Lung CT")
    now = settingsNow(panel)
    assert (now.similarity, now.fixed_modality, now.moving_modality, now.io_steps) == ("lncc2", "ct", "ct", 150)
    text = "CT intensities; LNCC squared (default); refinement steps 150; smoothness 1"
    assert ui.presetInfoLabel.text == text and not isShown(ui.presetResetButton)
    ui.ioStepsSlider.value = 60
    assert settingsNow(panel).io_steps == 60
    assert ui.presetInfoLabel.text == "Lung CT, changed: refinement steps 60"
    ui.presetResetButton.click()
    assert settingsNow(panel).io_steps == 150 and ui.presetInfoLabel.text == text
    choose(ui.presetComboBox, "MR to MR, different contrast")
    now = settingsNow(panel)
    assert (now.similarity, now.fixed_modality, now.moving_modality) == ("mind", "mr", "mr")


def test_for_turned_scans_a_model_is_offered(panel):
    ui = panel.ui
    assert not isShown(ui.rotationModelButton)
    choose(ui.robustnessComboBox, "Any rotation (slower)")
    ui.rotationModelButton.click()
    assert settingsNow(panel).model == "carl-compact-rotation" and not isShown(ui.rotationModelButton)


def test_volumes_that_are_loaded_later_are_chosen(host, scene, panel):
    ui = panel.ui
    host.process_events(0.1)
    assert isShown(ui.demoButton) and ui.inputsInfoLabel.text == "No volumes yet: load two, or try the demo."
    one, result = blank("one"), blank("result")
    result.SetAttribute("CARLRegistration.Settings", "{}")
    host.process_events(0.1)
    assert panel.parameters.fixedVolume is one and not isShown(ui.demoButton) and not isShown(ui.inputsInfoLabel)
    two = blank("two")
    blank("three")
    host.process_events(0.1)
    assert panel.parameters.fixedVolume is one and panel.parameters.movingVolume is two
    host.answers[:] = [False]
    ui.demoButton.click()  # as a script may; it asks
    assert not panel.logic.isRunning and panel.parameters.movingVolume is two


def widgetsOf(panel):
    sections = (panel, panel.inspect, panel.transforms, panel.apply, panel.cohort, panel.series)
    return [one for section in sections for one in vars(section.ui).values()]


def test_every_section_fits_into_a_narrow_panel(host, panel):
    """With all open, names of 60 letters, and both sizes of letters."""
    import slicer
    from PySide6 import QtGui, QtWidgets

    long = "a_name_of_sixty_letters_as_those_of_liver_mr_eth19_exh_fixed"
    assert len(long) == 60
    kinds = ("Transform", "Segmentation", "MarkupsFiducial", "Sequence")
    nodes = [blank(long), *(slicer.mrmlScene.AddNewNodeByClass(f"vtkMRML{kind}Node", long) for kind in kinds)]
    nodes[2].GetSegmentation().AddEmptySegment("id", long)
    parts = widgetsOf(panel)
    for part in parts:
        if type(part).__name__ == "qMRMLNodeComboBox":
            for node in nodes:
                part.setCurrentNode(node)
    closed = [part for part in parts if type(part).__name__ == "ctkCollapsibleButton" and part.collapsed]
    for n in (1, 2):
        panel.live._curve.add({"done": n, "total": 2, "similarity": 0.1 * n, "level": 0})
    # What only some modes and results show counts, too.
    unseen = [part for part in parts if isinstance(part, QtWidgets.QWidget) and part.isHidden()]
    was, widths = QtWidgets.QApplication.font(), []
    try:
        for part in unseen:
            part.visible = True
        for part in closed:
            part.collapsed = False
        for points in (9, 11):
            QtWidgets.QApplication.setFont(QtGui.QFont(was.family(), points))
            host.process_events(0.05)
            widths.append(panel.ui.inputsCollapsibleButton.parentWidget().minimumSizeHint.width())
    finally:
        QtWidgets.QApplication.setFont(was)
        panel.live.end()
        for part in unseen:
            part.visible = False
        for part in closed:
            part.collapsed = True
    assert 200 < widths[0] < widths[1] <= 360


def test_labels_lead_to_their_controls(moduleWidget, panel):
    """With the keyboard or a screen reader: each label of a form has its control."""
    from PySide6 import QtWidgets

    widgets = widgetsOf(panel)
    labels = [one for one in widgets if isinstance(one, QtWidgets.QLabel) and one.text.endswith(":")]
    assert len(labels) > 40 and [one.objectName for one in labels if one.buddy() is None] == []
    assert panel.ui.ioStepsLabel.buddy() is panel.ui.ioStepsSlider
    # Tab leads from one section to the next, as they stand.
    ui = panel.ui
    sections = [ui.inputsCollapsibleButton, ui.registrationCollapsibleButton, ui.masksCollapsibleButton]
    sections += [
        ui.guidanceCollapsibleButton,
        ui.outputsCollapsibleButton,
        ui.advancedCollapsibleButton,
        ui.applyButton,
    ]
    sections += [panel.inspect.ui.inspectCollapsibleButton, panel.transforms.ui.transformsCollapsibleButton]
    sections += [
        panel.apply.ui.applyCollapsibleButton,
        panel.cohort.ui.cohortCollapsibleButton,
        panel.series.ui.seriesCollapsibleButton,
        ui.logCollapsibleButton,
    ]
    chain, one = [], sections[0]
    while one not in chain:
        chain.append(one)
        one = one.nextInFocusChain()
    assert [one for one in chain if one in sections] == sections


def test_mnemonics_are_not_twice_among_what_is_seen(panel, pair):
    """Slicer's own menus have F, E, V and H."""
    from PySide6 import QtGui

    def keys():
        window = panel.ui.applyButton.window()
        seen = [one for one in widgetsOf(panel) if "&" in str(getattr(one, "text", "")) and one.isVisibleTo(window)]
        texts = [one.text for one in seen if one.isEnabled()]
        return sorted(QtGui.QKeySequence.mnemonic(text).toString()[-1] for text in texts)

    idle = keys()
    assert len(idle) == len(set(idle)) > 13 and {"A", "I", "R"} <= set(idle) and not set(idle) & set("FEVH"), idle
    panel._showRunning()
    running = keys()
    panel._running = False
    panel._showIdle()
    assert len(running) == len(set(running)) and {"L", "N"} <= set(running) and "A" not in running, running


def test_own_presets(panel, monkeypatch, tmp_path, host):
    """Saved, chosen again, read by the command line, taken from a file, deleted."""
    from carlreg.cli.main import build_parser
    from carlreg.cli.options import settings_from

    ui, own = panel.ui, panel.ownPresets
    monkeypatch.setattr(own, "folder", lambda: tmp_path / "presets")
    own.refresh()
    assert not isShown(ui.ownPresetComboBox) and not isShown(ui.deletePresetButton)
    for name in CONTROLS:
        if name not in ("transform", "io_method"):
            CONTROLS[name](ui)
    saved = settingsNow(panel)
    host.answers[:] = [str(tmp_path / "presets" / "knees")]
    ui.savePresetButton.click()
    assert isShown(ui.ownPresetComboBox) and ui.ownPresetComboBox.currentText == "knees"
    file = tmp_path / "presets" / "knees.json"
    words = ["register", "FIXED", "MOVING", "--out", "RESULT", "--settings", str(file)]
    read = settings_from(build_parser().parse_args(words))
    assert saved.device == "cpu" and read == dataclasses.replace(saved, device="auto")
    ui.ioStepsSlider.value, ui.symmetricCheckBox.checked = 70, False
    choose(ui.robustnessComboBox, "Similar pose, any shift")
    assert ui.ownPresetComboBox.currentIndex == 0 and not ui.deletePresetButton.enabled
    choose(ui.ownPresetComboBox, "knees")
    assert settingsNow(panel) == saved and ui.deletePresetButton.enabled
    (tmp_path / "other.json").write_text('{"settings": {"io_steps": 7, "seed": 3}}')
    (tmp_path / "wrong.json").write_text('{"io_steps": 900}')
    host.answers[:] = [str(tmp_path / "other.json"), str(tmp_path / "wrong.json")]
    ui.loadPresetButton.click()
    assert settingsNow(panel).io_steps == 7 and settingsNow(panel).grid == 128
    assert host.messages[-1].text == "Not in the panel, and left as they are: seed."
    ui.loadPresetButton.click()
    assert "ioSteps is 900, and the panel offers no such value" in host.messages[-1].text
    assert settingsNow(panel).io_steps == 7
    choose(ui.ownPresetComboBox, "knees")
    host.answers[:] = [True]
    ui.deletePresetButton.click()
    assert not file.exists() and not isShown(ui.ownPresetComboBox) and settingsNow(panel) == saved


# --- why Apply is disabled
