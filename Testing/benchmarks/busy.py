"""How much slower a registration is beside busy processes, from the command line and from Python: a ratio in one run.

    python Testing/benchmarks/busy.py [--busy 4] [--side 32]

Registers a small generated pair in a process of its own, first with nothing beside it and then beside processes that
compute without end, and prints both times and their ratio. A fair share on a machine with C cores and N busy processes
is a ratio of (N + 1) / C for one thread.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

IN_PYTHON = "import sys, carlreg; carlreg.register(*sys.argv[1:3], carlreg.RegistrationSettings(io_steps=30))"


def generated(side: int, folder: Path) -> list[str]:
    """Files of two balls with a texture, the second one shifted by two voxels."""
    axis = np.arange(side, dtype=np.float64) - (side - 1) / 2
    names = []
    for name, shift in (("fixed", 0.0), ("moving", 2.0)):
        k, j, i = np.meshgrid(axis, axis, axis - shift, indexing="ij")
        inside = k**2 + j**2 + i**2 < (0.4 * side) ** 2
        image = sitk.GetImageFromArray((inside * (100 + 40 * np.sin(i / 2) * np.cos(j / 3 + k / 4))).astype(np.float32))
        names.append(str(folder / f"{name}.nii.gz"))
        sitk.WriteImage(image, names[-1])
    return names


def seconds(command: list[str]) -> float:
    """Of the clock, that a command takes. The user's own choice of OpenMP's waits is not passed on."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    begin = time.monotonic()
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, default=4, help="processes that compute beside it")
    parser.add_argument("--side", type=int, default=32, help="voxels along each axis of the pair")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="busy_") as scratch:
        files = generated(args.side, Path(scratch))
        out = str(Path(scratch) / "out")
        register = [sys.executable, "-m", "carlreg", "register", *files, "--io-steps", "30", "--progress", "none"]
        ways = {
            "Python": [sys.executable, "-c", IN_PYTHON, *files],
            "command line": [*register, "--out", out, "--overwrite"],
        }
        for name, command in ways.items():
            alone = seconds(command)
            others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(args.busy)]
            try:
                beside = seconds(command)
            finally:
                for other in others:
                    other.kill()
                    other.wait()
            fair = max(1.0, (args.busy + 1) / (os.cpu_count() or 1))
            print(
                f"{name}: {alone:.1f} s alone, {beside:.1f} s beside {args.busy}: {beside / alone:.2f} times "
                f"(fair share: {fair:.1f})"
            )


if __name__ == "__main__":
    main()
