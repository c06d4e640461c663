"""One transform on many nodes: voxels against SimpleITK, points against the transform's own, segments, undo, errors."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from .test_inspect_jacobian import addSegment
from .volumes import FLIP, OBLIQUE, addLinear, addVolume, addWarp, composite, matrix, rotation

SIZE = (26, 24, 22)  # i, j, k of the fixed volume
MOVING_SIZE = (30, 28, 25)


@pytest.fixture(autouse=True)
def temporary(host, tmp_path, monkeypatch):
    """Job folders go here, so that what is left can be seen."""
    import slicer

    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(slicer.app, "temporaryPath", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def case(scene, moduleWidget, tmp_path):
    """A transform node as registrations make it (a field, an affine with a turn), its volumes; the same in ITK."""
    import slicer

    slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)  # made when it is first asked for
    found, _field = composite(20.0, grid=4.0, bump=3.0, size=32)
    sitk.WriteTransform(found, str(tmp_path / "transform.h5"))
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode", "moving to fixed")
    storage = slicer.vtkMRMLTransformStorageNode()
    storage.SetFileName(str(tmp_path / "transform.h5"))
    assert storage.ReadData(node)
    fixed = addVolume(np.zeros(SIZE[::-1], np.int16), placed(SIZE, (3.0, 3.2, 3.5), np.eye(3)), "fixed")
    center = np.array(found.TransformPoint((0.0, 0.0, 0.0))) * FLIP
    moving = addVolume(picture(MOVING_SIZE), placed(MOVING_SIZE, (3.1, 3.3, 3.7), OBLIQUE, center), "moving")
    kind = slicer.vtkMRMLTransformNode
    node.SetNodeReferenceID(kind.GetFixedNodeReferenceRole(), fixed.GetID())
    node.SetNodeReferenceID(kind.GetMovingNodeReferenceRole(), moving.GetID())
    return Case(node, fixed, moving, found)


class Case:
    def __init__(self, transform, fixed, moving, itk):
        self.transform, self.fixed, self.moving, self.itk = transform, fixed, moving, itk

    def toMoving(self, points):
        """Fixed points to moving points, RAS, by ITK."""
        return np.array([self.itk.TransformPoint(p) for p in (np.atleast_2d(points) * FLIP).tolist()]) * FLIP

    def inMoving(self, count=12, reach=18.0, seed=1):
        """Points of the moving side whose partners on the fixed side are known: (fixed, moving), RAS.

        At nodes of the field, where Slicer and ITK agree; between them they interpolate differently (cubic, linear).
        """
        fixed = np.random.default_rng(seed).uniform(-reach, reach, (count, 3))
        fixed = 4.0 * np.round((fixed - 2.0) / 4.0) + 2.0
        return fixed, self.toMoving(fixed)


def placed(size, spacing, direction, center=(0.0, 0.0, 0.0)):
    made = matrix(direction, spacing, (0, 0, 0))
    made[:3, 3] = np.asarray(center) - made[:3, :3] @ ((np.array(size) - 1) / 2)
    return made


def picture(size, seed=0):
    """Smooth values, so that interpolations can be told apart."""
    noise = sitk.GetImageFromArray(np.random.default_rng(seed).normal(0, 1, size[::-1]))
    smooth = sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(noise, 2.0))
    return np.round(4000 * smooth + 500).astype(np.int16)


def imageOf(node, rasFromIjk=None):
    """A node's voxels as a SimpleITK image, LPS, made here."""
    import slicer
    import vtk

    image = sitk.GetImageFromArray(slicer.util.arrayFromVolume(node))
    if rasFromIjk is None:
        m = vtk.vtkMatrix4x4()
        node.GetIJKToRASMatrix(m)
        rasFromIjk = slicer.util.arrayFromVTKMatrix(m)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ rasFromIjk
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def run(*nodes, transform, **options):
    from CARLRegistrationLib.apply import ApplyJob, apply

    return apply(ApplyJob(tuple(nodes), transform, **options))


