"""The engine's transform files in 3D Slicer's own storage nodes, and Slicer's files in the engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg import formats
from carlreg.errors import InputError
from carlreg.spaces import VolumeGrid

from .volumes import DIRECTIONS, FLIP, composite

BETWEEN_NODES_MM = 0.05
FILES = {
    "composite.h5": {"to": "itk"},
    "flat.h5": {"to": "itk", "flatten_it": True},
    "field.nii.gz": {"to": "nifti"},
    "field.nrrd": {"to": "nrrd"},
    "field.mha": {"to": "mha"},
}


@pytest.fixture(scope="module")
def case():
    """(transform, fixed grid, moving grid, fixed points in LPS): a field of 4 mm, then an affine."""
    transform, field = composite(20.0, grid=4.0, bump=2.0, size=32)
    grid = VolumeGrid.of(field)
    fixed = grid.cropped((8, 8, 8), (24, 24, 24))
    moved = grid.cropped((4, 4, 4), (28, 28, 28))
    center = np.array(transform.TransformPoint(fixed.center_lps.tolist()))
    moving = VolumeGrid(moved.size_ijk, moved.spacing, moved.origin_lps + center - moved.center_lps, np.eye(3))
    points = fixed.center_lps + np.random.default_rng(3).uniform(-28, 28, (60, 3))
    return transform, fixed, moving, points


def load(path: Path, scene):
    """A transform node by Slicer's own storage node."""
    import slicer

    node = scene.AddNewNodeByClass("vtkMRMLTransformNode", path.name)
    storage = slicer.vtkMRMLTransformStorageNode()
    scene.AddNode(storage)
    storage.SetFileName(str(path))
    assert storage.ReadData(node), path.name
    return node


def from_parent(node, points_lps) -> np.ndarray:
    """Fixed points to moving points, as Slicer has it for a volume under the node; LPS."""
    transform = node.GetTransformFromParent()
    return np.array([transform.TransformPoint(*point) for point in (points_lps * FLIP).tolist()]) * FLIP


@pytest.mark.parametrize("name", FILES)
def test_slicer_maps_points_as_we_do(scene, case, tmp_path, name):
    transform, fixed, moving, points = case
    sides = formats.Sides(grids=(fixed, moving))
    formats.write(transform, tmp_path / name, sides=sides, **FILES[name])
    found = from_parent(load(tmp_path / name, scene), points)
    expected = formats.map_points(transform, points)
    assert np.linalg.norm(expected - points, axis=1).min() > 1.0
    assert np.linalg.norm(found - expected, axis=1).max() <= BETWEEN_NODES_MM


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", ["flat.h5", "field.nii.gz", "field.nrrd"])
def test_fields_of_every_orientation(scene, case, tmp_path, name, direction):
    transform, fixed, _, points = case
    axes = np.diag(FLIP) @ DIRECTIONS[direction]
    size, spacing = np.array([31, 26, 29]), np.array([3.0, 3.5, 3.2])
    grid = VolumeGrid(size, spacing, fixed.center_lps - axes @ ((size - 1) / 2 * spacing), axes)
    formats.write(transform, tmp_path / name, like=grid, flatten_it=True)
    node = load(tmp_path / name, scene)
    image = sitk.TransformToDisplacementField(
        transform,
        sitk.sitkVectorFloat64,
        grid.size_ijk,
        grid.origin_lps.tolist(),
        spacing.tolist(),
        axes.ravel().tolist(),
    )
    itk = sitk.DisplacementFieldTransform(image)
    nodes = np.random.default_rng(4).integers(3, size - 3, (40, 3)) @ grid.lps_from_ijk[:3, :3].T + grid.origin_lps
    for where, tolerance in ((nodes, 0.01), (points, BETWEEN_NODES_MM)):
        expected = np.array([itk.TransformPoint(point) for point in where.tolist()])
        assert np.linalg.norm(from_parent(node, where) - expected, axis=1).max() <= tolerance


