"""The Transforms section in the test host: what is shown before saving, what is asked, and what is left behind."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from .test_inspect_jacobian import addField
from .test_panel import isShown, panel, waitForEnd  # noqa: F401
from .test_transforms_files import POINTS, affine, bump, throughFile, throughNode, volume
from .volumes import addLinear, composite


@pytest.fixture
def section(host, panel, tmp_path):  # noqa: F811
    """The open section with a field and both volumes chosen."""
    section = panel.transforms
    ui = section.ui
    ui.transformsCollapsibleButton.collapsed = False
    for side, node in (
        ("Transform", addField(bump, reach=90, nodes=37)),
        ("Fixed", volume()),
        ("Moving", volume("moving", "LPS")),
    ):
        getattr(ui, f"transforms{side}Selector").setCurrentNode(node)
    host.answers.clear()
    yield section
    section.stop()
    section.tools.onClearChain()
    ui.importFileLineEdit.text = ""
    ui.importInitialCheckBox.checked = False
    ui.transformsCollapsibleButton.collapsed = True


def finish(host, section):
    host.process_events(until=lambda: section.task is None)
    import slicer

    assert list(Path(slicer.app.temporaryPath).iterdir()) == []


def transforms():
    import slicer

    # Slice views, once shown, have transforms of their own; those are hidden.
    nodes = slicer.util.getNodesByClass("vtkMRMLTransformNode")
    return sorted(node.GetName() for node in nodes if not node.GetHideFromEditors())


def choose(section, **values):
    for name, value in values.items():
        setattr(section._parameters, name, value)


def files(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def test_nothing_chosen(host, panel):  # noqa: F811
    section = panel.transforms
    ui = section.ui
    assert ui.transformsCollapsibleButton.collapsed and "Choose a transform" in ui.transformsWhatLabel.text
    for name in ("preview", "save", "useAsInitial", "invert", "resample", "linear", "addToChain"):
        assert not getattr(ui, f"{name}Button").enabled
    assert ui.importButton.enabled  # an import needs none
    node = addLinear(affine(), "T")
    ui.transformsTransformSelector.setCurrentNode(node)
    assert ui.previewButton.enabled and "T. Fixed and moving" in ui.transformsWhatLabel.text
    host.close_scene()
    assert not ui.previewButton.enabled and section.task is None


def test_each_format_offers_what_it_has(section):
    from CARLRegistrationLib.transforms.choices import ExportFormat

    ui = section.ui
    assert ui.exportFormatComboBox.count == len(ExportFormat)
    shown = set()
    for index in range(ui.exportFormatComboBox.count):
        ui.exportFormatComboBox.currentIndex = index
        shown.add(ui.exportFormatInfoLabel.text)
        kind = section.exporting.export.format
        assert ui.exportSpacingSpinBox.enabled == (kind.value not in ("tfm", "flirt", "freesurfer", "fsl"))
        assert ui.exportPrecisionComboBox.enabled == (kind.value in ("nifti", "nrrd", "mha", "ants", "fsl"))
        assert ui.exportFlattenCheckBox.enabled == (kind.value in ("itk", "ants", "elastix", "slicer"))
    assert len(shown) == len(ExportFormat) - 1  # .nrrd and .mha hold the same


def test_numbers_come_before_saving(host, section, tmp_path):
    """Save without a preview makes one; the file dialog comes after it, with the fitting ending."""
    ui = section.ui
    out = tmp_path / "out"
    out.mkdir()
    choose(section, exportSpacing=8.0)
    seen = []

    def dialog(message):
        seen.append((message.text, ui.exportNumbersLabel.text, ui.exportCommandLineEdit.text, files(out)))
        return str(out / "result")

    host.answers.append(dialog)
    ui.saveButton.click()
    assert isShown(ui.transformsStopButton) and not ui.saveButton.enabled
    finish(host, section)  # the preview
    ((suggested, numbers, command, there),) = seen
    assert suggested.endswith("moving_onto_fixed.h5") and there == []
    assert (
        "moving_onto_fixed.h5: " in numbers
        and "Error: mean 0.0" in numbers
        and "Leads from fixed to moving points" in numbers
    )
    assert "sitk.ReadTransform('moving_onto_fixed.h5')" in command
    finish(host, section)
    assert files(out) == ["result.h5", "result.h5.json"] and ui.transformsWhyLabel.text == ""
    said = ui.transformsResultLabel.text.replace("\u200b", "")  # where long words may be broken
    assert said == f"Saved in {out}: result.h5, result.h5.json"
    assert np.linalg.norm(throughFile(out / "result.h5") - throughNode(section.subject.transform), axis=1).max() < 0.3
    assert "'result.h5'" in ui.exportCommandLineEdit.text
    import slicer

    ui.copyCommandButton.click()
    assert slicer.app.clipboard().text() == ui.exportCommandLineEdit.text
    # the same again: nothing is computed twice; cancelling leaves what is there
    before = (out / "result.h5").read_bytes()
    host.answers.append("")
    ui.saveButton.click()
    assert section.task is None and ui.transformsResultLabel.text == "Nothing was saved."
    assert (out / "result.h5").read_bytes() == before and files(out) == ["result.h5", "result.h5.json"]
    # another spacing, another transform: those numbers are not true any more
    choose(section, exportSpacing=4.0)
    assert not isShown(ui.exportNumbersLabel) and not isShown(ui.exportCommandWidget)
    choose(section, exportSpacing=8.0)
    assert isShown(ui.exportNumbersLabel)
    section.subject.transform.Inverse()
    assert not isShown(ui.exportNumbersLabel)


def test_files_that_are_there_are_asked_about(host, section, tmp_path):
    from CARLRegistrationLib.transforms.choices import ExportFormat

    out = tmp_path / "out"
    out.mkdir()
    ui = section.ui
    section.ui.transformsTransformSelector.setCurrentNode(addLinear(affine(), "T"))
    choose(section, exportFormat=ExportFormat.ANTS)
    (out / "x0GenericAffine.mat").write_text("precious")
    ui.previewButton.click()
    finish(host, section)
    assert "moving_onto_fixed0GenericAffine.mat: " in ui.exportNumbersLabel.text.replace("\u200b", "")
    assert "Error: none" in ui.exportNumbersLabel.text
    for answer, content in ((False, b"precious"), (True, b"")):
        host.answers[:] = [str(out / "x.nii.gz"), answer]
        ui.saveButton.click()
        finish(host, section)
        assert "x0GenericAffine.mat" in host.messages[-1].text and "Replace" in host.messages[-1].text
        assert (out / "x0GenericAffine.mat").read_bytes().startswith(content)
    assert files(out) == ["x.nii.gz.json", "x0GenericAffine.mat"] and "Saved in" in ui.transformsResultLabel.text
    assert json.loads((out / "x.nii.gz.json").read_text())["maps"] == "fixed points to moving points"
    host.answers[:] = [str(out / "x0GenericAffine.mat" / "y.nii.gz")]  # a place that cannot be written
    ui.saveButton.click()
    finish(host, section)
    assert "nothing can be written in" in ui.transformsWhyLabel.text and len(files(out)) == 2


def test_the_initial_transform_is_what_the_moving_volume_is_under(host, section):
    from CARLRegistrationLib.transforms.choices import Which

    ui = section.ui
    placed = addLinear(affine(), "placed")
    assert not isShown(ui.exportInitialSelector)
    section.subject.moving.SetAndObserveTransformNodeID(placed.GetID())
    choose(section, exportWhich=Which.WITH_INITIAL)
    assert isShown(ui.exportInitialSelector) and "moving is placed under placed" in ui.transformsWhatLabel.text
    ui.previewButton.click()
    finish(host, section)
    assert (
        ui.exportInitialSelector.currentNode() is placed and "initial transform acts last" in ui.exportNumbersLabel.text
    )
    section.subject.moving.SetAndObserveTransformNodeID(None)
    choose(section, transformsInitial=None)
    ui.previewButton.click()
    assert "Choose the initial transform" in ui.transformsWhyLabel.text and section.task is None


def test_import_asks_what_the_file_does_not_say(host, panel, section, tmp_path):  # noqa: F811
    import qt
    from CARLRegistrationLib.mrml.transforms import sidesOf
    from CARLRegistrationLib.transforms.choices import Convention, Direction

    ui, before = section.ui, transforms()
    path = tmp_path / "matrix.txt"
    np.savetxt(path, affine())
    ui.importFileLineEdit.text = str(path)
    host.answers.append(qt.QMessageBox.Cancel)
    ui.importButton.click()
    assert section.task is None and transforms() == before
    assert "does not say which way it leads" in host.messages[-1].text
    host.answers.append(qt.QMessageBox.No)
    ui.importButton.click()
    finish(host, section)
    assert transforms() == before and "does not tell its convention" in ui.transformsWhyLabel.text
    assert "Choose them under Coordinates" in ui.transformsWhyLabel.text
    choose(section, importConvention=Convention.RAS)
    ui.importInitialCheckBox.checked = True
    ui.importButton.click()  # what was answered counts: it is not asked again
    finish(host, section)
    assert ui.transformsWhyLabel.text == ""
    node = panel.parameters.initialTransform
    assert node.GetName() == "matrix" and section.subject.transform is node
    expected = (POINTS - affine()[:3, 3]) @ np.linalg.inv(affine()[:3, :3]).T
    assert np.abs(throughNode(node) - expected).max() < 1e-6
    assert sidesOf(node) == (section.subject.fixed, section.subject.moving)
    assert "leads from moving to fixed points, so it was inverted" in ui.transformsResultLabel.text
    assert "starts from matrix" in ui.transformsResultLabel.text
    assert (section._parameters.importConvention, section._parameters.importDirection) == (
        Convention.FILE,
        Direction.FILE,
    )


def test_import_of_ants_pair_and_of_what_is_none(host, section, tmp_path):
    from CARLRegistrationLib.transforms.choices import ExportFormat

    ui = section.ui
    sitk.WriteTransform(composite(15.0, bump=2.0)[0], str(tmp_path / "in.h5"))
    ui.importFileLineEdit.text = str(tmp_path / "in.h5")
    host.answers.append(True)
    ui.importButton.click()
    finish(host, section)
    node = section.subject.transform
    assert node.GetName() == "in" and "as answered" in ui.transformsResultLabel.text
    choose(section, exportFormat=ExportFormat.ANTS)
    host.answers.append(str(tmp_path / "sub.nii.gz"))
    ui.saveButton.click()
    finish(host, section)
    finish(host, section)
    ui.importFileLineEdit.text = str(tmp_path / "sub1Warp.nii.gz")
    host.answers.append(True)
    ui.importButton.click()
    assert "sub0GenericAffine.mat lies beside sub1Warp.nii.gz" in host.messages[-1].text
    finish(host, section)
    back = section.subject.transform
    assert back is not node and "its sidecar says so" in ui.transformsResultLabel.text
    assert np.linalg.norm(throughNode(back) - throughNode(node), axis=1).max() < 0.05
    before = transforms()
    (tmp_path / "half.h5").write_bytes((tmp_path / "in.h5").read_bytes()[:5000])
    ui.importFileLineEdit.text = str(tmp_path / "half.h5")
    host.answers.append(True)
    ui.importButton.click()
    finish(host, section)
    assert "half.h5" in ui.transformsWhyLabel.text and transforms() == before
    ui.importFileLineEdit.text = str(tmp_path / "none.h5")
    ui.importButton.click()
    assert "none.h5 is not there" in ui.transformsWhyLabel.text
    ui.importFileLineEdit.text = ""
    host.answers.append("")
    ui.importButton.click()
    assert "Choose a transform file" in ui.transformsWhyLabel.text and transforms() == before


def test_invert_linear_part_and_compose(host, section):
    from CARLRegistrationLib.transforms.choices import LinearKind

    ui = section.ui
    first = section.subject.transform
    ui.invertButton.click()
    finish(host, section)
    assert "Made 'field (inverse)'. There and back again: mean" in ui.transformsResultLabel.text
    assert ui.transformsResultLabel.parentWidget() is ui.derivedCollapsibleButton  # under the buttons of its part
    import slicer

    inverse = slicer.util.getNode("field (inverse)")
    ui.chainSelector.setCurrentNode(inverse)
    ui.addToChainButton.click()
    assert ui.chainLabel.text == "field \u2192 field (inverse)"
    ui.composeButton.click()
    finish(host, section)
    both = slicer.util.getNode("field then field (inverse)")
    assert np.linalg.norm(throughNode(both) - POINTS, axis=1).max() < 0.05 and not isShown(ui.chainLabel)
    choose(section, linearKind=LinearKind.SIMILARITY)
    ui.linearButton.click()
    finish(host, section)
    assert "Made 'field (similarity part)'. Residual: mean" in ui.transformsResultLabel.text
    ui.resampleButton.click()
    assert "Set the field spacing" in ui.transformsWhyLabel.text
    choose(section, toolSpacing=9.0)
    ui.resampleButton.click()
    finish(host, section)
    assert "Made 'field (9 mm)'. Error: mean" in ui.transformsResultLabel.text
    assert section.subject.transform is first
    # choosing the inverse chooses its volumes, the other way round
    fixed, moving = section.subject.fixed, section.subject.moving
    ui.transformsTransformSelector.setCurrentNode(inverse)
    assert (section.subject.fixed, section.subject.moving) == (moving, fixed)


def test_stop_and_closing_the_scene_leave_nothing(host, section):
    ui, before = section.ui, transforms()
    ui.invertButton.click()
    ui.transformsStopButton.click()
    finish(host, section)
    assert "Cancelled; nothing was changed" in ui.transformsResultLabel.text and transforms() == before
    ui.invertButton.click()
    process = section.task.process
    host.close_scene()
    assert section.task is None and not process.poll().running and transforms() == []


@pytest.mark.whole
def test_after_a_registration_its_transform_is_chosen(host, panel, tmp_path):  # noqa: F811
    from CARLRegistrationLib.register.sample_data import loadSamplePair
    from CARLRegistrationLib.transforms.choices import Which

    fixed, moving = loadSamplePair(6.0)
    panel.ui.fixedVolumeSelector.setCurrentNode(fixed)
    panel.ui.movingVolumeSelector.setCurrentNode(moving)
    panel.ui.applyButton.click()
    waitForEnd(host, panel)
    section, ui = panel.transforms, panel.transforms.ui
    made = panel.results.result.nodes
    assert section.subject.transform is made["transform"]
    assert (section.subject.fixed, section.subject.moving) == (fixed, moving)
    assert section.subject.inverse is made["inverse_transform"]
    choose(section, exportWhich=Which.INVERSE)
    ui.previewButton.click()
    host.process_events(until=lambda: section.task is None)
    assert "the inverse that the registration wrote" in ui.exportNumbersLabel.text
    section.subject.transform.SetAndObserveTransformNodeID(addLinear(affine()).GetID())
    assert section.subject.inverse is None  # it is not the inverse of that
    panel.ui.undoButton.click()
    assert section.subject.transform is None and "Choose a transform" in ui.transformsWhatLabel.text
