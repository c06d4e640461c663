"""The Cohort section in the test host: its table, what is written for the engine, and a pair in Inspect."""

# ruff: noqa: F811 (fixtures that are imported)
from __future__ import annotations

import csv
import json
import os

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.cohort import Study
from carlreg.cohort.plan import PlannedPair
from carlreg.cohort.study import new_study
from carlreg.settings import RegistrationSettings

from .test_panel import choose, isShown, panel  # noqa: F401
from .volumes import addLinear, addVolume, matrix

SHIFT = np.array([3.0, -2.0, 1.0])  # LPS mm, fixed to moving points


def image(path, seed):
    voxels = np.random.default_rng(seed).normal(100, 20, (12, 13, 14)).astype(np.float32)
    made = sitk.GetImageFromArray(voxels)
    made.SetOrigin((5.0, -7.0, 11.0))
    sitk.WriteImage(made, str(path))
    return voxels


@pytest.fixture
def study(tmp_path):
    """Four pairs: one done, one failed, one that a kill has interrupted, one not begun."""
    for seed, name in enumerate(("fixed", "a", "b", "c", "d")):
        image(tmp_path / f"{name}.nii.gz", seed)
    pairs = [
        PlannedPair(n, {"fixed": str(tmp_path / "fixed.nii.gz"), "moving": str(tmp_path / f"{n}.nii.gz")})
        for n in "abcd"
    ]
    made = new_study(tmp_path / "study", pairs, {n: RegistrationSettings(transform="rigid") for n in "abcd"}, 1, False)
    finish(made, "a", 12.4)
    made.log("running", name="b")
    made.log("failed", name="b", reason="b.nii.gz: no image.", seconds=0.5)
    made.log("running", name="c")
    return made


def finish(study, name, seconds):
    """As a worker does, with a shift for the result."""
    study.log("running", name=name)
    folder = study.result(name)
    folder.mkdir()
    (folder / "pair.json").write_text("{}")
    (folder / "settings.json").write_text(study.settings[name].to_json())
    quality = {"verdict": {"word": "check"}, "similarity": {"after": {"lncc": 0.314}}}
    (folder / "quality.json").write_text(json.dumps(quality))
    sitk.WriteTransform(sitk.TranslationTransform(3, SHIFT.tolist()), str(folder / "transform.h5"))
    image(folder / "warped.nii.gz", 7)
    values = np.full((12, 13, 14), 1.5, np.float32)
    values[0] = np.nan
    sitk.WriteImage(sitk.GetImageFromArray(values), str(folder / "uncertainty.nii.gz"))
    study.log("done", name=name, seconds=seconds, figures={"verdict": "check", "lncc_after": 0.314})


@pytest.fixture
def section(host, panel):
    panel.cohort.ui.cohortCollapsibleButton.collapsed = False
    host.process_events(0.1)
    yield panel.cohort
    panel.inspect.leave()
    panel.inspect.ui.inspectCollapsibleButton.collapsed = True
    panel.cohort.ui.cohortCollapsibleButton.collapsed = True


def table(section):
    pairs = section.ui.cohortPairsTable
    return [[pairs.item(r, c).text() for c in range(pairs.columnCount)] for r in range(pairs.rowCount)]


def said(label):
    """A label's text without the places where it may be broken."""
    return label.text.replace("\u200b", "")


DONE_ROW = ["a", "done", "Check", "12", "0.31"]


