"""ICON against GradICON.

Both ask that the maps of both directions undo each other, and nothing else makes them smooth. ICON penalizes the error
itself, off the grid; GradICON its gradient. The gradient does not see a common shift of the error and weighs its short
waves more: so similarity may fall faster while the maps become regular.
"""

from __future__ import annotations

from typing import Any

from common import FIRST, SECOND, main
from planar import images, shapes, train

SIZE = 64
WAYS = {"ICON": ("icon", 1000.0, FIRST), "GradICON": ("gradicon", 1.0, SECOND)}


def compute(quick: bool) -> dict[str, Any]:
    from carlreg.losses.paper import dissimilarity_both_ways
    from carlreg.training.planar.stage import folds_percent, inverse_error

    pool = shapes(1, 16 if quick else 400, SIZE)
    moving, fixed = images(shapes(10**6, 2 if quick else 24, SIZE))

    def watch(network) -> dict[str, float]:
        forward, backward = (found.map for found in network(moving, fixed))
        return {
            "held_out": float(dissimilarity_both_ways(forward, backward, moving, fixed, "ssd")) / 2,
            "inverse": float(inverse_error(forward, backward, (SIZE, SIZE))),
            "folds": float(folds_percent(forward, (SIZE, SIZE)) + folds_percent(backward, (SIZE, SIZE))) / 2,
        }

    curves = {}
    for name, (regularity, weight, _) in WAYS.items():
        _, curves[name] = train(
            "planar-unet",
            pool,
            3 if quick else 200,
            regularity=regularity,
            weight=weight,
            similarity="ssd",
            batch=2 if quick else 8,
            watch=watch,
            every=2 if quick else 25,
        )
    found: dict[str, Any] = {"curves": curves, "before": float(((moving - fixed) ** 2).mean())}
    for name, curve in curves.items():
        for what in ("held_out", "inverse", "folds"):
            found[f"{name}: {what} at the end"] = curve[what][-1]
    return found


def draw(found: dict[str, Any]):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    labels = {
        "held_out": "squared difference, held-out pairs",
        "inverse": "inverse error (pixels)",
        "folds": "folds (% of cells)",
    }
    for axis, (what, label) in zip(axes, labels.items(), strict=True):
        for name, (_, _, color) in WAYS.items():
            axis.plot(found["curves"][name].steps, found["curves"][name][what], color=color, label=name)
        axis.set(xlabel="steps", ylabel=label, ylim=(0, None))
    axes[0].axhline(found["before"], color="#999999", linestyle=":", label="not registered")
    axes[0].legend(frameon=False)
    return figure


if __name__ == "__main__":
    main(__file__, compute, draw)
