"""A volume to paint on, and the shapes that are painted: signed distances in mm, negative inside."""

from __future__ import annotations

import functools

import numpy as np

from ..spaces import VolumeGrid, cubic_bspline

AIR = -1000.0  # HU


def grid_around(center, extent_mm, spacing, direction) -> VolumeGrid:
    """The grid of at least an extent (mm along i, j, k) around a center (LPS mm)."""
    size = np.ceil(np.asarray(extent_mm) / np.asarray(spacing)).astype(int)
    corner = np.asarray(center) - direction @ ((size - 1) / 2.0 * np.asarray(spacing))
    return VolumeGrid(tuple(size), spacing, corner, direction)


def rotation(axis, degrees: float) -> np.ndarray:
    """3x3 rotation about an axis (Rodrigues)."""
    x, y, z = np.asarray(axis, dtype=np.float64) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


class Canvas:
    """A volume in the anatomy's frame on which shapes are painted one over the other.

    hu, labels, body: (D, H, W). cavity: signed distance in mm from the wall of chest and belly. Shapes are given by
    their signed distance (negative inside), evaluated only in their own box; edges are as soft as a voxel.
    """

    def __init__(self, spacing_mm: float, random: np.random.Generator) -> None:
        self.random = random
        self.grid = grid_around((0.0, 0.0, 0.0), (372.0, 250.0, 520.0), (spacing_mm,) * 3, np.eye(3))
        self.edge = spacing_mm
        self.axes = [
            (self.grid.origin_lps[a] + spacing_mm * np.arange(self.grid.size_ijk[a])).astype(np.float32)
            for a in range(3)
        ]
        self.hu = np.full(self.grid.shape_dhw, AIR, dtype=np.float32)
        self.labels = np.zeros(self.grid.shape_dhw, dtype=np.uint8)
        self.body = np.zeros(self.grid.shape_dhw, dtype=np.uint8)
        self.cavity = np.zeros(self.grid.shape_dhw, dtype=np.float32)
        # Smooth noise of unit variance: organs' surfaces and tissues are not as smooth as formulas.
        self.bumps = self.noise(22.0)
        self.grain = self.noise(7.0)
        self.everywhere = (slice(None),) * 3

    def noise(self, wave_mm: float) -> np.ndarray:
        """(D, H, W) noise that varies over about `wave_mm`, of unit variance."""
        spread = []  # per axis, the weights of random knots at each voxel: cubic B-splines
        for count in self.grid.shape_dhw:
            place = np.arange(count, dtype=np.float32)[:, None] * (self.edge / wave_mm)
            nodes = np.arange(int(place[-1, 0]) + 5, dtype=np.float32)
            spread.append(cubic_bspline(np.abs(place + 1.5 - nodes)))
        knots = self.random.standard_normal([w.shape[1] for w in spread], dtype=np.float32)
        values = np.einsum("kc,abc->kab", spread[2], knots)  # w a b
        values = np.einsum("jb,kab->ajk", spread[1], values)  # a h w
        values = np.tensordot(spread[0], values, axes=1)  # d h w
        return values / values.std()

    def box(self, low, high) -> tuple[slice, slice, slice]:
        """Array slices (k, j, i) of the box between two points."""
        slices = []
        for axis in (2, 1, 0):
            start, stop = np.searchsorted(self.axes[axis], (low[axis] - self.edge, high[axis] + self.edge))
            slices.append(slice(int(start), int(stop)))
        return tuple(slices)

    def coordinates(self, box):
        """Broadcastable x, y, z of a box."""
        return (
            self.axes[0][box[2]][None, None, :],
            self.axes[1][box[1]][None, :, None],
            self.axes[2][box[0]][:, None, None],
        )

    def paint(self, box, distance, hu, label: int | None = None, rough: float = 0.0, grain: float = 0.0) -> None:
        """Paint where the signed distance is negative.

        hu: value or array on the box. label: its number, or None to leave labels, 0 to erase them.
        rough: mm by which the surface is displaced. grain: HU of texture.
        """
        if rough:
            distance = distance + rough * self.bumps[box]
        share = np.clip(0.5 - distance / self.edge, 0.0, 1.0)
        value = hu + grain * self.grain[box] if grain else hu
        self.hu[box] += share * (value - self.hu[box])
        if label is not None:
            self.labels[box][share >= 0.5] = label

    def ellipsoid(self, center, radii, hu, label=None, *, turned=None, keep=None, rough=0.0, grain=0.0) -> None:
        """An ellipsoid. turned: 3x3 from its own axes. keep: (x, y, z) -> signed distance of what it is cut
        to, together with the cavity."""
        center, radii = np.asarray(center, dtype=np.float32), np.asarray(radii, dtype=np.float32)
        reach = np.full(3, radii.max()) if turned is not None else radii
        reach = reach + 2.5 * rough
        box = self.box(center - reach, center + reach)
        x, y, z = self.coordinates(box)
        distance = ellipsoid_distance((x - center[0], y - center[1], z - center[2]), radii, turned)
        if keep is not None:
            distance = common_part(distance, keep(x, y, z), self.cavity[box] + 1.0)
        self.paint(box, distance, hu, label, rough, grain)

    def tube(self, points, radii, hu, label=None, *, grain=0.0) -> None:
        """A chain of straight pieces through M x 3 points, with a radius at each."""
        points = np.asarray(points, dtype=np.float32)
        radii = np.broadcast_to(np.asarray(radii, dtype=np.float32), (len(points),))
        for a, b, ra, rb in zip(points[:-1], points[1:], radii[:-1], radii[1:], strict=True):
            reach = max(ra, rb)
            box = self.box(np.minimum(a, b) - reach, np.maximum(a, b) + reach)
            x, y, z = self.coordinates(box)
            along = b - a
            length = float(along @ along) or 1.0
            t = np.clip(((x - a[0]) * along[0] + (y - a[1]) * along[1] + (z - a[2]) * along[2]) / length, 0.0, 1.0)
            off = (x - a[0] - t * along[0]) ** 2 + (y - a[1] - t * along[1]) ** 2 + (z - a[2] - t * along[2]) ** 2
            self.paint(box, np.sqrt(off) - (ra + t * (rb - ra)), hu, label, grain=grain)


def ellipsoid_distance(offsets, radii, turned=None):
    """Signed distance from an ellipsoid's surface along the ray from its center (exact at the surface)."""
    x, y, z = offsets
    if turned is not None:
        m = np.asarray(turned, dtype=np.float32)
        x, y, z = (m[0, c] * x + m[1, c] * y + m[2, c] * z for c in range(3))
    scaled = np.sqrt((x / radii[0]) ** 2 + (y / radii[1]) ** 2 + (z / radii[2]) ** 2) + 1e-6
    return np.sqrt(x**2 + y**2 + z**2) * (1.0 - 1.0 / scaled)


def common_part(*distances):
    """Signed distance of what lies inside all of several shapes."""
    return functools.reduce(np.maximum, distances)


def spline(points, count: int) -> np.ndarray:
    """`count` points along a smooth curve through the given ones (Catmull-Rom)."""
    points = np.asarray(points, dtype=np.float64)
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    t = np.linspace(0, len(points) - 1, count)
    piece = np.minimum(t.astype(int), len(points) - 2)
    s = (t - piece)[:, None]
    p0, p1, p2, p3 = (padded[piece + n] for n in range(4))
    return 0.5 * (2 * p1 + (p2 - p0) * s + (2 * p0 - 5 * p1 + 4 * p2 - p3) * s**2 + (3 * p1 - 3 * p2 + p3 - p0) * s**3)
