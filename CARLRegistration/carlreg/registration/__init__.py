"""One registration: `run.py` is the page that reads as the method does; each stage has a file of its own."""

from ..waiting import asleep

with asleep():
    import torch  # noqa: F401

from .bodies import RigidSegments, StiffSegments
from .finishing import finish
from .mending import Mended, mend, mended_pair
from .preview import StartPreview, preview_start
from .result import RegistrationResult
from .run import register, register_pair
from .segments import SegmentMatch, SegmentsGuide, read_matches

__all__ = [
    "Mended",
    "RegistrationResult",
    "RigidSegments",
    "SegmentMatch",
    "SegmentsGuide",
    "StartPreview",
    "StiffSegments",
    "finish",
    "mend",
    "mended_pair",
    "preview_start",
    "read_matches",
    "register",
    "register_pair",
]
