"""What attention alone finds on real pairs: the landmark error of one robust affine fitted to it, nothing refined.

    python Testing/benchmarks/attention.py --weights my-weights.safetensors --cases lung lung+30 --grid 96 128

The weights are a file that `carlreg train export` wrote; without them the shipped ones are measured. Cases are those of
`cases.py` that have landmarks; `lung+30` has its moving content shifted by 30 voxels.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

TESTING = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTING), str(TESTING.parent / "CARLRegistration")]

from benchmarks.cases import LIVER_CASES, Case, load_case  # noqa: E402
from benchmarks.geometry import center_lps  # noqa: E402
from carlreg.models import registry  # noqa: E402
from carlreg.models.operators import without_refinement  # noqa: E402
from carlreg.models.predict import correspondences  # noqa: E402
from carlreg.optimize.candidates import robust_affine, translation  # noqa: E402
from carlreg.registration.pair import as_volume, prepare_pair  # noqa: E402
from carlreg.registration.predict import images_for  # noqa: E402
from carlreg.settings import RegistrationSettings  # noqa: E402
from carlreg.spaces import apply_affine  # noqa: E402


@torch.no_grad()
def attention_affine(loaded: registry.LoadedModel, case: Case, edge: int) -> tuple[np.ndarray, float]:
    """4x4 matrix moving_from_fixed (LPS mm), and the share of the correspondences that agree with it.

    edge: longest edge of the network's grid, voxels.
    """
    volumes = as_volume(case.fixed, "fixed"), as_volume(case.moving, "moving")
    pair = prepare_pair(*volumes, None, None, RegistrationSettings())
    images = images_for(loaded, pair, edge, torch.device("cpu"))
    answers = without_refinement(loaded.network).predict_both(images.moving_b1dhw, images.fixed_b1dhw)
    points = correspondences(images, *answers)
    return robust_affine(points.fixed_lps, points.moving_lps, points.weights, least_scale_mm=5.0)


def landmark_error_mm(case: Case, matrix: np.ndarray) -> float:
    """Mean distance of the mapped fixed landmarks from the moving ones."""
    return float(
        np.linalg.norm(apply_affine(matrix, case.landmarks_fixed_lps) - case.landmarks_moving_lps, axis=1).mean()
    )


def centered(case: Case) -> np.ndarray:
    """The translation that puts one volume's center on the other's."""
    return translation(center_lps(case.moving) - center_lps(case.fixed))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="carl-compact")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--cases", nargs="+", default=["lung", "lung+30", *LIVER_CASES])
    parser.add_argument("--grid", type=int, nargs="+", default=[96, 128], help="longest edge in voxels")
    given = parser.parse_args()
    loaded = registry.load(given.model, given.weights)
    print("case        centers mm, then per grid: attention mm (share that agrees)")
    for case in map(load_case, given.cases):
        found = [(edge, *attention_affine(loaded, case, edge)) for edge in given.grid]
        cells = [f"{edge}: {landmark_error_mm(case, matrix):6.2f} ({share:.2f})" for edge, matrix, share in found]
        print(f"{case.name:11s} {landmark_error_mm(case, centered(case)):10.2f}  {'  '.join(cells)}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
