"""Nodes to files and back; the oracles are SimpleITK and Slicer's own nodes."""

import numpy as np
import pytest
import SimpleITK as sitk

from .volumes import DIRECTIONS, FLIP, addLinear, addVolume, addWarp, composite, matrix, rotation

SPACING, ORIGIN, SHAPE = (0.8, 1.5, 3.0), (12.0, -34.0, 56.0), (7, 9, 11)  # shape: k, j, i


@pytest.fixture
def mrml(scene, moduleWidget):
    """The room of nodes and files, with its parts."""
    import CARLRegistrationLib.mrml as found
    from CARLRegistrationLib.mrml import geometry, segmentations, transforms, volumes  # noqa: F401

    return found


def numbered(shape=SHAPE):
    return np.arange(np.prod(shape), dtype=np.int16).reshape(shape)


def assertSamePlaces(image, array, rasFromIjk):
    """Every voxel lies in the file where it lies in the world."""
    read = sitk.GetArrayFromImage(image)
    for k, j, i in np.ndindex(array.shape):
        ras = rasFromIjk @ [i, j, k, 1]
        index = image.TransformPhysicalPointToContinuousIndex((ras[:3] * FLIP).tolist())
        nearest = np.round(index).astype(int)
        assert np.abs(np.array(index) - nearest).max() < 1e-4
        assert read[tuple(nearest[::-1])] == array[k, j, i]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("parent", [None, "linear"])
def test_volume_is_written_where_it_is_seen(mrml, tmp_path, direction, parent):
    rasFromIjk = matrix(DIRECTIONS[direction], SPACING, ORIGIN)
    node = addVolume(numbered(), rasFromIjk)
    if parent:
        outer = matrix(rotation((0, 1, 1), 140), (1, 1, 1), (3, -400, 8))
        inner = matrix(rotation((3, 1, -1), 30), (1.5, 1.5, 1.5), (-3, 4, 8))
        top, below = addLinear(outer), addLinear(inner)
        below.SetAndObserveTransformNodeID(top.GetID())
        node.SetAndObserveTransformNodeID(below.GetID())
        rasFromIjk = outer @ inner @ rasFromIjk
    modified = node.GetMTime()
    _image, note = mrml.volumes.writeVolume(node, tmp_path / "a.mha", "fixed volume")
    assertSamePlaces(sitk.ReadImage(str(tmp_path / "a.mha")), numbered(), rasFromIjk)
    assert note == "" and node.GetMTime() == modified


def smooth(shape):
    k, j, i = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    return (1000 * np.exp(-2 * (i**2 + (j - 0.2) ** 2 + (k + 0.1) ** 2))).astype(np.float32)


@pytest.mark.parametrize("case", ["tilted gantry", "not linear", "shear in a parent"])
def test_what_files_cannot_hold_is_resampled(mrml, case):
    """The oracle: the value at a voxel's world position, interpolated by SimpleITK, is the voxel's value."""
    array = smooth((30, 32, 34))
    rasFromIjk = matrix(DIRECTIONS["LPS"], (2.0, 2.0, 3.0), (33.0, 30.0, -45.0))
    if case == "tilted gantry":
        rasFromIjk[1, 2] = 0.9  # the slices are shifted against each other
    node = addVolume(array, rasFromIjk)
    if case == "not linear":
        node.SetAndObserveTransformNodeID(addWarp().GetID())
    if case == "shear in a parent":
        sheared = np.eye(4)
        sheared[0, 1] = 0.3
        node.SetAndObserveTransformNodeID(addLinear(sheared).GetID())
    image, note = mrml.volumes.worldImage(node, "fixed volume")
    assert "resampled" in note and node.GetName() in note
    indices = np.random.default_rng(0).integers((4, 4, 4), np.array(array.shape) - 4, (300, 3))
    ras = indices[:, ::-1] @ rasFromIjk[:3, :3].T + rasFromIjk[:3, 3]
    world = mrml.geometry.transformPoints(mrml.geometry.worldFromNode(node), ras)
    expected = array[tuple(indices.T)]
    found = [image.EvaluateAtPhysicalPoint((p * FLIP).tolist(), sitk.sitkLinear) for p in world]
    assert np.abs(np.array(found) - expected).max() < 12  # of 1000: linear interpolation twice
    assert np.allclose(np.array(image.GetDirection()).reshape(3, 3), np.diag([-1, -1, 1]))


