"""The Apply section in the test host: the list, the choices, a run, cancel and undo."""

from __future__ import annotations

import numpy as np
import pytest

from .test_apply_hierarchy import studies, tree
from .test_apply_run import case, ids, organs, temporary  # noqa: F401
from .test_apply_scene import landmarks, points, sequence
from .test_panel import isShown, panel  # noqa: F401
from .volumes import addLinear, addVolume


@pytest.fixture
def temporary(tmp_path):  # noqa: F811
    """The panel's own folder, checked at the end."""
    yield tmp_path / "temporary"
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.fixture
def section(host, panel, case):  # noqa: F811
    """The open section, with the transform chosen."""
    section = panel.apply
    section.ui.applyCollapsibleButton.collapsed = False
    section.ui.applyTransformSelector.setCurrentNode(case.transform)
    host.process_events(0.2)
    yield section
    section.ui.applyFilterLineEdit.text = ""
    section.ui.applyCollapsibleButton.collapsed = True


def rows(section):
    table = section.ui.applyTable
    return [[table.item(r, c).text() for c in range(3)] for r in range(table.rowCount)]


def tick(section, name, on=True):
    import qt

    table = section.ui.applyTable
    row = [r[0] for r in rows(section)].index(name)
    table.item(row, 0).setCheckState(qt.Qt.Checked if on else qt.Qt.Unchecked)


def ticked(section):
    import qt

    table = section.ui.applyTable
    found = [table.item(r, 0) for r in range(table.rowCount)]
    return [item.text() for item in found if item.checkState() == qt.Qt.Checked]


def finish(host, section):
    host.process_events(until=lambda: section.task is None)
    host.process_events(0.15)


def choose(section, box, value):
    combo = getattr(section.ui, f"apply{box}ComboBox")
    combo.setCurrentText(value.label())


def test_opens_closed_and_says_what_is_missing(host, panel):  # noqa: F811
    ui = panel.apply.ui
    assert ui.applyCollapsibleButton.collapsed
    assert ui.applyWhyLabel.text == "Choose a transform, or register first."
    assert not ui.applyRunButton.enabled and not ui.applyUndoButton.enabled
    assert not isShown(ui.applyProgressBar) and ui.applyTable.rowCount == 0


def test_the_list_follows_the_scene(host, section, case, scene):  # noqa: F811
    import slicer

    assert rows(section) == [["fixed", "Volume", "26x24x22"], ["moving", "Volume", "30x28x25"]]
    assert section.ui.applyWhatLabel.text == "From: moving\nTo: fixed"
    assert section.ui.applyWhyLabel.text == "Nothing is chosen. Check at least one node in the list."
    organ, _grid = organs(case)
    tips = landmarks([[0, 0, 0], [1, 1, 1]], "tips", "Curve")
    tips.SetAndObserveTransformNodeID(addLinear(np.eye(4), "couch").GetID())
    sequence(case)
    labels = addVolume(np.zeros((9, 9, 9), np.uint8), np.eye(4), "labels", "vtkMRMLLabelMapVolumeNode")
    scene.AddNewNodeByClass("vtkMRMLTableNode", "figures")
    host.process_events(0.2)
    assert rows(section)[2:] == [
        ["organs", "Segmentation", "2 segments"],
        ["tips", "Curve", "2 points, under couch"],
        ["breathing", "Sequence", "3 frames"],
        ["labels", "Label map", "9x9x9"],
    ]
    case.fixed.SetAttribute("CARLRegistration.Settings", "{}")  # as of what a registration made
    labels.SetName("lobes")
    tips.SetAndObserveTransformNodeID(None)
    slicer.mrmlScene.RemoveNode(organ)
    host.process_events(0.2)
    assert [r[0] for r in rows(section)] == ["moving", "tips", "breathing", "lobes", "fixed"]
    assert rows(section)[1][2] == "2 points"
    assert section.checked() == []


