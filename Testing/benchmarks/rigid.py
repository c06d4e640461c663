"""Known rigid maps recovered: ours beside ANTs, elastix and neuroreg, each in a process of its own.

    python Testing/benchmarks/rigid.py --out rigid.json [--case brain,lung] [--peer ants,elastix,neuroreg]

One scan of each kind is resampled under a known turn and shift (SimpleITK, linear), with noise, and cut on one side:
nothing but the truth is known of the pair. Rows that a file has are not measured again. Errors: of the fixed content,
in voxels (the smallest edge), and of the turn in degrees.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from carlreg.preprocess import prepare
from carlreg.spaces import VolumeGrid, apply_affine
from carlreg.volumes import volume_from_image

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]
from cases import _REPAINT_HU, _REPAINT_MR  # noqa: E402
from data_folder import MISSING, find_data_folder  # noqa: E402
from peers import Peer  # noqa: E402

HERE = Path(__file__).resolve().parent
PEERS = {
    "ants": Peer("rigid_ants", "ANTs", "antspyx"),
    "elastix": Peer("rigid_elastix", "elastix", "itk-elastix"),
    "neuroreg": Peer("rigid_neuroreg", "neuroreg", "neuroreg"),
}


@dataclass(frozen=True)
class Kind:
    """file: of the scan. degrees: about x, y, z. shift: of the center, shares of the extent. noise: of the 99th
    percentile. options: of carlreg. repainted: the moving scan in another contrast. mask: file of a label map, and the
    labels that alone count (none: all above 0)."""

    file: str
    degrees: tuple[float, float, float] = (9.0, -6.0, 11.0)
    shift: tuple[float, float, float] = (0.06, -0.05, 0.08)
    noise: float = 0.03
    options: tuple[str, ...] = ()
    repainted: bool = False
    mask: tuple[str, tuple[int, ...]] | None = None


KINDS = {
    "brain": Kind("brain_vxm_fixed.nii.gz"),
    "head": Kind("head_mr_chris_t1.nii.gz"),
    "lung": Kind("lung_ct_baseline_fixed.nii.gz"),
    "liver": Kind("liver_mr_eth19_exh_fixed.nii.gz"),
    "abdomen": Kind("abdomen_ct_ts.nii.gz"),
    "mouse": Kind("mouse/mouse_head_ct_balbcj.nii.gz"),
    "abdomen_repainted": Kind("abdomen_ct_ts.nii.gz", options=("--similarity", "mind"), repainted=True),
    "brain_turned": Kind("brain_vxm_fixed.nii.gz", (70.0, -35.0, 120.0), options=("--robustness", "rotation")),
    "brain_masked": Kind("brain_vxm_fixed.nii.gz", mask=("brain_vxm_fixed_seg.nii.gz", (7, 8, 16, 46, 47))),
    "lung_masked": Kind("lung_ct_baseline_fixed.nii.gz", mask=("lung_ct_baseline_fixed_mask.nii.gz", ())),
    "abdomen_turned": Kind("abdomen_ct_ts.nii.gz", (20.0, 30.0, 150.0), options=("--robustness", "rotation")),
}


@dataclass(frozen=True)
class KnownRigid:
    """truth: 4x4, moving_from_fixed, LPS mm. points: n x 3, of the fixed content."""

    fixed: sitk.Image
    moving: sitk.Image
    truth: np.ndarray
    points: np.ndarray

    def errors(self, matrix: np.ndarray) -> dict[str, float]:
        apart = apply_affine(matrix, self.points) - apply_affine(self.truth, self.points)
        u, _, vt = np.linalg.svd(matrix[:3, :3])
        turn = (u @ vt).T @ self.truth[:3, :3]
        voxels = np.linalg.norm(apart, axis=1) / min(self.fixed.GetSpacing())
        degrees = np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)))
        return {"mean_voxels": voxels.mean(), "max_voxels": voxels.max(), "degrees": float(degrees)}


def known_pair(kind: Kind, folder: Path) -> KnownRigid:
    fixed = sitk.ReadImage(str(folder / kind.file), sitk.sitkFloat32)
    grid = VolumeGrid.of(fixed)
    low = float(sitk.GetArrayViewFromImage(fixed).min())
    turn = sitk.Euler3DTransform()
    turn.SetCenter(grid.center_lps.tolist())
    turn.SetRotation(*np.radians(kind.degrees).tolist())
    turn.SetTranslation((np.array(kind.shift) * grid.extent_mm).tolist())
    truth = np.eye(4)
    truth[:3, :3] = np.reshape(turn.GetMatrix(), (3, 3))
    truth[:3, 3] = turn.TransformPoint((0.0, 0.0, 0.0))
    # The moving scan: a grid of its own around where the fixed one goes, cut by an eighth at one end.
    center = apply_affine(truth, grid.center_lps)
    size = np.array(grid.size_ijk) + 8
    moving_grid = VolumeGrid(size, grid.spacing, np.zeros(3), grid.direction)
    moving_grid = VolumeGrid(size, grid.spacing, center - moving_grid.center_lps, grid.direction)
    moving_grid = moving_grid.cropped((0, 0, 0), (size[0], size[1], size[2] - size[2] // 8))
    blank = moving_grid.image(np.zeros(moving_grid.shape_dhw, np.uint8))
    seen = sitk.Resample(fixed, blank, turn.GetInverse(), sitk.sitkLinear, low, sitk.sitkFloat32)
    array = sitk.GetArrayFromImage(seen)
    if kind.repainted:
        array = np.interp(array, _REPAINT_HU, _REPAINT_MR).astype(np.float32)
    there = array > array.min()
    noise = (
        kind.noise * (np.percentile(array, 99) - array.min()) * np.random.default_rng(0).standard_normal(array.shape)
    )
    array = np.where(there, array + noise, array).astype(np.float32)
    content = prepare(volume_from_image(fixed, "fixed"), "auto", None).content
    axis = (np.arange(6) + 0.5) / 6
    spread = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    return KnownRigid(fixed, moving_grid.image(array), truth, apply_affine(content.lps_from_normalized, spread))


def measured(command: list[str], folder: Path, seconds: float = 1800.0) -> dict:
    report = folder / "measured.json"
    subprocess.run(
        [sys.executable, str(HERE / "measure.py"), str(report), str(folder / "log.txt"), str(seconds), *command]
    )
    return json.loads(report.read_text())


def _write_mask(file: str, labels: tuple[int, ...], data: Path, path: Path) -> None:
    image = sitk.ReadImage(str(data / file))
    array = sitk.GetArrayViewFromImage(image)
    mask = sitk.GetImageFromArray((np.isin(array, labels) if labels else array > 0).astype(np.uint8))
    mask.CopyInformation(image)
    sitk.WriteImage(mask, str(path), True)


def row(name: str, method: str, threads: int, cache: Path, python: str | None) -> dict:
    kind = KINDS[name]
    folder = find_data_folder()
    if folder is None:
        sys.exit(MISSING)
    data, pair = folder, known_pair(kind, folder)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        files = [str(folder / "fixed.nii.gz"), str(folder / "moving.nii.gz")]
        for image, file in zip((pair.fixed, pair.moving), files, strict=True):
            sitk.WriteImage(image, file, True)
        if method == "carlreg":
            if kind.mask is not None:
                _write_mask(*kind.mask, data, folder / "mask.nii.gz")
            masked = [] if kind.mask is None else ["--fixed-mask", str(folder / "mask.nii.gz")]
            options = [*masked, "--transform", "rigid", *kind.options, "--progress", "none", "--threads", str(threads)]
            ran = measured(
                [sys.executable, "-m", "carlreg", "register", *files, "--out", str(folder / "out"), *options], folder
            )
            read = lambda: _of_itk(folder / "out" / "transform.h5")  # noqa: E731
        else:
            peer = PEERS[method]
            script = str(HERE / "peers" / f"{peer.name}.py")
            ran = measured([python or str(peer.environment(cache)), script, *files, str(folder)], folder)
            read = lambda: np.loadtxt(folder / "matrix.txt")  # noqa: E731
        if ran["exit_code"] != 0:
            return {**ran, "failed": (folder / "log.txt").read_text()[-300:]}
        return {**{key: float(value) for key, value in pair.errors(read()).items()}, **ran}


def _of_itk(file: Path) -> np.ndarray:
    transform, matrix = sitk.ReadTransform(str(file)), np.eye(4)
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    for axis in range(3):
        matrix[:3, axis] = np.array(transform.TransformPoint(np.eye(3)[axis].tolist())) - origin
    matrix[:3, 3] = origin
    return matrix


def table(rows: dict) -> str:
    methods = ["carlreg", *PEERS]
    lines = ["| pair | " + " | ".join(methods) + " |", "|---|" + "---|" * len(methods)]
    for name in KINDS:
        cells = []
        for method in methods:
            found = rows.get(f"{name} {method}")
            if found is None:
                cells.append("")
            elif "degrees" not in found:
                cells.append("failed")
            else:
                cells.append(f"{found['mean_voxels']:.3g}, {found['degrees']:.2g}°, {found['cpu_seconds']:.0f} s")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "rigid.json")
    parser.add_argument("--case", default=",".join(KINDS))
    parser.add_argument("--peer", default=",".join(["carlreg", *PEERS]))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "carlreg-benchmarks")
    parser.add_argument("--python", help="one with all the peers' packages, instead of an environment for each")
    args = parser.parse_args()
    rows = json.loads(args.out.read_text()) if args.out.is_file() else {}
    for name in args.case.split(","):
        for method in args.peer.split(","):
            key = f"{name} {method}"
            if key not in rows:
                found = row(name, method, args.threads, args.cache, args.python)
                rows[key] = {k: round(v, 4) if isinstance(v, float) else v for k, v in found.items()}
                args.out.write_text(json.dumps(rows, indent=1) + "\n")
                print(key, rows[key], flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
