"""Inspect: determinants, folds and volume change against analytic maps."""

import numpy as np
import pytest

from .volumes import DIRECTIONS, addLinear, addVolume, matrix, rotation

SPACING = (1.5, 2.0, 2.5)
SIZE = (26, 22, 18)  # i, j, k


def gridOf(direction):
    size, spacing = np.array(SIZE), np.array(SPACING)
    return matrix(DIRECTIONS[direction], SPACING, -DIRECTIONS[direction] @ (spacing * (size - 1) / 2))


def wave(points, height=4.0, length=60.0):
    """x + height sin(2 pi x / length) along each axis, and the determinant of that map."""
    phase = 2 * np.pi * points / length
    return points + height * np.sin(phase), np.prod(1 + height * 2 * np.pi / length * np.cos(phase), axis=-1)


def addField(displace, reach=60.0, nodes=61):
    """A transform node whose map of world points (from parent) is x + displace(x) on a grid of nodes."""
    import slicer
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    step = 2 * reach / (nodes - 1)
    axis = -reach + step * np.arange(nodes)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)[..., ::-1].reshape(-1, 3)
    image = vtk.vtkImageData()
    image.SetDimensions(nodes, nodes, nodes)
    image.SetOrigin(-reach, -reach, -reach)
    image.SetSpacing(step, step, step)
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(displace(points)), deep=True))
    grid = slicer.vtkOrientedGridTransform()
    grid.SetDisplacementGridData(image)
    grid.SetInterpolationModeToCubic()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "field")
    node.SetAndObserveTransformFromParent(grid)
    return node


def caseOf(direction, transform):
    from CARLRegistrationLib.inspect.case import Case

    fixed = addVolume(np.zeros(SIZE[::-1], np.int16), gridOf(direction), "fixed")
    moving = addVolume(np.ones((9, 9, 9), np.int16), matrix(np.eye(3), (9, 9, 9), (-36, -36, -36)), "moving")
    return Case(fixed, moving, transform)


def worldPoints(direction):
    i, j, k = (np.arange(n) for n in SIZE)
    index = np.stack(np.meshgrid(k, j, i, indexing="ij"), axis=-1)[..., ::-1]
    grid = gridOf(direction)
    return index @ grid[:3, :3].T + grid[:3, 3]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_determinant_is_the_analytic_one(scene, moduleWidget, direction):
    from CARLRegistrationLib.inspect.jacobian import determinant

    case = caseOf(direction, addField(lambda p: wave(p)[0] - p))
    found, lattice, step = determinant(case)
    assert step == 1 and np.allclose(lattice, gridOf(direction))
    expected = wave(worldPoints(direction))[1]
    inner = (slice(1, -1),) * 3
    assert expected.std() > 0.1  # it varies
    assert np.abs(found - expected)[inner].max() < 0.02


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_turning_keeps_volume_and_scaling_does_not(scene, moduleWidget, direction):
    from CARLRegistrationLib.inspect.jacobian import determinant

    turn = np.eye(4)
    turn[:3, :3] = np.linalg.inv(rotation((1, 2, 3), 70) * 1.1)
    found, _lattice, _step = determinant(caseOf(direction, addLinear(turn)))
    assert np.abs(found - 1.1**3).max() < 1e-4


