"""Placing, hardening, sequences, the way back, what is said when it cannot be done, and the subject hierarchy."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from .test_apply_run import (  # noqa: F401
    MOVING_SIZE,
    SIZE,
    case,
    choices,
    ids,
    imageOf,
    organs,
    picture,
    placed,
    run,
    temporary,
)
from .volumes import addLinear, rotation


def method(name):
    return getattr(choices().ApplyMethod, name)


def toMoving():
    return choices().ApplyDirection.TO_MOVING


def points(node):
    return np.array([node.GetNthControlPointPosition(n) for n in range(node.GetNumberOfControlPoints())])


def worldPoints(node):
    found = []
    for n in range(node.GetNumberOfControlPoints()):
        at = [0.0] * 3
        node.GetNthControlPointPositionWorld(n, at)
        found.append(at)
    return np.array(found)


def landmarks(positions, name="landmarks", kind="Fiducial"):
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass(f"vtkMRMLMarkups{kind}Node", name)
    for position in np.asarray(positions).tolist():
        node.AddControlPoint(*position)
    return node


def sphere(center, radius=8.0, name="model"):
    import slicer
    import vtk

    source = vtk.vtkSphereSource()
    source.SetCenter(*center)
    source.SetRadius(radius)
    source.Update()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", name)
    node.SetAndObservePolyData(source.GetOutput())
    return node


def hardenedBySlicer(node, transform):
    """A clone, hardened by Slicer itself."""
    import slicer

    clone = slicer.mrmlScene.AddNewNodeByClass(node.GetClassName(), "clone")
    clone.CopyContent(node, True)
    clone.SetAndObserveTransformNodeID(transform.GetID())
    clone.HardenTransform()
    return clone


def voxels(segmentation, one, reference):
    import slicer

    return slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, one, reference)


# --- hardening


def test_hardened_copies_are_as_slicer_hardens(case):  # noqa: F811
    import slicer

    _fixed, moving = case.inMoving(9)
    organ, _grid = organs(case)
    nodes = [case.moving, landmarks(moving), sphere(moving[0]), organ]
    before = [slicer.util.arrayFromVolume(case.moving).copy(), points(nodes[1])]
    made = [new for _old, new in run(*nodes, transform=case.transform, method=method("HARDEN")).made]
    expected = [hardenedBySlicer(node, case.transform) for node in nodes]
    assert np.array_equal(slicer.util.arrayFromVolume(made[0]), slicer.util.arrayFromVolume(expected[0]))
    assert np.allclose(imageOf(made[0]).GetOrigin(), imageOf(expected[0]).GetOrigin())
    assert np.abs(points(made[1]) - points(expected[1])).max() < 1e-9
    found, wanted = (slicer.util.arrayFromModelPoints(n) for n in (made[2], expected[2]))
    assert np.array_equal(found, wanted)
    for one in ("id liver", "id spleen"):
        assert np.array_equal(*(voxels(n, one, case.fixed) for n in (made[3], expected[3])))
        assert voxels(made[3], one, case.fixed).sum() > 100
    assert np.array_equal(before[0], slicer.util.arrayFromVolume(case.moving))
    assert np.array_equal(before[1], points(nodes[1]))
    assert all(node.GetParentTransformNode() is None for node in (*nodes, *made))


def test_hardened_by_a_matrix_voxels_stay_as_they_are(case):  # noqa: F811
    import slicer

    shift = np.eye(4)
    shift[:3, :3] = rotation((1, 0, 2), 30)
    shift[:3, 3] = (5, 6, 7)
    transform = addLinear(shift, "rigid")
    made = run(case.moving, transform=transform, method=method("HARDEN")).made[0][1]
    assert np.array_equal(slicer.util.arrayFromVolume(made), slicer.util.arrayFromVolume(case.moving))
    from CARLRegistrationLib.mrml.geometry import rasFromIjk

    assert np.allclose(rasFromIjk(made), shift @ rasFromIjk(case.moving))
    back = run(made, transform=transform, method=method("HARDEN"), direction=toMoving()).made[0][1]
    assert np.allclose(rasFromIjk(back), rasFromIjk(case.moving))


def test_in_place_and_back(case, scene):  # noqa: F811
    import slicer
    from CARLRegistrationLib.apply.job import ApplyJob
    from CARLRegistrationLib.apply.run import Applying
    from CARLRegistrationLib.common.polling import waitFor

    fixed, moving = case.inMoving(9)
    organ, _grid = organs(case)
    parent = addLinear(np.diag([1.0, 1, 1, 1]), "nothing")
    nodes = [case.moving, landmarks(moving), sphere(moving[0]), organ]
    nodes[1].SetAndObserveTransformNodeID(parent.GetID())
    before = ids(scene)
    state = (
        slicer.util.arrayFromVolume(nodes[0]).copy(),
        points(nodes[1]),
        slicer.util.arrayFromModelPoints(nodes[2]).copy(),
        voxels(organ, "id liver", case.moving).copy(),
    )
    job = ApplyJob(tuple(nodes), case.transform, method=method("HARDEN"), inPlace=True)
    applying = Applying(job)
    applying.start()
    result = waitFor(applying)
    assert all(old is new for old, new in result.made) and ids(scene) == before
    assert np.linalg.norm(points(nodes[1]) - fixed, axis=1).max() < 0.01
    assert nodes[1].GetParentTransformNode() is None
    assert not np.array_equal(slicer.util.arrayFromVolume(nodes[0]), state[0])
    applying.undo.apply()
    assert ids(scene) == before and nodes[1].GetParentTransformNode() is parent
    after = (
        slicer.util.arrayFromVolume(nodes[0]),
        points(nodes[1]),
        slicer.util.arrayFromModelPoints(nodes[2]),
        voxels(organ, "id liver", case.moving),
    )
    assert all(np.array_equal(a, b) for a, b in zip(state, after, strict=True))


# --- placing


def test_placed_and_taken_out_again(case, scene):  # noqa: F811
    from CARLRegistrationLib.apply.job import ApplyJob
    from CARLRegistrationLib.apply.run import Applying
    from CARLRegistrationLib.common.polling import waitFor

    fixed, moving = case.inMoving(9)
    alone, other = landmarks(moving, "alone"), landmarks(moving, "couch points")
    shift = np.eye(4)
    shift[:3, 3] = (3, -4, 5)
    couch = addLinear(shift, "couch")
    for node in (other, case.moving):
        node.SetAndObserveTransformNodeID(couch.GetID())
    before = ids(scene)
    applying = Applying(ApplyJob((alone, other), case.transform, method=method("PLACE")))
    applying.start()
    result = waitFor(applying)
    assert alone.GetParentTransformNode() is case.transform
    assert np.linalg.norm(worldPoints(alone) - fixed, axis=1).max() < 0.01
    assert np.array_equal(points(alone), moving)
    # what it was under counts, and what else is there is left alone
    assert case.moving.GetParentTransformNode() is couch and couch.GetParentTransformNode() is None
    above = other.GetParentTransformNode()
    assert above.GetName() == "couch under moving to fixed" and above.GetParentTransformNode() is case.transform
    assert np.linalg.norm(case.toMoving(worldPoints(other)) - moving - np.array([3, -4, 5]), axis=1).max() < 0.05
    again = run(alone, transform=case.transform, method=method("PLACE"))
    assert again.notes == ["alone is under moving to fixed already."]
    assert result.notes == []
    applying.undo.apply()
    assert ids(scene) == before
    assert alone.GetParentTransformNode() is None and other.GetParentTransformNode() is couch


def test_placed_the_other_way(case, scene):  # noqa: F811
    import slicer

    fixed, moving = case.inMoving(9)
    first, second = landmarks(fixed, "first"), landmarks(fixed, "second")
    run(first, second, transform=case.transform, method=method("PLACE"), direction=toMoving())
    above = first.GetParentTransformNode()
    assert above is second.GetParentTransformNode() and above.GetName() == "moving to fixed (inverse)"
    assert np.linalg.norm(worldPoints(first) - moving, axis=1).max() < 0.01
    kind = slicer.vtkMRMLTransformNode
    assert above.GetNodeReference(kind.GetFixedNodeReferenceRole()) is case.moving
    assert above.GetNodeReference(kind.GetMovingNodeReferenceRole()) is case.fixed
    # the next one takes what is there
    third = landmarks(fixed, "third")
    before = ids(scene)
    run(third, transform=case.transform, method=method("PLACE"), direction=toMoving())
    assert third.GetParentTransformNode() is above and ids(scene) == before
    # a copy of the transform may change without changing the inverse
    case.transform.SetMatrixTransformToParent(slicer.vtkMRMLTransformNode().GetMatrixTransformToParent() or _identity())
    assert np.linalg.norm(worldPoints(first) - moving, axis=1).max() < 0.01


def _identity():
    import vtk

    return vtk.vtkMatrix4x4()


# --- sequences


def sequence(case, count=3, browse=True, node=None):  # noqa: F811
    """Frames that grow brighter."""
    import slicer

    made = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "breathing")
    made.SetIndexName("phase")
    made.SetIndexUnit("%")
    array = slicer.util.arrayFromVolume(case.moving).astype(np.float32)
    for n in range(count):
        frame = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScalarVolumeNode")
        frame.UnRegister(None)
        frame.CopyContent(case.moving, True)
        frame.SetName(f"frame {n}")
        slicer.util.updateVolumeFromArray(frame, array * (n + 1))
        made.SetDataNodeAtValue(frame, str(25 * n))
    if not browse:
        return made, None
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.SetAndObserveMasterSequenceNodeID(made.GetID())
    return made, browser


@pytest.mark.parametrize("browse", [True, False])
def test_a_sequence_frame_by_frame(case, scene, browse):  # noqa: F811
    import slicer
    from CARLRegistrationLib.apply.job import ApplyJob
    from CARLRegistrationLib.apply.run import Applying
    from CARLRegistrationLib.common.polling import waitFor

    given, browser = sequence(case, browse=browse)
    before = ids(scene)
    applying = Applying(ApplyJob((given,), case.transform))
    applying.start()
    made = waitFor(applying).made[0][1]
    assert made.GetClassName() == "vtkMRMLSequenceNode" and made.GetName() == "breathing in fixed"
    assert made.GetNumberOfDataNodes() == 3 and made.GetIndexName() == "phase" and made.GetIndexUnit() == "%"
    assert [made.GetNthIndexValue(n) for n in range(3)] == ["0", "25", "50"]
    for n in range(3):
        expected = sitk.GetArrayFromImage(
            sitk.Resample(imageOf(given.GetNthDataNode(n)), imageOf(case.fixed), case.itk, sitk.sitkLinear, -1e9)
        )
        found = slicer.util.arrayFromVolume(made.GetNthDataNode(n))
        assert np.abs(found - expected)[expected > -1e8].max() < 0.3
    if browse:  # both play together
        assert browser.IsSynchronizedSequenceNode(made.GetID())
        proxy = browser.GetProxyNode(made)
        for n in (2, 1):
            browser.SetSelectedItemNumber(n)
            assert np.array_equal(
                slicer.util.arrayFromVolume(proxy), slicer.util.arrayFromVolume(made.GetNthDataNode(n))
            )
    else:
        assert [b.GetMasterSequenceNode() for b in slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode")] == [made]
    applying.undo.apply()
    assert ids(scene) == before
    if browse:
        assert browser.GetNumberOfSynchronizedSequenceNodes(True) == 1


def test_a_sequence_counts_where_it_is_shown_and_can_be_placed(case):  # noqa: F811
    import slicer

    given, browser = sequence(case)
    proxy = browser.GetProxyNode(given)
    plain = slicer.util.arrayFromVolume(run(given, transform=case.transform).made[0][1].GetNthDataNode(1)).copy()
    shift = np.eye(4)
    shift[:3, 3] = (3.0, 6.0, -9.0)
    proxy.SetAndObserveTransformNodeID(addLinear(shift, "couch").GetID())
    moved = slicer.util.arrayFromVolume(run(given, transform=case.transform).made[0][1].GetNthDataNode(1))
    assert np.abs(moved - plain).max() > 100
    proxy.SetAndObserveTransformNodeID(None)
    run(given, transform=case.transform, method=method("PLACE"))
    assert proxy.GetParentTransformNode() is case.transform
    again = slicer.util.arrayFromVolume(run(given, transform=case.transform).made[0][1].GetNthDataNode(1))
    assert np.array_equal(again, plain)


def test_a_sequence_of_points(case):  # noqa: F811
    import slicer

    fixed, moving = case.inMoving(5)
    given = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "tips")
    for n in range(3):
        frame = landmarks(moving + n if n < 2 else [], f"tip {n}")  # not seen in the last one
        given.SetDataNodeAtValue(frame, str(n))
        slicer.mrmlScene.RemoveNode(frame)
    made = run(given, transform=case.transform).made[0][1]
    assert made.GetNumberOfDataNodes() == 3 and made.GetNthDataNode(2).GetNumberOfControlPoints() == 0
    assert np.linalg.norm(points(made.GetNthDataNode(0)) - fixed, axis=1).max() < 0.01
    back = case.toMoving(points(made.GetNthDataNode(1)))
    assert np.linalg.norm(back - moving - 1, axis=1).max() < 0.05
