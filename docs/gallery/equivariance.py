"""What happens to the map of each network when an image is moved in its field of view, cut, or turned.

[W, U]: each image moved on its own; [U, U]: both alike. The error is by how many voxels the map, moved back, differs
from the map of the images where they were, over the body; 0 is equivariance. Shifts are made by placing the same
content elsewhere on a wider canvas, so nothing is interpolated. Networks whose weights are neither shipped nor given
run with random ones, their attention sharpened and their last layers alive: they show what the architecture promises.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from common import main

CONTENT = 32  # voxels per edge
CANVAS, BEGIN = 112, 24  # of the canvas; where the content lies on it before it is moved
QUICK_CANVAS, QUICK_BEGIN = 56, 8
LATTICE, BETWEEN = 32, (15, 30, 45)  # shifts by a multiple of most networks' strides, and between lattice points


@dataclass(frozen=True)
class Placed:
    """An image on a canvas: b1dhw, the first voxel of its content, and how many voxels that has along an edge."""

    canvas: Any
    at: tuple[int, int, int]
    count: int


def pair(seed: int):
    """A generated head twice: moving, fixed (1 1 d h w), and where both show the body (d h w, of the fixed one)."""
    import torch.nn.functional as F
    from carlreg.training.known_pair import draw_pair
    from carlreg.training.settings import SyntheticSettings

    settings = SyntheticSettings(
        size=CONTENT, canvas=1.5, shift=0.05, crop=0.0, rotation_degrees=8.0, same_contrast=1.0, missing=0.0,
        head=1.0, trunk=0.0, limb=0.0, abstract=0.0,
    )  # fmt: skip
    drawn = draw_pair(seed, settings, "cpu")
    body = drawn.forward.body_b1dhw * drawn.forward.seen_b1dhw
    body = F.interpolate(body, size=drawn.fixed.shape[2:]) > 0.5
    # Away from the content's faces: what a network sees there depends on what lies beyond them.
    body[:, :, :6], body[:, :, -6:] = False, False
    body[:, :, :, :6], body[:, :, :, -6:] = False, False
    body[..., :6], body[..., -6:] = False, False
    return drawn.moving, drawn.fixed, body[0, 0]


def placed(image, canvas: int, begin: int, shift: int = 0) -> Placed:
    """The image on a cubic canvas of zeros, moved along the first axis by whole voxels."""
    import torch

    voxels = torch.zeros(1, 1, canvas, canvas, canvas)
    at = (begin + shift, begin, begin)
    where = tuple(slice(b, b + n) for b, n in zip(at, image.shape[2:], strict=True))
    voxels[(0, 0, *where)] = image[0, 0]
    return Placed(voxels, at, image.shape[2])


def displacement(network, moving: Placed, fixed: Placed):
    """3 d h w: where the map sends each voxel of the fixed content, in voxels of the moving content, minus it."""
    import torch

    size = fixed.canvas.shape[2:]
    index = torch.stack(torch.meshgrid(*[torch.arange(fixed.count).float()] * 3, indexing="ij"))[None]

    def column(values):
        return torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1, 1)

    with torch.no_grad():
        found = network.predict(moving.canvas, fixed.canvas).map
        points = (index + column(fixed.at) + 0.5) / column(tuple(size))
        return (found(points) * column(tuple(moving.canvas.shape[2:])) - 0.5 - column(moving.at) - index)[0]


def cut(image):
    """The image without a fifth of its content at one end."""
    shorter = image.clone()
    shorter[:, :, : image.shape[2] // 5] = 0
    return shorter


def turned(image):
    """Turned by 180 degrees about its first axis, exactly."""
    return image.flip((3, 4))


def ready(name: str, seed: int = 0):
    """(network, trained): with shipped weights, or random ones made lively."""
    import torch
    from carlreg.models.operators import without_refinement
    from carlreg.models.registry import MODELS, build, load
    from carlreg.models.unet import UNet

    if MODELS[name].shipped:
        return load(name).network, True
    torch.manual_seed(seed)
    network = build(name, align_corners=False).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, UNet):
                module.last.weight.normal_(0, 0.03)
    encoder = getattr(without_refinement(network), "encoder", None)
    if encoder is not None and hasattr(encoder, "log_temperature"):
        with torch.no_grad():
            encoder.log_temperature += math.log(16.0)
    return network, False


def measured(name: str, quick: bool) -> dict[str, float]:
    """Errors in voxels, mean over the body; of networks with random weights only what the architecture promises."""
    network, trained = ready(name)
    moving, fixed, body = pair(1)
    where = (QUICK_CANVAS, QUICK_BEGIN) if quick else (CANVAS, BEGIN)
    far = 16 if quick else LATTICE
    m, f = placed(moving, *where), placed(fixed, *where)
    base = displacement(network, m, f)

    def differs(one: Placed, other: Placed, region=body) -> float:
        return float((displacement(network, one, other) - base)[:, region].norm(dim=0).mean())

    moved_m, moved_f = placed(moving, *where, far), placed(fixed, *where, far)
    rows = {f"moving by {far}": differs(moved_m, f)}
    if quick:
        return rows
    rows |= {f"fixed by {far}": differs(m, moved_f), f"both by {far}": differs(moved_m, moved_f)}
    if not trained:
        return rows
    for shift in BETWEEN:
        rows[f"moving by {shift}"] = differs(placed(moving, *where, shift), f)
    kept = body.clone()
    kept[: CONTENT // 5 + 6] = False
    rows["moving cut"] = differs(placed(cut(moving), *where), f, kept)
    rows["moving turned by 180°"] = float(_after_turn(network, placed(turned(moving), *where), f, base, body))
    return rows


def _after_turn(network, moving: Placed, fixed: Placed, base, body):
    """The error once the map into the turned image is turned back."""
    import torch

    index = torch.stack(torch.meshgrid(*[torch.arange(fixed.count).float()] * 3, indexing="ij"))
    found = displacement(network, moving, fixed) + index
    found[1:] = moving.count - 1 - found[1:]
    return (found - index - base)[:, body].norm(dim=0).mean()


def compute(quick: bool) -> dict[str, Any]:
    from carlreg.models.registry import MODELS

    names = [n for n in MODELS if MODELS[n].shipped][:1] if quick else list(MODELS)
    found: dict[str, Any] = {"errors": {name: measured(name, quick) for name in names}}
    found["trained"] = {name: MODELS[name].shipped for name in names}
    for name, row in found["errors"].items():
        found |= {f"{name}, {what}": value for what, value in row.items()}
    return found


def draw(found: dict[str, Any]):
    import matplotlib.pyplot as plt
    import numpy as np

    rows = found["errors"]
    columns = max((list(row) for row in rows.values()), key=len)
    values = np.array([[row.get(c, np.nan) for c in columns] for row in rows.values()])
    figure, axes = plt.subplots(figsize=(1.25 * len(columns) + 3, 0.5 * len(rows) + 1.6), layout="constrained")
    axes.imshow(np.log10(np.clip(values, 1e-3, 30)), cmap="cividis_r", vmin=-3, vmax=1.5, aspect="auto")
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            text = "" if np.isnan(value) else f"{value:.3f}" if value < 1 else f"{value:.1f}"
            axes.text(x, y, text, ha="center", va="center", color="white" if value > 0.3 else "black")
    axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
    names = [name if found["trained"][name] else f"{name} (random)" for name in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.set_title("By how many voxels the map changes (0 = equivariant)")
    return figure


if __name__ == "__main__":
    main(__file__, compute, draw)