def test_a_study_is_shown_as_its_files_say(host, section, study):
    ui, p = section.ui, section.parameters
    assert ui.cohortWhyLabel.text.startswith("Choose a study folder") and not ui.cohortResumeButton.enabled
    p.cohortFolder = str(study.folder)
    interrupted, begun = ["c", "planned", "", "", ""], ["d", "planned", "", "", ""]
    assert table(section) == [DONE_ROW, ["b", "failed", "", "0", ""], interrupted, begun]
    assert ui.cohortResumeButton.enabled and not ui.cohortRunButton.enabled and ui.cohortWhyLabel.text == ""
    assert "holds a cohort already" in ui.cohortRunButton.toolTip and not isShown(ui.cohortSummaryButton)
    section.onPair(1)
    assert ui.cohortInfoLabel.text == "b: b.nii.gz: no image."
    # without a manifest the results themselves say it
    (study.folder / "manifest.jsonl").unlink()
    (study.folder / "failed").mkdir()
    (study.folder / "failed" / "d.json").write_text('{"reason": "diverged"}')
    (study.folder / "summary.html").write_text("all of them")
    p.cohortFolder = ""
    assert table(section) == [] and not isShown(ui.cohortPairsTable)
    p.cohortFolder = str(study.folder)
    assert table(section) == [
        ["a", "done", "Check", "", "0.31"],
        ["b", *begun[1:]],
        interrupted,
        ["d", "failed", "", "", ""],
    ]
    ui.cohortSummaryButton.click()
    assert host.dialogs.opened_urls[-1] == f"file://{study.folder}/summary.html"
    (study.folder / "study.json").write_text("{")
    p.cohortFolder = ""
    p.cohortFolder = str(study.folder)
    assert "study.json" in ui.cohortInfoLabel.text and table(section) == []


class HeldTask:
    """A cohort that the test itself advances."""

    def __init__(self, study):
        self.study, self.nodes, self.ended, self.cancelling, self.asked = study, {}, None, False, []

    def poll(self):
        from CARLRegistrationLib.common.errors import RegistrationCancelled

        if self.cancelling:
            raise RegistrationCancelled("Cancelled; nothing was changed.")
        return self.ended

    def cancel(self):
        self.cancelling = True

    def abort(self):
        self.ended = self


def test_the_table_follows_a_run_and_a_stop(host, section, study, monkeypatch):
    from CARLRegistrationLib.cohort import run
    from CARLRegistrationLib.engine import dependencies

    asked, held = [], HeldTask(study.folder)
    monkeypatch.setattr(dependencies, "ensure", lambda *more: asked.append(more))
    monkeypatch.setattr(run, "resume", lambda folder, retry, *more: asked.append((folder, retry)) or held)
    ui, p = section.ui, section.parameters
    p.cohortFolder, p.cohortRetryFailed = str(study.folder), True
    ui.cohortResumeButton.click()
    assert asked == [("dask[distributed]>=2024.1",), (study.folder, True)]
    assert not ui.cohortResumeButton.enabled and isShown(ui.cohortBusyWidget)
    study.log("running", name="d")
    host.process_events(until=lambda: ["d", "running", "", "", ""] in table(section), timeout=5)
    finish(study, "d", 70.0)
    with open(study.folder / "manifest.jsonl", "a") as file:
        file.write('{"event": "failed", "na')  # half a line is read when it is whole
    host.process_events(until=lambda: ["d", "done", "Check", "70", "0.31"] in table(section), timeout=5)
    ui.cohortCancelButton.click()
    host.process_events(until=lambda: section.task is None, timeout=5)
    assert ui.cohortInfoLabel.text == "Stopped. 2 of 4 pairs done, 1 failed. Resume goes on."
    assert [row[1] for row in table(section)] == ["done", "failed", "planned", "done"]
    assert ui.cohortResumeButton.enabled and not isShown(ui.cohortBusyWidget)
    held.cancelling = False
    ui.cohortResumeButton.click()
    host.close_scene()
    assert held.ended and section.task is None and table(section) == []


