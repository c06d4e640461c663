"""Is an installed carlreg able to register? `python Testing/smoke.py`: a pair of 32^3 voxels, on any system.

Runs the command line as a user does, in a process of its own, and checks that what was moved by a known shift is found.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk

SHIFT_MM = np.array([6.0, -4.0, 8.0])
CENTER_MM = np.array([46.0, 46.0, 46.0])
MOST_ERROR_MM = 1.0


def blobs(shift_mm: np.ndarray) -> sitk.Image:
    """Three balls of different brightness in 32^3 voxels of 3 mm, shifted."""
    k, j, i = np.meshgrid(*[np.arange(32) * 3.0] * 3, indexing="ij")
    points = np.stack([i, j, k], axis=-1) - shift_mm
    values = np.zeros(points.shape[:3], np.float32)
    for offset, brightness in (((0, 0, 0), 900), ((14, 4, -8), 500), ((-8, 12, 10), 650)):
        squared = ((points - CENTER_MM - offset) ** 2).sum(axis=-1)
        values += brightness * np.exp(-squared / 120.0).astype(np.float32)
    image = sitk.GetImageFromArray(values + np.random.default_rng(0).normal(0, 4, values.shape).astype(np.float32))
    image.SetSpacing((3.0, 3.0, 3.0))
    return image


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        sitk.WriteImage(blobs(np.zeros(3)), str(place / "fixed.nii.gz"))
        sitk.WriteImage(blobs(SHIFT_MM), str(place / "moving.nii.gz"))
        command = [sys.executable, "-m", "carlreg", "register", "fixed.nii.gz", "moving.nii.gz", "--out", "result"]
        subprocess.run([*command, "--progress", "none"], cwd=place, check=True)
        transform = sitk.ReadTransform(str(place / "result" / "transform.h5"))
        error = np.linalg.norm(np.array(transform.TransformPoint(CENTER_MM.tolist())) - CENTER_MM - SHIFT_MM)
    sys.stdout.write(f"the center is found within {error:.2f} mm\n")
    if not error < MOST_ERROR_MM:
        raise SystemExit(f"expected less than {MOST_ERROR_MM} mm")


if __name__ == "__main__":
    main()
