"""What training draws its data from: own images, the generator of anatomies, images of the plane."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from ..errors import InputError
from .schema import Range, Section


@dataclass(frozen=True, kw_only=True)
class ImageSettings(Section):
    """Own images.

    source: a folder with volumes, or a CSV file with the columns image and, if wanted, mask and group (paths relative
        to the file). recursive: folders inside the folder too. on_unreadable: what a volume that cannot be read does.
    modality: of all of them. edge: the largest content's longest edge on the training grid, voxels. spacing_mm: of that
        grid, instead of `edge`. pairs: drawn from 'any' two volumes, 'within' a group, or 'across' groups.
    """

    source: str = ""
    recursive: bool = False
    on_unreadable: Literal["stop", "skip"] = "stop"
    modality: Literal["auto", "ct", "mr"] = "auto"
    edge: Annotated[int, Range(16, 512)] = 128
    spacing_mm: Annotated[float, Range(0.05, 100)] | None = None
    pairs: Literal["any", "within", "across"] = "any"


@dataclass(frozen=True, kw_only=True)
class SyntheticSettings:
    """What the generator draws from.

    size: voxels per edge of a view; a multiple of 8. views: views per anatomy.
    canvas: edge of the canvas in view edges. rotation_degrees: largest turn of one view about a random axis; uniform
    over all rotations from 180 on.
    shift: largest shift of one view's center, in view edges (two views may differ by twice that).
    zoom: largest factor of one view's voxel size (two views may differ by its square).
    coarse_voxels, fine_voxels: largest amplitude of one view's deformation on its two scales, in view voxels.
    sliding_voxels: largest motion of organs along a wall, in view voxels.
    same_contrast: share of views painted with the anatomy's first contrast.
    crop: largest share of an edge that a field of view may lose at one side. overlap: least share of a field of view
    that every other view of the anatomy sees, too (approached as far as the other limits allow).
    missing: share of anatomies with structures that only some views show.
    abstract, trunk, head, limb, labels: how often each kind of anatomy is drawn, relative to the others; `labels` are
    those of `label_maps`, a folder with label maps of your own (or one such file).
    label_edges_min, label_edges_max: how long a label map is on its canvas, in view edges; of one longer than the
    canvas a part is drawn.
    """

    size: int = 64
    views: int = 3
    canvas: float = 1.5
    rotation_degrees: float = 15.0
    shift: float = 0.25
    zoom: float = 1.12
    coarse_voxels: float = 3.0
    fine_voxels: float = 0.8
    sliding_voxels: float = 3.0
    same_contrast: float = 0.7
    crop: float = 0.35
    overlap: float = 0.4
    missing: float = 0.4
    abstract: float = 0.25
    trunk: float = 0.35
    head: float = 0.25
    limb: float = 0.15
    labels: float = 0.0
    label_maps: str = ""
    label_edges_min: float = 0.9
    label_edges_max: float = 2.5

    def __post_init__(self) -> None:
        if self.size < 16 or self.size % 8 or self.views < 2:
            raise InputError(
                f"Synthetic pairs: expected a size that is a multiple of 8 and at least 16, and two or more views; "
                f"got size {self.size}, {self.views} views."
            )
        kinds = (self.abstract, self.trunk, self.head, self.limb, self.labels)
        if min(kinds) < 0 or sum(kinds) <= 0:
            raise InputError(f"Synthetic pairs: expected weights of anatomies of 0 or more, not all 0; got {kinds}.")
        if self.labels and not self.label_maps:
            raise InputError(
                "Synthetic pairs: expected a folder with label maps (data.synthetic.label_maps) for a weight of labels "
                f"above 0; got labels = {self.labels:g} and no folder."
            )
        if self.label_edges_min > self.label_edges_max:
            raise InputError(
                "Synthetic pairs: expected label_edges_min of at most label_edges_max, got "
                f"{self.label_edges_min:g} and {self.label_edges_max:g}."
            )
        for name, low, high in (
            ("label_edges_min", 0.3, 8),
            ("label_edges_max", 0.3, 8),
            ("rotation_degrees", 0, 360),
            ("shift", 0, 0.5),
            ("zoom", 1, 2),
            ("canvas", 1, 4),
            ("same_contrast", 0, 1),
            ("crop", 0, 0.45),
            ("overlap", 0, 1),
            ("missing", 0, 1),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"Synthetic pairs: expected {name} from {low} to {high}, got {value}.")


@dataclass(frozen=True, kw_only=True)
class PlaneSettings(Section):
    """Images of the plane.

    source: 'shapes', two triangles or two circles; 'retina', one vessel tree seen through two smooth maps.
    size: pixels per edge; a multiple of 16. hollow: outlines of shapes, not filled ones.
    warp_pixels: largest displacement by either map of a tree along an axis. shift_pixels: largest shift of either image
        of a tree; for measuring equivariance, which attention need not be taught.
    """

    source: Literal["shapes", "retina"] = "shapes"
    size: Annotated[int, Range(32, 1024)] = 64
    hollow: bool = True
    warp_pixels: Annotated[float, Range(0, 100)] = 3.0
    shift_pixels: Annotated[float, Range(0, 100)] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size % 16:
            raise InputError(f"size: expected a multiple of 16, got {self.size}.")
        too_far = self.warp_pixels > 0.06 * self.size or self.shift_pixels > 0.1 * self.size
        if self.source == "retina" and too_far:
            raise InputError(
                "expected warp_pixels of at most 6 % of the size and shift_pixels of at most 10 %, so that the map can "
                "be inverted and the disk stays in the image; "
                f"got {self.warp_pixels:g} and {self.shift_pixels:g} at a size of {self.size}."
            )


@dataclass(frozen=True, kw_only=True)
class DataSettings(Section):
    """workers: processes that draw data on a CPU; 0 = the training process itself, as always on a GPU."""

    workers: Annotated[int, Range(0, 256)] = 1
    synthetic: SyntheticSettings = field(default_factory=SyntheticSettings)
    images: ImageSettings = field(default_factory=ImageSettings)
    planar: PlaneSettings = field(default_factory=PlaneSettings)
