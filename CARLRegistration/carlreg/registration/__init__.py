"""One registration: `run.py` is the page that reads as the method does; each stage has a file of its own."""

from .finishing import finish
from .mending import Mended, mend, mended_pair
from .preview import StartPreview, preview_start
from .result import RegistrationResult
from .run import register, register_pair

__all__ = [
    "Mended",
    "RegistrationResult",
    "StartPreview",
    "finish",
    "mend",
    "mended_pair",
    "preview_start",
    "register",
    "register_pair",
]