def choices():
    from CARLRegistrationLib.apply import choices as apply_choices

    return apply_choices


def ids(scene):
    return {scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())}


# --- voxels


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("LINEAR", sitk.sitkLinear),
        ("BSPLINE", sitk.sitkBSpline),
        ("SINC", sitk.sitkLanczosWindowedSinc),
        ("NEAREST", sitk.sitkNearestNeighbor),
    ],
)
def test_a_volume_is_resampled_as_by_simpleitk(case, name, oracle):
    import slicer

    result = run(case.moving, transform=case.transform, interpolation=getattr(choices().ApplyInterpolation, name))
    (source, made), notes = result.made[0], result.notes
    background = float(slicer.util.arrayFromVolume(case.moving).min())
    expected = sitk.Resample(
        sitk.Cast(imageOf(case.moving), sitk.sitkFloat64), imageOf(case.fixed), case.itk, oracle, min(background, 0.0)
    )
    found = slicer.util.arrayFromVolume(made).astype(float)
    inside = sitk.GetArrayFromImage(
        sitk.Resample(imageOf(case.moving) * 0 + 1, imageOf(case.fixed), case.itk, sitk.sitkNearestNeighbor, 0)
    )
    wanted = np.clip(sitk.GetArrayFromImage(expected), -32768, 32767)
    assert source is case.moving and made is not source and notes == []
    assert inside.mean() > 0.5
    assert np.abs(found - wanted)[inside > 0].max() <= 1.01  # whole numbers: rounded
    assert made.GetName() == "moving in fixed" and made.GetParentTransformNode() is None
    assert slicer.util.arrayFromVolume(made).dtype == np.int16


def test_grids(case):
    import slicer

    grids = choices().ApplyGrid
    own = run(case.moving, transform=case.transform, grid=grids.OWN).made[0][1]
    corner = np.array(placed(SIZE, (3.0, 3.2, 3.5), np.eye(3)))
    extent = np.array(SIZE) * (3.0, 3.2, 3.5)
    assert sorted(own.GetSpacing()) == pytest.approx(sorted((3.1, 3.3, 3.7)), abs=1e-6)
    found = np.array(own.GetImageData().GetDimensions()) * np.array(own.GetSpacing())
    assert np.all(np.abs(found - extent) < 4.0)
    reference = addVolume(np.zeros((9, 11, 13), np.uint8), placed((13, 11, 9), (4, 4, 4), OBLIQUE, (5, -3, 2)), "grid")
    made = run(case.moving, transform=case.transform, grid=grids.REFERENCE, reference=reference).made[0][1]
    expected = sitk.Resample(imageOf(case.moving), imageOf(reference), case.itk, sitk.sitkLinear)
    inside = sitk.Resample(imageOf(case.moving) * 0 + 1, imageOf(reference), case.itk, sitk.sitkNearestNeighbor)
    difference = np.abs(slicer.util.arrayFromVolume(made) - sitk.GetArrayFromImage(expected).astype(int))
    assert difference[sitk.GetArrayFromImage(inside) > 0].max() <= 1 and corner.shape == (4, 4)


def test_label_maps_and_volumes_at_once_each_as_it_needs(case):
    import slicer

    array = (picture(MOVING_SIZE, 3) > 500).astype(np.uint8) * 7
    grid = placed(MOVING_SIZE, (3.1, 3.3, 3.7), OBLIQUE, case.toMoving([[0, 0, 0]])[0])
    labels = addVolume(array, grid, "organs", "vtkMRMLLabelMapVolumeNode")
    other = addVolume(picture(MOVING_SIZE, 5).astype(np.float32), grid, "pet")
    result = run(case.moving, labels, other, transform=case.transform)
    assert [source.GetName() for source, _made in result.made] == ["moving", "organs", "pet"]
    made = [made for _source, made in result.made]
    assert [node.GetClassName() for node in made] == [
        "vtkMRMLScalarVolumeNode",
        "vtkMRMLLabelMapVolumeNode",
        "vtkMRMLScalarVolumeNode",
    ]
    expected = sitk.Resample(imageOf(labels), imageOf(case.fixed), case.itk, sitk.sitkNearestNeighbor, 0)
    assert (slicer.util.arrayFromVolume(made[1]) == sitk.GetArrayFromImage(expected)).mean() > 0.9999
    assert set(np.unique(slicer.util.arrayFromVolume(made[1]))) == {0, 7}
    assert made[1].GetDisplayNode().GetColorNodeID() == labels.GetDisplayNode().GetColorNodeID()
    expected = sitk.Resample(imageOf(other), imageOf(case.fixed), case.itk, sitk.sitkLinear, -1e9)
    wanted = sitk.GetArrayFromImage(expected)
    assert np.abs(slicer.util.arrayFromVolume(made[2]) - wanted)[wanted > -1e8].max() < 0.2


