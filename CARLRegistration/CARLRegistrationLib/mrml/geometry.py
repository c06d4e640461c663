"""Where nodes are: matrices, parent transforms and points; how RAS becomes LPS and back (also used by `transforms`).

Nodes are in RAS, files and the engine in LPS, both in mm; the world is what the views show.
"""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from carlreg.spaces import apply_affine

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# A file's direction matrix is stored in single precision by some formats; more than that is a real shear.
_PERPENDICULAR = 1e-4


def arrayFrom(matrix) -> np.ndarray:
    """4 x 4 of a vtkMatrix4x4."""
    return np.array([[matrix.GetElement(i, j) for j in range(4)] for i in range(4)])


def matrixFrom(array: np.ndarray):
    """vtkMatrix4x4 of a 4 x 4."""
    matrix = vtk.vtkMatrix4x4()
    for i in range(4):
        for j in range(4):
            matrix.SetElement(i, j, float(array[i, j]))
    return matrix


def rasFromIjk(node) -> np.ndarray:
    """4 x 4 of the volume itself, parent transforms aside."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return arrayFrom(matrix)


def rasFromImage(image) -> np.ndarray:
    """4 x 4 of the voxels of a SimpleITK image (LPS mm) to RAS mm."""
    lps = np.eye(4)
    lps[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    lps[:3, 3] = image.GetOrigin()
    return LPS_FROM_RAS @ lps


def setGeometry(image, rasFromVoxels: np.ndarray) -> None:
    """Give a SimpleITK image (LPS mm) the geometry of a 4 x 4 of its voxels to RAS mm, with perpendicular axes."""
    lps = LPS_FROM_RAS @ rasFromVoxels
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())


def swapRasLps(points: np.ndarray) -> np.ndarray:
    """(..., 3) points or vectors from RAS to LPS, or back: x and y change their sign."""
    return points * np.array([-1.0, -1.0, 1.0])


def parents(node) -> list:
    """The transform nodes above a node, nearest first."""
    found = []
    parent = node.GetParentTransformNode() if node is not None else None
    while parent is not None:
        found.append(parent)
        parent = parent.GetParentTransformNode()
    return found


def worldFromNode(node):
    """The transform from the node's own RAS to the world, a vtkGeneralTransform; identity without a parent."""
    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(node.GetParentTransformNode(), None, transform)
    return transform


def linearWorldFromNode(node) -> np.ndarray | None:
    """4 x 4 to the world when all parents are linear, else None."""
    parent = node.GetParentTransformNode()
    if parent is None:
        return np.eye(4)
    if not parent.IsTransformToWorldLinear():
        return None
    matrix = vtk.vtkMatrix4x4()
    parent.GetMatrixTransformToWorld(matrix)
    return arrayFrom(matrix)


def isPerpendicular(matrix: np.ndarray) -> bool:
    """True when the voxel axes (columns) of a 4 x 4 are at right angles to each other."""
    axes = matrix[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    if not np.all(np.isfinite(matrix)) or np.any(lengths < 1e-9):
        return False
    cosines = (axes / lengths).T @ (axes / lengths) - np.eye(3)
    return bool(np.abs(cosines).max() < _PERPENDICULAR)


def transformPoints(transform, points: np.ndarray) -> np.ndarray:
    """N x 3 points through a vtkAbstractTransform."""
    from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

    given = vtk.vtkPoints()
    given.SetData(numpy_to_vtk(np.ascontiguousarray(points, dtype=np.float64), deep=True))
    found = vtk.vtkPoints()
    found.SetDataTypeToDouble()
    transform.TransformPoints(given, found)
    return vtk_to_numpy(found.GetData()).copy()


def volumePoints(volume, nodes: int) -> np.ndarray:
    """(nodes^3, 3) points that fill a volume, in the world."""
    own = rasFromIjk(volume)
    index = lattice(np.zeros(3), np.array(volume.GetImageData().GetDimensions()) - 1.0, nodes)
    return transformPoints(worldFromNode(volume), apply_affine(own, index))


def lattice(low: np.ndarray, high: np.ndarray, nodes: int) -> np.ndarray:
    """(nodes^3, 3) points evenly between two corners, the first coordinate slowest."""
    axes = [np.linspace(a, b, nodes) for a, b in zip(low, high, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
