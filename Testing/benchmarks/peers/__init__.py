"""Other people's registration methods, each run by a script in an environment of its own.

A script gets FIXED MOVING FOLDER THREADS and writes into the folder what it found, with `steps.json`: the transforms
in the order in which they act on a fixed point.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

HERE = Path(__file__).resolve().parent
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"


@dataclass(frozen=True)
class Peer:
    """A method: its title in the table, its package and its script (`run_NAME.py`, requirements `NAME.txt`)."""

    name: str
    title: str
    package: str

    @property
    def script(self) -> Path:
        return HERE / f"run_{self.name}.py"

    @property
    def requirements(self) -> Path:
        return HERE / f"{self.name}.txt"

    def environment(self, cache: Path) -> Path:
        """The Python of the peer's environment below `cache`, made and filled when it is not there yet."""
        folder = cache / "environments" / self.name
        python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        done = folder / "installed.txt"
        wanted = self.requirements.read_text()
        if not done.is_file() or done.read_text() != wanted:
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            install = [str(python), "-m", "pip", "install", "--quiet", "-r", str(self.requirements)]
            if "torch" in wanted and _reachable(CPU_WHEELS):  # the package index has the CUDA build, 2 GB more
                install += ["--extra-index-url", CPU_WHEELS]
            subprocess.run(install, check=True)
            done.write_text(wanted)
        return python

    def version(self, python: Path) -> str:
        """The installed version of the peer's package."""
        code = f"import importlib.metadata as m; print(m.version({self.package!r}))"
        return subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True).stdout.strip()


PEERS = {
    peer.name: peer
    for peer in (
        Peer("ants", "ANTs SyN", "antspyx"),
        Peer("elastix", "elastix", "itk-elastix"),
        Peer("greedy", "Greedy", "picsl-greedy"),
        Peer("convexadam", "ConvexAdam", "convexAdam"),
    )
}


def _reachable(index: str) -> bool:
    try:
        with urllib.request.urlopen(f"{index}/torch/", timeout=5):
            return True
    except OSError:
        return False


def read_transform(folder: Path) -> sitk.CompositeTransform:
    """What a peer found, as one transform from fixed to moving points, LPS mm."""
    read = {"field": _read_field, "itk": lambda file: sitk.ReadTransform(str(file)), "ras_matrix": _read_ras_matrix}
    steps = [read[step["kind"]](folder / step["file"]) for step in json.loads((folder / "steps.json").read_text())]
    return sitk.CompositeTransform(steps[::-1])  # the last one added acts first


def _read_field(file: Path) -> sitk.DisplacementFieldTransform:
    return sitk.DisplacementFieldTransform(sitk.ReadImage(str(file), sitk.sitkVectorFloat64))


def _read_ras_matrix(file: Path) -> sitk.AffineTransform:
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    matrix = flip @ np.loadtxt(file) @ flip
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation(matrix[:3, 3].tolist())
    return transform