def test_slicer_maps_points_back(scene, case, tmp_path):
    transform, _, _, points = case
    formats.write(transform, tmp_path / "composite.h5")
    node = load(tmp_path / "composite.h5", scene)
    expected = formats.map_points(transform, points)
    to_parent = node.GetTransformToParent()
    back = np.array([to_parent.TransformPoint(*p) for p in (expected * FLIP).tolist()]) * FLIP
    assert np.linalg.norm(back - points, axis=1).max() <= BETWEEN_NODES_MM


def test_a_scene_opens_with_the_volume_aligned(scene, case, tmp_path):
    import slicer

    transform, fixed, moving, points = case
    files = []
    for name, grid in (("fixed", fixed), ("moving", moving)):
        image = sitk.GetImageFromArray(np.random.default_rng(1).integers(0, 99, grid.shape_dhw).astype(np.int16))
        image.SetSpacing(grid.spacing.tolist())
        image.SetOrigin(grid.origin_lps.tolist())
        files.append(tmp_path / f"{name}.nrrd")
        sitk.WriteImage(image, str(files[-1]))
    sides = formats.Sides(grids=(fixed, moving), files=tuple(files))
    formats.write(transform, tmp_path / "both.mrb", sides=sides)
    assert scene.ReadFromMRB(str(tmp_path / "both.mrb"), True)
    node = slicer.mrmlScene.GetFirstNodeByName("fixed_to_moving_points")
    found = from_parent(node, points)
    assert np.linalg.norm(found - formats.map_points(transform, points), axis=1).max() <= BETWEEN_NODES_MM
    placed = slicer.mrmlScene.GetFirstNodeByName("moving")
    assert placed.GetParentTransformNode() is node and placed.GetImageData().GetDimensions() == moving.size_ijk
    assert slicer.mrmlScene.GetFirstNodeByName("fixed").GetParentTransformNode() is None


@pytest.mark.parametrize("name", ["grid.h5", "grid.nii.gz", "grid.nrrd", "linear.tfm", "linear.h5", "bspline.h5"])
def test_slicers_files_are_read(scene, case, tmp_path, name):
    import slicer
    import vtk

    transform, fixed, _, points = case
    kind = name.split(".")[0]
    if kind == "grid":
        formats.write(transform, tmp_path / "start.nrrd", sides=formats.Sides(grids=(fixed, None)))
        node = load(tmp_path / "start.nrrd", scene)
    elif kind == "linear":
        node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "linear")
        matrix = vtk.vtkMatrix4x4()
        values = np.array([[0.9, -0.2, 0.1, 5], [0.2, 1.1, 0, -7], [0, 0.1, 1, 9], [0, 0, 0, 1]])
        for row in range(4):
            for column in range(4):
                matrix.SetElement(row, column, values[row, column])
        node.SetMatrixTransformFromParent(matrix)
    else:
        spline = sitk.BSplineTransformInitializer(sitk_image(fixed), [6, 6, 6], 3)
        spline.SetParameters(np.random.default_rng(0).normal(0, 2, len(spline.GetParameters())).tolist())
        sitk.WriteTransform(spline, str(tmp_path / "start.h5"))
        node = load(tmp_path / "start.h5", scene)
    storage = slicer.vtkMRMLTransformStorageNode()
    scene.AddNode(storage)
    storage.SetFileName(str(tmp_path / name))
    assert storage.WriteData(node)
    ours = formats.map_points(formats.read(tmp_path / name).transform, points)
    theirs = from_parent(node, points)
    assert np.linalg.norm(theirs - points, axis=1).max() > 1.0
    assert np.linalg.norm(ours - theirs, axis=1).max() <= (BETWEEN_NODES_MM if kind == "grid" else 1e-3)


