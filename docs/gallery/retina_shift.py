"""Retina trees, warped, and warped and shifted: what never saw a shift finds it, if it is equivariant.

Two networks are trained on pairs of vessel trees that are warped by a few pixels and never shifted: U-Nets in two
steps, and coordinate attention with a local step after it. Both register such pairs. Of pairs that are shifted as well
the U-Nets make nothing; attention cannot tell that they are shifted, and registers them as well as the others.
"""

from __future__ import annotations

from typing import Any

from common import FIRST, SECOND, TRUTH, main
from planar import end_point, retina, train, unmoved, warped

SIZE, WARP = 64, 3.0  # pixels
SHIFT = 9.0  # of either image: two differ by up to twice that
NETWORKS = {"planar-unet": "U-Nets", "planar-carl": "coordinate attention"}


def compute(quick: bool) -> dict[str, Any]:
    import numpy as np

    steps, count, pool = (3, 1, 4) if quick else (350, 20, 100)
    size = 48 if quick else SIZE
    sets = {
        "warped": retina(10**6, count, size, WARP),
        "warped and shifted": retina(10**6, count, size, WARP, SHIFT * size / SIZE),
    }
    trained_on = retina(1, pool, size, WARP)
    found: dict[str, Any] = {"example": sets["warped and shifted"][0], "warped": {}, "errors": {}}
    for what, pairs in sets.items():
        found["errors"]["not registered", what] = unmoved(pairs)
    for name, title in NETWORKS.items():
        network, _ = train(name, trained_on, steps)
        for what, pairs in sets.items():
            found["errors"][title, what] = end_point(network, pairs)
        found["warped"][title] = warped(network, found["example"])
    for (title, what), errors in found["errors"].items():
        found[f"{title}, {what}: mean error in pixels"] = float(np.mean(errors))
    return found


def draw(found: dict[str, Any]):
    import matplotlib.pyplot as plt
    import numpy as np

    figure, axes = plt.subplots(1, 5, figsize=(15, 3.4), layout="constrained", width_ratios=[1, 1, 1, 1, 1.5])
    pair = found["example"]
    shown = {"fixed": pair.fixed, "moving": pair.moving} | {
        f"moving, by {title}": image for title, image in found["warped"].items()
    }
    for axis, (title, image) in zip(axes, shown.items(), strict=False):
        overlay = np.stack([pair.fixed[0, 0].numpy(), *[image[0, 0].numpy()] * 2], axis=-1)
        axis.imshow(np.clip(overlay, 0, 1))
        axis.set_title(title, fontsize=10)
        axis.axis("off")
    titles = ["not registered", *NETWORKS.values()]
    for offset, (what, color) in zip((-0.2, 0.2), (("warped", FIRST), ("warped and shifted", SECOND)), strict=True):
        means = [np.mean(found["errors"][title, what]) for title in titles]
        bars = axes[-1].bar(np.arange(3) + offset, means, 0.38, color=color, label=what)
        axes[-1].bar_label(bars, fmt="%.1f", color=TRUTH)
    axes[-1].set_xticks(range(3), titles)
    axes[-1].set(ylabel="mean error (pixels)", title="Held-out pairs")
    axes[-1].legend(frameon=False)
    return figure


if __name__ == "__main__":
    main(__file__, compute, draw)
