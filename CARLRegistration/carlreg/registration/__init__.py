"""One registration: `run.py` tells the whole story on a page."""

from .run import RegistrationResult, register, register_pair

__all__ = ["RegistrationResult", "register", "register_pair"]
