"""The panel while a map is optimized: the map in the views, the curve, and Stop here."""

# ruff: noqa: F811 (fixtures that are imported)
from __future__ import annotations

import os

import numpy as np
import pytest
import SimpleITK as sitk

from .test_panel import blank, isShown, pair, panel, waitForEnd, waitForStage  # noqa: F401
from .volumes import addLinear, addVolume

SHIFT_LPS = (10.0, -20.0, 30.0)


def showMap(panel, shift=SHIFT_LPS) -> None:
    """A map as the engine writes it: points of the fixed volume are shifted, LPS mm."""
    folder = panel.logic._registration.task.folder
    affine = sitk.AffineTransform(3)
    affine.SetTranslation(shift)
    field = sitk.Image([4, 4, 4], sitk.sitkVectorFloat64)
    field.SetSpacing([100.0] * 3)
    sitk.WriteTransform(
        sitk.CompositeTransform([affine, sitk.DisplacementFieldTransform(field)]), str(folder / "part.h5")
    )
    os.replace(folder / "part.h5", folder / "map.h5")


def layers():
    from CARLRegistrationLib.mrml import views

    return [
        (c.GetBackgroundVolumeID(), c.GetForegroundVolumeID(), c.GetForegroundOpacity()) for _s, c in views.sliceViews()
    ]


def front():
    """What all slice views show in front."""
    import slicer

    (nodeId,) = {foreground for _back, foreground, _opacity in layers()}
    return slicer.mrmlScene.GetNodeByID(nodeId) if nodeId else None


@pytest.fixture
def before(panel):
    """What the views show before a run: something else."""
    from CARLRegistrationLib.mrml import views

    views.showLayers(blank("back"), blank("front"), 0.25)
    return layers()


@pytest.fixture
def running(host, panel, pair, before, heldEngine):
    """A run whose optimization goes on, after its first map."""
    panel.ui.applyButton.click()
    waitForStage(host, panel, ": step")
    assert layers() == before
    showMap(panel)
    host.process_events(until=lambda: panel.preview.shown)
    return pair


def seen(node, point_ras) -> np.ndarray:
    """Where a place of the world is looked up in a volume, RAS mm of its own."""
    import vtk

    found = vtk.vtkGeneralTransform()
    node.GetParentTransformNode().GetTransformFromWorld(found)
    return np.array(found.TransformPoint(point_ras))


def test_the_views_follow_the_map(host, panel, running):
    import slicer

    fixed, moving = running
    shown = front()
    assert {back for back, _front, _opacity in layers()} == {fixed.GetID()}
    assert shown is not moving and shown.GetImageData() is moving.GetImageData()
    assert shown.GetHideFromEditors() and not shown.GetSaveWithScene()
    assert moving.GetParentTransformNode() is None
    np.testing.assert_allclose(seen(shown, (1, 2, 3)), [1 - 10, 2 + 20, 3 + 30])  # LPS turned to RAS
    transforms = slicer.util.getNodesByClass("vtkMRMLTransformNode")
    showMap(panel, (0, 0, 7))
    host.process_events(until=lambda: seen(shown, (1, 2, 3))[2] < 20)
    np.testing.assert_allclose(seen(shown, (1, 2, 3)), [1, 2, 10])
    assert front() is shown and slicer.util.getNodesByClass("vtkMRMLTransformNode") == transforms


def temporary() -> list:
    import slicer

    return [
        node.GetName()
        for node in slicer.util.getNodesByClass("vtkMRMLNode")
        if node.GetAttribute("CARLRegistration.Temporary")
    ]


def end(host, panel, how) -> None:
    import signal

    if how == "cancel":
        panel.ui.applyButton.click()
    elif how == "error":
        os.killpg(panel.logic._registration.task.process.pid, signal.SIGKILL)
    else:
        panel.logic.abort()
    waitForEnd(host, panel)


@pytest.mark.parametrize(
    "how", ["cancel", pytest.param("error", marks=pytest.mark.skipif(os.name == "nt", reason="POSIX")), "abort"]
)
def test_afterwards_the_views_are_as_before(host, panel, before, running, how):
    assert layers() != before and temporary() and panel.parameters.parameterNode.GetParameter("inspectFormerViews")
    end(host, panel, how)
    assert layers() == before and temporary() == [] and not panel.preview.shown
    assert not panel.parameters.parameterNode.GetParameter("inspectFormerViews")


def test_a_view_that_the_user_has_changed_is_left_alone(host, panel, before, running):
    import slicer
    from CARLRegistrationLib.mrml import views

    mine = blank("mine")
    views.sliceViews()[0][1].SetForegroundVolumeID(mine.GetID())
    showMap(panel)
    host.process_events(0.4)
    assert views.sliceViews()[0][1].GetForegroundVolumeID() == mine.GetID()
    panel.logic.abort()
    first, *others = layers()
    assert first[1] == mine.GetID() and others == before[1:]
    assert slicer.mrmlScene.IsNodePresent(mine)


def test_a_scene_that_is_closed_takes_it_along(host, panel, running):
    host.close_scene()
    assert not panel.logic.isRunning and not panel.preview.shown and temporary() == []


def test_while_another_module_is_shown_the_views_are_its_own(host, panel, before, running, moduleWidget):
    moduleWidget.exit()
    assert layers() == before
    showMap(panel)
    host.process_events(0.4)
    assert layers() == before
    moduleWidget.enter()
    showMap(panel, (0, 0, 1))
    host.process_events(until=lambda: panel.preview.shown)
    assert layers() != before


