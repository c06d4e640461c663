"""The uniform cubic B-spline, which deformation fields and smooth noise are made of."""

from __future__ import annotations


def cubic_bspline(distance):
    """The basis function at distances (>= 0) from its center, in knot spacings: 2/3 at 0, 0 from 2 on.

    Takes and returns a NumPy array or a tensor.
    """
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = (2 - distance).clip(0) ** 3 / 6
    return near * (distance < 1) + far * (distance >= 1)