def test_a_warped_parent_agrees_with_slicers_own_hardening(mrml):
    """What Slicer makes of the same volume when the user hardens the transform."""
    import slicer

    array = smooth((30, 32, 34))
    node = addVolume(array, matrix(np.eye(3), (2.0, 2.0, 3.0), (-33.0, -30.0, -45.0)))
    node.SetAndObserveTransformNodeID(addWarp().GetID())
    image, _note = mrml.volumes.worldImage(node, "fixed volume")
    node.HardenTransform()
    hardened = mrml.geometry.rasFromIjk(node)
    values = slicer.util.arrayFromVolume(node)
    indices = np.argwhere(values > 200)[::97]
    ras = indices[:, ::-1] @ hardened[:3, :3].T + hardened[:3, 3]
    found = [image.EvaluateAtPhysicalPoint((p * FLIP).tolist(), sitk.sitkLinear) for p in ras]
    assert np.abs(np.array(found) - values[tuple(indices.T)]).max() < 15


# --- masks


def segmentationOf(volume, box, name="organ"):
    """A segmentation with one segment: the voxels of a box (slices of k, j, i) of a volume."""
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "segmentation")
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    array = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
    array[box] = 1
    segmentId = node.GetSegmentation().AddEmptySegment(name, name)
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, segmentId, volume)
    return node, segmentId, array


@pytest.mark.parametrize("parent", [False, True])
def test_segments_become_masks_on_the_volumes_grid(mrml, tmp_path, parent):
    import slicer

    rasFromIjk = matrix(DIRECTIONS["LAS"], (2.0, 2.0, 3.0), (20.0, -15.0, 4.0))
    volume = addVolume(np.zeros((12, 14, 16), np.int16), rasFromIjk)
    node, segmentId, array = segmentationOf(volume, np.s_[3:8, 4:9, 5:12])
    second = node.GetSegmentation().AddEmptySegment("other", "other")
    other = np.zeros_like(array)
    other[9:11, 10:13, 1:3] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(other, node, second, volume)
    if parent:
        placed = addLinear(matrix(rotation((1, 0, 1), 50), (1, 1, 1), (9, 8, 7)))
        for one in (volume, node):
            one.SetAndObserveTransformNodeID(placed.GetID())
    image, _note = mrml.volumes.worldImage(volume, "fixed volume")
    before = scene_nodes()
    for chosen, expected in ((segmentId, array), ("", array | other), (second, other)):
        mrml.segmentations.writeMask(node, chosen, tmp_path / "m.mha", image, "fixed mask")
        mask = sitk.ReadImage(str(tmp_path / "m.mha"))
        assert mask.GetSize() == image.GetSize() and np.allclose(mask.GetOrigin(), image.GetOrigin())
        assert np.array_equal(sitk.GetArrayFromImage(mask), expected)
    assert scene_nodes() == before


def scene_nodes():
    import slicer

    scene = slicer.mrmlScene
    return sorted(scene.GetNthNode(i).GetID() for i in range(scene.GetNumberOfNodes()))


def test_a_label_map_on_another_grid_becomes_a_mask(mrml, tmp_path):
    volume = addVolume(np.zeros((10, 10, 10), np.int16), np.eye(4))
    labels = np.zeros((5, 5, 5), np.int16)
    labels[1:3, 1:3, 1:3] = 7
    node = addVolume(labels, matrix(np.eye(3), (2, 2, 2), (0.5, 0.5, 0.5)), "l", "vtkMRMLLabelMapVolumeNode")
    image, _note = mrml.volumes.worldImage(volume, "fixed volume")
    mrml.segmentations.writeMask(node, "", tmp_path / "m.mha", image, "fixed mask")
    expected = np.zeros((10, 10, 10), np.uint8)
    expected[2:6, 2:6, 2:6] = 1
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "m.mha"))), expected)


