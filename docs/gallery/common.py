"""What the gallery's scripts share: their command line, and how their pictures look.

Each script has `compute(quick)`, which returns what it found, and `draw(found)`, which makes a matplotlib figure of it.
`python docs/gallery/NAME.py [--quick] [--out PNG]` prints the figures and writes the picture.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PICTURES = HERE / "pictures"
sys.path.insert(0, str(HERE.parents[1] / "CARLRegistration"))

#: One color per role, told apart with any color vision.
FIRST, SECOND, THIRD, TRUTH = "#0072b2", "#d55e00", "#009e73", "#444444"


def main(script: str, compute: Callable[[bool], dict[str, Any]], draw: Callable[[dict[str, Any]], Any]) -> None:
    """Run one script from the command line: its numbers on standard output, its picture in a file."""
    import matplotlib

    matplotlib.use("Agg")
    name = Path(script).stem
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--quick", action="store_true", help="the smallest form, as the tests run it")
    parser.add_argument("--out", type=Path, default=PICTURES / f"{name}.png", help="the picture (%(default)s)")
    args = parser.parse_args()
    begin = time.perf_counter()
    found = compute(args.quick)
    for key, value in found.items():
        if isinstance(value, (int, float)):
            print(f"{key}: {value:.4g}")
    figure = draw(found)
    figure.savefig(args.out, dpi=110, bbox_inches="tight")
    print(f"{args.out}, {time.perf_counter() - begin:.0f} s")
