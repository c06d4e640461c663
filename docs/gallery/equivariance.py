"""What happens to the map of each network when an image is moved in its field of view, cut, or turned.

[W, U]: each image moved on its own; [U, U]: both alike. The error is by how many voxels the map, moved back, differs
from the map of the images where they were, over the body; 0 is equivariance. Shifts are made by placing the same
content elsewhere on a longer canvas, so nothing is interpolated. Networks whose weights are not shipped run with random
ones, their attention sharpened, their last layers alive, and the published ones narrower, for time: equivariance hangs
on how a network is arranged, not on how wide it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from common import main

CONTENT = 32  # voxels per edge
CANVAS, BEGIN = (96, 32, 32), (8, 0, 0)  # voxels, long where images move; where the content begins before it is moved
QUICK_CANVAS, QUICK_BEGIN = (56, 32, 32), (8, 0, 0)
LATTICE, BETWEEN = 32, (15, 30, 45)  # shifts by a multiple of most networks' strides, and between lattice points
WITH_ATTENTION_ALONE = "carl-compact-rotation"


@dataclass(frozen=True)
class Placed:
    """An image on a canvas: b1dhw, the first voxel of its content, and how many voxels that has along an edge."""

    canvas: Any
    at: tuple[int, int, int]
    count: int


def pair(seed: int):
    """A generated head twice: moving, fixed (1 1 d h w), and where both show the body (d h w, of the fixed one)."""
    import torch.nn.functional as F
    from carlreg.training.data_settings import SyntheticSettings
    from carlreg.training.known_pair import draw_pair

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


def placed(image, canvas: tuple[int, int, int], begin: tuple[int, int, int], shift: int = 0) -> Placed:
    """The image on a canvas of zeros, moved along the first axis, its longest, by whole voxels."""
    import torch

    voxels = torch.zeros(1, 1, *canvas)
    at = (begin[0] + shift, begin[1], begin[2])
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
    from carlreg.models.compositions import assemble
    from carlreg.models.operators import without_refinement
    from carlreg.models.registry import COMPOSITIONS, MODELS, load

    if MODELS[name].shipped:
        return load(name).network, True
    torch.manual_seed(seed)
    network = assemble(narrower(COMPOSITIONS[name][0])).eval()
    with torch.no_grad():
        for key, weight in network.named_parameters():
            if key.endswith("weight") and not weight.any():  # last layers begin at zero
                weight.normal_(0, 0.03)
    encoder = getattr(without_refinement(network), "encoder", None)
    if encoder is not None and hasattr(encoder, "log_temperature"):
        with torch.no_grad():
            encoder.log_temperature += math.log(16.0)
    return network, False


def narrower(composition):
    """The same arrangement with fewer channels where it is a published one, and sharp attention."""
    from carlreg.models.eoir import EoirSettings
    from carlreg.models.paper_encoder import PaperEncoderSettings
    from carlreg.models.unet import UNetSettings

    if isinstance(composition, PaperEncoderSettings):
        return replace(composition, channels=24, norm=16.0)
    if isinstance(composition, UNetSettings):
        return replace(composition, down_channels=(2, 4, 8, 16, 32, 64), up_channels=(4, 8, 16, 32, 32))
    if isinstance(composition, EoirSettings):
        return replace(composition, channels=min(composition.channels, 8 if not composition.local else 16))
    parts = {f.name: getattr(composition, f.name) for f in fields(composition)}
    return replace(composition, **{name: narrower(part) for name, part in parts.items() if is_dataclass(part)})


def measured(network, quick: bool, only: str = "") -> dict[str, float]:
    """Errors in voxels, mean over the body, by what is done to the images. only: of those with this word in them."""
    moving, fixed, body = pair(1)
    where = (QUICK_CANVAS, QUICK_BEGIN) if quick else (CANVAS, BEGIN)
    far = 16 if quick else LATTICE
    m, f = placed(moving, *where), placed(fixed, *where)
    base = displacement(network, m, f)
    kept = body.clone()
    kept[: CONTENT // 5 + 6] = False

    def differs(one: Placed, other: Placed, region=body, back=lambda found: found) -> float:
        return float((back(displacement(network, one, other)) - base)[:, region].norm(dim=0).mean())

    shifts = (far,) if quick else (far, *BETWEEN)
    moved = {shift: (placed(moving, *where, shift), placed(fixed, *where, shift)) for shift in shifts}
    rows = {f"moving by {far}": lambda: differs(moved[far][0], f)}
    if not quick:
        rows |= {f"moving by {shift}": lambda shift=shift: differs(moved[shift][0], f) for shift in BETWEEN}
        rows |= {f"fixed by {shift}": lambda shift=shift: differs(m, moved[shift][1]) for shift in shifts}
        rows |= {
            f"both by {far}": lambda: differs(*moved[far]),
            "moving cut": lambda: differs(placed(cut(moving), *where), f, kept),
            "moving turned by 180°": lambda: differs(placed(turned(moving), *where), f, back=moving_turned_back),
            "fixed turned by 180°": lambda: differs(m, placed(turned(fixed), *where), back=fixed_turned_back),
        }
    return {what: differ() for what, differ in rows.items() if only in what}


def moving_turned_back(found):
    """The displacement into the turned moving image as one into the image before it was turned."""
    places = found + _index(found)
    places[1:] = found.shape[-1] - 1 - places[1:]
    return places - _index(found)


def fixed_turned_back(found):
    """The displacement of the turned fixed image's voxels at the places where they were before."""
    return (found + _index(found)).flip((2, 3)) - _index(found)


def _index(found):
    import torch

    return torch.stack(torch.meshgrid(*[torch.arange(n).float() for n in found.shape[1:]], indexing="ij"))


def compute(quick: bool) -> dict[str, Any]:
    from carlreg.models.operators import without_refinement
    from carlreg.models.registry import COMPOSITIONS, MODELS

    shipped = [name for name in MODELS if MODELS[name].shipped]
    found: dict[str, Any] = {"errors": {}, "trained": {}}
    done: dict[Any, str] = {}
    for name in shipped[:1] if quick else [*shipped, *(name for name in MODELS if name not in shipped)]:
        arrangement = COMPOSITIONS[name][0]
        if arrangement in done and name not in shipped:  # the same network with other weights
            twin = done[arrangement]
            found["errors"][f"{twin}, {name}"] = found["errors"].pop(twin)
            found["trained"][f"{twin}, {name}"] = found["trained"].pop(twin)
            continue
        done[arrangement] = name
        network, found["trained"][name] = ready(name)
        found["errors"][name] = measured(network, quick)
        if name == WITH_ATTENTION_ALONE:
            title = f"{name}, its attention alone"
            found["trained"][title] = True
            found["errors"][title] = measured(without_refinement(network), quick, only="turned")
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