def test_masks_that_cannot_serve(mrml, tmp_path):
    import slicer
    from CARLRegistrationLib.common.errors import RegistrationError

    volume = addVolume(np.zeros((10, 10, 10), np.int16), np.eye(4))
    image, _note = mrml.volumes.worldImage(volume, "fixed volume")
    far = np.ones((3, 3, 3), np.int16)
    off = addVolume(far, matrix(np.eye(3), (1, 1, 1), (500, 0, 0)), "l", "vtkMRMLLabelMapVolumeNode")
    empty = addVolume(0 * far, np.eye(4), "e", "vtkMRMLLabelMapVolumeNode")
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "s")
    none = scene_nodes()
    for node, segment, message in (
        (off, "", "does not touch its volume"),
        (empty, "", "is empty"),
        (segmentation, "", "no segments"),
        (segmentation, "gone", "not there any more"),
    ):
        with pytest.raises(RegistrationError, match=message):
            mrml.segmentations.writeMask(node, segment, tmp_path / "m.mha", image, "fixed mask")
    segmentation.GetSegmentation().AddEmptySegment("a", "a")
    with pytest.raises(RegistrationError, match="is empty"):
        mrml.segmentations.writeMask(segmentation, "a", tmp_path / "m.mha", image, "fixed mask")
    assert scene_nodes() == none and list(tmp_path.iterdir()) == []


# --- transforms


def points(count=200, reach=40.0, seed=0):
    return np.random.default_rng(seed).uniform(-reach, reach, (count, 3))


def gridNodes(field):
    """Positions (LPS) of the inner nodes of a displacement field."""
    size = field.GetSize()
    indices = [
        (i, j, k) for i in range(2, size[0] - 2, 4) for j in range(2, size[1] - 2, 4) for k in range(2, size[2] - 2, 4)
    ]
    return np.array([field.TransformIndexToPhysicalPoint(index) for index in indices])


def outputNode(mrml, path):
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "result")
    node.SetAndObserveTransformFromParent(mrml.transforms.readTransform(path))
    return node


@pytest.mark.parametrize("degrees", [0, 20, 90, 180])
def test_transform_file_to_node(mrml, tmp_path, degrees):
    transform, field = composite(degrees)
    sitk.WriteTransform(transform, str(tmp_path / "t.h5"))
    node = outputNode(mrml, tmp_path / "t.h5")
    for lps, tolerance in ((gridNodes(field), 1e-3), (points(), 0.05)):
        expected = np.array([transform.TransformPoint(p.tolist()) for p in lps])
        found = mrml.geometry.transformPoints(node.GetTransformFromParent(), lps * FLIP) * FLIP
        assert np.linalg.norm(found - expected, axis=1).max() < tolerance
    outside = points(50, 300.0)
    outside = outside[np.abs(outside).max(axis=1) > 150]
    expected = np.array([transform.TransformPoint(p.tolist()) for p in outside])
    found = mrml.geometry.transformPoints(node.GetTransformFromParent(), outside * FLIP) * FLIP
    assert np.linalg.norm(found - expected, axis=1).max() < 0.05


def test_a_file_with_one_field_and_no_affine(mrml, tmp_path):
    _transform, field = composite(0)
    alone = sitk.DisplacementFieldTransform(sitk.Image(field))
    sitk.WriteTransform(alone, str(tmp_path / "t.h5"))
    node = outputNode(mrml, tmp_path / "t.h5")
    expected = np.array([alone.TransformPoint(p.tolist()) for p in gridNodes(field)])
    found = mrml.geometry.transformPoints(node.GetTransformFromParent(), gridNodes(field) * FLIP) * FLIP
    assert np.linalg.norm(found - expected, axis=1).max() < 1e-3