def test_checking_filtering_and_the_study(host, section, case, scene):  # noqa: F811
    study = studies(case.fixed, case.moving)
    organ, _grid = organs(case)
    tree().CreateItem(study["moving"], organ)
    landmarks([[0, 0, 0]], "tips")
    host.process_events(0.2)
    ui = section.ui
    tick(section, "tips")
    assert [n.GetName() for n in section.checked()] == ["tips"] and ui.applyRunButton.enabled
    ui.applyStudyButton.click()
    assert ticked(section) == ["moving", "organs"]
    assert ui.applyRunButton.text == "Transform 2 nodes"
    ui.applyFilterLineEdit.text = "fiducial"
    assert [r[0] for r in rows(section)] == ["tips"] and ticked(section) == []
    ui.applyAllButton.click()
    ui.applyFilterLineEdit.text = ""
    assert ticked(section) == ["moving", "organs", "tips"]  # what is not shown stays checked
    tick(section, "moving", False)
    assert ticked(section) == ["organs", "tips"]
    section._fill()
    assert [r[0] for r in rows(section)] == ["organs", "tips", "fixed", "moving"]  # what is checked is in sight
    ui.applyNoneButton.click()
    assert ticked(section) == [] and not ui.applyRunButton.enabled


def test_each_choice_is_there_where_it_counts(host, section):
    from CARLRegistrationLib.apply.choices import ApplyDirection, ApplyGrid, ApplyMethod

    ui = section.ui
    shown = {
        "applyGridComboBox": ("RESAMPLE",),
        "applyInterpolationComboBox": ("RESAMPLE",),
        "applyMassCheckBox": ("RESAMPLE",),
        "applyInPlaceCheckBox": ("HARDEN",),
        "applyReferenceSelector": (),
    }
    for method in ApplyMethod:
        choose(section, "Method", method)
        for name, methods in shown.items():
            assert isShown(getattr(ui, name)) == (method.name in methods), (name, method)
    choose(section, "Method", ApplyMethod.RESAMPLE)
    choose(section, "Grid", ApplyGrid.REFERENCE)
    assert isShown(ui.applyReferenceSelector)
    choose(section, "Direction", ApplyDirection.TO_MOVING)
    assert ui.applyWhatLabel.text == "From: fixed\nTo: moving"


def test_every_choice_reaches_the_job(section, case):  # noqa: F811
    from CARLRegistrationLib.apply.choices import ApplyDirection, ApplyGrid, ApplyInterpolation, ApplyMethod

    ui = section.ui
    before = section.job()
    changes = [
        ("direction", lambda: choose(section, "Direction", ApplyDirection.TO_MOVING)),
        ("method", lambda: choose(section, "Method", ApplyMethod.HARDEN)),
        ("grid", lambda: choose(section, "Grid", ApplyGrid.OWN)),
        ("interpolation", lambda: choose(section, "Interpolation", ApplyInterpolation.SINC)),
        ("massPreserving", lambda: ui.applyMassCheckBox.click()),
        ("inPlace", lambda: ui.applyInPlaceCheckBox.click()),
        ("reference", lambda: ui.applyReferenceSelector.setCurrentNode(case.fixed)),
        ("nodes", lambda: tick(section, "moving")),
    ]
    for name, change in changes:
        change()
        now = section.job()
        different = [n for n in now.__dataclass_fields__ if getattr(now, n) != getattr(before, n)]
        assert different == [name]
        before = now


def test_run_and_undo(host, section, case, scene):  # noqa: F811
    import slicer

    fixed, moving = case.inMoving(5)
    landmarks(moving, "tips")
    host.process_events(0.2)
    for name in ("moving", "tips"):
        tick(section, name)
    before = ids(scene)
    ui = section.ui
    ui.applyRunButton.click()
    assert ui.applyRunButton.text == "Cancel" and isShown(ui.applyProgressBar) and not ui.applyTable.enabled
    finish(host, section)
    assert "2 nodes" in ui.applyInfoLabel.text and ui.applyTable.enabled and not isShown(ui.applyProgressBar)
    made = slicer.mrmlScene.GetFirstNodeByName("tips in fixed")
    assert np.linalg.norm(points(made) - fixed, axis=1).max() < 0.01
    assert slicer.util.arrayFromVolume(slicer.mrmlScene.GetFirstNodeByName("moving in fixed")).std() > 10
    assert [r[0] for r in rows(section)] == ["moving", "tips", "fixed", "moving in fixed", "tips in fixed"]
    assert ticked(section) == ["moving", "tips"]
    ui.applyUndoButton.click()
    host.process_events(0.2)
    assert ids(scene) == before and "taken back" in ui.applyInfoLabel.text
    assert not ui.applyUndoButton.enabled and len(rows(section)) == 3


