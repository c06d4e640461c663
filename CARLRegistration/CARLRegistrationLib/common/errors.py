"""What the panel tells people in words."""

from __future__ import annotations


class RegistrationError(Exception):
    """Something the user can do something about: what was expected, what arrived, what to do.

    log: what the engine wrote meanwhile, to copy. unexpected: True when it looks like a defect, to be reported.
    """

    def __init__(self, message: str, log: str = "", unexpected: bool = False) -> None:
        super().__init__(message)
        self.log = log
        self.unexpected = unexpected


class RegistrationCancelled(RegistrationError):
    """The run was stopped on request."""
