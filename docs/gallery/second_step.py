"""What a second step does to the loss of the first.

The first step only shifts the moving image by t. Alone it sees the right place when it is nearly there: thin vessels
that do not touch tell nothing. Followed by a step that repairs what is left, the loss falls from much further away,
and its gradient leads the first step home. So steps are trained together.
"""

from __future__ import annotations

from typing import Any

from common import FIRST, SECOND, main
from planar import images, retina, train

SIZE, WARP = 64, 3.0  # pixels


def compute(quick: bool) -> dict[str, Any]:
    import numpy as np
    import torch
    from carlreg.losses.paper import dissimilarity
    from carlreg.maps import CompositeMap, DisplacementMap, sample

    shifts = np.arange(-20, 21, 10 if quick else 1)
    network, _ = train("planar-unet", retina(1, 4 if quick else 100, SIZE, WARP, 3.0), 2 if quick else 350)
    moving, fixed = images(retina(10**6, 1 if quick else 12, SIZE, WARP))
    rows: dict[str, list[float]] = {"one step": [], "two steps": []}
    with torch.no_grad():
        for shift in shifts:
            place = torch.tensor([0.0, shift / SIZE], dtype=torch.float32).view(1, 2, 1, 1)
            first = DisplacementMap(place, align_corners=network.align_corners)
            points = first.on_grid(fixed.shape[2:])
            shifted = sample(moving, points, align_corners=network.align_corners)
            rows["one step"].append(float(dissimilarity(shifted, fixed)))
            second = network.predict(shifted, fixed).map
            points = CompositeMap(outer=first, inner=second).on_grid(fixed.shape[2:])
            both = sample(moving, points, align_corners=network.align_corners)
            rows["two steps"].append(float(dissimilarity(both, fixed)))
    found: dict[str, Any] = {"shifts": shifts, "rows": rows}
    for name, values in rows.items():
        found[f"{name}: half of the gain within pixels"] = half_width(shifts, values)
    return found


def half_width(shifts, values) -> float:
    """Pixels on either side of the lowest loss within which it is below the middle of its lowest and its highest."""
    low, high = min(values), max(values)
    inside = [shift for shift, value in zip(shifts, values, strict=True) if value < (low + high) / 2]
    return float(max(inside) - min(inside)) / 2


def draw(found: dict[str, Any]):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.8), layout="constrained")
    for (name, values), color in zip(found["rows"].items(), (FIRST, SECOND), strict=True):
        axes.plot(found["shifts"], values, color=color, label=name)
    axes.set(xlabel="shift t of the first step (pixels)", ylabel="1 - LNCC", title="Loss over the first step")
    axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main(__file__, compute, draw)
