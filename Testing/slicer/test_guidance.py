"""Guidance in the panel: points, segments and parts to ignore reach the engine, in LPS and by their names."""

import numpy as np
import pytest

from .test_inspect_jacobian import addSegment
from .volumes import addLinear, addVolume


@pytest.fixture
def job(scene, moduleWidget):
    from CARLRegistrationLib.register.job import Job

    array = np.random.default_rng(0).integers(0, 100, (20, 22, 24)).astype(np.int16)
    grid = np.diag([2.0, 2.0, 2.0, 1.0])
    return Job(addVolume(array, grid, "one"), addVolume(array[::-1], grid, "two"))


def points(name, ras, labels):
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
    for place, label in zip(ras, labels, strict=True):
        node.AddControlPoint(*place, label)
    return node


def segmentation(name, segments):
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    for segment, where in segments.items():
        addSegment(node, segment, np.diag([2.0, 2.0, 2.0, 1.0]), where, (20, 22, 24))
    return node


def written(job, folder, **guidance):
    import dataclasses

    from carlreg.cli.main import build_parser
    from CARLRegistrationLib.register.run import writeInputs

    arguments, notes = writeInputs(dataclasses.replace(job, **guidance), folder)
    return build_parser().parse_args(["register", *arguments, "--out", "result"]), notes


