"""Which way an optimization of a pair goes over its levels."""

from __future__ import annotations

from ..optimize.levels import FROM_FIXED, FROM_FIXED_FINE, HALFWAY, HALFWAY_FINE, Course
from ..settings import RegistrationSettings
from .pair import PreparedPair


def course_for(settings: RegistrationSettings, pair: PreparedPair, *, halfway: bool) -> Course:
    """How the optimization of a pair goes over its levels. halfway: between both images, not from the fixed one.

    Down to the voxels where most is asked and the structures are as fine as they; those in CT are not.
    """
    fine = settings.effort == "best" and "ct" not in (pair.fixed.modality, pair.moving.modality)
    if halfway:
        return HALFWAY_FINE if fine else HALFWAY
    return FROM_FIXED_FINE if fine else FROM_FIXED
