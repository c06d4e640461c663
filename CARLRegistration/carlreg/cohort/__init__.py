"""Many pairs: a plan, a study folder whose files say what is done, and what came of all of them in one table."""

from .plan import PlannedPair, read_plan, to_one_fixed
from .study import Study

__all__ = ["PlannedPair", "Study", "read_plan", "to_one_fixed"]
