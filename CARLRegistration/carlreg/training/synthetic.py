"""Random anatomies and views of them with exactly known correspondence: training data without any image.

One *anatomy* is a label map on a cubic canvas (abstract regions, a trunk, a head or a limb), painted with two
contrasts. A *view* is a cube cut from the canvas in its own position, size, pose, deformation, crop and image quality.
The map from any view to any other is known: into the canvas and out again. Several views of one anatomy give all
their ordered pairs for the price of one anatomy.

Coordinates: normalized (voxel faces at 0 and 1, order d, h, w) of the canvas and of each view; points b3dhw.
Shape suffixes: k views, c channels, d h w axes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..maps.sampling import identity_map, sample
from .anatomies import Anatomy, make_anatomy
from .anatomies.canvas import Canvas, Random
from .anatomies.label_map import paint_label_map
from .data_settings import SyntheticSettings
from .label_maps import list_label_maps, read_label_map
from .views import Field, Reach, View, degrade, draw_view, orientation, table

_PROBE = 12  # points per axis at which fields of view are compared
_ATTEMPTS = 8  # to place a view


@dataclass(frozen=True)
class Views:
    """Views of one anatomy.

    images_k1dhw: what the network sees, 0..1, background 0. structure_k1dhw: local standard deviation (about 12 voxels
    wide, on the lattice of 4-voxel cells) of the image before noise and bias. inside_k1dhw: where the view has data
    (float 0 or 1, voxels). labels_k1dhw: labels, same lattice as the images. views: the geometry.
    extra_k1dhw: 1 where a structure is painted that other views may lack (the labels ignore it).
    kind: the body part. modality: 'ct' or 'mr' of each view. contrast: 0 or 1 of each view, the anatomy's paintings.
    """

    images_k1dhw: Tensor
    structure_k1dhw: Tensor
    inside_k1dhw: Tensor
    labels_k1dhw: Tensor
    views: tuple[View, ...]
    extra_k1dhw: Tensor
    kind: str = ""
    modality: tuple[str, ...] = ()
    contrast: tuple[int, ...] = ()

    def moving_from_fixed(self, moving: int, fixed: int, points_b3dhw: Tensor) -> Tensor:
        """The true map: normalized coordinates of the fixed view to those of the moving view (indices of views)."""
        return self.views[moving].view_from_canvas(self.views[fixed].canvas_from_view(points_b3dhw))


def make_views(seed: int, settings: SyntheticSettings | None = None, device: torch.device | str = "cpu") -> Views:
    """Draw one anatomy and its views; the same seed and settings give the same views on one type of device."""
    s = settings or SyntheticSettings()
    random = Random(seed, device)
    kinds = {"abstract": s.abstract, "trunk": s.trunk, "head": s.head, "limb": s.limb}
    if s.labels:  # not as a weight of 0: then the others' random numbers are what they were without it
        kinds["labels"] = s.labels

    def paint_labels(canvas: Canvas) -> None:
        files = list_label_maps(s.label_maps)
        found = read_label_map(files[canvas.random.integer(0, len(files) - 1)])
        paint_label_map(canvas, found, s.label_edges_min, s.label_edges_max)

    size = round(s.size * s.canvas / 8) * 8
    anatomy = make_anatomy(random, size, s.canvas, kinds, s.missing, {"labels": paint_labels})
    placed = _place_views(random, s, anatomy)
    images, structures, insides, labels, extras, contrasts = [], [], [], [], [], []
    for view, field in placed:
        contrast = 0 if random.chance(s.same_contrast) else 1
        points = view.canvas_lattice(s.size)
        source, extra = _with_extras(random, anatomy, contrast)
        clean = sample(source, points, padding="zeros")
        modality = anatomy.modality[contrast]
        if modality == "mr":
            field = replace(field, cylinder=None)
        inside = field.mask(s.size, s.size, random.device)
        clean = clean * inside
        structures.append(local_deviation(clean))
        # After the structure was measured: a table lies elsewhere in every scan, so nothing may be matched on it.
        if anatomy.surface is not None and modality == "ct" and random.chance(0.6):
            cover = table(random, view, points, s.canvas, anatomy.surface)
            clean = torch.where(clean > 0.02, clean, cover * random.uniform(0.05, 0.4) * inside)
        images.append(degrade(random, clean, inside, modality))
        insides.append(inside)
        labels.append(sample(anatomy.labels_11dhw, points, mode="nearest", padding="zeros") * inside)
        extras.append(
            torch.zeros_like(inside) if extra is None else (sample(extra, points, padding="zeros") > 0.5) * inside
        )
        contrasts.append(contrast)
    return Views(
        torch.cat(images),
        torch.cat(structures),
        torch.cat(insides),
        torch.cat(labels),
        tuple(view for view, _ in placed),
        torch.cat(extras),
        anatomy.kind,
        tuple(anatomy.modality[c] for c in contrasts),
        tuple(contrasts),
    )


def _with_extras(random: Random, anatomy: Anatomy, contrast: int) -> tuple[Tensor, Tensor | None]:
    """The painting with about half of the extras, and their coverage."""
    image = anatomy.contrasts[contrast]
    shown = [extra for extra in anatomy.extras if random.chance(0.5)]
    if not shown:
        return image, None
    image, cover = image.clone(), torch.zeros_like(image)
    for extra in shown:
        extra.painted_on(image[0, 0], contrast)
        region = cover[0, 0][extra.box]
        region.copy_(torch.maximum(region, extra.alpha_dhw))
    return image, cover


def _place_views(random: Random, s: SyntheticSettings, anatomy: Anatomy) -> list[tuple[View, Field]]:
    """Views that show enough of the body and enough of what the others show.

    Candidates are judged on a few points on the CPU; each that fails is drawn again with smaller shifts and crops.
    """
    body = F.avg_pool3d((anatomy.labels_11dhw > 0).float(), 4).cpu()
    profile = anatomy.profile_11dhw.cpu()
    turned = orientation(random)
    points = identity_map((_PROBE,) * 3)
    cylinder_axis = None
    if "ct" in anatomy.modality and anatomy.surface is not None:
        cylinder_axis = int(turned[0].abs().argmax())
    placed: list[tuple[View, Field, Tensor, Tensor]] = []
    for _ in range(s.views):
        best = -1.0
        candidates = []  # each better than those before
        for attempt in range(_ATTEMPTS):
            milder = 0.75**attempt
            reach = Reach(
                s.size,
                s.canvas,
                s.rotation_degrees,
                s.shift * milder,
                s.zoom,
                s.coarse_voxels,
                s.fine_voxels,
                s.sliding_voxels,
            )
            view = draw_view(random, reach, turned, anatomy.slide_axis, profile)
            field = Field.draw(random, s.size, s.crop * milder, cylinder_axis)
            mask = field.mask(_PROBE, s.size, "cpu")
            canvas_points = view.canvas_from_view(points)
            shown = sample(body, canvas_points, padding="zeros") * mask
            # 1 and more is good enough: a third of the field is body, the field is a quarter of the cube, and so on.
            score = min(float(shown.sum() / mask.sum().clamp_min(1)) / 0.3, float(mask.mean()) / 0.25)
            for other in placed:
                if score > best:
                    score = min(score, _overlap(view, mask, canvas_points, other) / max(s.overlap, 1e-6))
            if score > best:
                best = score
                candidates.append((view, field, mask, canvas_points))
            if best >= 1:
                break
        placed.append(candidates[-1])
    return [(view.to(random.device), field) for view, field, *_ in placed]


def _overlap(view: View, mask: Tensor, canvas_points: Tensor, other: tuple) -> float:
    """The smaller share of one view's field that lies in the other's."""
    other_view, _, other_mask, other_points = other
    shares = []
    for points, at, own, there in (
        (canvas_points, other_view, mask, other_mask),
        (other_points, view, other_mask, mask),
    ):
        seen = sample(there, at.view_from_canvas(points, 4), mode="nearest", padding="zeros") * own
        shares.append(float(seen.sum() / own.sum().clamp_min(1)))
    return min(shares)


def local_deviation(image_k1dhw: Tensor) -> Tensor:
    """Standard deviation in 12^3 voxels around each 4^3 cell, on the lattice of cells."""
    mean, square = (
        F.avg_pool3d(F.avg_pool3d(x, 4), 3, 1, 1, count_include_pad=False) for x in (image_k1dhw, image_k1dhw**2)
    )
    return (square - mean**2).clamp_min(0).sqrt()
