"""A torso that never lived: a CT-like pair of volumes with labels, landmarks and the true map between them.

The anatomy is painted from simple shapes in its own frame (`canvas`, `torso`), then seen twice (`scan`, `pair`): the
fixed volume from the shoulders to the kidneys, the moving one from the heart to the pelvis, turned, shifted, deformed
and on an unrelated grid. `breathing` scans one chest in the phases of
a breath. NumPy and SimpleITK only. All points are LPS mm: x to the left, y to the back, z up.
"""

from .breathing import Breathing, make_breathing
from .pair import PhantomPair, PosedDeformation, make_pair
from .torso import LABELS

__all__ = ["LABELS", "Breathing", "PhantomPair", "PosedDeformation", "make_breathing", "make_pair"]
