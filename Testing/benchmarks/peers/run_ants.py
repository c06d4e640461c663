"""ANTs SyN as antspyx runs it by default: FIXED MOVING FOLDER."""

import json
import sys
from pathlib import Path

import ants

fixed_file, moving_file, folder = sys.argv[1:4]
folder = Path(folder)
result = ants.registration(
    ants.image_read(fixed_file), ants.image_read(moving_file), type_of_transform="SyN", outprefix=str(folder / "ants_")
)
# antspyx lists the warp before the affine, and the warp acts first on a fixed point.
warp, affine = result["fwdtransforms"]
steps = [{"kind": "field", "file": Path(warp).name}, {"kind": "itk", "file": Path(affine).name}]
(folder / "steps.json").write_text(json.dumps(steps))
