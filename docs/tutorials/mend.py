"""The pictures and figures of mend.md: `python docs/tutorials/mend.py`, a minute on two cores.

An error of 15 mm is planted into the true map of the generated pair, and mended by one point, then by two.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import SimpleITK as sitk
from carlreg import mend
from carlreg.phantom import make_pair
from carlreg.physical import PhysicalTransform
from carlreg.volumes import volume_from_image
from matplotlib.patches import Rectangle

HERE = Path(__file__).parent
SPACING_MM, WIDTH_MM, PUSH_MM = 3.0, 25.0, np.array([9.0, -9.0, 8.0])
LANDMARK = 6
SECOND_MM = np.array([12.0, 8.0, -6.0])


def planted(pair, grid):
    """The true map with the push around a landmark, and that landmark."""
    center = pair.landmarks[0][LANDMARK]
    nodes = grid.padded(20.0).with_spacing(2 * SPACING_MM)
    points = nodes.centers().reshape(-1, 3)
    push = np.exp(-0.5 * ((points - center) ** 2).sum(1) / WIDTH_MM**2)[:, None] * PUSH_MM
    truth = pair.moving_from_fixed
    field = (truth.displacement(points) + push).reshape(*nodes.shape_dhw, 3)
    return PhysicalTransform(truth.pose, field, nodes), center


def main() -> None:
    pair = make_pair(0, SPACING_MM)
    fixed, moving = volume_from_image(pair.fixed, "fixed"), volume_from_image(pair.moving, "moving")
    grid, truth = fixed.grid, pair.moving_from_fixed
    wrong, center = planted(pair, grid)
    one = center[None]
    two = np.stack([center, center + SECOND_MM])
    mended = [mend(wrong, fixed, moving, (points, truth(points))) for points in (one, two)]
    maps = {
        "planted error": wrong,
        "mended by one point": mended[0].transform,
        "mended by two points": mended[1].transform,
    }

    body = sitk.GetArrayFromImage(pair.fixed_labels) > 0
    points = grid.centers()[body]
    there = truth(points)
    seen = moving.grid.contains(there)
    near = seen & (np.linalg.norm(points - center, axis=1) < 1.6 * WIDTH_MM)
    row = int(np.rint(grid.index(center))[1])
    plane = grid.centers()[:, row]
    left, right, low, high = (float(v) for v in (plane[0, 0, 0], plane[0, -1, 0], plane[0, 0, 2], plane[-1, 0, 2]))
    figure, axes = plt.subplots(2, 3, figsize=(10, 5.8), constrained_layout=True)
    for column, (name, transform) in enumerate(maps.items()):
        error = np.linalg.norm(transform.apply(points) - there, axis=1)
        print(
            f"{name}: within {1.6 * WIDTH_MM:.0f} mm of the point {error[near].mean():.2f} mm (at most "
            f"{error[near].max():.1f}), elsewhere {error[seen & ~near].mean():.2f} mm"
        )
        warped = sitk.Resample(pair.moving, pair.fixed, transform.to_sitk(), sitk.sitkLinear, -1000)
        gray = [
            np.clip((sitk.GetArrayFromImage(image)[:, row].astype(float) + 300) / 800, 0, 1)
            for image in (pair.fixed, warped)
        ]
        extent = (left, right, low, high)
        axes[0, column].imshow(np.stack([gray[0], gray[1], gray[1]], -1), origin="lower", extent=extent)
        axes[0, column].set_title(name)
        slice_error = np.linalg.norm(transform.apply(plane.reshape(-1, 3)) - truth(plane.reshape(-1, 3)), axis=1)
        shown = np.where(body[:, row], slice_error.reshape(plane.shape[:2]), np.nan)
        picture = axes[1, column].imshow(shown, origin="lower", extent=extent, vmin=0, vmax=15, cmap="viridis")
        for axis in axes[:, column]:
            axis.plot(center[0], center[2], "x", color="white")
            axis.set_xticks([])
            axis.set_yticks([])
        if column:
            corners = mended[column - 1].boxes[0].corners_lps()
            (x0, _, z0), (x1, _, z1) = corners.min(0), corners.max(0)
            for axis in axes[:, column]:
                axis.add_patch(Rectangle((x0, z0), x1 - x0, z1 - z0, fill=False, color="white", linestyle=":"))
    for axis in axes.flat:
        axis.set_xlim(left, right)
        axis.set_ylim(low, high)
    figure.colorbar(picture, ax=axes[1], label="error, mm", shrink=0.8)
    figure.savefig(HERE / "mend.png", dpi=90)


if __name__ == "__main__":
    main()
