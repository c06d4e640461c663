"""The map of a case at any share between none and all of it, and a moving volume warped by it."""

from __future__ import annotations

import numpy as np
import vtk

from ..mrml.geometry import matrixFrom, rasFromIjk, transformPoints
from ..mrml.volumes import resliced
from .case import Case

_FIELD_NODES = 48  # per axis: of the field that stands for the map between 0 and 100 %
_MARGIN = 0.1


class PartialMap:
    """The map of a case at any share between none and all of it, fast enough for a slider.

    It is split into the affine that fits it best and a rest. The affine goes from the case's start along its matrix
    logarithm (a turn is a turn at every share), the rest in proportion. At 1 it is the
    transform, as closely as the nodes can say.
    """

    def __init__(self, case: Case) -> None:
        self._case = case
        whole = case.worldMap()
        points = case.lattice(2)
        low, high = points.min(axis=0), points.max(axis=0)
        margin = _MARGIN * (high - low) + 1.0
        self._low, high = low - margin, high + margin
        longest = float((high - self._low).max())
        self._count = np.clip(np.ceil(_FIELD_NODES * (high - self._low) / longest).astype(int), 4, None)
        self._step = (high - self._low) / (self._count - 1)
        axes = [self._low[a] + self._step[a] * np.arange(self._count[a]) for a in range(3)]
        grid = np.stack(np.meshgrid(axes[2], axes[1], axes[0], indexing="ij"), axis=-1)[..., ::-1].reshape(-1, 3)
        mapped = transformPoints(whole, grid)
        self.displacement = mapped - grid
        homogeneous = np.column_stack([grid, np.ones(len(grid))])
        self._affine = np.eye(4)
        self._affine[:3] = np.linalg.lstsq(homogeneous, mapped, rcond=None)[0].T
        self._rest = mapped - homogeneous @ self._affine[:3].T
        self._start = self._log = None

    def at(self, share: float):
        """The map (fixed points in the world to the moving node's space) at a share of 0 to 1."""
        made = vtk.vtkGeneralTransform()
        made.PostMultiply()
        affine = self._affineAt(share)
        if share > 0.0:
            made.Concatenate(self._grid(share * self._rest @ np.linalg.inv(affine[:3, :3]).T))
        made.Concatenate(matrixFrom(affine))
        made.Concatenate(self._case.movingFromWorld())
        return made

    def linear(self):
        """The whole map with its field interpolated linearly: close, and much faster for whole volumes."""
        made = vtk.vtkGeneralTransform()
        made.PostMultiply()
        made.Concatenate(self._grid(self.displacement))
        made.Concatenate(self._case.movingFromWorld())
        return made

    def _affineAt(self, share: float) -> np.ndarray:
        if self._start is None:
            self._start = self._case.start()
            self._log = _matrixLog(np.linalg.inv(self._start) @ self._affine)
        if self._log is not None:
            from scipy.linalg import expm

            return self._start @ np.real(expm(share * self._log))
        return (1.0 - share) * self._start + share * self._affine

    def local(self):
        """What the transform does beside its affine part: fixed points in the world to world points."""
        return self._grid(self._rest @ np.linalg.inv(self._affine[:3, :3]).T)

    def _grid(self, displacement: np.ndarray):
        from vtk.util.numpy_support import numpy_to_vtk

        image = vtk.vtkImageData()
        image.SetDimensions(*self._count.tolist())
        image.SetSpacing(*self._step.tolist())
        image.SetOrigin(*self._low.tolist())
        image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(displacement, np.float32), deep=True))
        grid = vtk.vtkGridTransform()
        grid.SetDisplacementGridData(image)
        grid.SetInterpolationModeToLinear()
        return grid


def _matrixLog(affine: np.ndarray) -> np.ndarray | None:
    """The real logarithm, or None where there is none (mirrored, or turned by half a turn) or scipy is missing."""
    try:
        from scipy.linalg import logm
    except ImportError:
        return None
    if np.linalg.det(affine[:3, :3]) <= 1e-6:
        return None
    try:
        found = np.asarray(logm(affine))
    except (ValueError, np.linalg.LinAlgError):
        return None
    if not np.all(np.isfinite(found)) or np.abs(np.imag(found)).max() > 1e-6:
        return None
    return np.real(found)


def resampled(moving, through, matrix: np.ndarray, size, step: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A moving volume on another grid: (values float32, inside bool, 4 x 4 of the grid), k, j, i.

    Args: through: grid's world points to the moving node's space. matrix, size: of the grid (i, j, k). step: every
        n-th voxel only.
    """
    lattice = matrix @ np.diag([step, step, step, 1.0])
    count = [-(-int(n) // step) for n in size]
    image = moving.GetImageData()
    outside = float(image.GetScalarRange()[0]) - 1e6
    own = rasFromIjk(moving)
    values = resliced(image, own, through, lattice, count, outside, scalarType=vtk.VTK_FLOAT)
    inside = values > outside + 5e5
    return values, inside, lattice