def test_a_color_volume_stays_one(case):
    import slicer

    grid = placed(MOVING_SIZE, (3.1, 3.3, 3.7), OBLIQUE, case.toMoving([[0, 0, 0]])[0])
    array = np.stack([np.clip(picture(MOVING_SIZE, n) // 8 + 60, 0, 255) for n in range(3)], axis=-1).astype(np.uint8)
    color = addVolume(array, grid, "photo", "vtkMRMLVectorVolumeNode")
    made = run(color, transform=case.transform).made[0][1]
    found = slicer.util.arrayFromVolume(made)
    assert made.GetClassName() == "vtkMRMLVectorVolumeNode" and found.shape == (*SIZE[::-1], 3)
    one = sitk.GetImageFromArray(array[..., 1])
    one.CopyInformation(imageOf(case.moving))
    expected = sitk.GetArrayFromImage(sitk.Resample(one, imageOf(case.fixed), case.itk, sitk.sitkLinear, 0)).astype(int)
    inside = expected > 0
    assert np.abs(found[..., 1] - expected)[inside].max() <= 1


def test_mass_is_preserved(case):
    """A blob that lies well inside keeps its sum times volume, though the transform grows and shrinks."""
    import slicer

    center = case.toMoving([[0, 0, 0]])[0]
    grid = placed((40, 40, 40), (2.0, 2.0, 2.0), np.eye(3), center)
    axis = 2.0 * (np.arange(40) - 19.5)
    k, j, i = np.meshgrid(axis, axis, axis, indexing="ij")
    pet = addVolume((1000 * np.exp(-0.5 * (i**2 + j**2 + k**2) / 9.0**2)).astype(np.float32), grid, "activity")
    scale = np.diag([1.25, 0.9, 1.1, 1.0])
    transform = addLinear(scale, "scale")
    reference = addVolume(
        np.zeros((50, 50, 50), np.uint8), placed((50, 50, 50), (2, 2, 2), np.eye(3), scale[:3, :3] @ center), "grid"
    )
    options = {"grid": choices().ApplyGrid.REFERENCE, "reference": reference}
    plain = run(pet, transform=transform, **options).made[0][1]
    kept = run(pet, transform=transform, massPreserving=True, **options).made[0][1]
    before = slicer.util.arrayFromVolume(pet).sum() * 8
    assert slicer.util.arrayFromVolume(plain).sum() * 8 / before == pytest.approx(1.25 * 0.9 * 1.1, rel=0.01)
    assert slicer.util.arrayFromVolume(kept).sum() * 8 / before == pytest.approx(1.0, rel=0.01)
    # a field, too: where the moving side is larger, the fixed side gets more of it
    bent = run(pet, transform=case.transform, massPreserving=True).made[0][1]
    volume = float(np.prod(bent.GetSpacing()))
    assert slicer.util.arrayFromVolume(bent).sum() * volume / before == pytest.approx(1.0, rel=0.02)


# --- places


def test_what_a_volume_is_under_counts(case):
    """A linear parent becomes part of the geometry; one that is not is resampled first; both against SimpleITK."""
    import slicer

    shift = np.eye(4)
    shift[:3, :3] = rotation((0, 1, 1), 7)
    shift[:3, 3] = (4, -5, 6)
    parent = addLinear(shift, "couch")
    case.moving.SetAndObserveTransformNodeID(parent.GetID())
    made = run(case.moving, transform=case.transform).made[0][1]
    m = slicer.util.arrayFromVTKMatrix(_matrixOf(case.moving))
    shown = imageOf(case.moving, shift @ m)
    wanted = sitk.GetArrayFromImage(sitk.Resample(shown, imageOf(case.fixed), case.itk, sitk.sitkLinear, -20000))
    found = slicer.util.arrayFromVolume(made)
    assert np.abs(found.astype(int) - wanted)[wanted > -20000].max() <= 1
    assert case.moving.GetParentTransformNode() is parent
    warp = addWarp("breath", reach=150.0)
    case.moving.SetAndObserveTransformNodeID(warp.GetID())
    result = run(case.moving, transform=case.transform)
    assert "moving was resampled onto a regular grid" in result.notes[0]
    points = np.random.default_rng(2).uniform(-14, 14, (40, 3))
    from CARLRegistrationLib.mrml.geometry import transformPoints

    inWarp = transformPoints(warp.GetTransformFromParent(), case.toMoving(points))
    original = imageOf(case.moving)
    value = [original.EvaluateAtPhysicalPoint(p, sitk.sitkLinear) for p in (inWarp * FLIP).tolist()]
    now = imageOf(result.made[0][1])
    seen = [now.EvaluateAtPhysicalPoint(p, sitk.sitkLinear) for p in (points * FLIP).tolist()]
    assert np.corrcoef(value, seen)[0, 1] > 0.98  # interpolated three times


def _matrixOf(node):
    import vtk

    m = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(m)
    return m


def test_what_is_under_the_transform_already_is_mapped_once(case):
    import slicer

    first = slicer.util.arrayFromVolume(run(case.moving, transform=case.transform).made[0][1]).copy()
    case.moving.SetAndObserveTransformNodeID(case.transform.GetID())
    again = slicer.util.arrayFromVolume(run(case.moving, transform=case.transform).made[0][1])
    assert np.array_equal(first, again)


def test_what_the_transform_is_under_counts(case):
    import slicer

    shift = np.eye(4)
    shift[:3, :3] = rotation((1, 0, 1), 5)
    shift[:3, 3] = (6, -3, 2)
    case.transform.SetAndObserveTransformNodeID(addLinear(shift, "table").GetID())
    made = run(case.moving, transform=case.transform).made[0][1]
    lps = np.diag([*FLIP, 1.0]) @ np.linalg.inv(shift) @ np.diag([*FLIP, 1.0])
    before = sitk.AffineTransform(3)
    before.SetMatrix(lps[:3, :3].ravel().tolist())
    before.SetTranslation(lps[:3, 3].tolist())
    chain = sitk.CompositeTransform([case.itk, before])  # the last acts first
    wanted = sitk.GetArrayFromImage(
        sitk.Resample(imageOf(case.moving), imageOf(case.fixed), chain, sitk.sitkLinear, -20000)
    )
    found = slicer.util.arrayFromVolume(made).astype(int)
    assert (wanted > -20000).mean() > 0.4 and np.abs(found - wanted)[wanted > -20000].max() <= 1


def test_what_a_volume_is_stays_known(case):
    """Units and attributes (SlicerRT tells dose volumes by them) are kept, the files it was read from are not."""
    import slicer

    units = slicer.vtkCodedEntry()
    units.SetValueSchemeMeaning("{SUVbw}g/ml", "UCUM", "Standardized Uptake Value body weight")
    case.moving.SetVoxelValueUnits(units)
    case.moving.SetAttribute("DicomRtImport.DoseVolume", "1")
    case.moving.SetAttribute("DICOM.instanceUIDs", "1.2.3")
    before = slicer.util.arrayFromVolume(case.moving).copy()
    methods = choices().ApplyMethod
    for method in (methods.RESAMPLE, methods.HARDEN):
        made = run(case.moving, transform=case.transform, method=method).made[0][1]
        assert made.GetVoxelValueUnits().GetCodeValue() == "{SUVbw}g/ml"
        assert made.GetAttribute("DicomRtImport.DoseVolume") == "1" and made.GetAttribute("DICOM.instanceUIDs") is None
    assert np.array_equal(slicer.util.arrayFromVolume(case.moving), before)
    assert case.moving.GetAttribute("DICOM.instanceUIDs") == "1.2.3"


def test_the_other_way(case):
    """Fixed side to moving side: the engine inverts, or takes the scene's inverse."""
    import slicer

    array = picture(SIZE, 9)
    atlas = addVolume(array, placed(SIZE, (3.0, 3.2, 3.5), np.eye(3)), "atlas")
    direction = choices().ApplyDirection.TO_MOVING
    made = run(atlas, transform=case.transform, direction=direction).made[0][1]
    assert made.GetName() == "atlas in moving"
    assert made.GetImageData().GetDimensions() == MOVING_SIZE
    fixed, moving = case.inMoving(200)
    original, found = imageOf(atlas), imageOf(made)
    value = np.array([original.EvaluateAtPhysicalPoint(p, sitk.sitkLinear) for p in (fixed * FLIP).tolist()])
    seen = np.array([found.EvaluateAtPhysicalPoint(p, sitk.sitkLinear) for p in (moving * FLIP).tolist()])
    assert np.corrcoef(value, seen)[0, 1] > 0.97
    inverse = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "back")
    inverse.CopyContent(case.transform, True)
    inverse.Inverse()
    kind = slicer.vtkMRMLTransformNode
    inverse.SetNodeReferenceID(kind.GetFixedNodeReferenceRole(), case.moving.GetID())
    inverse.SetNodeReferenceID(kind.GetMovingNodeReferenceRole(), case.fixed.GetID())
    result = run(atlas, transform=case.transform, direction=direction)
    again = slicer.util.arrayFromVolume(result.made[0][1]).astype(float)
    difference = np.abs(again - slicer.util.arrayFromVolume(made))
    assert np.percentile(difference, 95) <= 3 and "back was sampled" in result.notes[0]


def test_the_other_way_without_knowing_the_volumes(case):
    """The transform names no volumes: the engine inverts it around the data."""
    import slicer

    atlas = addVolume(picture(SIZE, 9), placed(SIZE, (3.0, 3.2, 3.5), np.eye(3)), "atlas")
    options = {"direction": choices().ApplyDirection.TO_MOVING, "grid": choices().ApplyGrid.REFERENCE}
    known = run(atlas, transform=case.transform, reference=case.moving, **options).made[0][1]
    kind = slicer.vtkMRMLTransformNode
    for role in (kind.GetFixedNodeReferenceRole(), kind.GetMovingNodeReferenceRole()):
        case.transform.SetNodeReferenceID(role, None)
    made = run(atlas, transform=case.transform, reference=case.moving, **options).made[0][1]
    difference = np.abs(slicer.util.arrayFromVolume(made).astype(float) - slicer.util.arrayFromVolume(known))
    assert difference.max() <= 1 and made.GetName() == "atlas in moving_1"


def organs(case, name="organs"):
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    center = case.toMoving([[0, 0, 0]])[0]
    grid = placed((40, 40, 40), (1.5, 1.5, 1.5), OBLIQUE, center)
    addSegment(node, "liver", grid, np.s_[8:24, 10:30, 12:28], (40, 40, 40))
    addSegment(node, "spleen", grid, np.s_[20:34, 8:20, 6:22], (40, 40, 40))  # overlaps: a layer of its own
    segmentation = node.GetSegmentation()
    segmentation.GetSegment("id liver").SetColor(0.2, 0.4, 0.6)
    segmentation.GetSegment("id liver").SetTag("TerminologyEntry", "something~told")
    segmentation.GetSegment("id spleen").SetTag("Mine", "42")
    node.GetDisplayNode().SetSegmentOpacity3D("id spleen", 0.25)
    return node, grid
