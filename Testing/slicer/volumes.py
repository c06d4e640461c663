"""Volumes, transforms and points that the tests put into the scene."""

from __future__ import annotations

import numpy as np
from support.geometry import rotation

FLIP = np.array([-1.0, -1.0, 1.0])


OBLIQUE = rotation((1, 2, 3), 25)
DIRECTIONS = {
    "RAS": np.diag([1.0, 1.0, 1.0]),
    "LAS": np.diag([-1.0, 1.0, 1.0]),
    "LPS": np.diag([-1.0, -1.0, 1.0]),
    "AIR": np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]]),
    "oblique": OBLIQUE,
}


def matrix(direction, spacing, origin) -> np.ndarray:
    """4 x 4 of voxel indices to RAS mm."""
    made = np.eye(4)
    made[:3, :3] = np.asarray(direction) * np.asarray(spacing)
    made[:3, 3] = origin
    return made


def addVolume(array, ijkToRas, name="volume", className="vtkMRMLScalarVolumeNode"):
    """A volume node with these voxels (k, j, i)."""
    import slicer

    return slicer.util.addVolumeFromArray(np.asarray(array), np.asarray(ijkToRas), name, className)


def addLinear(array, name="linear"):
    """A linear transform node, to parent."""
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
    slicer.util.updateTransformMatrixFromArray(node, np.asarray(array))
    return node


def addWarp(name="warp", reach=80.0):
    """A transform node that is not linear: a gentle thin plate spline over a cube of 2 x reach mm, to parent."""
    import slicer
    import vtk

    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetBasisToR()
    given, found = vtk.vtkPoints(), vtk.vtkPoints()
    for x in (-reach, reach):
        for y in (-reach, reach):
            for z in (-reach, reach):
                given.InsertNextPoint(x, y, z)
                found.InsertNextPoint(x + 6 + 0.05 * y, y - 0.03 * z, z + 0.06 * x)
    given.InsertNextPoint(0, 0, 0)
    found.InsertNextPoint(9, 2, -3)
    spline.SetSourceLandmarks(given)
    spline.SetTargetLandmarks(found)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", name)
    node.SetAndObserveTransformToParent(spline)
    return node


def composite(degrees: float, grid=4.0, bump=4.0, size=24):
    """A SimpleITK transform as the engine writes it: a field first, then an affine with a large turn; and its field.

    The field fades to zero at its edge. ITK interpolates it linearly, Slicer cubically: gentle enough to differ little.
    """
    import SimpleITK as sitk

    axes = [np.linspace(-1, 1, size)] * 3
    k, j, i = np.meshgrid(*axes, indexing="ij")
    weight = np.cos(0.5 * np.pi * i) ** 2 * np.cos(0.5 * np.pi * j) ** 2 * np.cos(0.5 * np.pi * k) ** 2
    vectors = np.stack([bump * weight, -0.5 * bump * weight, 0.6 * bump * weight], axis=-1)
    field = sitk.GetImageFromArray(vectors, isVector=True)
    field.SetSpacing([grid] * 3)
    field.SetOrigin([-0.5 * grid * (size - 1)] * 3)
    affine = sitk.AffineTransform(3)
    turn = rotation((1, 2, -1), degrees)
    affine.SetMatrix((turn @ np.diag([1.02, 0.97, 1.0])).ravel().tolist())
    affine.SetTranslation([12.0, -30.0, 55.0])
    displacement = sitk.DisplacementFieldTransform(sitk.Image(field))
    return sitk.CompositeTransform([affine, displacement]), field