def test_points_go_together_by_name_and_in_lps(job, tmp_path):
    from carlreg.io.guide_points import read_guide

    ours = points("ours", [[10, 12, 14], [20, 12, 30]], ["apex", "hilum"])
    others = points("others", [[21, 12, 30], [11, 12, 14]], ["hilum", "apex"])
    parent = addLinear(np.array([[1.0, 0, 0, 5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    others.SetAndObserveTransformNodeID(parent.GetID())
    args, _ = written(job, tmp_path, fixedLandmarks=ours, movingLandmarks=others)
    found = read_guide(tmp_path / args.landmarks_guide)
    assert found.names == ("apex", "hilum")
    np.testing.assert_allclose(found.fixed_lps, [[-10, -12, 14], [-20, -12, 30]])
    np.testing.assert_allclose(found.moving_lps, [[-16, -12, 14], [-26, -12, 30]])


def test_segments_of_the_same_name_get_the_same_number(job, tmp_path):
    import SimpleITK as sitk
    from carlreg.quality.segments import label_names
    from carlreg.volumes import read_labels, volume_from_image

    ours = segmentation("ours", {"liver": np.s_[2:8, 2:8, 2:8], "spleen": np.s_[10:15, 10:15, 10:15]})
    others = segmentation("others", {"heart": np.s_[0:3, 0:3, 0:3], "spleen": np.s_[9:14, 10:15, 10:15]})
    metal = segmentation("metal", {"clip": np.s_[4:6, 4:6, 4:6]})
    args, notes = written(job, tmp_path, fixedSegmentation=ours, movingSegmentation=others, movingIgnore=metal)
    assert notes == ["Only on one side, and no guidance: heart, liver."]
    for name in (args.fixed_segments_guide, args.moving_segments_guide):  # the names go along, for what is recorded
        assert label_names(read_labels(tmp_path / name, volume_from_image(sitk.ReadImage(str(tmp_path / name))))) == {
            1: "spleen"
        }
    arrays = [
        sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / name)))
        for name in (args.fixed_segments_guide, args.moving_segments_guide, args.moving_ignore)
    ]
    assert [sorted(np.unique(array)) for array in arrays] == [[0, 1]] * 3
    assert [int(array.sum()) for array in arrays] == [125, 125, 8]
    assert args.fixed_ignore is None and args.landmarks_guide is None


def test_what_does_not_go_together_is_said_before_the_start(job):
    import dataclasses

    from carlreg.settings import RegistrationSettings
    from CARLRegistrationLib.register.job import problemOf

    two, three = points("two", np.eye(3)[:2], "ab"), points("three", np.eye(3), "abc")
    assert problemOf(job) == ""
    alone = dataclasses.replace(job, fixedLandmarks=two)
    assert problemOf(alone) == "Guidance: choose landmarks of both volumes, or of none."
    unequal = dataclasses.replace(alone, movingLandmarks=three)
    assert problemOf(unequal) == "Guidance: expected as many points in two as in three, got 2 and 3."
    network = dataclasses.replace(unequal, movingLandmarks=two, settings=RegistrationSettings(io_method="network"))
    assert "need the displacement field" in problemOf(network)


def test_the_controls_choose_nodes_and_swap_exchanges_them(job, moduleWidget):
    moduleWidget.enter()
    panel = moduleWidget.panel
    ui, parameters = panel.ui, panel.parameters
    parameters.fixedVolume, parameters.movingVolume = job.fixedVolume, job.movingVolume
    ours, others = points("ours", np.eye(3), "abc"), points("others", np.eye(3), "abc")
    clip = segmentation("clip", {"metal": np.s_[4:6, 4:6, 4:6]})
    assert ui.guidanceCollapsibleButton.collapsed
    ui.fixedLandmarksSelector.setCurrentNode(ours)
    ui.movingLandmarksSelector.setCurrentNode(others)
    ui.fixedIgnoreSelector.setCurrentNode(clip)
    ui.landmarksAccuracySpinBox.value = 0.0
    from CARLRegistrationLib.register.parameters import jobFrom

    found = jobFrom(parameters)
    assert (found.fixedLandmarks, found.movingLandmarks, found.fixedIgnore) == (ours, others, clip)
    assert found.settings.landmarks_accuracy_mm == 0.0
    ui.swapButton.click()
    found = jobFrom(parameters)
    assert (found.fixedLandmarks, found.movingIgnore, found.fixedIgnore) == (others, clip, None)


def test_rigid_and_stiff_segments_reach_the_engine_with_their_names(job, tmp_path):
    import dataclasses

    from carlreg.quality.segments import label_names
    from carlreg.settings import RegistrationSettings
    from CARLRegistrationLib.register.job import problemOf

    bones = segmentation("bones", {"L4": np.s_[2:8, 2:8, 2:8], "L5": np.s_[10:16, 10:16, 10:16]})
    muscle = segmentation("muscle", {"psoas": np.s_[2:8, 12:18, 2:8]})
    reference = bones.GetSegmentation().GetSegmentIdBySegmentName("L5")
    guidance = {"rigidSegmentation": bones, "rigidSegmentationSegment": reference, "stiffSegmentation": muscle}
    args, notes = written(job, tmp_path, **guidance)
    assert notes == [] and args.rigid_reference == "L5"
    import SimpleITK as sitk

    rigid, stiff = (sitk.ReadImage(str(tmp_path / name)) for name in (args.rigid_segments, args.stiff_segments))
    assert label_names(rigid) == {1: "L4", 2: "L5"} and label_names(stiff) == {1: "psoas"}
    assert np.bincount(sitk.GetArrayFromImage(rigid).ravel())[1:].tolist() == [216, 216]
    for settings in (RegistrationSettings(transform="rigid"), RegistrationSettings(symmetric=True)):
        refused = dataclasses.replace(job, settings=settings, **guidance)
        assert "deformable transform that is not symmetric" in problemOf(refused)
    network = dataclasses.replace(job, settings=RegistrationSettings(io_method="network"), stiffSegmentation=muscle)
    assert "need the displacement field" in problemOf(network)


def test_the_reference_is_chosen_among_the_rigid_segments(job, moduleWidget):
    from CARLRegistrationLib.register.parameters import jobFrom

    moduleWidget.enter()
    panel = moduleWidget.panel
    ui, parameters = panel.ui, panel.parameters
    parameters.fixedVolume, parameters.movingVolume = job.fixedVolume, job.movingVolume
    bones = segmentation("bones", {"L4": np.s_[2:8, 2:8, 2:8], "L5": np.s_[10:16, 10:16, 10:16]})
    ui.rigidSegmentationSelector.setCurrentNode(bones)
    box = ui.rigidSegmentationSegmentComboBox
    assert [box.itemText(n) for n in range(box.count)] == ["No reference", "Relative to L4", "Relative to L5"]
    box.currentIndex = 2
    ui.stiffSegmentationSelector.setCurrentNode(bones)
    found = jobFrom(parameters)
    assert (found.rigidSegmentation, found.stiffSegmentation) == (bones, bones)
    assert found.rigidSegmentationSegment == bones.GetSegmentation().GetSegmentIdBySegmentName("L5")
    ui.swapButton.click()  # they are drawn in the volume that was fixed
    found = jobFrom(parameters)
    assert found.rigidSegmentation is None and found.stiffSegmentation is None


def test_motions_become_a_table_in_slicers_axes(job):
    from CARLRegistrationLib.mrml.undo import Undo
    from CARLRegistrationLib.register.result import _motionsTable

    motion = {
        "name": "L4",
        "kind": "rigid",
        "relative_to": "L5",
        "rotation_degrees": 12.0,
        "euler_degrees": [1.0, 2.0, 3.0],
        "translation_lps": [4.0, 5.0, 6.0],
        "translation_mm": 8.775,
        "deviation_max_mm": 0.0001,
    }
    undo = Undo()
    table = _motionsTable(job, [motion], undo).GetTable()
    cells = {table.GetColumnName(n): table.GetValue(0, n).ToString() for n in range(table.GetNumberOfColumns())}
    assert (cells["Segment"], cells["Relative to"], cells["Rotation, degrees"]) == ("L4", "L5", "12.00")
    assert [cells[f"About {axis}, degrees"] for axis in "RAS"] == ["-1.00", "-2.00", "3.00"]
    assert [cells[f"Shift {axis}, mm"] for axis in "RAS"] == ["-4.00", "-5.00", "6.00"]
