"""Peak memory of the methods of instance optimization, by the size of the volumes.

    python Testing/benchmarks/optimization_memory.py [--sizes 128,192,256] [--steps 8]

Each figure is from a process of its own: a generated pair is prepared, then the kernel's high-water mark of resident
memory is set back (Linux), and what the optimization adds to what was resident before is the figure. Steps do not
change it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "CARLRegistration")]

METHODS = ("field", "functional")


def resident_mb(which: str) -> float:
    """VmRSS (now) or VmHWM (most) of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(which))
    return int(line.split()[1]) / 1024


def measured(method: str, size: int, steps: int) -> dict:
    """What one method adds, MB, on a pair of size^3 voxels; what was resident before it."""
    import numpy as np
    import torch
    from carlreg.maps.exchange import array_from_tensor
    from carlreg.optimize.affine import AffineScore
    from carlreg.optimize.candidates import AffineCandidate
    from carlreg.progress import Progress
    from carlreg.registration.field import optimized_field
    from carlreg.registration.functional import functional_field
    from carlreg.registration.pair import prepare_pair
    from carlreg.settings import RegistrationSettings
    from carlreg.spaces import VolumeGrid
    from carlreg.volumes import volume_from_image

    generator = torch.Generator().manual_seed(0)
    grid = VolumeGrid((size,) * 3, np.full(3, 256 / size), np.zeros(3), np.eye(3))
    settings = RegistrationSettings(io_method=method, io_steps=steps)

    def volume(name: str):
        coarse = torch.rand(1, 1, 16, 16, 16, generator=generator)
        image = torch.nn.functional.interpolate(coarse, size=(size,) * 3, mode="trilinear")
        return volume_from_image(grid.image((1000 * array_from_tensor(image[0, 0])).astype(np.int16)), name)

    pair = prepare_pair(volume("fixed"), volume("moving"), None, None, settings)
    start = AffineCandidate("header", np.eye(4), AffineScore(0.0, 0.0, 1.0).score)
    before = resident_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    optimize = functional_field if method == "functional" else optimized_field
    optimize(start, None, pair, settings, torch.device("cpu"), Progress())
    return {"added_mb": round(resident_mb("VmHWM") - before), "before_mb": round(before)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="128,192,256")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--one", nargs=2, metavar=("METHOD", "SIZE"), help="measure in this process, print JSON")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measured(given.one[0], int(given.one[1]), given.steps)))
        return
    print("| voxels per edge | " + " | ".join(METHODS) + " |\n|---|" + "---|" * len(METHODS))
    for size in given.sizes.split(","):
        row = []
        for method in METHODS:
            command = [sys.executable, __file__, "--steps", str(given.steps), "--one", method, size]
            found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            row.append(f"{json.loads(found.splitlines()[-1])['added_mb']} MB")
        print(f"| {size} | " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
