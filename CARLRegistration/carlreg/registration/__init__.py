"""One registration: `run.py` is the page that reads as the method does; each stage has a file of its own."""

from .finishing import finish
from .mending import Mended, mend, mended_pair
from .result import RegistrationResult
from .run import register, register_pair

__all__ = ["Mended", "RegistrationResult", "finish", "mend", "mended_pair", "register", "register_pair"]
