"""`carlreg models [FIXED MOVING]`."""

from __future__ import annotations

import argparse
import json
import math

from ..errors import InputError
from ..progress import Progress
from .console import Display
from .options import add_frame_group_options
from .register import require_existing

NAME = "models"
HELP = "List the models: what each is good for, size, weights, license, and what it needs for a pair."
EPILOG = (
    "Weights that are not shipped are given as a file: carlreg register ... --model NAME --weights FILE. Seconds and "
    "memory are estimates for two CPU cores and the default settings; of the volumes only the headers are read."
)
_NAMES = (
    *("name", "summary", "good_for", "parameters", "shipped", "weights", "sha256", "license", "citation"),
    *("extra_seconds", "network_memory_mb"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("fixed", metavar="FIXED", nargs="?", help="a pair, to estimate seconds and memory for it")
    parser.add_argument("moving", metavar="MOVING", nargs="?")
    add_frame_group_options(parser, "fixed", "moving")
    parser.add_argument("--json", action="store_true", help="one JSON list instead of text")


def check(args: argparse.Namespace):
    if args.fixed is not None and args.moving is None:
        raise InputError(f"models: expected two volumes, FIXED and MOVING, or none; got {args.fixed} alone.")
    for option in ("fixed", "moving"):
        require_existing(getattr(args, option), option)
    return lambda: None


def run(args: argparse.Namespace, progress: Progress, display: Display) -> None:
    from ..models.catalog import MODELS

    rows = [_row(info) for info in MODELS.values()]
    if args.fixed is not None:
        _estimate(rows, args)
    if args.json:
        display.result(json.dumps(rows, indent=2))
        return
    default = rows[0]["name"]
    for row in rows:
        display.result(f"{row['name']}: {row['summary']}")
        display.result(f"    good for    {row['good_for']}")
        display.result(f"    parameters  {row['parameters']:,}")
        display.result(f"    weights     {'shipped' if row['shipped'] else row['weights']}")
        display.result(f"    SHA-256     {row['sha256'] or '-'}")
        display.result(f"    license     {row['license']}")
        more = (
            f"{row['extra_seconds']:.0f} s more than {default}"
            if row["extra_seconds"]
            else "no longer than the default"
        )
        display.result(f"    needs       {more}; {row['network_memory_mb'] / 1024:.1f} GB for the network")
        if "seconds" in row:
            display.result(f"    this pair   about {row['seconds']:.0f} s, {row['memory_mb'] / 1024:.1f} GB")
    display.result("Seconds and memory are estimates for two CPU cores and the default settings.")


def _row(info) -> dict:
    costs = {"extra_seconds": info.cost.extra_seconds, "network_memory_mb": info.cost.memory_mb}
    return {name: costs[name] if name in costs else getattr(info, name) for name in _NAMES}


def _estimate(rows: list[dict], args: argparse.Namespace) -> None:
    """Add `seconds` and `memory_mb` of the pair to each row."""
    from ..resources import by_model
    from ..volumes import read_size

    voxels = [
        math.prod(
            read_size(getattr(args, side), f"{side} image", frame_group=getattr(args, f"{side}_dicom_frame_group"))
        )
        for side in ("fixed", "moving")
    ]
    needs = by_model(*voxels)
    for row in rows:
        need = needs[row["name"]]
        row |= {"seconds": round(need.seconds, 1), "memory_mb": round(need.memory_mb)}
