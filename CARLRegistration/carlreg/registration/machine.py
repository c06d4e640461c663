"""The machine a registration runs on: its device, its threads, and whether its memory will do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from ..errors import DeviceError
from ..resources import memory_mb
from ..settings import RegistrationSettings
from ..volumes import Volume, available_memory_mb, require_memory


def set_up(settings: RegistrationSettings) -> torch.device:
    """Choose the device, and set threads and the random seed. Raises DeviceError when the device is not there."""
    device = chosen_device(settings.device)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    return device


def chosen_device(name: str) -> torch.device:
    """The device for a setting. Raises DeviceError when CUDA is asked for and not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        raise DeviceError(
            f"Device: {name} was asked for, but {count} CUDA devices are usable here. Choose cpu or auto."
        )
    return device


def require_memory_for(fixed: Volume, moving: Volume, settings: RegistrationSettings) -> None:
    """Refuse a run that would not fit. Raises NotEnoughMemory that says which settings would make it fit."""
    needs = partial(memory_mb, fixed.grid.voxel_count, moving.grid.voxel_count)
    require_memory(needs(settings), "this registration", memory_remedy(needs, settings))


def memory_remedy(needs: Callable[[RegistrationSettings], float], settings: RegistrationSettings) -> str:
    """What to choose when a run does not fit: the options that would make it fit, by `needs` (settings -> MB)."""
    free = available_memory_mb() or 0.0
    default = type(settings)()
    changes: dict[str, dict] = {f"--grid {grid}": {"grid": grid} for grid in (192, 128, 96, 64) if grid < settings.grid}
    changes["--io-method field"] = {"io_method": "field"}
    changes[f"--model {default.model}"] = {"model": default.model, "weights": None}
    fitting = [option for option, change in changes.items() if needs(replace(settings, **change)) <= free]
    grids = [option for option in fitting if option.startswith("--grid")]
    fitting = [option for option in fitting if option not in grids[1:]]  # the largest will do
    choice = f"Choose {' or '.join(fitting)}, or crop" if fitting else "Crop"
    return f"{choice} the images to the part that matters, or close other programs."
