"""What each network is made of, as data, and the one function that assembles it.

A composition is a tree of the settings below; `assemble` turns it into modules. A variant is another tree, or the
same one with other settings, never another function.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from .attention import CoordinateAttention
from .compact_encoder import CompactEncoder, CompactEncoderSettings
from .consistent import ConsistentNetwork, ConsistentStep, LinearStep, TwoStepConsistent, VelocityStep
from .eoir import Eoir as EoirNetwork
from .eoir import EoirSettings, Unmoved
from .functional import FunctionalSettings
from .generators import SQUARINGS
from .local_attention import LocalAttention, LocalAttentionSettings
from .matrix_net import MatrixNet, MatrixNetSettings
from .nephi import Nephi as NephiNetwork
from .nephi import NephiSettings
from .operators import AtHalfResolution, RegistrationNetwork, TwoStep
from .paper_encoder import ROTATION_ENCODER, PaperEncoder, PaperEncoderSettings
from .unet import UNet, UNetRegistration, UNetSettings


@dataclass(frozen=True)
class Attention:
    """Coordinate attention on the tokens of an encoder; see `attention.CoordinateAttention`.

    fill_sigma_cells: None = as the convention asks: the answer as it is in the published one, `FILL_SIGMA_CELLS` where
        coordinates are voxel-centered. What attention answers for background differs between fields of view, and
        through the refinements it would reach the body.
    """

    encoder: PaperEncoderSettings | CompactEncoderSettings = field(default_factory=PaperEncoderSettings)
    extrapolate: bool = False
    fill_sigma_cells: float | None = None


@dataclass(frozen=True)
class Refinement:
    """A U-Net."""

    unet: UNetSettings = field(default_factory=UNetSettings)


@dataclass(frozen=True)
class Local:
    """Local attention; see `local_attention.LocalAttention`."""

    settings: LocalAttentionSettings = field(default_factory=LocalAttentionSettings)


@dataclass(frozen=True)
class Eoir:
    """Encoder-only registration; see `eoir.Eoir`."""

    settings: EoirSettings = field(default_factory=EoirSettings)


@dataclass(frozen=True)
class Nephi:
    """The map as a function, its codes from an encoder; see `nephi.Nephi`."""

    settings: NephiSettings = field(default_factory=NephiSettings)


@dataclass(frozen=True)
class Still:
    """Nothing moves; see `eoir.Unmoved`."""


@dataclass(frozen=True)
class Half:
    """A composition at half resolution."""

    net: Composition


@dataclass(frozen=True)
class Two:
    """`first`, then `second` on what is left; see `operators.TwoStep`."""

    first: Composition
    second: Composition
    repeats: int = 1
    relax_voxels: float = 0.0


@dataclass(frozen=True)
class Linear:
    """An affine or rigid step, inverse consistent: of a matrix net, or fitted to the displacement of a composition; see
    `consistent.LinearStep`."""

    net: MatrixNetSettings | Composition = field(default_factory=MatrixNetSettings)
    rigid: bool = False
    gain: float = 1.0
    halvings: int = 0


@dataclass(frozen=True)
class Velocity:
    """A step along a stationary velocity field, inverse consistent; see `consistent.VelocityStep`."""

    net: Composition
    gain: float = 1.0
    halvings: int = 0
    squarings: int = SQUARINGS
    smooth_voxels: float = 0.0


@dataclass(frozen=True)
class Consistent:
    """`sqrt(first) o second o sqrt(first)`; see `consistent.TwoStepConsistent`."""

    first: Linear | Velocity
    second: Linear | Velocity | Consistent
    repeats: int = 1


FILL_SIGMA_CELLS = 0.7

Composition = Attention | Refinement | Local | Eoir | Nephi | Still | Half | Two | Linear | Velocity | Consistent

# Xi: attention, Psi: a U-Net. The published networks, named as in the authors' code, without their last refinement.
FINAL_FINAL = Two(Half(Two(Half(Attention()), Refinement())), Refinement())
FINAL = Two(Half(Half(Attention())), Two(Half(Refinement()), Refinement()))
FINAL_ROTATION = Two(Half(Half(Attention(ROTATION_ENCODER, extrapolate=True))), Two(Half(Refinement()), Refinement()))


def gradicon(unet: Refinement) -> Two:
    """U-Nets at a quarter, half and the whole of the resolution, each on what the one before has left."""
    return Two(Half(Two(Half(unet), unet)), unet)


GRADICON = gradicon(Refinement())


def with_last_step(net: Composition) -> Two:
    """The same with one more refinement at full resolution (Psi3)."""
    return Two(net, Refinement())


def in_dimension(composition: Composition, dimension: int) -> Composition:
    """The same for images of so many axes: every encoder, local attention, U-Net and EOIR in it."""
    match composition:
        case Attention(encoder=settings):
            return replace(composition, encoder=replace(settings, dimension=dimension))
        case Refinement(unet=settings):
            return replace(composition, unet=replace(settings, dimension=dimension))
        case Local(settings=settings):
            return replace(composition, settings=replace(settings, dimension=dimension))
        case Eoir(settings=settings):
            return replace(composition, settings=replace(settings, dimension=dimension))
        case Nephi(settings=settings):
            return replace(composition, settings=settings.in_dimension(dimension))
        case Still():
            return composition
        case Half(net=net):
            return replace(composition, net=in_dimension(net, dimension))
        case Two(first=first, second=second) | Consistent(first=first, second=second):
            return replace(composition, first=in_dimension(first, dimension), second=in_dimension(second, dimension))
        case Linear(net=net) | Velocity(net=net):
            matrix_net = isinstance(net, MatrixNetSettings)
            inner = replace(net, dimension=dimension) if matrix_net else in_dimension(net, dimension)
            return replace(composition, net=inner)
    raise TypeError(f"Not a composition: {composition!r}.")


# Trains and runs on a desktop: attention at 1/8 resolution over everything, then in windows at 1/4 and 1/2.
LOCAL_4 = LocalAttentionSettings(stride=4, radius=3, channels=64, groups=2, token_channels=32, dilations=(1, 2, 1))
LOCAL_2 = LocalAttentionSettings(stride=2, radius=2)


def _compact(attention: Attention) -> Two:
    return Two(Two(attention, Local(LOCAL_4), relax_voxels=4.0), Local(LOCAL_2), repeats=2, relax_voxels=2.0)


COMPACT = _compact(Attention(CompactEncoderSettings()))
COMPACT_ROTATION = _compact(Attention(CompactEncoderSettings(rotations=True), extrapolate=True))


# Encoder-only registration: as published, by channels; and ours, which starts from whatever map there is.
EOIR_PAPER = {channels: Eoir(EoirSettings(channels=channels)) for channels in (32, 16, 8)}
EOIR_STEP = Eoir(EoirSettings(channels=16, levels=3, local=True, stem=2))
EOIR = Two(Still(), EOIR_STEP)


# Without attention: what coordinate attention is compared with. GradICON's arrangement of U-Nets, small; they see two
# images of one shape, so it starts from whatever map there is, as encoder-only registration does.
_SMALL_UNET = Refinement(UNetSettings(down_channels=(2, 8, 16, 32, 64, 128), up_channels=(8, 16, 32, 64, 64)))
GRADICON_COMPACT = Two(Still(), gradicon(_SMALL_UNET))


# Inverse consistent by construction. As published: what the first steps answer is the generator of their root, half of
# the step's, hence the gain.
CONSTRICON = Consistent(
    Linear(gain=2.0), Consistent(Linear(gain=2.0), Consistent(Velocity(Refinement(), gain=2.0), Velocity(Refinement())))
)
# Of local attention, whose answers in both orders are two opinions on one displacement: their mean, hence the gain.
CONSTRICON_COMPACT = Consistent(
    Linear(Local(LOCAL_4), gain=0.5, halvings=1),
    Consistent(
        Velocity(Local(LOCAL_4), gain=0.5, smooth_voxels=4.0),
        Consistent(
            Velocity(Local(LOCAL_2), gain=0.5, smooth_voxels=2.0), Velocity(Local(LOCAL_2), gain=0.5, smooth_voxels=2.0)
        ),
    ),
    repeats=2,
)


NEPHI = Nephi(
    NephiSettings(
        size=96, channels=(32, 64, 64), local_level=0, functional=FunctionalSettings(direct=True), matching=LOCAL_2
    )
)
PLANE_NEPHI = Nephi(NephiSettings(channels=(16, 32, 64, 64), functional=FunctionalSettings(dimension=2)))


def assemble(composition: Composition, *, align_corners: bool = False) -> RegistrationNetwork:
    """The network of a composition, with fresh random weights.

    align_corners: the published weights' coordinate convention, with all that hangs on it (their pooling at odd
        sizes, border extension, displacement in fractions of the image); False: voxel-centered and exactly equivariant.
    """
    match composition:
        case Attention(encoder=settings, extrapolate=extrapolate, fill_sigma_cells=fill_sigma_cells):
            compact = isinstance(settings, CompactEncoderSettings)
            encoder = CompactEncoder(settings) if compact else PaperEncoder(settings)
            if fill_sigma_cells is None:
                fill_sigma_cells = 0.0 if align_corners else FILL_SIGMA_CELLS
            return CoordinateAttention(
                encoder, extrapolate=extrapolate, fill_sigma_cells=fill_sigma_cells, align_corners=align_corners
            )
        case Refinement(unet=settings):
            return UNetRegistration(UNet(settings), align_corners=align_corners)
        case Local(settings=settings):
            return LocalAttention(settings)
        case Eoir(settings=settings):
            return EoirNetwork(settings, align_corners=align_corners)
        case Nephi(settings=settings):
            return NephiNetwork(settings)
        case Still():
            return Unmoved(align_corners=align_corners)
        case Linear() | Velocity() | Consistent():
            return _assemble_consistent(composition, align_corners)
        case Half(net=net):
            return AtHalfResolution(assemble(net, align_corners=align_corners))
        case Two(first=first, second=second, repeats=repeats, relax_voxels=relax_voxels):
            return TwoStep(
                assemble(first, align_corners=align_corners),
                assemble(second, align_corners=align_corners),
                repeats=repeats,
                relax_voxels=relax_voxels,
            )
    raise TypeError(f"Not a composition: {composition!r}.")


def _assemble_consistent(composition: Linear | Velocity | Consistent, align_corners: bool) -> ConsistentNetwork:
    match composition:
        case Linear(net=net, rigid=rigid, gain=gain, halvings=halvings):
            inner = MatrixNet(net) if isinstance(net, MatrixNetSettings) else assemble(net, align_corners=align_corners)
            return LinearStep(inner, rigid=rigid, gain=gain, halvings=halvings, align_corners=align_corners)
        case Velocity(net=net, gain=gain, halvings=halvings, squarings=squarings, smooth_voxels=smooth_voxels):
            return VelocityStep(
                assemble(net, align_corners=align_corners),
                squarings=squarings,
                smooth_voxels=smooth_voxels,
                gain=gain,
                halvings=halvings,
            )
        case Consistent(first=first, second=second, repeats=repeats):
            step = _assemble_consistent(first, align_corners)
            if not isinstance(step, ConsistentStep):
                raise TypeError(f"Expected a step that has a root as the first one, got {first!r}.")
            return TwoStepConsistent(step, _assemble_consistent(second, align_corners), repeats=repeats)
    raise TypeError(f"Not an inverse consistent composition: {composition!r}.")
