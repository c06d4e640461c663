"""elastix with its default parameter maps, rigid + affine + B-spline with 10 mm between knots: FIXED MOVING FOLDER.

Its rigid stage begins with the images' centers aligned.
"""

import json
import sys
from pathlib import Path

import itk

fixed_file, moving_file, folder = sys.argv[1:4]
fixed, moving = itk.imread(fixed_file, itk.F), itk.imread(moving_file, itk.F)
parameters = itk.ParameterObject.New()
parameters.AddParameterMap(parameters.GetDefaultParameterMap("rigid"))
parameters.AddParameterMap(parameters.GetDefaultParameterMap("affine"))
parameters.AddParameterMap(parameters.GetDefaultParameterMap("bspline", 4, 10.0))
_, found = itk.elastix_registration_method(fixed, moving, parameter_object=parameters, log_to_console=False)
field = itk.transformix_deformation_field(moving, found)
itk.imwrite(field, str(Path(folder) / "field.mha"))
(Path(folder) / "steps.json").write_text(json.dumps([{"kind": "field", "file": "field.mha"}]))