def test_a_double_click_opens_a_pair_once(host, section, panel, study, scene):
    import slicer

    section.parameters.cohortFolder = str(study.folder)
    mine = slicer.util.loadVolume(str(study.folder.parent / "fixed.nii.gz"), {"show": False})
    section.parameters.inspectFixedPoints = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "of another case")
    host.process_events(0.1)
    section.ui.cohortPairsTable.cellDoubleClicked.emit(0, 2)
    assert section.ui.cohortInfoLabel.text == ""
    p = panel.parameters
    assert p.inspectFixed is mine and p.inspectMoving.GetName() == "a" and p.inspectFixedPoints is None
    moved = np.array(p.inspectTransform.GetTransformFromParent().TransformPoint(1.0, 2.0, 3.0))
    assert moved == pytest.approx(np.array([1.0, 2.0, 3.0]) + SHIFT * [-1, -1, 1])
    voxels = slicer.util.arrayFromVolume(p.inspectUncertainty)
    assert (voxels[0] == -1).all() and voxels[1:] == pytest.approx(1.5)
    assert not panel.inspect.ui.inspectCollapsibleButton.collapsed and panel.inspect.ui.overlayModeButton.checked
    warped = scene.GetFirstNodeByName("Warped: a")
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(study.result("a") / "warped.nii.gz")))
    assert np.array_equal(slicer.util.arrayFromVolume(warped), expected)
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    folder = tree.GetItemChildWithName(tree.GetSceneItemID(), "study")
    for node in (p.inspectMoving, p.inspectTransform, p.inspectUncertainty, warped):
        assert tree.GetItemParent(tree.GetItemByDataNode(node)) == folder
    count = len(slicer.util.getNodesByClass("vtkMRMLStorableNode"))
    section.onPair(0)
    assert len(slicer.util.getNodesByClass("vtkMRMLStorableNode")) == count
    # a file that is gone: nothing of the pair is added
    (study.folder.parent / "d.nii.gz").unlink()
    finish(study, "d", 1.0)
    section.parameters.cohortFolder = ""
    section.parameters.cohortFolder = str(study.folder)
    before = scene.GetNumberOfNodes()
    section.onPair(3)
    assert "d.nii.gz is not there any more" in said(section.ui.cohortInfoLabel)
    assert scene.GetNumberOfNodes() == before


def test_bad_input_is_said_and_nothing_is_written(host, section, study, tmp_path):
    ui, p = section.ui, section.parameters

    def why():
        return said(ui.cohortWhyLabel)

    p.cohortFolder = str(tmp_path)
    assert "not empty" in why() and not ui.cohortRunButton.enabled
    p.cohortFolder = str(tmp_path / "new" / "one")
    assert why().startswith("Choose a plan")
    p.cohortPlan = str(tmp_path / "none.csv")
    assert "none.csv is not there" in why()
    (tmp_path / "plan.csv").write_text("fixed,moving\nfixed.nii.gz,gone.nii.gz\n")
    p.cohortPlan = str(tmp_path / "plan.csv")
    assert why() == "" and ui.cohortRunButton.enabled
    ui.cohortRunButton.click()
    assert "1 files are missing; nothing was run" in said(ui.cohortInfoLabel)
    assert "gone.nii.gz" in said(ui.cohortInfoLabel)
    choose(ui.cohortSourceComboBox, "Volumes of the scene")
    assert "fixed volume" in why() and not isShown(ui.cohortPlanLineEdit) and isShown(ui.cohortVolumesTable)
    p.fixedVolume = addVolume(np.zeros((4, 4, 4), np.int16), np.eye(4), "fixed")
    assert why().startswith("Check at least one volume")
    addVolume(np.zeros((1, 4, 4), np.int16), np.eye(4), "flat")
    host.process_events(0.2)
    ui.cohortAllButton.click()
    assert "flat: the moving volume must be 3-D" in why()
    choose(panel_of(section).ui.modelComboBox, "uniGradICON (your weights file)")
    assert "Choose your weights file" in why()
    assert section.task is None and not (tmp_path / "new").exists()


def panel_of(section):
    import slicer

    return slicer.modules.CARLRegistrationWidget.panel