def test_cancel(host, section, case, scene):  # noqa: F811
    tick(section, "moving")
    before = ids(scene)
    section.ui.applyRunButton.click()
    host.process_events(until=lambda: "Resampling" in section.ui.applyInfoLabel.text)
    section.ui.applyRunButton.click()
    assert not section.ui.applyRunButton.enabled
    finish(host, section)
    assert section.ui.applyInfoLabel.text == "Cancelled; nothing was changed." and ids(scene) == before
    assert section.ui.applyRunButton.enabled and section.ui.applyRunButton.text == "Transform data"
    assert not section.ui.applyUndoButton.enabled


def test_closing_the_scene_ends_what_runs(host, section, case):  # noqa: F811
    tick(section, "moving")
    section.ui.applyRunButton.click()
    host.process_events(until=lambda: section.task._task is not None)
    engine = section.task._task
    host.close_scene()
    host.process_events(0.2)
    assert section.task is None and not engine.process.poll().running
    assert rows(section) == []


def test_what_cannot_be_done_is_said(host, section, case, scene):  # noqa: F811
    scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "empty one")
    far = np.eye(4)
    far[:3, 3] = 5000
    addVolume(np.ones((9, 9, 9), np.int16), far, "far")
    host.process_events(0.2)
    ui = section.ui
    tick(section, "empty one")
    assert "empty one: the segmentation is empty" in ui.applyWhyLabel.text and not ui.applyRunButton.enabled
    tick(section, "empty one", False)
    tick(section, "far")
    assert ui.applyWhyLabel.text == "" and ui.applyRunButton.enabled
    ui.applyRunButton.click()  # where it lies is looked at when it starts
    assert "far lies outside moving" in ui.applyInfoLabel.text and ui.applyRunButton.text == "Transform data"


def test_what_was_checked_is_kept_with_the_scene(host, section, panel, case, tmp_path):  # noqa: F811
    from CARLRegistrationLib.apply.choices import ApplyMethod

    tick(section, "moving")
    choose(section, "Method", ApplyMethod.PLACE)
    host.save_scene(tmp_path / "scene.mrb")
    section.ui.applyNoneButton.click()
    choose(section, "Method", ApplyMethod.RESAMPLE)
    host.load_scene(tmp_path / "scene.mrb")
    host.process_events(0.3)
    assert ticked(section) == ["moving"]
    assert panel.parameters.applyMethod is ApplyMethod.PLACE
    assert panel.parameters.applyTransform.GetName() == "moving to fixed"


def test_the_last_result_is_chosen_and_let_go(host, section, panel, case):  # noqa: F811
    from CARLRegistrationLib.register.job import Job
    from CARLRegistrationLib.register.result import Result

    other = addLinear(np.eye(4), "other")
    section.ui.applyTransformSelector.setCurrentNode(other)
    result = Result(Job(case.fixed, case.moving), {"transform": case.transform}, {}, 1.0)
    section.setResult(result)
    assert panel.parameters.applyTransform is case.transform and not isShown(section.ui.applyLastButton)
    section.ui.applyTransformSelector.setCurrentNode(other)
    assert isShown(section.ui.applyLastButton)
    section.ui.applyLastButton.click()
    assert panel.parameters.applyTransform is case.transform
    section.releaseResult()  # as Undo does, before its nodes go
    assert panel.parameters.applyTransform is None
    section.setResult(None)
    assert not isShown(section.ui.applyLastButton)
