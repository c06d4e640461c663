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


def withLog(error: Exception) -> str:
    """What an error says, and below it the engine's log when it looks like a defect, so that it can be copied."""
    log = error.log.strip() if isinstance(error, RegistrationError) and error.unexpected else ""
    return f"{error}\n{log}" if log else str(error)
