"""`carlreg models`."""

from __future__ import annotations

import argparse
import json

from ..progress import Progress
from .console import Display

NAME = "models"
HELP = "List the models: size, weights, license."
EPILOG = "Weights that are not shipped are given as a file: carlreg register ... --model NAME --weights FILE"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON list instead of text")


def check(args: argparse.Namespace):
    return lambda: None


def run(args: argparse.Namespace, progress: Progress, display: Display) -> None:
    from ..models.catalog import MODELS

    rows = [_row(info) for info in MODELS.values()]
    if args.json:
        display.result(json.dumps(rows, indent=2))
        return
    for row in rows:
        display.result(f"{row['name']}: {row['summary']}")
        display.result(f"    parameters  {row['parameters']:,}")
        display.result(f"    weights     {'shipped' if row['shipped'] else row['weights']}")
        display.result(f"    SHA-256     {row['sha256'] or '-'}")
        display.result(f"    license     {row['license']}")


def _row(info) -> dict:
    names = ("name", "summary", "parameters", "shipped", "weights", "sha256", "license", "citation")
    return {name: getattr(info, name) for name in names}
