"""Scans in any pose, found in rotation mode: all ordered pairs of mouse heads, and pairs turned at random.

    python Testing/benchmarks/turned.py [--case mouse,mouse_turned,lung,brain,liver,phantom] [--count 40] [--how affine]

The mouse heads lie as they were scanned, turned by 7 to 170 degrees against each other; `mouse_turned` turns the moving
one once more, at random. Of the others the moving scan is turned by `--count` random rotations, all of them equally
likely, the same ones each time; number 0 is not turned. --how: `affine` (that alone: where the pose is found or lost),
`no-io` (the network's map as well), `fast`, `best`. Rows that the file has are not measured again.

Errors are of landmarks (mm; phantom: of the known map at its landmarks), or Dice of the brain's labels. A turned pair
is found when it ends within 1.5 times of what it ends at without the turn (Dice: 0.03 below), a mouse pair when it ends
below 0.4 mm, or, an affine alone, within twice of what the best affine fit of the landmarks themselves leaves.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "CARLRegistration")]

import carlreg  # noqa: E402
from benchmarks.cases import Case, load_case  # noqa: E402
from benchmarks.geometry import apply_matrix, crop, lps_from_ijk, plain_grid, resample, rigid_matrix  # noqa: E402
from carlreg.phantom import make_pair  # noqa: E402
from carlreg.physical import PhysicalTransform  # noqa: E402
from carlreg.spaces import fit_linear  # noqa: E402
from data_folder import MISSING, find_data_folder  # noqa: E402

KINDS = ("mouse", "mouse_turned", "lung", "brain", "liver", "phantom")
_CASES = {"lung": "lung", "brain": "brain", "liver": "eth19_1_6"}
# Edges of the turned scans' voxels, mm.
_SPACING = {"mouse": 0.141, "lung": 1.75, "brain": 1.0, "liver": 1.5, "phantom": 4.0}
MOUSE_MM, AS_GOOD, OF_FIT, DICE_LESS = 0.4, 1.5, 2.0, 0.03
HOW = {
    "affine": {"transform": "affine"},
    "no-io": {"io_steps": 0},
    "fast": {"effort": "fast"},
    "best": {"effort": "best"},
}


def mice() -> list[str]:
    folder = find_data_folder() / "mouse"
    return sorted(file.name.split("_")[3].removesuffix(".nii.gz") for file in folder.glob("mouse_head_ct_*.nii.gz"))


def cases(kinds: list[str], count: int) -> list[str]:
    """Names: 'mouse FIXED MOVING', 'mouse_turned FIXED MOVING', and 'KIND NUMBER'."""
    found = []
    for kind in kinds:
        if kind.startswith("mouse"):
            found += [f"{kind} {fixed} {moving}" for fixed in mice() for moving in mice() if fixed != moving]
        else:
            found += [f"{kind} {number}" for number in range(count + 1)]
    return found


def _landmarks(mouse: str) -> np.ndarray:
    with (find_data_folder() / "mouse" / f"mouse_head_ct_{mouse}_landmarks_lps.csv").open(newline="") as stream:
        rows = sorted((int(row["label"]), *(float(row[a]) for a in "xyz")) for row in csv.DictReader(stream))
    return np.array([row[1:] for row in rows])


def _mouse_case(name: str, fixed: str, moving: str) -> Case:
    images = [
        sitk.ReadImage(str(find_data_folder() / "mouse" / f"mouse_head_ct_{mouse}.nii.gz")) for mouse in (fixed, moving)
    ]
    points = {"landmarks_fixed_lps": _landmarks(fixed), "landmarks_moving_lps": _landmarks(moving)}
    return Case(name, *images, background=0.0, **points)


def _phantom_case(name: str) -> Case:
    pair = make_pair(spacing_mm=_SPACING["phantom"])
    points = {"landmarks_fixed_lps": pair.landmarks[0], "landmarks_moving_lps": pair.landmarks[1]}
    return Case(name, pair.fixed, pair.moving, background=-1024.0, **points)


def case_of(name: str) -> Case:
    kind, *rest = name.split()
    if kind.startswith("mouse"):
        case = _mouse_case(name, *rest)
        seed = sum(ord(letter) * (n + 1) for n, letter in enumerate(name)) if kind == "mouse_turned" else 0
    else:
        case = _phantom_case(name) if kind == "phantom" else replace(load_case(_CASES[kind]), name=name)
        seed = int(rest[0])
    return turned(case, seed, _SPACING[kind.split("_")[0]]) if seed else case


def turned(case: Case, seed: int, spacing_mm: float) -> Case:
    """The moving scan (what it shows) under a rotation drawn from all of them, resampled on a plain grid."""
    low, high = _content(case.moving, case.background)
    shown = crop(case.moving, low, high)
    corners = np.array([[(c >> a) & 1 for a in range(3)] for c in range(8)]) * (np.array(shown.GetSize()) - 1)
    corners = apply_matrix(lps_from_ijk(shown), corners)
    center = corners.mean(axis=0)
    quaternion = np.random.default_rng(seed).normal(size=4)
    quaternion *= np.sign(quaternion[3]) / np.linalg.norm(quaternion)
    turn = sitk.VersorRigid3DTransform()
    turn.SetCenter(center.tolist())
    turn.SetRotation(quaternion.tolist())
    matrix = rigid_matrix(turn)
    reached = apply_matrix(matrix, corners)
    grid = plain_grid(center, 2 * np.abs(reached - center).max(axis=0) + 2 * spacing_mm, (spacing_mm,) * 3)
    found = {"moving": resample(case.moving, grid, turn.GetInverse(), background=case.background)}
    if case.moving_labels is not None:
        found["moving_labels"] = resample(case.moving_labels, grid, turn.GetInverse(), nearest=True)
    if case.landmarks_moving_lps is not None:
        found["landmarks_moving_lps"] = apply_matrix(matrix, case.landmarks_moving_lps)
    return replace(case, **found)


def _content(image: sitk.Image, background: float) -> tuple[np.ndarray, np.ndarray]:
    """Bounds, ijk, of the voxels that differ from the background."""
    array = sitk.GetArrayViewFromImage(image)
    filled = array > background + 0.02 * (float(array.max()) - background)
    spans = [np.flatnonzero(filled.any(tuple(b for b in range(3) if b != axis))) for axis in (2, 1, 0)]
    return np.array([span[0] for span in spans]), np.array([span[-1] + 1 for span in spans])


def row(name: str, settings: carlreg.RegistrationSettings) -> dict:
    case = case_of(name)
    began = time.process_time()
    result = carlreg.register(case.fixed, case.moving, settings)
    seconds = time.process_time() - began
    transform = result.transform
    found = {"start": result.start, "cpu_seconds": round(seconds, 1)}
    affine = PhysicalTransform.from_affine(transform.affine_lps)
    if case.landmarks_fixed_lps is not None:
        pairs = case.landmarks_fixed_lps, case.landmarks_moving_lps
        best = PhysicalTransform.from_affine(fit_linear(*pairs))
        for key, mapping in (("fit_mm", best), ("affine_mm", affine), ("error_mm", transform)):
            apart = mapping.apply(case.landmarks_fixed_lps) - case.landmarks_moving_lps
            found[key] = round(float(np.linalg.norm(apart, axis=1).mean()), 4)
    else:
        for key, mapping in (("affine_dice", affine), ("dice", transform)):
            found[key] = round(_dice(case, mapping.to_sitk()), 4)
    return found


def _dice(case: Case, transform: sitk.Transform) -> float:
    fixed = sitk.GetArrayViewFromImage(case.fixed_labels)
    warped = sitk.Resample(case.moving_labels, case.fixed_labels, transform, sitk.sitkNearestNeighbor, 0)
    warped = sitk.GetArrayViewFromImage(warped)
    moving = sitk.GetArrayViewFromImage(case.moving_labels)
    sizes = [np.bincount(labels.ravel(), minlength=256) for labels in (fixed, warped, moving, fixed[fixed == warped])]
    labels = [label for label in range(1, 256) if sizes[0][label] and sizes[2][label]]
    return float(np.mean([2 * sizes[3][label] / (sizes[0][label] + sizes[1][label]) for label in labels]))


def is_found(name: str, rows: dict, how: str) -> bool:
    kind = name.split()[0]
    if kind.startswith("mouse"):
        return rows[name]["error_mm"] < (OF_FIT * rows[name]["fit_mm"] if how == "affine" else MOUSE_MM)
    plain = rows[f"{kind} 0"]
    if "dice" in plain:
        return rows[name]["dice"] > plain["dice"] - DICE_LESS
    return rows[name]["error_mm"] < AS_GOOD * plain["error_mm"]


def table(measured: dict) -> str:
    lines = ["| how | scans | pairs | found | not turned | mean | worst |", "|---|---|---|---|---|---|---|"]
    for how, rows in measured.items():
        for kind in KINDS:
            names = [name for name in rows if name.split()[0] == kind and name != f"{kind} 0"]
            if not names or (not kind.startswith("mouse") and f"{kind} 0" not in rows):
                continue
            key = "dice" if "dice" in rows[names[0]] else "error_mm"
            values = [rows[name][key] for name in names]
            plain = rows.get(f"{kind} 0", {}).get(key, "")
            worst = min(values) if key == "dice" else max(values)
            number = sum(is_found(name, rows, how) for name in names)
            lines.append(
                f"| {how} | {kind} | {len(names)} | {number} | {plain} | {np.mean(values):.3f} | {worst:.3f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "turned.json")
    parser.add_argument("--case", default=",".join(KINDS))
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--how", choices=tuple(HOW), default="affine")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    if find_data_folder() is None:
        sys.exit(MISSING)
    settings = carlreg.RegistrationSettings(robustness="rotation", threads=args.threads, **HOW[args.how])
    measured = json.loads(args.out.read_text()) if args.out.is_file() else {}
    rows = measured.setdefault(args.how, {})
    for name in cases(args.case.split(","), args.count):
        if name not in rows:
            rows[name] = row(name, settings)
            args.out.write_text(json.dumps(measured, indent=1) + "\n")
            print(name, rows[name], flush=True)
    print(table(measured))


if __name__ == "__main__":
    main()