def test_large_volumes_are_sampled_more_coarsely(scene, moduleWidget, monkeypatch):
    from CARLRegistrationLib.inspect import jacobian as inspect_jacobian

    case = caseOf("oblique", addField(lambda p: wave(p)[0] - p))
    monkeypatch.setattr(inspect_jacobian, "_LARGEST_LATTICE", 2000)
    node, note = inspect_jacobian.addJacobian(case)
    assert "every 2. voxel" in note or "every 3. voxel" in note
    from CARLRegistrationLib.mrml.geometry import rasFromIjk

    values, grid = inspect_jacobian.slicer.util.arrayFromVolume(node), rasFromIjk(node)
    middle = tuple(n // 2 for n in values.shape)
    point = grid[:3, :3] @ np.array(middle[::-1]) + grid[:3, 3]
    assert values[middle] == pytest.approx(wave(point)[1], rel=0.05)


@pytest.mark.parametrize("direction", ["RAS", "LPS", "oblique"])
def test_folds_are_found_where_the_map_folds(scene, moduleWidget, direction):
    """Two bumps that fold, at known places; their numbers, volumes and positions."""
    from CARLRegistrationLib.inspect import jacobian as inspect_jacobian

    centers = np.array([[8.0, -6, 4], [-9.0, 8, -5]])
    widths = (5.0, 3.5)

    def displace(points):
        moved = np.zeros_like(points)
        for center, width in zip(centers, widths, strict=True):
            away = points - center
            moved[:, 0] -= 1.6 * away[:, 0] * np.exp(-0.5 * (away**2).sum(axis=1) / width**2)
        return moved

    case = caseOf(direction, addField(displace, reach=40.0, nodes=81))
    node, note = inspect_jacobian.addJacobian(case)
    assert note == ""
    values = inspect_jacobian.slicer.util.arrayFromVolume(node)
    found = inspect_jacobian.folds(node)
    assert [fold.number for fold in found] == [1, 2] and found[0].volume_mm3 > found[1].volume_mm3
    assert sum(fold.voxels for fold in found) == int((values <= 0).sum())
    assert found[0].volume_mm3 == pytest.approx(found[0].voxels * np.prod(SPACING))
    for fold, center in zip(found, centers, strict=True):
        assert np.linalg.norm(np.array(fold.position_ras) - center) < 2.2 and fold.lowest < -0.2


def test_fold_positions_are_in_the_world(scene, moduleWidget):
    """The fixed volume, and with it its Jacobian, under a parent transform."""
    from CARLRegistrationLib.inspect import jacobian as inspect_jacobian

    values = np.ones((9, 9, 9), np.float32)
    values[2, 3, 4] = 0.0
    node = addVolume(values, matrix(np.eye(3), (2, 2, 2), (0, 0, 0)))
    move = np.eye(4)
    move[:3, 3] = (100, -50, 7)
    node.SetAndObserveTransformNodeID(addLinear(move).GetID())
    (fold,) = inspect_jacobian.folds(node)
    assert fold.position_ras == pytest.approx((108, -44, 11)) and fold.volume_mm3 == pytest.approx(8)
    node.SetAndObserveTransformNodeID(None)
    values[:] = 1
    assert inspect_jacobian.folds(addVolume(values, np.eye(4))) == []


def test_log_layer_keeps_folds_apart(moduleWidget):
    from CARLRegistrationLib.mrml import colors as inspect_colors

    values = np.array([0.5, 1.0, 2.0, 1e-6, 0.0, -3.0], np.float32)
    layer = inspect_colors.logLayer(values)
    assert layer[:3] == pytest.approx([-1, 0, 1])
    scale = inspect_colors.logScale()
    colors = [int((v - scale.low) / (scale.high - scale.low) * 256) for v in layer]
    assert colors[3] == 1 and colors[4] == colors[5] == 0
    table = scale.colors()
    assert tuple(table[0, :3]) == inspect_colors.FOLD_COLOR
    assert table[128, :3].min() > 0.97  # white where nothing changes
    assert table[20, 2] > table[20, 0] + 0.3 and table[240, 0] > table[240, 2] + 0.3


# --- segments


@pytest.fixture
def segments(scene, moduleWidget):
    """Half of a volume each, one empty, one elsewhere; and a Jacobian of 0.9 in one half, 1.2 in the other."""
    import slicer

    grid = gridOf("oblique")
    jacobian = np.full(SIZE[::-1], 0.9, np.float32)
    jacobian[:, :, 13:] = 1.2
    jacobian[0, 0, 13:] = -0.1
    node = addVolume(jacobian, grid, "jacobian")
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "organs")
    for name, part in (("liver", np.s_[:, :, :13]), ("lung", np.s_[:, :, 13:])):
        addSegment(segmentation, name, grid, part)
    segmentation.GetSegmentation().AddEmptySegment("id empty", "nothing")
    return node, segmentation


def addSegment(segmentation, name, grid, part, size=SIZE):
    import slicer
    from CARLRegistrationLib.mrml.geometry import matrixFrom
    from vtk.util.numpy_support import numpy_to_vtk

    array = np.zeros(size[::-1], np.uint8)
    array[part] = 1
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(*size)
    image.GetPointData().SetScalars(numpy_to_vtk(array.ravel(), deep=True))
    image.SetImageToWorldMatrix(matrixFrom(grid))
    segment = slicer.vtkSegment()
    segment.SetName(name)
    kind = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    segment.AddRepresentation(kind, image)
    segmentation.GetSegmentation().AddSegment(segment, f"id {name}")


def test_volume_change_of_each_segment(segments):
    from CARLRegistrationLib.inspect.jacobian import segmentChanges

    found, without = segmentChanges(*segments)
    liver, lung = found
    assert without == ["nothing"] and (liver.name, lung.name) == ("liver", "lung")
    assert liver.change_percent == pytest.approx(-10, abs=1e-3) and liver.sd == pytest.approx(0, abs=1e-5)
    voxel = float(np.prod(SPACING))
    assert liver.volume_mm3 == pytest.approx(13 * 22 * 18 * voxel, rel=1e-6)
    half = np.full((18, 22, 13), 1.2)
    half[0, 0] = -0.1
    assert lung.mean == pytest.approx(half.mean(), abs=1e-5) and lung.sd == pytest.approx(half.std(), abs=1e-5)
    assert lung.percentiles == pytest.approx({5: 1.2, 50: 1.2, 95: 1.2}) and lung.folded_voxels == 13


def test_segmentations_that_say_nothing(segments):
    import slicer
    from CARLRegistrationLib.common.errors import RegistrationError
    from CARLRegistrationLib.inspect.jacobian import segmentChanges

    node, _segmentation = segments
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "blank")
    with pytest.raises(RegistrationError, match="blank has no segments"):
        segmentChanges(node, empty)
    far = gridOf("RAS")
    far[:3, 3] += 1000
    addSegment(empty, "far", far, np.s_[:, :, :])
    with pytest.raises(RegistrationError, match="empty or lie outside"):
        segmentChanges(node, empty)