@pytest.mark.parametrize("degrees", [0, 90, 180])
def test_moving_landmarks_under_the_node_land_on_the_fixed_ones(mrml, tmp_path, degrees):
    import slicer

    transform, _field = composite(degrees)
    sitk.WriteTransform(transform, str(tmp_path / "t.h5"))
    node = outputNode(mrml, tmp_path / "t.h5")
    fixed = points(60, 30.0)
    moving = np.array([transform.TransformPoint(p.tolist()) for p in fixed])
    markups = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "moving landmarks")
    slicer.util.updateMarkupsControlPointsFromArray(markups, moving * FLIP)
    markups.SetAndObserveTransformNodeID(node.GetID())
    seen = slicer.util.arrayFromMarkupsControlPoints(markups, world=True) * FLIP
    assert np.linalg.norm(seen - fixed, axis=1).max() < 0.1


def test_node_saved_by_slicer_is_the_same_transform(mrml, tmp_path):
    """As .h5 (composite), read back by SimpleITK and by Slicer."""
    import slicer

    transform, field = composite(90)
    sitk.WriteTransform(transform, str(tmp_path / "t.h5"))
    node = outputNode(mrml, tmp_path / "t.h5")
    storage = slicer.vtkMRMLTransformStorageNode()
    storage.SetFileName(str(tmp_path / "saved.h5"))
    assert storage.WriteData(node)
    saved = sitk.ReadTransform(str(tmp_path / "saved.h5"))
    for lps, tolerance in ((gridNodes(field), 1e-3), (points(), 1e-3)):
        expected = np.array([transform.TransformPoint(p.tolist()) for p in lps])
        found = np.array([saved.TransformPoint(p.tolist()) for p in lps])
        assert np.linalg.norm(found - expected, axis=1).max() < tolerance
    again = outputNode(mrml, tmp_path / "saved.h5")
    lps = gridNodes(field)
    expected = np.array([transform.TransformPoint(p.tolist()) for p in lps])
    found = mrml.geometry.transformPoints(again.GetTransformFromParent(), lps * FLIP) * FLIP
    assert np.linalg.norm(found - expected, axis=1).max() < 1e-3


def test_flattened_to_a_field_by_slicer(mrml, tmp_path):
    """Slicer's Transforms module converts the node to a grid, which is saved as .nii.gz and read by SimpleITK."""
    import slicer

    transform, field = composite(20)
    sitk.WriteTransform(transform, str(tmp_path / "t.h5"))
    node = outputNode(mrml, tmp_path / "t.h5")
    reference = addVolume(np.zeros(field.GetSize()[::-1], np.int16), np.diag([4.0, 4.0, 4.0, 1.0]), "reference")
    origin = np.array(field.GetOrigin())
    reference.SetIJKToRASMatrix(
        mrml.geometry.matrixFrom(np.diag([-1.0, -1, 1, 1]) @ matrix(np.eye(3), field.GetSpacing(), origin))
    )
    logic = slicer.vtkSlicerTransformLogic()
    logic.SetMRMLScene(slicer.mrmlScene)
    grid = logic.ConvertToGridTransform(node, reference)
    assert grid is not None
    storage = slicer.vtkMRMLTransformStorageNode()
    storage.SetFileName(str(tmp_path / "field.nii.gz"))
    assert storage.WriteData(grid)
    image = sitk.Cast(sitk.ReadImage(str(tmp_path / "field.nii.gz")), sitk.sitkVectorFloat64)
    flattened = sitk.DisplacementFieldTransform(image)
    for index in [(5, 6, 7), (12, 12, 12), (18, 9, 14)]:
        lps = np.array(field.TransformIndexToPhysicalPoint(index))
        assert np.allclose(flattened.TransformPoint(lps.tolist()), transform.TransformPoint(lps.tolist()), atol=2e-3)


