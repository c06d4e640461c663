"""Applying a transform to segments, points, curves and surfaces."""

# ruff: noqa: F811 (fixtures that are imported)
from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from .test_apply_run import (  # noqa: F401
    case,
    choices,
    imageOf,
    organs,
    placed,
    run,
    temporary,
)
from .volumes import FLIP, addVolume


def test_segments_stay_segments(case):
    import slicer

    node, grid = organs(case)
    made = run(node, transform=case.transform).made[0][1]
    assert made.GetClassName() == "vtkMRMLSegmentationNode" and made.GetName() == "organs in fixed"
    before, after = node.GetSegmentation(), made.GetSegmentation()
    assert list(after.GetSegmentIDs()) == ["id liver", "id spleen"]
    assert after.GetSegment("id liver").GetColor() == pytest.approx((0.2, 0.4, 0.6))
    for one, tag, value in (("id liver", "TerminologyEntry", "something~told"), ("id spleen", "Mine", "42")):
        from vtk import reference

        found = reference("")
        assert after.GetSegment(one).GetTag(tag, found) and str(found) == value
        assert after.GetSegment(one).GetName() == before.GetSegment(one).GetName()
    assert made.GetDisplayNode().GetSegmentOpacity3D("id spleen") == pytest.approx(0.25)
    for one, part in (("id liver", np.s_[8:24, 10:30, 12:28]), ("id spleen", np.s_[20:34, 8:20, 6:22])):
        array = np.zeros((40, 40, 40), np.uint8)
        array[part] = 1
        image = sitk.GetImageFromArray(array)
        image.SetSpacing([1.5] * 3)
        lps = np.diag(FLIP) @ grid[:3, :3] / 1.5
        image.SetDirection(lps.ravel().tolist())
        image.SetOrigin((grid[:3, 3] * FLIP).tolist())
        expected = sitk.GetArrayFromImage(
            sitk.Resample(image, imageOf(case.fixed), case.itk, sitk.sitkNearestNeighbor, 0)
        )
        found = slicer.util.arrayFromSegmentBinaryLabelmap(made, one, case.fixed)
        assert expected.sum() > 100 and (found > 0).sum() == expected.sum() and np.array_equal(found > 0, expected > 0)
    assert len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == 2


def test_segments_that_share_a_layer_do_so_afterwards(case):
    import slicer

    array = np.zeros((40, 40, 40), np.uint8)
    array[4:12, 10:30, 12:28], array[20:30, 10:30, 12:28] = 1, 2
    grid = placed((40, 40, 40), (1.5, 1.5, 1.5), np.eye(3), case.toMoving([[0, 0, 0]])[0])
    labels = addVolume(array, grid, "labels", "vtkMRMLLabelMapVolumeNode")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "shared")
    slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(labels, node)
    assert node.GetSegmentation().GetNumberOfLayers() == 1
    results = run(node, labels, transform=case.transform).made
    made, expected = results[0][1].GetSegmentation(), slicer.util.arrayFromVolume(results[1][1])
    assert made.GetNumberOfLayers() == 1
    for value, one in enumerate(made.GetSegmentIDs(), start=1):
        found = slicer.util.arrayFromSegmentBinaryLabelmap(results[0][1], one, case.fixed)
        assert np.array_equal(found > 0, expected == value) and (expected == value).sum() > 100


def test_a_segmentation_of_surfaces_is_mapped_point_by_point(case):
    import slicer
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    fixed, _moving = case.inMoving(1)
    sphere = vtk.vtkSphereSource()
    sphere.SetCenter(*case.toMoving(fixed)[0])
    sphere.SetRadius(8)
    sphere.Update()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "surface")
    node.GetSegmentation().SetSourceRepresentationName("Closed surface")
    node.AddSegmentFromClosedSurfaceRepresentation(sphere.GetOutput(), "ball", [0.1, 0.9, 0.1], "ball")
    made = run(node, transform=case.transform).made[0][1]
    assert made.GetSegmentation().GetSourceRepresentationName() == "Closed surface"
    surface = vtk.vtkPolyData()
    made.GetClosedSurfaceRepresentation("ball", surface)
    found = vtk_to_numpy(surface.GetPoints().GetData()).astype(float)
    back = case.toMoving(found)
    distance = np.linalg.norm(back - case.toMoving(fixed)[0], axis=1)
    assert np.abs(distance - 8).max() < 0.05