def test_whoever_remembers_the_views_remembers_what_was_before(panel, before, running):
    from CARLRegistrationLib.inspect.snapshot import Snapshot

    kept = Snapshot.take()
    assert layers() == before and not panel.preview.shown
    assert [one[:2] for one in before] == [one[:2] for one in kept.layers.values()]


def test_a_volume_under_a_transform_is_seen_where_the_map_says(host, panel, pair, before, heldEngine):
    """The map is one of the world: its points are led on to the volume's own."""
    parent = addLinear(np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 100.0], [0, 0, 0, 1]]), "parent")
    pair[1].SetAndObserveTransformNodeID(parent.GetID())
    panel.ui.applyButton.click()
    waitForStage(host, panel, ": step")
    showMap(panel, (0, 0, 7))
    host.process_events(until=lambda: panel.preview.shown)
    np.testing.assert_allclose(seen(front(), (1, 2, 3)), [1, 2, 3 + 7 - 100])
    panel.logic.abort()
    assert pair[1].GetParentTransformNode() is parent


def test_views_that_look_elsewhere_are_brought_to_the_fixed_volume_and_back(host, panel, pair, before, heldEngine):
    from CARLRegistrationLib.mrml import views
    from CARLRegistrationLib.mrml.preview import boundsOf

    for sliceNode, _composite in views.sliceViews():
        sliceNode.JumpSliceByCentering(0, 0, 5000)
    was = views.remember()
    panel.ui.applyButton.click()
    waitForStage(host, panel, ": step")
    showMap(panel)
    host.process_events(until=lambda: panel.preview.shown)
    box = boundsOf(pair[0])
    for sliceNode, _composite in views.sliceViews():
        middle = np.array([sliceNode.GetSliceToRAS().GetElement(i, 3) for i in range(3)])
        assert (box[0] <= middle).all() and (middle <= box[1]).all()
    panel.logic.abort()
    now = views.remember()
    assert all(np.allclose(now.slices[key][0], was.slices[key][0]) for key in was.slices)


def test_without_the_switch_the_views_are_left_alone(host, panel, pair, before, heldEngine):
    panel.ui.showProgressCheckBox.click()
    panel.ui.applyButton.click()
    waitForStage(host, panel, ": step")
    assert "--preview" not in panel.logic._registration._arguments
    panel.logic.abort()
    panel.ui.showProgressCheckBox.click()
    panel.ui.applyButton.click()
    waitForStage(host, panel, ": step")
    words = panel.logic._registration._arguments
    assert words[words.index("--preview") + 1] == "map.h5"


def test_stop_here_finishes_with_what_there_is(host, panel, pair, heldEngine):
    ui = panel.ui
    assert not isShown(ui.stopButton)
    ui.applyButton.click()
    assert isShown(ui.stopButton) and not ui.stopButton.enabled
    waitForStage(host, panel, ": step")
    host.process_events(until=lambda: ui.stopButton.enabled)
    ui.stopButton.click()
    assert ui.stopButton.text == "Stopping ..." and not ui.stopButton.enabled
    waitForEnd(host, panel)
    assert ui.resultLabel.text.startswith("Done in ") and not isShown(ui.stopButton)
    assert "transform" in panel.results.result.nodes and ui.stopButton.text == "Sto&p here"


def test_the_curve_is_drawn(host, panel):
    """Rising at two resolutions: blue, the later to the right, both rising from the bottom."""
    from CARLRegistrationLib.register.curve import Curve

    ui = panel.ui
    curve = Curve(ui.curveLabel, ui.curveInfoLabel)
    assert not isShown(ui.curveLabel)
    values = [0.5, 0.7, 0.8, 0.85, 0.3, 0.5, 0.6]
    for n, value in enumerate(values):
        curve._drawn = 0.0
        curve.add({"done": n + 1, "total": 10, "similarity": value, "level": int(n > 3)})
    picture = curve._drawing().toImage()
    blue = np.array(
        [
            [
                picture.pixelColor(x, y).blue() > 1.5 * picture.pixelColor(x, y).red()
                and picture.pixelColor(x, y).alpha() > 100
                for x in range(picture.width())
            ]
            for y in range(picture.height())
        ]
    )
    columns = np.flatnonzero(blue.any(axis=0))
    assert columns.min() < 10 and 0.6 < columns.max() / picture.width() < 0.72  # 7 of 10 steps
    height = {x: picture.height() - np.flatnonzero(blue[:, x]).mean() for x in columns}
    assert height[columns[0]] < 10 and height[columns[-1]] > 35
    gap = columns[np.flatnonzero(np.diff(columns) > 5)]
    assert len(gap) == 1 and height[gap[0]] > 55  # between the resolutions
    assert ui.curveInfoLabel.text == "Similarity at this resolution: 0.300 at first, 0.600 now"
    curve.clear()
    assert not isShown(ui.curveLabel) and not isShown(ui.curveInfoLabel)


def test_bounds_are_those_of_the_world(scene):
    from CARLRegistrationLib.mrml.preview import boundsOf

    volume = addVolume(np.zeros((4, 6, 8), np.int16), np.diag([-1.0, -1.0, 2.0, 1.0]))
    np.testing.assert_allclose(boundsOf(volume), [[-7.5, -5.5, -1], [0.5, 0.5, 7]])
