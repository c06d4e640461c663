"""Registration that is inverse consistent by construction: swapping the images inverts the map, whatever the weights.

A step is the exponential of `N(moving, fixed) - N(fixed, moving)`, which changes its sign when the images are swapped:
of a matrix (affine or rigid maps), or of a stationary velocity field. Steps are joined as `root o inner o root`, where
`root` is the exponential of half the first step's generator and `inner` registers the images that both were moved half
of the way; the inverse of that is the same with the inverses in it. Nesting `inner` gives any number of steps.

Source: H. Greer, L. Tian, F.-X. Vialard, R. Kwitt, S. Bouix, R. San Jose Estepar, R. Rushmore, M. Niethammer: Inverse
Consistency by Construction for Multistep Deep Registration. MICCAI 2023.

Shapes: b batch, n the number of an image's axes, `...` these axes; normalized coordinates as in `maps.sampling`.
Voxel-centered networks take images of different shapes: both lie in the middle of one frame, as large as the larger one
along each axis. What a network says in voxels is then the same in any frame, and a shift of both images moves it along.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..maps import Affine, CoordinateMap, DisplacementMap, identity_map, sample
from ..maps.separable import gaussian
from .dimensions import LINEAR, average_pool
from .generators import SQUARINGS, Generator, LinearMap, MatrixGenerator, VelocityGenerator, halves, joined
from .matrix_net import MatrixNet, fitted_matrix
from .operators import Prediction, RegistrationNetwork, halved

# Voxels that one unit of a matrix net's translation is; see `unet.UNetRegistration`.
_VOXELS_PER_OUTPUT = 10.0
# Intensity (0..1) at which a place counts half in a fit.
_FAINT = 0.05
# Nodes that velocities are integrated on lie at most so many voxels apart.
_NODE_VOXELS = 2
# Nodes beyond the image on each side, where velocities go on by their edge values.
_NODES_BEYOND = 4


class ConsistentNetwork(RegistrationNetwork, ABC):
    """A network whose two maps are inverse to each other, and change places when the images do."""

    @abstractmethod
    def solve(self, moving: Tensor, fixed: Tensor) -> tuple[CoordinateMap, CoordinateMap]:
        """moving_from_fixed and fixed_from_moving of two images of one shape."""

    def predict(self, moving_b1dhw: Tensor, fixed_b1dhw: Tensor) -> Prediction:
        return self.predict_both(moving_b1dhw, fixed_b1dhw)[0]

    def predict_both(self, moving_b1dhw: Tensor, fixed_b1dhw: Tensor) -> tuple[Prediction, Prediction]:
        return self._from(None, moving_b1dhw, fixed_b1dhw)

    def predict_from(self, start: Tensor, moving_b1dhw: Tensor, fixed_b1dhw: Tensor) -> tuple[Prediction, Prediction]:
        """Both directions with a start as the first step: half of it before and half of it after the network's own.

        start: (n+1) x (n+1) matrix moving_from_fixed, normalized coordinates. With its inverse for the images swapped
        the maps change places.
        """
        return self._from(start, moving_b1dhw, fixed_b1dhw)

    def refine(self, start: Affine, moving_b1dhw: Tensor, fixed_b1dhw: Tensor) -> CoordinateMap:
        """The map moving_from_fixed that the network makes of a start; see `predict_from`."""
        return self.predict_from(start.matrix, moving_b1dhw, fixed_b1dhw)[0].map

    def _from(self, start: Tensor | None, moving: Tensor, fixed: Tensor) -> tuple[Prediction, Prediction]:
        shapes = moving.shape[2:], fixed.shape[2:]
        frame = tuple(max(sizes) for sizes in zip(*shapes, strict=True))
        if self.align_corners and shapes[0] != shapes[1]:
            raise InputError(
                f"Network: expected two images of one shape, got {tuple(shapes[0])} and {tuple(shapes[1])}."
            )
        self._check(moving, fixed)
        moving, fixed = _framed(moving, frame), _framed(fixed, frame)
        into_frame = [_into_frame(shape, frame) for shape in shapes]
        if start is None:
            forward, backward = self.solve(moving, fixed)
        else:
            in_frame = into_frame[0] @ start.double().cpu() @ torch.linalg.inv(into_frame[1])
            before, after = (matrix.to(moving)[None] for matrix in halves(in_frame))
            # moving_from_fixed = after o inner o before; the inverse likewise
            forward, backward = self._between(before, after, moving, fixed)
        if shapes[0] != shapes[1]:
            to_moving, to_fixed = (
                LinearMap(torch.linalg.inv(matrix).to(moving)[None], align_corners=self.align_corners)
                for matrix in into_frame
            )
            from_moving, from_fixed = (
                LinearMap(matrix.to(moving)[None], align_corners=self.align_corners) for matrix in into_frame
            )
            forward = joined(to_moving, forward, from_fixed)
            backward = joined(to_fixed, backward, from_moving)
        return Prediction(forward), Prediction(backward)

    def _between(self, before: Tensor, after: Tensor, moving: Tensor, fixed: Tensor):
        inverse = [torch.linalg.inv(matrix) for matrix in (before, after)]
        maps = [LinearMap(m, align_corners=self.align_corners) for m in (before, after, *inverse)]
        to_middle, from_middle, out_of_middle, into_middle = maps
        inner, inner_back = self.solve(_warped(moving, from_middle), _warped(fixed, out_of_middle))
        return joined(from_middle, inner, to_middle), joined(out_of_middle, inner_back, into_middle)

    def _check(self, *images: Tensor) -> None:
        if not self.align_corners and any(n % self.stride for image in images for n in image.shape[2:]):
            raise InputError(
                f"Network: expected image axes that are multiples of {self.stride}, got "
                f"{' and '.join(str(tuple(image.shape[2:])) for image in images)}. Pad the images with zeros first."
            )


class ConsistentStep(ConsistentNetwork, ABC):
    """One step: the exponential of an antisymmetric answer.

    Args: net: what is asked, in both orders. gain: factor on its answer. halvings: of the images that it is shown.
    """

    def __init__(self, net, *, gain: float = 1.0, halvings: int = 0, align_corners: bool = False) -> None:
        super().__init__()
        self.net = net
        self.gain = gain
        self.halvings = halvings
        self.align_corners = align_corners

    @property
    def stride(self) -> int:
        # Even, so that images of different sizes have one middle.
        own = self.net.stride if isinstance(self.net, RegistrationNetwork) else 1
        return math.lcm(2, own * 2**self.halvings)

    @abstractmethod
    def generator(self, moving: Tensor, fixed: Tensor) -> Generator:
        """Of two images of one shape; minus that of the swapped ones."""

    def solve(self, moving: Tensor, fixed: Tensor) -> tuple[CoordinateMap, CoordinateMap]:
        return self.generator(moving, fixed).flows(1.0)

    def _seen(self, image: Tensor) -> Tensor:
        for _ in range(self.halvings):
            image = halved(image)
        return image


class VelocityStep(ConsistentStep):
    """A step along a stationary velocity field: what a network of displacements answers.

    smooth_voxels: sigma of a Gaussian over the velocities. The smoother they are, the less does interpolation between
    nodes take from the inverse's exactness.
    """

    def __init__(
        self, net: RegistrationNetwork, *, squarings: int = SQUARINGS, smooth_voxels: float = 0.0, **settings
    ) -> None:
        super().__init__(net, align_corners=net.align_corners, **settings)
        self.squarings = squarings
        self.smooth_voxels = smooth_voxels

    def generator(self, moving: Tensor, fixed: Tensor) -> VelocityGenerator:
        forward, backward = self.net.predict_both(self._seen(moving), self._seen(fixed))
        velocity = self.gain * (displacement_of(forward) - displacement_of(backward))
        voxels = moving.shape[2:]
        nodes = [max(n, -(-size // _NODE_VOXELS)) for n, size in zip(velocity.shape[2:], voxels, strict=True)]
        if not self.align_corners and nodes != list(velocity.shape[2:]):
            velocity = F.interpolate(velocity, size=nodes, mode=LINEAR[len(nodes)], align_corners=False)
        if self.smooth_voxels:
            sigmas = [self.smooth_voxels * n / size for n, size in zip(velocity.shape[2:], voxels, strict=True)]
            velocity = _smoothed(velocity, sigmas)
        if self.align_corners:
            return VelocityGenerator(velocity, True, self.squarings)
        velocity = F.pad(velocity, (_NODES_BEYOND,) * 2 * len(voxels), mode="replicate")
        finer = max(1, round(max(size / n for n, size in zip(nodes, voxels, strict=True))))
        return VelocityGenerator(velocity, False, self.squarings, _NODES_BEYOND, finer)


class LinearStep(ConsistentStep):
    """An affine or rigid step: the matrix that a network answers, or the one that fits its displacements.

    rigid: the linear part is made antisymmetric (in voxels; in the published convention in fractions of the image).
    """

    def __init__(self, net: MatrixNet | RegistrationNetwork, *, rigid: bool = False, **settings) -> None:
        super().__init__(net, **settings)
        self.rigid = rigid

    def generator(self, moving: Tensor, fixed: Tensor) -> MatrixGenerator:
        shape = moving.shape[2:]
        n = len(shape)
        middle, unit = self._coordinates(moving, fixed)
        one, other = self._seen(moving), self._seen(fixed)
        if isinstance(self.net, MatrixNet):
            matrix = self.net(one, other) - self.net(other, one)
            if not self.align_corners:
                matrix = matrix * matrix.new_tensor([1.0] * n + [_VOXELS_PER_OUTPUT / self._length(shape)])
        else:
            forward, backward = self.net.predict_both(one, other)
            matrix = self._fit(forward, fixed, middle, unit) - self._fit(backward, moving, middle, unit)
        matrix = self.gain * matrix
        if self.rigid:
            linear = matrix[:, :, :n]
            matrix = torch.cat([linear - linear.transpose(1, 2), matrix[:, :, n:]], dim=2)
        # From lengths about the middle to normalized coordinates: x -> unit * (matrix @ ((x - middle) / unit, 1)).
        linear = unit[:, :, None] * matrix[:, :, :n] / unit[:, None, :]
        shift = unit * matrix[:, :, n] - torch.einsum("bij,bj->bi", linear, middle)
        rows = torch.cat([linear, shift[:, :, None]], dim=2)
        return MatrixGenerator(torch.cat([rows, torch.zeros_like(rows[:, :1])], dim=1), self.align_corners)

    @staticmethod
    def _length(shape: Sequence[int]) -> float:
        """The unit of length, in voxels."""
        return sum(shape) / len(shape)

    def _coordinates(self, moving: Tensor, fixed: Tensor) -> tuple[Tensor, Tensor]:
        """b n: where the matrix has its origin, and one unit of length; normalized coordinates.

        The middle of the image in the published convention; else the center of mass of both, which follows them.
        """
        shape = moving.shape[2:]
        lattice = identity_map(shape, align_corners=self.align_corners, device=moving.device, dtype=moving.dtype)
        if self.align_corners:
            unit = lattice.new_ones(1, len(shape))
            return 0.5 * unit, unit
        with torch.no_grad():
            mass = (moving + fixed).flatten(2)
            center = (mass * lattice.flatten(2)).sum(2) / mass.sum(2).clamp_min(1e-6)
            center = torch.where(mass.sum(2) > 1e-6, center, 0.5)
        return center, (self._length(shape) / lattice.new_tensor(list(shape)))[None]

    def _fit(self, found: Prediction, image: Tensor, middle: Tensor, unit: Tensor) -> Tensor:
        """The matrix nearest to an answer about an image, where that shows something: background answers anything."""
        field = displacement_of(found)
        n, lattice = (
            field.shape[1],
            identity_map(field.shape[2:], align_corners=self.align_corners, device=field.device),
        )
        here, scale = (x.reshape(-1, n, *[1] * n) for x in (middle, unit))
        content = average_pool(
            image, [size // cells for size, cells in zip(image.shape[2:], field.shape[2:], strict=True)]
        )
        weight = content / (content + _FAINT)
        if found.certainty_b1dhw is not None:
            weight = weight * found.certainty_b1dhw
        return fitted_matrix(field / scale, weight, (lattice - here) / scale)


class TwoStepConsistent(ConsistentNetwork):
    """`root o inner o root`: root is the first step's, half of its generator; inner registers what is left.

    repeats: how often `first` is applied, each time to what the times before left.
    """

    def __init__(self, first: ConsistentStep, second: ConsistentNetwork, *, repeats: int = 1) -> None:
        super().__init__()
        self.first = first
        self.second = second
        self.repeats = repeats
        self.align_corners = first.align_corners

    @property
    def stride(self) -> int:
        return math.lcm(self.first.stride, self.second.stride)

    def solve(self, moving: Tensor, fixed: Tensor) -> tuple[CoordinateMap, CoordinateMap]:
        return self._solve(moving, fixed, self.repeats)

    def _solve(self, moving: Tensor, fixed: Tensor, repeats: int) -> tuple[CoordinateMap, CoordinateMap]:
        if repeats == 0:
            return self.second.solve(moving, fixed)
        root, back = self.first.generator(moving, fixed).flows(0.5)
        inner, inner_back = self._solve(_warped(moving, root), _warped(fixed, back), repeats - 1)
        return joined(root, inner, root), joined(back, inner_back, back)


def displacement_of(found: Prediction) -> Tensor:
    """b n ...: the displacement that a network answered, on its own lattice, normalized coordinates."""
    if not isinstance(found.map, DisplacementMap):
        raise TypeError(f"Expected a network that answers with a displacement, got {type(found.map).__name__}.")
    return found.map.displacement_bndhw


def _smoothed(field: Tensor, sigmas: Sequence[float]) -> Tensor:
    """A field bc... smoothed along each axis by a Gaussian (sigma in nodes) of what lies on the lattice."""
    for axis, sigma in enumerate(sigmas, 2):
        index = torch.arange(field.shape[axis], device=field.device, dtype=field.dtype)
        weights = gaussian(index[:, None] - index, sigma)
        field = torch.movedim(torch.movedim(field, axis, -1) @ (weights / weights.sum(1, keepdim=True)).T, -1, axis)
    return field


def _framed(image: Tensor, frame: Sequence[int]) -> Tensor:
    """The image in the middle of a frame of background."""
    pads = [(size - n) // 2 for size, n in zip(frame, image.shape[2:], strict=True)]
    return F.pad(image, [pad for pad in reversed(pads) for _ in range(2)]) if any(pads) else image


def _into_frame(shape: Sequence[int], frame: Sequence[int]) -> Tensor:
    """(n+1) x (n+1), float64: an image's normalized coordinates to those of the frame around it."""
    matrix = torch.eye(len(shape) + 1, dtype=torch.float64)
    for axis, (n, size) in enumerate(zip(shape, frame, strict=True)):
        matrix[axis, axis] = n / size
        matrix[axis, -1] = 0.5 - 0.5 * n / size
    return matrix


def _warped(image: Tensor, found: CoordinateMap) -> Tensor:
    """The image at the places that a map of its own lattice leads to."""
    padding = "border" if found.align_corners else "zeros"
    return sample(image, found.on_grid(image.shape[2:]), padding=padding, align_corners=found.align_corners)