MARKUPS = ("Fiducial", "Curve", "ClosedCurve", "Line", "Angle")


def test_points_and_curves_follow(case):
    """Against ITK: the mapped points lead back to where they were."""
    import slicer

    nodes = []
    fixed, moving = case.inMoving(12)
    for number, kind in enumerate(MARKUPS):
        node = slicer.mrmlScene.AddNewNodeByClass(f"vtkMRMLMarkups{kind}Node", kind)
        for point in moving[: {"Line": 2, "Angle": 3}.get(kind, 12)].tolist():
            node.AddControlPoint(*point)
        node.SetNthControlPointLabel(0, f"first {number}")
        node.SetNthControlPointDescription(0, "told")
        nodes.append(node)
    result = run(*nodes, transform=case.transform)
    for source, made in result.made:
        assert made.GetClassName() == source.GetClassName() and made.GetName() == f"{source.GetName()} in fixed"
        found = np.array([made.GetNthControlPointPosition(n) for n in range(made.GetNumberOfControlPoints())])
        assert np.linalg.norm(found - fixed[: len(found)], axis=1).max() < 0.01
        assert made.GetNthControlPointLabel(0) == source.GetNthControlPointLabel(0)
        assert made.GetNthControlPointDescription(0) == "told"
        given = np.array([source.GetNthControlPointPosition(n) for n in range(source.GetNumberOfControlPoints())])
        assert np.allclose(given, moving[: len(given)])
    back = run(result.made[0][1], transform=case.transform, direction=choices().ApplyDirection.TO_MOVING).made[0][1]
    found = np.array([back.GetNthControlPointPosition(n) for n in range(12)])
    assert np.linalg.norm(found - moving, axis=1).max() < 0.01


def test_planes_and_boxes_follow_as_well_as_they_can(case):
    import slicer

    fixed, moving = case.inMoving(1)
    plane = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsPlaneNode", "plane")
    plane.SetOrigin(*moving[0])
    normal = np.array([0.0, 0.6, 0.8])
    plane.SetNormal(*normal)
    box = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    box.SetCenter(*moving[0])
    box.SetSize(10, 12, 14)
    result = run(plane, box, transform=case.transform)
    (_p, newPlane), (_b, newBox) = result.made
    assert result.notes == ["box: a box stays a box, it was turned and scaled as at its center."]
    assert np.allclose(newPlane.GetOrigin(), fixed[0], atol=0.01) and np.allclose(
        newBox.GetCenter(), fixed[0], atol=0.01
    )
    # a normal goes with the transposed Jacobian: here by differences of ITK's map
    step = np.eye(3) * 0.5
    jacobian = np.stack([case.toMoving(fixed[0] + s)[0] - case.toMoving(fixed[0] - s)[0] for s in step], axis=1)
    expected = jacobian.T @ normal
    angle = np.degrees(np.arccos(abs(expected @ newPlane.GetNormal()) / np.linalg.norm(expected)))
    assert angle < 1.0
    assert np.prod(newBox.GetSize()) == pytest.approx(10 * 12 * 14 / np.linalg.det(jacobian), rel=0.05)


def test_models_follow_with_their_colors_and_arrays(case):
    import slicer
    import vtk

    _fixed, moving = case.inMoving(1)
    sphere = vtk.vtkSphereSource()
    sphere.SetCenter(*moving[0])
    sphere.SetRadius(9)
    sphere.Update()
    model = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", "tumor")
    model.SetAndObservePolyData(sphere.GetOutput())
    model.CreateDefaultDisplayNodes()
    model.GetDisplayNode().SetColor(0.9, 0.1, 0.3)
    before = slicer.util.arrayFromModelPoints(model).astype(float)
    made = run(model, transform=case.transform).made[0][1]
    found = slicer.util.arrayFromModelPoints(made).astype(float)
    assert np.linalg.norm(case.toMoving(found) - before, axis=1).max() < 0.05
    assert made.GetDisplayNode().GetColor() == pytest.approx((0.9, 0.1, 0.3))
    assert np.array_equal(before, slicer.util.arrayFromModelPoints(model))
