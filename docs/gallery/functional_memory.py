"""NePhi: what a map as a function costs in memory.

A displacement field has a vector per node, and optimizing it touches every voxel of both images. A map as a function is
a network and a few hundred codes, compared at points drawn anew in each step. So the one grows with the cube of the
resolution; the other grows only by the images themselves.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from common import FIRST, HERE, SECOND, main

MEASURE = HERE.parents[1] / "Testing" / "benchmarks" / "optimization_memory.py"
METHODS = {"field": "spline field", "functional": "function"}


def compute(quick: bool) -> dict[str, Any]:
    if quick:  # in this process
        sys.path.insert(0, str(MEASURE.parent))
        from optimization_memory import measured

        return {"sizes": [32], "added": {"functional": [measured("functional", 32, 1)["added_mb"]]}}
    sizes = [64, 96, 128, 192]
    found: dict[str, Any] = {"sizes": sizes, "added": {}}
    for method in METHODS:
        found["added"][method] = [added_mb(method, size, 4) for size in sizes]
        for size, value in zip(sizes, found["added"][method], strict=True):
            found[f"{METHODS[method]}, {size}^3: MB"] = float(value)
    return found


def added_mb(method: str, size: int, steps: int) -> float:
    """What the optimization adds to a process that holds both images, measured in a process of its own."""
    command = [sys.executable, str(MEASURE), "--steps", str(steps), "--one", method, str(size)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
    return json.loads(done.stdout.splitlines()[-1])["added_mb"]


def draw(found: dict[str, Any]):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.8), layout="constrained")
    for (method, title), color in zip(METHODS.items(), (FIRST, SECOND), strict=True):
        if method not in found["added"]:
            continue
        axes.plot(found["sizes"], found["added"][method], "o-", color=color, label=title)
    axes.set(xlabel="voxels per edge", ylabel="memory that optimizing adds (MB)", ylim=(0, None))
    axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main(__file__, compute, draw)
