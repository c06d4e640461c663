"""elastix with its default rigid parameter map, which begins with the images' centers aligned: FIXED MOVING FOLDER."""

import sys
from pathlib import Path

import itk
import numpy as np

fixed_file, moving_file, folder = sys.argv[1:4]
parameters = itk.ParameterObject.New()
parameters.AddParameterMap(parameters.GetDefaultParameterMap("rigid"))
_, found = itk.elastix_registration_method(
    itk.imread(fixed_file, itk.F), itk.imread(moving_file, itk.F), parameter_object=parameters, log_to_console=False
)
values = found.GetParameterMap(0)
angles_and_shift = [float(value) for value in values["TransformParameters"]]
(cx, cy, cz), (sx, sy, sz) = np.cos(angles_and_shift[:3]), np.sin(angles_and_shift[:3])
about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
z_first = values.get("ComputeZYX", ["false"])[0] == "true"
matrix, center = np.eye(4), np.array([float(value) for value in values["CenterOfRotationPoint"]])
matrix[:3, :3] = about_z @ about_y @ about_x if z_first else about_z @ about_x @ about_y
matrix[:3, 3] = np.array(angles_and_shift[3:]) + center - matrix[:3, :3] @ center
np.savetxt(Path(folder) / "matrix.txt", matrix)
