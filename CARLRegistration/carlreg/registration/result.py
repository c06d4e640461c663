"""What one registration found."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..physical import PhysicalTransform
from ..progress import StageTiming
from ..uncertainty import Uncertainty
from ..volumes import Volume


@dataclass
class RegistrationResult:
    """What one registration found.

    transform: fixed points to moving points. inverse: None until it is computed for the output folder.
    start: the candidate that won. info: what is needed to repeat the run.
    uncertainty: how far the map may be off, mm (see `uncertainty.Uncertainty`); None with the reason in
        `uncertainty_reason`.
    """

    transform: PhysicalTransform
    fixed: Volume
    moving: Volume
    start: str
    inverse: PhysicalTransform | None = None
    fixed_mask: Volume | None = None
    moving_mask: Volume | None = None
    warnings: list[str] = field(default_factory=list)
    info: dict = field(default_factory=dict)
    timings: list[StageTiming] = field(default_factory=list)
    uncertainty: Uncertainty | None = None
    uncertainty_reason: str | None = None
