"""One registration: `run.py` is the page that reads as the method does; each stage has a file of its own."""

from .finishing import finish
from .result import RegistrationResult
from .run import register, register_pair

__all__ = ["RegistrationResult", "finish", "register", "register_pair"]
