"""The linear map between two sets of corresponding points: rigid, similarity or affine, weighted least squares."""

from __future__ import annotations

import numpy as np

from .grid import apply_affine

KINDS = ("rigid", "similarity", "affine")


def fit_linear(points, targets, weights=None, *, kind: str = "affine", toward_rigid: float = 0.0) -> np.ndarray:
    """4x4 matrix that takes points to their targets, nearest in the weighted mean of squared distances.

    Args:
        points, targets: n x 3 each, mm. weights: n, >= 0; None = all alike.
        kind: 'rigid' (rotation and shift), 'similarity' (and one scale) or 'affine'. Mirrored targets get the nearest
            proper rotation.
        toward_rigid: of an affine map, how strongly it is drawn to the rigid one, as a share of the points' mean
            squared extent: keeps directions sane in which the points are thin or none.
    Source: Umeyama, IEEE TPAMI 13(4), 1991, for rigid and similarity.
    Raises ValueError for another kind.
    """
    if kind not in KINDS:
        raise ValueError(f"Expected one of {', '.join(KINDS)}; got {kind!r}.")
    weights = np.ones(len(points)) if weights is None else weights
    w = (weights / max(weights.sum(), 1e-12))[:, None]
    center_x, center_y = (w * points).sum(0), (w * targets).sum(0)
    x, y = points - center_x, targets - center_y
    u, stretch, vt = np.linalg.svd((w * x).T @ y)
    signs = np.array([1.0, 1.0, 1.0 if np.linalg.det(vt.T @ u.T) > 0 else -1.0])
    linear = rotation = vt.T @ np.diag(signs) @ u.T
    if kind == "similarity":
        linear = (stretch * signs).sum() / (w * x**2).sum() * rotation
    elif kind == "affine" and toward_rigid:
        second = x.T @ (w * x)
        if (size := float(np.trace(second))) > 0:  # points that are all one say nothing beyond the rigid fit
            second, crossed = second / size, x.T @ (w * y) / size
            ridge = toward_rigid / 3 * np.eye(3)
            linear = np.linalg.solve(second + ridge, crossed + ridge @ rotation.T).T
    elif kind == "affine":
        linear = np.linalg.lstsq(np.sqrt(w) * x, np.sqrt(w) * y, rcond=None)[0].T
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = center_y - linear @ center_x
    return matrix


def nearest_linear(matrix: np.ndarray, kind: str, center_lps: np.ndarray) -> np.ndarray:
    """The rigid or similarity map nearest to a 4x4 (for 'affine' that itself); the center goes where it went."""
    if kind not in ("rigid", "similarity"):
        return matrix
    u, stretches, vt = np.linalg.svd(matrix[:3, :3])
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    linear = u @ np.diag(signs) @ vt
    if kind == "similarity":
        linear = linear * float(np.prod(stretches)) ** (1 / 3)
    out = matrix.copy()
    out[:3, :3] = linear
    out[:3, 3] = apply_affine(matrix, center_lps) - linear @ center_lps
    return out
