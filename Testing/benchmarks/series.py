"""A breath with known maps: `carlreg.series` against one registration for each phase, errors in mm and CPU seconds.

    python Testing/benchmarks/series.py [--spacing 4] [--phases 10]

All phases to the first, on one thread. The time of a single pair has its inverse and its quality, as that of a frame.
Errors are at points of the body, against the phantom's map. The figures go into `series.json` beside this file.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / "CARLRegistration")]

import carlreg  # noqa: E402
from carlreg.phantom import make_breathing  # noqa: E402
from carlreg.series import SeriesSettings, register_series, series_of  # noqa: E402
from carlreg.spaces import VolumeGrid  # noqa: E402

WAYS = {
    "series": SeriesSettings(cyclic=True),
    "series, smooth in time (0.1)": SeriesSettings(cyclic=True, temporal_smoothness=0.1),
    "series, frame to frame": SeriesSettings(cyclic=True, chain="frames"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spacing", type=float, default=4.0)
    parser.add_argument("--phases", type=int, default=10)
    args = parser.parse_args()
    breath = make_breathing(spacing_mm=args.spacing, phases=args.phases)
    series, settings = series_of(breath.frames), carlreg.RegistrationSettings(threads=1)
    voxels = np.argwhere(sitk.GetArrayFromImage(breath.body))[:, ::-1]
    points = VolumeGrid.of(breath.frames[0]).points(voxels[:: max(1, len(voxels) // 20_000)])
    true = [each(points) for each in breath.maps]

    def errors(maps) -> dict:
        off = [np.linalg.norm(each.apply(points) - true[n], axis=1) for n, each in maps]
        each = [round(float(one.mean()), 3) for one in off]
        whole = np.concatenate(off)
        return {"mean_mm": float(whole.mean()), "p95_mm": float(np.percentile(whole, 95)), "each_mm": each}

    carlreg.register_pair(series.frames[0], series.frames[1], settings)  # what is paid once is not counted
    moved = [float(np.linalg.norm(each - points, axis=1).mean()) for each in true[1:]]
    found = {"before": {"mean_mm": float(np.mean(moved)), "each_mm": [round(each, 3) for each in moved]}}
    begin, singles = time.process_time(), []
    for n in range(1, len(series)):
        result = carlreg.finish(carlreg.register_pair(series.frames[0], series.frames[n], settings))
        singles.append((n, result.transform))
    each = (time.process_time() - begin) / (len(series) - 1)
    found["single pairs"] = {**errors(singles), "cpu_seconds_per_frame": each}
    print("single pairs", found["single pairs"], flush=True)
    for name, how in WAYS.items():
        begin = time.process_time()
        result = register_series(series, settings, how)
        own = (time.process_time() - begin) / (len(series) - 1)
        maps = [(n, frame.transform) for n, frame in enumerate(result.frames) if n]
        found[name] = {**errors(maps), "cpu_seconds_per_frame": own, "of_single": own / each}
        print(name, found[name], flush=True)
    about = {"spacing_mm": args.spacing, "phases": args.phases, "carlreg": carlreg.__version__}
    (HERE / "series.json").write_text(json.dumps({**about, "ways": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
