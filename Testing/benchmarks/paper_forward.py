"""How long, and in how much memory, the published abdomen network predicts at its full size on this machine.

    python Testing/benchmarks/paper_forward.py [--model carl-paper-abdomen] [--edge 175] [--threads N]

Both directions, in a process of its own; time and memory of a network do not depend on its weights, so they are
random. To reach on a CPU with two cores: at most 8 GB and 15 minutes (the authors' code cannot run there: dense
attention scores would take 81 GB). Prints one line and keeps it in `paper_forward.json` beside this file.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIMIT_GB, LIMIT_S = 8.0, 15 * 60


def child(model: str, edge: int, threads: int) -> None:
    """Load the network, predict, evaluate both maps; print the figures as JSON."""
    import resource

    import torch
    from carlreg.models.registry import load

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    loaded = load(model, allow_untrained=True)
    shape = (edge,) * 3
    moving, fixed = torch.rand(1, 1, *shape), torch.rand(1, 1, *shape)
    begin, begin_cpu = time.perf_counter(), time.process_time()
    with torch.inference_mode():
        predictions = loaded.network.predict_both(moving, fixed)
        finite = all(bool(torch.isfinite(found.map.on_grid(shape)).all()) for found in predictions)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    figures = {
        "seconds": round(time.perf_counter() - begin, 1),
        "cpu_seconds": round(time.process_time() - begin_cpu, 1),
        "peak_gb": round(peak / 1e9, 2),
        "finite": finite,
    }
    print(json.dumps(figures))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="carl-paper-abdomen")
    parser.add_argument("--edge", type=int, default=175, help="voxels along each axis")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.model, options.edge, options.threads)
        return 0
    arguments = ["--model", options.model, "--edge", str(options.edge), "--threads", str(options.threads), "--child"]
    done = subprocess.run([sys.executable, str(Path(__file__)), *arguments], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        print(f"{options.model} at {options.edge}^3: failed with exit code {done.returncode}")
        return 1
    figures = json.loads(done.stdout.splitlines()[-1])
    load_average = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    record = {
        "model": options.model,
        "edge": options.edge,
        "threads": options.threads,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "load_average": load_average,
        "date": datetime.date.today().isoformat(),
    } | figures
    (HERE / "paper_forward.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    reached = figures["finite"] and figures["peak_gb"] <= LIMIT_GB and figures["seconds"] <= LIMIT_S
    print(
        f"{options.model} at {options.edge}^3, both directions: {figures['seconds']:.0f} s "
        f"({figures['cpu_seconds']:.0f} CPU seconds on {options.threads} threads, load average {load_average}), "
        f"peak {figures['peak_gb']:.2f} GB; limits {LIMIT_S} s, {LIMIT_GB:g} GB: {'reached' if reached else 'MISSED'}"
    )
    return 0 if reached else 1


if __name__ == "__main__":
    raise SystemExit(main())
