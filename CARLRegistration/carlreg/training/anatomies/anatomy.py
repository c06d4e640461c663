"""Random anatomies: abstract regions, trunks, heads and limbs, painted in two contrasts with one label map.

Nothing here is a model of a patient. Each kind has the sizes, brightness and sharpness that real scans of such a body
part show at 64 voxels per edge (shells of skin, fat and bone, homogeneous organs, thin vessels in dark lungs, folded
cortex), in arrangements that never repeat. Axes of the canvas: d from head to feet, h from front to back, w across.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .abstract import paint_abstract
from .canvas import Canvas, Extra, Random, smooth_noise
from .head import paint_head
from .limb import paint_limb
from .parts import line
from .trunk import paint_trunk

# Each paints on a canvas; what lies down also says what slides and where its back is (see `Anatomy`).
Painter = Callable[[Canvas], tuple[int, Tensor, float] | None]
PAINTERS: dict[str, Painter] = {
    "abstract": paint_abstract,
    "trunk": paint_trunk,
    "head": paint_head,
    "limb": paint_limb,
}


@dataclass(frozen=True)
class Anatomy:
    """What views are cut from.

    labels_11dhw: float, whole numbers, 0 = outside the body. contrasts: two paintings of it (1 1 d h w each, 0..1).
    modality: 'ct' or 'mr' of either. kind: the body part. extras: structures that only some views show.
    profile_11dhw: 0..1 over the canvas, one voxel deep along `slide_axis`: what slides along that axis (organs in a
    trunk) against what does not (its wall). surface: h of a lying body's back, unit of the canvas; None without a
    table.
    """

    labels_11dhw: Tensor
    contrasts: tuple[Tensor, Tensor]
    modality: tuple[str, str]
    kind: str
    extras: tuple[Extra, ...]
    slide_axis: int
    profile_11dhw: Tensor
    surface: float | None = None


def make_anatomy(
    random: Random,
    size: int,
    edges: float = 1.5,
    kinds: dict[str, float] | None = None,
    missing: float = 0.5,
    more: dict[str, Painter] | None = None,
) -> Anatomy:
    """Draw an anatomy on a canvas of `size` voxels and `edges` view edges.

    kinds: weights of 'abstract', 'trunk', 'head', 'limb' and of those of `more`. missing: share of anatomies with
    extras. more: further painters by the names of their kinds.
    """
    kind = random.pick(kinds or dict.fromkeys(PAINTERS, 1.0))
    ct = {"abstract": 0.4, "trunk": 0.65, "head": 0.15, "limb": 0.35}.get(kind, 0.1)
    first = "ct" if random.chance(ct) else "mr"
    second = "ct" if random.chance(ct) else "mr"
    canvas = Canvas(random, size, edges, (first, second))
    profile = (PAINTERS | (more or {}))[kind](canvas)
    if random.chance(missing):
        _extras(canvas)
    axis, profile, surface = profile if profile is not None else (*_any_profile(random, size), None)
    images = canvas.textured()
    return Anatomy(
        canvas.labels_dhw[None, None].float(),
        (images[0][None, None], images[1][None, None]),
        (first, second),
        kind,
        tuple(canvas.extras),
        axis,
        profile,
        surface,
    )


def _any_profile(random: Random, size: int) -> tuple[int, Tensor]:
    """Two smooth-edged halves that move differently along a random axis."""
    axis = random.integer(0, 2)
    shape = [size // 2] * 3
    shape[axis] = 1
    nodes = [3] * 3
    nodes[axis] = 1
    return axis, torch.sigmoid(smooth_noise(random, 1, tuple(nodes), tuple(shape)) * random.uniform(2.0, 6.0))[None]


def _extras(canvas: Canvas) -> None:
    """One to three structures that only some views will show: tumors, catheters, cavities, contrast agent."""
    random = canvas.random
    # Centers lie in the body, and where views look: in the middle half of the canvas.
    cells = 12
    body = F.adaptive_avg_pool3d((canvas.labels_dhw > 0).float()[None, None], cells)[0, 0].cpu()
    weight = torch.zeros_like(body)
    middle = (slice(cells // 4, -(cells // 4)),) * 3
    weight[middle] = (body[middle] > 0.8).float() + 1e-6
    for _ in range(random.integer(1, 3)):
        cell = int(torch.multinomial(weight.flatten(), 1, generator=random.generator))
        at = torch.stack(torch.unravel_index(torch.tensor(cell), body.shape))
        center = (((at + random.random(3)) / cells - 0.5) * canvas.edges).tolist()
        what = random.pick({"tumor": 0.45, "tube": 0.2, "cavity": 0.15, "filling": 0.2})
        if what == "tube":
            end = ((random.random(3) - 0.5) * 1.2).tolist()
            found = canvas.tubes(*line(canvas, center, end, random.uniform(0.01, 0.03), 0.1))
            material = "agent"
        elif what == "filling":  # one structure changes its brightness as a whole, as with contrast agent
            voxel = ((torch.tensor(center) / canvas.edges + 0.5) * canvas.size).long().clamp(0, canvas.size - 1)
            chosen = canvas.labels_dhw == canvas.labels_dhw[tuple(voxel.tolist())]
            small = float(chosen.float().mean()) < 0.06
            found = (chosen.float(), canvas.whole) if small else None
            material = "agent"
        else:
            radii = [random.uniform(0.05, 0.13) for _ in range(3)]
            found = canvas.ellipsoid(center, radii, bumpy=0.2)
            found = found and (canvas.soft(found[0]), found[1])
            material = "organ" if what == "tumor" else random.pick({"gas": 1.0, "fluid": 1.0})
        if found is not None:
            alpha, box = found
            canvas.extra(alpha * (canvas.labels_dhw[box] > 0), material, box)
