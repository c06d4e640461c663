"""ANTs' rigid registration as antspyx runs it by default: FIXED MOVING FOLDER."""

import sys
from pathlib import Path

import ants
import numpy as np
import pandas

fixed_file, moving_file, folder = sys.argv[1:4]
found = ants.registration(
    ants.image_read(fixed_file),
    ants.image_read(moving_file),
    type_of_transform="Rigid",
    outprefix=str(Path(folder) / "ants_"),
)
# Points are in LPS mm, and go from the fixed image to the moving one as the images' transforms do.
points = np.vstack([np.zeros(3), np.eye(3)])
table = pandas.DataFrame(points, columns=["x", "y", "z"])
mapped = ants.apply_transforms_to_points(3, table, found["fwdtransforms"])[["x", "y", "z"]].to_numpy()
matrix = np.eye(4)
matrix[:3, :3] = (mapped[1:] - mapped[0]).T
matrix[:3, 3] = mapped[0]
np.savetxt(Path(folder) / "matrix.txt", matrix)
