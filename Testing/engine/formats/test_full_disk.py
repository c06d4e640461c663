"""Models on a disk that is full: never a file that is cut off."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("vtkmodules")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits as on POSIX")

_CODE = """
import errno, os, resource, sys
from pathlib import Path
from vtkmodules.vtkFiltersSources import vtkSphereSource
from vtkmodules.vtkIOPLY import vtkPLYWriter
from vtkmodules.vtkIOGeometry import vtkSTLWriter
from vtkmodules.vtkIOLegacy import vtkPolyDataWriter
from vtkmodules.vtkIOXML import vtkXMLPolyDataWriter
from vtkmodules.vtkCommonDataModel import vtkPolyData
from carlreg.formats import surfaces
from carlreg.formats.surfaces import map_surface
folder = Path(sys.argv[1])
sphere = vtkSphereSource()
sphere.SetThetaResolution(40)
sphere.SetPhiResolution(40)
for kind in (vtkPLYWriter, vtkSTLWriter, vtkPolyDataWriter, vtkXMLPolyDataWriter):
    ending = {"vtkPLYWriter": "ply", "vtkSTLWriter": "stl", "vtkPolyDataWriter": "vtk"}.get(kind.__name__, "vtp")
    source, out = folder / f"in.{ending}", folder / f"out.{ending}"
    writer = kind()
    writer.SetInputConnection(sphere.GetOutputPort())
    writer.SetFileName(str(source))
    writer.Write()
    mesh = surfaces._read(source)

    def read(file):  # the limit is for what is written: reading has files of its own, in another process
        copy = vtkPolyData()
        copy.DeepCopy(mesh)
        return copy

    surfaces._read, kept = read, surfaces._read
    map_surface(source, out, lambda points: points + 1.0, "lps")
    size = out.stat().st_size
    for limit in (10, size // 3, size - 1, size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            map_surface(source, out, lambda points: points + 1.0, "lps")
            told = "whole"
        except OSError as error:
            told = errno.errorcode[error.errno]
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        print(ending, told)
    surfaces._read = kept
"""


def test_a_model_is_whole_or_an_error(tmp_path):
    done = subprocess.run([sys.executable, "-c", _CODE, str(tmp_path)], capture_output=True, text=True, check=True)
    for ending in ("ply", "stl", "vtk", "vtp"):
        told = [line.split()[1] for line in done.stdout.splitlines() if line.startswith(ending)]
        assert told == ["EFBIG"] * 3 + ["whole"], ending
