"""How long a run takes on this computer: the engine's estimate, and what earlier runs have taught."""

from __future__ import annotations

import os

import qt
import slicer
from carlreg.resources import cpu_seconds
from carlreg.settings import RegistrationSettings
from slicer.i18n import tr as _

# Of a run on this computer to what the estimate for two CPU cores says; kept between sessions.
_SPEED_KEY = "CARLRegistration/SecondsPerEstimatedSecond/{device}"
_CORES_OF_ESTIMATE = 2


def secondsHere(fixedVoxels: int, movingVoxels: int, settings: RegistrationSettings) -> float:
    """About how long a run takes: as the last run was, or guessed from the cores."""
    speed = _learned(settings.device)
    if not speed > 0:
        speed = (_CORES_OF_ESTIMATE / max(1, min(os.cpu_count() or 1, 16))) ** 0.6
    return cpu_seconds(fixedVoxels, movingVoxels, settings) * speed


def isLearned(device: str) -> bool:
    """True when a run on the device was timed before."""
    return _learned(device) > 0


def learn(fixedVoxels: int, movingVoxels: int, settings: RegistrationSettings, seconds: float) -> None:
    """Remember how long a run took."""
    estimate = cpu_seconds(fixedVoxels, movingVoxels, settings) if fixedVoxels and movingVoxels else 0.0
    if estimate > 0:
        qt.QSettings().setValue(_SPEED_KEY.format(device=settings.device), round(seconds / estimate, 4))


def duration(seconds: float) -> str:
    """Seconds, or minutes, for people."""
    seconds = round(seconds)
    if seconds < 90:
        return _("{seconds} s").format(seconds=seconds)
    return _("{minutes} min").format(minutes=round(seconds / 60))


def voxelsOf(node) -> int:
    """Number of voxels of a volume node; 0 for none."""
    image = node.GetImageData() if node is not None else None
    return image.GetNumberOfPoints() if image is not None else 0


def _learned(device: str) -> float:
    return slicer.util.settingsValue(_SPEED_KEY.format(device=device), 0.0, converter=float)


__all__ = ["duration", "isLearned", "learn", "secondsHere", "voxelsOf"]