def test_volumes_of_the_scene_become_a_study(host, section, panel, tmp_path, monkeypatch):
    """Written where the views show them, with a plan that the engine reads; planned by the engine itself."""
    from CARLRegistrationLib.cohort import run

    shape = (12, 13, 14)
    grid = matrix(np.diag([-1.0, 1, 1]), (2, 2, 3), (20, -10, 5))
    voxels = [np.random.default_rng(n).integers(0, 900, shape).astype(np.int16) for n in range(3)]
    fixed, one, _other = (addVolume(v, grid, name) for v, name in zip(voxels, ("atlas", "T1 é", "T1 é"), strict=True))
    turn = np.array([[0, -1, 0, 9], [1, 0, 0, 8], [0, 0, 1, 7], [0, 0, 0, 1.0]])
    one.SetAndObserveTransformNodeID(addLinear(turn, "couch").GetID())
    panel.parameters.fixedVolume = fixed
    choose(panel.ui.transformKindComboBox, "Rigid (turn and shift)")
    choose(section.ui.cohortSourceComboBox, "Volumes of the scene")
    section.parameters.cohortFolder = str(tmp_path / "new" / "study")
    host.process_events(0.2)
    section.ui.cohortAllButton.click()
    # The engine plans and writes a job array, but computes nothing.
    start = run.CohortTask.start
    export = lambda self, arguments, *more: start(self, [*arguments, "--export", "slurm-array"], *more)  # noqa: E731
    monkeypatch.setattr(run.CohortTask, "start", export)
    section.ui.cohortRunButton.click()
    host.process_events(until=lambda: section.task is None, timeout=60)
    assert section.ui.cohortInfoLabel.text == "0 of 2 pairs done, 0 failed."
    assert [row[:2] for row in table(section)] == [["T1_", "planned"], ["T1__2", "planned"]]
    study = Study.read(tmp_path / "new" / "study")
    assert {each.transform for each in study.settings.values()} == {"rigid"}
    with open(study.folder / "inputs" / "plan.csv", encoding="utf-8") as file:
        assert [row["name"] for row in csv.DictReader(file)] == ["T1_", "T1__2"]
    written = sitk.ReadImage(study.pairs[0].files["moving"])
    assert np.array_equal(sitk.GetArrayFromImage(written), voxels[1])
    index = (3, 5, 7)
    ras = (turn @ grid @ [*index, 1])[:3]
    assert written.TransformIndexToPhysicalPoint(index) == pytest.approx(ras * [-1, -1, 1])
    # A pair of it is shown with the scene's own volumes, as long as these are what they were.
    finish(study, "T1_", 1.0)
    section.parameters.cohortFolder = ""
    section.parameters.cohortFolder = str(study.folder)
    section.onPair(0)
    assert panel.parameters.inspectFixed is fixed and panel.parameters.inspectMoving is one
    one.SetAndObserveTransformNodeID(None)
    section.onPair(0)
    assert panel.parameters.inspectFixed is fixed
    assert panel.parameters.inspectMoving.GetName() == "T1_" and os.path.isfile(study.pairs[0].files["moving"])


def test_what_could_not_be_begun_leaves_nothing(host, section, panel, tmp_path, monkeypatch):
    from CARLRegistrationLib.cohort import run

    for name in ("fixed", "moving"):
        addVolume(np.arange(512, dtype=np.int16).reshape(8, 8, 8), np.eye(4), name)
    host.process_events(0.2)
    choose(section.ui.cohortSourceComboBox, "Volumes of the scene")
    section.parameters.cohortFolder = str(tmp_path / "new" / "study")
    section.ui.cohortAllButton.click()
    start = run.CohortTask.start
    wrong = lambda self, arguments, *more: start(self, [*arguments, "--workers", "0"], *more)  # noqa: E731
    monkeypatch.setattr(run.CohortTask, "start", wrong)
    section.ui.cohortRunButton.click()
    host.process_events(until=lambda: section.task is None, timeout=60)
    assert "workers: expected" in section.ui.cohortInfoLabel.text and section.ui.cohortRunButton.enabled
    assert not (tmp_path / "new").exists()