def sitk_image(grid):
    image = sitk.Image(grid.size_ijk, sitk.sitkFloat32)
    image.SetSpacing(grid.spacing.tolist())
    image.SetOrigin(grid.origin_lps.tolist())
    return image


def test_a_to_parent_grid_is_refused_with_what_to_do(scene, case, tmp_path):
    import slicer

    transform, fixed, _, _ = case
    formats.write(transform, tmp_path / "start.nrrd", sides=formats.Sides(grids=(fixed, None)))
    node = load(tmp_path / "start.nrrd", scene)
    node.Inverse()
    storage = slicer.vtkMRMLTransformStorageNode()
    scene.AddNode(storage)
    storage.SetFileName(str(tmp_path / "inverse.h5"))
    assert storage.WriteData(node)
    with pytest.raises(InputError, match=r"InverseDisplacementFieldTransform.*Convert"):
        formats.read(tmp_path / "inverse.h5")


@pytest.mark.parametrize("ending", ["vtk", "vtp", "stl", "ply"])
def test_slicers_models_are_mapped_and_read_back(scene, case, tmp_path, ending):
    import slicer
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    transform, fixed, moving, _ = case
    source = vtk.vtkSphereSource()
    source.SetCenter(*(fixed.center_lps * FLIP))
    source.SetRadius(20)
    source.Update()
    node = scene.AddNewNodeByClass("vtkMRMLModelNode", "model")
    node.SetAndObservePolyData(source.GetOutput())

    def storage_of(path):
        storage = slicer.vtkMRMLModelStorageNode()
        scene.AddNode(storage)
        storage.SetFileName(str(path))
        return storage

    def vertices(path):
        read = scene.AddNewNodeByClass("vtkMRMLModelNode", "read")
        assert storage_of(path).ReadData(read)
        return vtk_to_numpy(read.GetPolyData().GetPoints().GetData()).astype(float) * FLIP

    path, out = tmp_path / f"model.{ending}", tmp_path / f"mapped.{ending}"
    assert storage_of(path).WriteData(node)
    opened = formats.Opened(transform, formats.Sides(grids=(fixed, moving)))
    formats.apply_to_file(formats.Applying(opened), path, out)
    before, after = vertices(path), vertices(out)
    assert np.abs(before.mean(axis=0) - fixed.center_lps).max() < 1.0
    assert np.linalg.norm(after - formats.map_points(transform, before), axis=1).max() <= 0.01


def test_markups_by_slicer_are_mapped_and_read_back(scene, case, tmp_path):
    import slicer

    transform, fixed, moving, points = case
    opened = formats.Opened(transform, formats.Sides(grids=(fixed, moving)))
    for name, class_name, storage_class in (
        ("curve.mrk.json", "vtkMRMLMarkupsCurveNode", "vtkMRMLMarkupsJsonStorageNode"),
        ("points.mrk.json", "vtkMRMLMarkupsFiducialNode", "vtkMRMLMarkupsJsonStorageNode"),
        ("points.fcsv", "vtkMRMLMarkupsFiducialNode", "vtkMRMLMarkupsFiducialStorageNode"),
    ):
        node = scene.AddNewNodeByClass(class_name, "markups")
        for point in (points[:9] * FLIP).tolist():
            node.AddControlPoint(*point)
        found = scene.AddNewNodeByClass(class_name, "read")
        storages = []
        for file in (tmp_path / name, tmp_path / f"out_{name}"):
            storages.append(getattr(slicer, storage_class)())
            scene.AddNode(storages[-1])
            storages[-1].SetFileName(str(file))
        assert storages[0].WriteData(node)
        formats.apply_to_file(formats.Applying(opened), tmp_path / name, tmp_path / f"out_{name}")
        assert storages[1].ReadData(found)
        mapped = np.array([found.GetNthControlPointPosition(n) for n in range(9)]) * FLIP
        assert np.linalg.norm(mapped - formats.map_points(transform, points[:9]), axis=1).max() <= 0.01
