"""Greedy with its manual's settings: FIXED MOVING FOLDER THREADS.

Affine from aligned image centers, then deformable, both on NCC.
"""

import json
import sys
from pathlib import Path

from picsl_greedy import Greedy3D

fixed_file, moving_file, folder, threads = sys.argv[1:5]
affine, warp = Path(folder) / "affine.mat", Path(folder) / "warp.nii.gz"
common = f"-i {fixed_file} {moving_file} -m NCC 2x2x2 -n 100x50x10 -threads {threads}"
Greedy3D().execute(f"-a -dof 12 -ia-image-centers {common} -o {affine}")
Greedy3D().execute(f"{common} -it {affine} -o {warp}")
steps = [{"kind": "field", "file": warp.name}, {"kind": "ras_matrix", "file": affine.name}]
(Path(folder) / "steps.json").write_text(json.dumps(steps))
