"""How long a run takes on this computer: the engine's estimate, and what earlier runs have taught."""

from __future__ import annotations

import os

import qt
import slicer
from carlreg.resources import cpu_seconds
from carlreg.settings import RegistrationSettings
from slicer.i18n import tr as _

# Of a run on this computer to what the estimate for two CPU cores says; kept between sessions, for each way to compute:
# what is slow in one may be fast in another.
_SPEED_KEY = "CARLRegistration/SecondsPerEstimatedSecond/{device} {way}"
_CORES_OF_ESTIMATE = 2
_GUESS = (0.7, 2.5)  # of the estimate: what a computer that is not known takes


def secondsHere(fixedVoxels: int, movingVoxels: int, settings: RegistrationSettings) -> float:
    """About how long a run takes: as the last run was, or guessed from the cores."""
    speed = _learned(settings)
    if not speed > 0:
        speed = (_CORES_OF_ESTIMATE / max(1, min(os.cpu_count() or 1, 16))) ** 0.6
    return cpu_seconds(fixedVoxels, movingVoxels, settings) * speed


def expected(fixedVoxels: int, movingVoxels: int, settings: RegistrationSettings) -> str:
    """How long a run takes, in words: a range where none like it was timed."""
    seconds = secondsHere(fixedVoxels, movingVoxels, settings)
    if _learned(settings) > 0:
        return _("About {duration} on this computer.").format(duration=duration(seconds))
    shortest, longest = (duration(factor * seconds) for factor in _GUESS)
    return _("Between {shortest} and {longest} on this computer (a guess until the first run).").format(
        shortest=shortest, longest=longest
    )


def learn(fixedVoxels: int, movingVoxels: int, settings: RegistrationSettings, seconds: float) -> None:
    """Remember how long a run took."""
    estimate = cpu_seconds(fixedVoxels, movingVoxels, settings) if fixedVoxels and movingVoxels else 0.0
    if estimate > 0:
        qt.QSettings().setValue(_key(settings), round(seconds / estimate, 4))


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


def _key(settings: RegistrationSettings) -> str:
    ways = [settings.transform, settings.model, settings.robustness]
    if not settings.linear:
        ways += [settings.io_method, settings.effort, settings.similarity] if settings.steps else ["predicted"]
    return _SPEED_KEY.format(device=settings.device, way=" ".join(ways))


def _learned(settings: RegistrationSettings) -> float:
    return slicer.util.settingsValue(_key(settings), 0.0, converter=float)


__all__ = ["duration", "expected", "learn", "secondsHere", "voxelsOf"]
