"""What `--progress json` tells of a transform file: the figures that people read as text."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import SimpleITK as sitk
from support.geometry import rotation
from support.warm_engine import Popen


def figures_of(*arguments) -> dict:
    command = [sys.executable, "-m", "carlreg", *map(str, arguments), "--progress", "json"]
    process = Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, encoding="utf-8")
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    lines = [json.loads(line) for line in out.splitlines()]
    return {name: value for line in lines for name, value in line.get("figures", {}).items()}


def test_sizes_error_and_command(oblique, tmp_path):
    sitk.WriteTransform(oblique.transform.to_sitk(), str(tmp_path / "in.h5"))
    sitk.WriteImage(oblique.fixed, str(tmp_path / "fixed.mha"))
    asked = ("export", tmp_path / "in.h5", "--out", tmp_path / "out.nii.gz", "--to", "ants", "--spacing", "4")
    told = figures_of(*asked, "--fixed", tmp_path / "fixed.mha", "--dry-run")
    assert {name for name, _ in told["files"]} == {
        "out1Warp.nii.gz",
        "out0GenericAffine.mat",
        "out.nii.gz.json",
    }
    assert not (tmp_path / "out1Warp.nii.gz").exists()
    assert 0 < told["sidecar"]["error_mm"]["mean"] < 1 and "antsApplyTransforms" in told["sidecar"]["command"]
    figures_of(*asked, "--fixed", tmp_path / "fixed.mha")
    assert {name: (tmp_path / name).stat().st_size for name, _ in told["files"]} == dict(told["files"])


def test_residual_of_the_linear_part(oblique, tmp_path):
    affine = sitk.AffineTransform(3)
    affine.SetMatrix((1.1 * rotation((0, 0, 1), 10)).ravel().tolist())
    sitk.WriteTransform(affine, str(tmp_path / "in.tfm"))
    sitk.WriteImage(oblique.fixed, str(tmp_path / "fixed.mha"))
    asked = ("linear", tmp_path / "in.tfm", "--out", tmp_path / "out.tfm", "--fixed", tmp_path / "fixed.mha")
    similar, rigid = (figures_of(*asked, "--kind", kind)["left_mm"] for kind in ("similarity", "rigid"))
    assert similar["max"] < 1e-6
    grid = oblique.fixed_grid
    # the points lie anywhere in their cells: up to the outer voxels' faces
    far = 0.1 * np.linalg.norm(grid.corners_lps() - grid.center_lps, axis=1).max()
    assert 0.3 * far < rigid["max"] <= 1.1 * far
