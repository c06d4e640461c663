"""neuroreg's robust rigid registration (robreg, after FreeSurfer's mri_robust_register): FIXED MOVING FOLDER."""

import subprocess
import sys
from pathlib import Path

import numpy as np

fixed_file, moving_file, folder = sys.argv[1:4]
lta = Path(folder) / "found.lta"
program = str(Path(sys.executable).with_name("robreg"))
subprocess.run([program, "--mov", moving_file, "--ref", fixed_file, "--out", str(lta), "--device", "cpu"], check=True)
lines = lta.read_text().splitlines()
kind = next(line.split("=")[1].split()[0] for line in lines if line.startswith("type"))
if kind != "1":
    sys.exit(f"expected a transform of RAS to RAS (1), got type {kind}")
begin = next(number for number, line in enumerate(lines) if line.split() == ["1", "4", "4"])
fixed_from_moving = np.array([[float(word) for word in line.split()] for line in lines[begin + 1 : begin + 5]])
flip = np.diag([-1.0, -1.0, 1.0, 1.0])
np.savetxt(Path(folder) / "matrix.txt", flip @ np.linalg.inv(fixed_from_moving) @ flip)
