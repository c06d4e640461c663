"""The errors that carlreg raises on purpose.

Each message says what was expected, what arrived and what to do. Programs that wrap the engine show a
`CarlError` as text; anything else is a defect worth a report with its traceback.
"""

from __future__ import annotations


class CarlError(Exception):
    """Base class. `exit_code` is what the command line returns."""

    exit_code = 1


class InputError(CarlError):
    """Something the caller gave cannot be used: a file, an option, an image."""

    exit_code = 2


class GeometryError(InputError):
    """An image's or transform's geometry cannot be used (singular, sheared, elsewhere in space)."""


class CheckpointError(InputError):
    """A weights file is missing, is not one, or belongs to another network."""


class DeviceError(InputError):
    """The requested device does not exist or cannot run the job."""


class NotEnoughMemory(InputError):
    """The estimated need exceeds what is free; raised before anything is computed."""


class OptimizationDiverged(CarlError):
    """A loss became infinite or not-a-number."""


class ResourceError(CarlError):
    """The machine ran out of something during a run (disk, memory)."""


class Cancelled(CarlError):
    """The caller asked to stop."""

    exit_code = 3
