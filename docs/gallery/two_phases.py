"""Diffusion first, then GradICON.

An attention mask may be wide, or in several pieces, and its mean in the right place all the same. Diffusion asks
neighbors to answer alike and so makes masks compact; it also keeps the map from bending as far as it should. GradICON
asks only that both directions fit together. So attention is trained with diffusion for some steps, then with GradICON:
here are the trainings with each alone, and with one after the other.
"""

from __future__ import annotations

from typing import Any

from common import FIRST, SECOND, THIRD, main
from planar import end_point, images, retina, train

SIZE, WARP = 48, 3.0  # pixels
WAYS = {"diffusion": FIRST, "GradICON": SECOND, "diffusion, then GradICON": THIRD}


def compute(quick: bool) -> dict[str, Any]:
    import numpy as np
    import torch
    from carlreg.models.operators import without_refinement
    from carlreg.training.planar.stage import inverse_error

    steps, first = (4, 2) if quick else (240, 80)
    pool = retina(1, 4 if quick else 80, SIZE, WARP)
    held = retina(10**6, 2 if quick else 8, SIZE, WARP)
    moving, fixed = images(held)

    def watch(network) -> dict[str, float]:
        attention = without_refinement(network)
        found = attention.predict(moving, fixed)
        forward, backward = network(moving, fixed)
        body = torch.nn.functional.adaptive_avg_pool2d(fixed, found.spread_b1dhw.shape[2:]) > 0.1
        return {
            "spread": float(found.spread_b1dhw[body].mean()),
            "end_point": float(np.mean(end_point(network, held))),
            "inverse": float(inverse_error(forward.map, backward.map, (SIZE, SIZE))),
        }

    ways = {
        "diffusion": "diffusion",
        "GradICON": "gradicon",
        "diffusion, then GradICON": lambda step: "diffusion" if step < first else "gradicon",
    }
    curves, masks = {}, {}
    for name, regularity in ways.items():
        network, curves[name] = train(
            "planar-carl", pool, steps, regularity=regularity, watch=watch, every=2 if quick else 40
        )
        masks[name] = attention_mask(network, held[0])
    found: dict[str, Any] = {"curves": curves, "masks": masks, "fixed": held[0].fixed[0, 0].numpy()}
    for name, curve in curves.items():
        for what in ("spread", "end_point", "inverse"):
            found[f"{name}: {what} at the end"] = curve[what][-1]
    return found


def attention_mask(network, pair):
    """How much each token of the moving image is heard by the place of the fixed image with the most structure."""
    import torch
    from carlreg.models.operators import without_refinement

    attention = without_refinement(network)
    with torch.no_grad():
        tokens = [attention.encoder(image) for image in (pair.fixed, pair.moving)]
        pad = attention.encoder.settings.padding_cells
        queries = tokens[0][..., pad:-pad, pad:-pad] if pad else tokens[0]
        cell = pair.fixed.shape[-1] // queries.shape[-1]
        structure = torch.nn.functional.avg_pool2d((pair.fixed - pair.fixed.mean()) ** 2, cell)
        best = int(structure.flatten().argmax())
        query = queries[0].flatten(1)[:, best]
        logits = torch.einsum("c,chw->hw", query, tokens[1][0])
        return torch.softmax(logits.flatten(), 0).reshape(logits.shape).numpy()


def draw(found: dict[str, Any]):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(11, 6.4), layout="constrained")
    labels = {
        "spread": "spread of attention (tokens)",
        "end_point": "error on held-out pairs (pixels)",
        "inverse": "inverse error (pixels)",
    }
    for axis, (what, label) in zip(axes[0], labels.items(), strict=True):
        for name, color in WAYS.items():
            axis.plot(found["curves"][name].steps, found["curves"][name][what], color=color, label=name)
        axis.set(xlabel="steps", ylabel=label, ylim=(0, None))
    axes[0, 0].legend(frameon=False, fontsize=8)
    for axis, name in zip(axes[1], WAYS, strict=True):
        axis.imshow(found["masks"][name] ** 0.5, cmap="magma")
        axis.set_title(f"mask of one place: {name}", fontsize=10)
        axis.axis("off")
    return figure


if __name__ == "__main__":
    main(__file__, compute, draw)