def test_initial_transforms(mrml, tmp_path):
    """Written as fixed to moving points; the oracle is where Slicer shows a moving point under the node."""
    import slicer

    fixed = addVolume(np.zeros((20, 20, 20), np.int16), matrix(np.eye(3), (4, 4, 4), (-38, -38, -38)), "fixed")
    moving = addVolume(np.zeros((20, 20, 20), np.int16), matrix(np.eye(3), (4, 4, 4), (-38, -38, -38)), "moving")
    image, _note = mrml.volumes.worldImage(fixed, "fixed volume")
    chained = addLinear(matrix(rotation((1, 0, 1), 70), (1, 1, 1), (5, 6, 7)))
    warp = addWarp()
    below = addWarp("below")
    below.SetAndObserveTransformNodeID(chained.GetID())
    for node, tolerance in ((chained, 1e-6), (warp, 0.2), (below, 0.2)):
        mrml.transforms.writeInitialTransform(node, tmp_path / "i.h5", image, moving)
        written = sitk.ReadTransform(str(tmp_path / "i.h5"))
        markups = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "p")
        inFixed = points(40, 25.0)
        inMoving = np.array([written.TransformPoint(p.tolist()) for p in inFixed])
        slicer.util.updateMarkupsControlPointsFromArray(markups, inMoving * FLIP)
        markups.SetAndObserveTransformNodeID(node.GetID())
        seen = slicer.util.arrayFromMarkupsControlPoints(markups, world=True) * FLIP
        assert np.linalg.norm(seen - inFixed, axis=1).max() < tolerance


def test_initial_transform_that_is_there_already(mrml, tmp_path):
    from CARLRegistrationLib.common.errors import RegistrationError

    fixed, moving = (addVolume(np.zeros((9, 9, 9), np.int16), np.eye(4), name) for name in ("fixed", "moving"))
    image, _note = mrml.volumes.worldImage(fixed, "fixed volume")
    outer, inner = addLinear(np.eye(4), "outer"), addLinear(np.eye(4), "inner")
    inner.SetAndObserveTransformNodeID(outer.GetID())
    moving.SetAndObserveTransformNodeID(inner.GetID())
    with pytest.raises(RegistrationError, match="already placed under outer"):
        mrml.transforms.writeInitialTransform(outer, tmp_path / "i.h5", image, moving)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_volume_file_to_node(mrml, tmp_path, direction):
    import slicer

    rasFromIjk = matrix(DIRECTIONS[direction], SPACING, ORIGIN)
    image = sitk.GetImageFromArray(numbered().astype(np.float32))
    image.SetSpacing(SPACING)
    image.SetOrigin((np.array(ORIGIN) * FLIP).tolist())
    image.SetDirection((np.diag(FLIP) @ DIRECTIONS[direction]).ravel().tolist())
    sitk.WriteImage(image, str(tmp_path / "v.nii.gz"))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    mrml.volumes.readVolumeInto(tmp_path / "v.nii.gz", node)
    assert np.allclose(mrml.geometry.rasFromIjk(node), rasFromIjk, atol=1e-4)
    assert np.array_equal(slicer.util.arrayFromVolume(node), numbered())
    own = slicer.vtkMRMLVolumeArchetypeStorageNode()  # what Slicer itself makes of the file
    own.SetFileName(str(tmp_path / "v.nii.gz"))
    read = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    assert own.ReadData(read)
    assertSamePlaces(mrml.volumes.worldImage(read, "v")[0], numbered(), rasFromIjk)


def test_nan_of_a_nifti_file_is_seen(moduleWidget, tmp_path):
    """ITK's reader gives 0 for NaN, which would say: perfectly certain."""
    import nibabel
    import SimpleITK as sitk
    from CARLRegistrationLib.mrml.volumes import notANumber

    values = np.arange(5 * 4 * 3, dtype=np.float32).reshape(5, 4, 3)  # i, j, k
    values[2:4, 1, 0] = np.nan
    nibabel.save(nibabel.Nifti1Image(values, np.diag([2.0, 2, 2, 1])), tmp_path / "u.nii.gz")
    assert not np.isnan(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "u.nii.gz")))).any()
    assert np.array_equal(notANumber(tmp_path / "u.nii.gz"), np.isnan(values).transpose(2, 1, 0))
