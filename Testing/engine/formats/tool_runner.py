"""Runs other programs' own code on a list of jobs: `python tool_runner.py jobs.json`, in the tools' environment.

Each job: tool, transforms (files as a user would name them), and what to do: points (.npy in LPS mm -> out_points .npy)
and an image (moving, fixed -> out_image); or a registration of moving onto fixed, whose files go to a folder.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np


def ants_job(job: dict) -> None:
    import ants
    import pandas

    if job["do"] == "register":
        fixed, moving = (ants.image_read(job[side]) for side in ("fixed", "moving"))
        made = ants.registration(
            fixed, moving, "SyN", reg_iterations=(20, 10), aff_iterations=(50, 20, 10, 0), random_seed=1
        )
        files = []
        for file in made["fwdtransforms"]:
            files.append(str(Path(job["folder"]) / Path(file).name.split("tmp")[-1]))
            shutil.copy(file, files[-1])
        Path(job["folder"], "files.json").write_text(json.dumps(files))
        job["transforms"] = files
    table = pandas.DataFrame(np.load(job["points"]), columns=["x", "y", "z"])
    found = ants.apply_transforms_to_points(3, table, job["transforms"])
    np.save(job["out_points"], found[["x", "y", "z"]].to_numpy())
    if "out_image" in job:
        fixed, moving = (ants.image_read(job[side]) for side in ("fixed", "moving"))
        ants.image_write(ants.apply_transforms(fixed, moving, job["transforms"], "linear"), job["out_image"])


def elastix_job(job: dict) -> None:
    import itk

    folder = Path(job["folder"])
    folder.mkdir(exist_ok=True, parents=True)
    if job["do"] == "register":
        parameters = itk.ParameterObject.New()
        for name in job["maps"]:
            values = itk.ParameterObject.GetDefaultParameterMap(name, 1, 16.0)
            values["MaximumNumberOfIterations"] = ["15"]
            values["NumberOfSpatialSamples"] = ["500"]
            values["AutomaticParameterEstimation"] = ["true"]
            values["WriteResultImage"] = ["false"]
            parameters.AddParameterMap(values)
        fixed, moving = (itk.imread(job[side], itk.F) for side in ("fixed", "moving"))
        itk.elastix_registration_method(
            fixed, moving, parameter_object=parameters, output_directory=str(folder), log_to_console=False
        )
        files = sorted(folder.glob("TransformParameters.*.txt"))
        Path(job["folder"], "files.json").write_text(json.dumps([str(files[-1])]))
        job["transforms"] = [str(files[-1])]
    points = np.load(job["points"])
    listing = folder / "points.txt"
    listing.write_text(f"point\n{len(points)}\n" + "\n".join(" ".join(map(repr, p)) for p in points.tolist()))
    os.chdir(Path(job["transforms"][0]).parent)  # as the documentation of the file says
    parameters = itk.ParameterObject.New()
    parameters.AddParameterFile(Path(job["transforms"][0]).name)
    made = itk.TransformixFilter.New(itk.imread(job["moving"], itk.F))
    made.SetTransformParameterObject(parameters)
    made.SetFixedPointSetFileName(str(listing))
    made.SetOutputDirectory(str(folder))
    made.SetLogToConsole(False)
    made.UpdateLargestPossibleRegion()
    text = (folder / "outputpoints.txt").read_text()
    found = [line.split("OutputPoint = [")[1].split("]")[0].split() for line in text.splitlines()]
    np.save(job["out_points"], np.array(found, dtype=float))
    if "out_image" in job:
        itk.imwrite(made.GetOutput(), job["out_image"])


def greedy_job(job: dict) -> None:
    from picsl_greedy import Greedy3D

    greedy = Greedy3D()
    if job["do"] == "register":
        folder = Path(job["folder"])
        pair = f"-d 3 -i {job['fixed']} {job['moving']} -threads 1"
        greedy.execute(f"{pair} -a -m NCC 2x2x2 -n 20x10 -ia-identity -o {folder}/affine.mat")
        greedy.execute(f"{pair} -m NCC 2x2x2 -n 20x10 -it {folder}/affine.mat -o {folder}/warp.nii.gz")
        job["transforms"] = [f"{folder}/warp.nii.gz", f"{folder}/affine.mat"]
        Path(job["folder"], "files.json").write_text(json.dumps(job["transforms"]))
    mesh = Path(job["out_points"]).with_suffix(".vtk")
    points = np.load(job["points"]) * [-1, -1, 1]  # meshes are in RAS
    head = f"# vtk DataFile Version 3.0\npoints\nASCII\nDATASET POLYDATA\nPOINTS {len(points)} double\n"
    rows = "\n".join(" ".join(map(repr, p)) for p in points.tolist())
    cells = f"\nVERTICES {len(points)} {2 * len(points)}\n" + "\n".join(f"1 {n}" for n in range(len(points)))
    mesh.write_text(head + rows + cells + "\n")
    chain = " ".join(job["transforms"])
    greedy.execute(
        f"-d 3 -threads 1 -rf {job['fixed']} -rm {job['moving']} {job['out_image']} -rs {mesh} {mesh} -r {chain}"
    )
    np.save(job["out_points"], _vtk_points(mesh) * [-1, -1, 1])


def _vtk_points(path: Path) -> np.ndarray:
    raw = path.read_bytes()
    start = raw.index(b"POINTS ")
    line, rest = raw[start:].split(b"\n", 1)
    count, kind = int(line.split()[1]), line.split()[2].decode()
    if b"BINARY" in raw[:start]:
        return np.frombuffer(rest, ">f4" if kind == "float" else ">f8", 3 * count).reshape(-1, 3).astype(float)
    return np.array([float(word) for word in rest.split()[: 3 * count]]).reshape(-1, 3)


TOOLS = {"ants": ants_job, "elastix": elastix_job, "greedy": greedy_job}

if __name__ == "__main__":
    for job in json.loads(Path(sys.argv[1]).read_text()):
        try:
            TOOLS[job["tool"]](job)
        except Exception as error:
            Path(job["out_points"]).with_suffix(".error").write_text(f"{type(error).__name__}: {error}")
