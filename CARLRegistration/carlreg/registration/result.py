"""What one registration found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..io.guide_points import GuidePoints
from ..optimize.segments import SegmentPair
from ..physical import FormerInverse, PhysicalTransform, StatedBound
from ..progress import StageTiming, Step
from ..quality.measure import Measured
from ..settings import RegistrationSettings
from ..uncertainty import MendedUncertainty, Uncertainty
from ..volumes import Volume
from .bodies import Bodies

#: Of a registration, read from a file, and of a mended map; all have `at` and `on_grid`.
KnownUncertainty = Uncertainty | StatedBound | MendedUncertainty


@dataclass(frozen=True, kw_only=True, eq=False)
class Finished:
    """What is computed once a transform stands, and only on demand: its inverse and its quality.

    inverse: moving points to fixed points. inverse_report: see `physical.invert`. measured: warped volume, Jacobian,
    body and metrics on the fixed grid. bound_mm: (D, H, W) the uncertainty there, NaN where unknown; None without one.
    quality: what `quality.json` holds: metrics, verdict, warnings.
    """

    inverse: PhysicalTransform
    inverse_report: dict
    measured: Measured
    bound_mm: np.ndarray | None
    quality: dict


@dataclass(frozen=True, kw_only=True, eq=False)
class RegistrationResult:
    """What one registration found.

    transform: fixed points to moving points. start: the candidate that won. info: what is needed to repeat the run.
    guide, segments: the landmarks and the segments that guided it. ignored: what was left out, fixed and moving.
    bodies: segments that were to be rigid or stiff.
    uncertainty: how far the map may be off, mm (see `uncertainty.Uncertainty`); None with the reason in
        `uncertainty_reason`.
    steps: of instance optimization that were taken; fewer than the settings say where it was stopped.
    former: the map before it was mended, with its inverse; what did not change needs not be solved again.
    own_inverse: what the optimized map itself says of its inverse, see `physical.invert`; None where it says nothing.
    finished: inverse and quality; None until `finish` computes them.
    """

    transform: PhysicalTransform
    fixed: Volume
    moving: Volume
    settings: RegistrationSettings
    start: str
    fixed_mask: Volume | None = None
    moving_mask: Volume | None = None
    guide: GuidePoints | None = None
    segments: Sequence[SegmentPair] = ()
    ignored: tuple[Volume | None, Volume | None] = (None, None)
    bodies: Bodies | None = None
    warnings: list[str] = field(default_factory=list)
    info: dict = field(default_factory=dict)
    timings: list[StageTiming] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    uncertainty: KnownUncertainty | None = None
    uncertainty_reason: str | None = None
    own_inverse: Callable[[np.ndarray], np.ndarray] | None = None
    former: FormerInverse | None = None
    finished: Finished | None = None
