"""Networks with and without coordinate attention while the moving content is shifted; no search, no optimization.

    carlreg train run --config CARLRegistration/carlreg/training/configs/joint.toml --out runs/unet \\
        --set model.name=gradicon-compact --set model.weights=none --set data.synthetic.size=64 \\
        --set run.steps=612 --set optimizer.rate=5e-4 --set optimizer.final_rate=5e-5
    python Testing/benchmarks/shift_baseline.py --unet runs/unet/checkpoint.pt

Generated pairs with a known map (seeds that training never uses), both images on one canvas, which the U-Net needs. The
moving content lies `shift` voxels further along one axis; only zeros come and go. The figure is the mean distance in
voxels between the network's map and the true one over the body that both images show. Written to `shift_baseline.md`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "CARLRegistration")]

from carlreg.maps import identity_map  # noqa: E402
from carlreg.models import registry  # noqa: E402
from carlreg.training import networks  # noqa: E402
from carlreg.training.known_pair import KnownPair, draw_pair  # noqa: E402
from carlreg.training.saving import read_checkpoint  # noqa: E402
from carlreg.training.synthetic import SyntheticSettings  # noqa: E402
from carlreg.training.validation import FIRST_SEED  # noqa: E402

SHIFTS = (0, 8, 16, 24, 32)
MARGIN = 16
SETTINGS = SyntheticSettings(size=64, rotation_degrees=5.0, shift=0.0, crop=0.0, zoom=1.05, same_contrast=1.0)


def placed(image: torch.Tensor, shift: int) -> torch.Tensor:
    """An image in a canvas of zeros that has room for every shift, `shift` voxels along its first axis."""
    after = max(SHIFTS) - shift
    return F.pad(image, (MARGIN, MARGIN, MARGIN, MARGIN, MARGIN + shift, MARGIN + after))


@torch.no_grad()
def error_voxels(network, pair: KnownPair, shift: int) -> float:
    """Mean distance to the true map, voxels."""
    moving, fixed = placed(pair.moving, shift), placed(pair.fixed, 0)
    canvas = torch.tensor(fixed.shape[2:], dtype=torch.float32).view(1, 3, 1, 1, 1)
    size = torch.tensor(pair.shape, dtype=torch.float32).view(1, 3, 1, 1, 1)
    moved = torch.tensor([float(shift), 0.0, 0.0]).view(1, 3, 1, 1, 1)
    lattice = identity_map(pair.forward.true_b3dhw.shape[2:])
    found = network.predict(moving, fixed).map((lattice * size + MARGIN) / canvas) * canvas - MARGIN - moved
    distance = (found - pair.forward.true_b3dhw * size).norm(dim=1, keepdim=True)
    weight = pair.forward.seen_b1dhw * pair.forward.body_b1dhw
    return float((distance * weight).sum() / weight.sum().clamp_min(1))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unet", type=Path, required=True, help="checkpoint of a run with model.name=gradicon-compact")
    parser.add_argument("--pairs", type=int, default=24)
    given = parser.parse_args()

    unet = networks.build("gradicon-compact")
    networks.put_start(unet, "gradicon-compact", str(given.unet))
    steps = read_checkpoint(given.unet)["step"]
    candidates = {
        f"U-Nets without attention, {steps} steps": unet.eval(),
        "carl-compact": registry.load("carl-compact").network.eval(),
    }
    pairs = [draw_pair(FIRST_SEED + 10_000 + n, SETTINGS, torch.device("cpu")) for n in range(given.pairs)]

    class Identity:
        def predict(self, moving, fixed):
            return argparse.Namespace(map=lambda points: points)

    rows = []
    for name, network in ({"no registration": Identity()} | candidates).items():
        values = [sum(error_voxels(network, pair, shift) for pair in pairs) / len(pairs) for shift in SHIFTS]
        rows.append(f"| {name} | " + " | ".join(f"{value:.2f}" for value in values) + " |")
        print(rows[-1], flush=True)
    text = (
        "# With and without coordinate attention, under shift\n\n"
        f"Mean error in voxels of the networks' maps alone over {len(pairs)} generated pairs of 64 voxels, the moving "
        "content shifted by so many voxels in its canvas (`shift_baseline.py` beside this file says how "
        "the U-Nets were trained: the same generator, 64 voxels, a tenth of carl-compact's steps).\n\n"
        "| network | " + " | ".join(map(str, SHIFTS)) + " |\n|" + "---|" * (len(SHIFTS) + 1) + "\n" + "\n".join(rows)
    )
    (HERE / "shift_baseline.md").write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
