"""`carlreg check`: can this Python run the engine, on which devices; and can two images be registered?"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import platform
import sys

from .. import __version__
from ..progress import Progress
from .console import Display
from .pair import add_pair_arguments, check_pair, run_pair

NAME = "check"
HELP = "Tell whether this Python has all that is needed; of two images, whether they look like a pair to register."
EPILOG = (
    "Of two images: their best start on coarse images, within seconds; whether one of them is mirrored, or both have "
    "little in common. Exit code 0 whatever is found."
)
# Module names, and what they are called on the package index.
NEEDED = {
    "numpy": "numpy",
    "SimpleITK": "SimpleITK",
    "safetensors": "safetensors",
    "pydicom": "pydicom",
    "torch": "torch",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    add_pair_arguments(parser)


def check(args: argparse.Namespace):
    return (lambda: None) if args.fixed is None else check_pair(args)


def run(args: argparse.Namespace, progress: Progress, display: Display) -> None:
    if args.fixed is not None:
        run_pair(args, progress, display)
        return
    found = inspect_python()
    if args.json:
        display.result(json.dumps(found))
        return
    display.result(f"carlreg {found['carlreg']}, Python {found['python']} ({found['executable']})")
    for name, version in found["versions"].items():
        display.result(f"    {name:<12} {version}")
    for name, reason in found["missing"].items():
        display.result(f"    {name:<12} missing: {reason}")
    for device in found["devices"]:
        free = f", {device['free_mb'] / 1024:.1f} GB free" if device["free_mb"] is not None else ""
        display.result(f"    {device['name']:<12} {device['title']}{free}")


def inspect_python() -> dict:
    """carlreg, python, executable; versions and missing (package -> version or reason); devices with free memory (MB).

    Libraries are imported, not only looked up: one that is there and broken is missing.
    """
    versions, missing = {}, {}
    for module, package in NEEDED.items():
        try:
            imported = importlib.import_module(module)
        except Exception as error:  # whatever a broken library raises while it loads
            missing[package] = f"{type(error).__name__}: {error}"
        else:
            versions[package] = str(getattr(imported, "__version__", "")) or importlib.metadata.version(package)
    return {
        "carlreg": __version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "versions": versions,
        "missing": missing,
        "devices": _devices(versions),
    }


def _devices(versions: dict) -> list[dict]:
    free = None
    if "SimpleITK" in versions and "numpy" in versions:  # the package of the memory question reads images too
        from ..volumes.memory import available_memory_mb

        free = available_memory_mb()
    devices = [{"name": "cpu", "title": platform.processor() or platform.machine(), "free_mb": free}]
    if "torch" in versions:
        import torch

        for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
            title = torch.cuda.get_device_name(index)
            devices.append(
                {"name": f"cuda:{index}", "title": title, "free_mb": torch.cuda.mem_get_info(index)[0] / 2**20}
            )
    return devices
