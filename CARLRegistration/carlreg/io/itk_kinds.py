"""What the numbers of ITK's transform kinds mean: the map of a linear kind as a matrix, in closed form.

ITK's own reader believes a file: it reads past the end of a list of parameters that is too short. Here each kind says
how many numbers it has. Oracle of the tests: ITK itself, where it knows the kind.

Source: ITK's classes of these names (Modules/Core/Transform), `ComputeMatrix` and `SetParameters`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import InputError

# A quaternion, or a matrix of a rotation, may be rounded so much; ITK writes 6 digits in some files.
_ROUNDED = 1e-3


@dataclass(frozen=True)
class LinearKind:
    """counts: numbers of parameters, and of fixed parameters that may be there. matrix: 4x4 of both, LPS mm."""

    parameters: int
    fixed: tuple[int, ...]
    matrix: Callable[[np.ndarray, np.ndarray], np.ndarray]


def _about(matrix: np.ndarray, translation: np.ndarray, center: np.ndarray) -> np.ndarray:
    """4x4 of y = M (x - c) + c + t. center: further numbers are left alone, none means zero."""
    middle = center[:3] if len(center) >= 3 else np.zeros(3)
    out = np.eye(4)
    out[:3, :3] = matrix
    out[:3, 3] = translation + middle - matrix @ middle
    return out


def _versor(values: np.ndarray) -> np.ndarray:
    """3x3 rotation of a versor's three numbers: the axis times the sine of half the angle."""
    norm = float(np.linalg.norm(values))
    if norm > 1 + _ROUNDED:
        raise InputError(f"expected a versor (three numbers of a length up to 1), got one of length {norm:.4g}")
    if norm >= 1 - 1e-10:  # as ITK does
        values = values / (norm + 1e-10 * norm)
    x, y, z = (float(value) for value in values)
    return _rotation(x, y, z, float(np.sqrt(max(0.0, 1.0 - x * x - y * y - z * z))))


def _rotation(x: float, y: float, z: float, w: float) -> np.ndarray:
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def _euler(angles: np.ndarray, z_first: bool) -> np.ndarray:
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x if z_first else about_z @ about_x @ about_y


def _affine(p: np.ndarray, f: np.ndarray) -> np.ndarray:
    return _about(p[:9].reshape(3, 3), p[9:12], f)


def _centered_affine(p: np.ndarray, _: np.ndarray) -> np.ndarray:
    return _about(p[:9].reshape(3, 3), p[12:15], p[9:12])


def _rigid(p: np.ndarray, f: np.ndarray) -> np.ndarray:
    matrix = p[:9].reshape(3, 3)
    if np.abs(matrix @ matrix.T - np.eye(3)).max() > _ROUNDED:
        raise InputError("expected a matrix of a rotation, got one that scales or shears")
    return _affine(p, f)


def _euler_3d(p: np.ndarray, f: np.ndarray) -> np.ndarray:
    return _about(_euler(p[:3], len(f) > 3 and f[3] != 0), p[3:6], f)


def _centered_euler_3d(p: np.ndarray, f: np.ndarray) -> np.ndarray:
    return _about(_euler(p[:3], len(f) > 3 and f[3] != 0), p[6:9], p[3:6])


def _quaternion_rigid(p: np.ndarray, f: np.ndarray) -> np.ndarray:
    norm = float(np.linalg.norm(p[:4]))
    if abs(norm - 1) > _ROUNDED:
        raise InputError(f"expected a quaternion of length 1, got one of length {norm:.4g}")
    return _about(_rotation(*(p[:4] / norm)), p[4:7], f)


def _scale_versor(p: np.ndarray, f: np.ndarray) -> np.ndarray:
    return _about(_versor(p[:3]) + np.diag(p[6:9] - 1), p[3:6], f)


def _scale_skew_versor(p: np.ndarray, f: np.ndarray) -> np.ndarray:
    a, b, c, d, e, g = p[9:15]
    skew = np.array([[0, a, b], [c, 0, d], [e, g, 0]])
    return _about(_versor(p[:3]) + np.diag(p[6:9] - 1) + skew, p[3:6], f)


def _compose_scale_skew_versor(p: np.ndarray, f: np.ndarray) -> np.ndarray:
    a, b, c = p[9:12]
    skew = np.array([[1, a, b], [0, 1, c], [0, 0, 1]])
    return _about(_versor(p[:3]) @ np.diag(p[6:9]) @ skew, p[3:6], f)


_NO_SHIFT = np.zeros(3)
_CENTER = (0, 3)
LINEAR_KINDS = {
    "IdentityTransform": LinearKind(0, (0, 3), lambda p, f: np.eye(4)),
    "TranslationTransform": LinearKind(3, (0, 3), lambda p, f: _about(np.eye(3), p, f)),
    "ScaleTransform": LinearKind(3, _CENTER, lambda p, f: _about(np.diag(p), _NO_SHIFT, f)),
    "ScaleLogarithmicTransform": LinearKind(3, _CENTER, lambda p, f: _about(np.diag(np.exp(p)), _NO_SHIFT, f)),
    "VersorTransform": LinearKind(3, _CENTER, lambda p, f: _about(_versor(p), _NO_SHIFT, f)),
    "VersorRigid3DTransform": LinearKind(6, _CENTER, lambda p, f: _about(_versor(p[:3]), p[3:6], f)),
    "QuaternionRigidTransform": LinearKind(7, _CENTER, _quaternion_rigid),
    "Euler3DTransform": LinearKind(6, (0, 3, 4), _euler_3d),
    "CenteredEuler3DTransform": LinearKind(9, (0, 3, 4), _centered_euler_3d),
    "Rigid3DTransform": LinearKind(12, _CENTER, _rigid),
    "Similarity3DTransform": LinearKind(7, _CENTER, lambda p, f: _about(p[6] * _versor(p[:3]), p[3:6], f)),
    "ScaleVersor3DTransform": LinearKind(9, _CENTER, _scale_versor),
    "ScaleSkewVersor3DTransform": LinearKind(15, _CENTER, _scale_skew_versor),
    "ComposeScaleSkewVersor3DTransform": LinearKind(12, _CENTER, _compose_scale_skew_versor),
    "AffineTransform": LinearKind(12, _CENTER, _affine),
    "MatrixOffsetTransformBase": LinearKind(12, _CENTER, _affine),
    "ScalableAffineTransform": LinearKind(12, _CENTER, _affine),
    "FixedCenterOfRotationAffineTransform": LinearKind(12, _CENTER, _affine),
    "CenteredAffineTransform": LinearKind(15, _CENTER, _centered_affine),
}
FIELD_KINDS = (
    "DisplacementFieldTransform",
    "GaussianSmoothingOnUpdateDisplacementFieldTransform",
    "BSplineSmoothingOnUpdateDisplacementFieldTransform",
)
SPLINE_KINDS = ("BSplineTransform", "BSplineDeformableTransform")
COMPOSITE = "CompositeTransform"
