"""Surface models (.vtk, .vtp, .stl, .ply, .obj) through VTK, which is an optional package."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..io.writing import failure

_READERS = {
    ".vtk": ("vtkIOLegacy", "vtkPolyDataReader", "vtkPolyDataWriter"),
    ".vtp": ("vtkIOXML", "vtkXMLPolyDataReader", "vtkXMLPolyDataWriter"),
    ".stl": ("vtkIOGeometry", "vtkSTLReader", "vtkSTLWriter"),
    ".ply": ("vtkIOPLY", "vtkPLYReader", "vtkPLYWriter"),
}
_FLIP = np.array([-1.0, -1.0, 1.0])
_HEAD_BYTES = 4096
_SPACE = "SPACE"
_PLY_SIZES = {"char": 1, "uchar": 1, "short": 2, "ushort": 2, "int": 4, "uint": 4, "float": 4, "double": 8}


def map_surface(file: Path, out: Path, mapping: Callable[[np.ndarray], np.ndarray], space: str | None = None) -> str:
    """Write a model with its points mapped (n x 3 LPS mm to n x 3); returns the space of its coordinates.

    space: 'lps' or 'ras' for files that do not tell; 3D Slicer writes SPACE=LPS (or RAS) into them.
    Raises InputError: no VTK, not a model, or a space that the file does not tell.
    """
    module, reader_name, writer_name = _READERS[file.suffix.lower()]
    try:
        from importlib import import_module

        vtk_io = import_module(f"vtkmodules.{module}")
        from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
        from vtkmodules.vtkCommonCore import vtkPoints, vtkStringArray
        from vtkmodules.vtkFiltersCore import vtkPolyDataNormals
    except ImportError as error:
        raise InputError(f"{file.name}: models need the package vtk: pip install vtk.") from error
    reader = getattr(vtk_io, reader_name)()
    reader.SetFileName(str(file))
    reader.Update()
    mesh = reader.GetOutput()
    told = _told_space(file, mesh)
    if told and space not in (None, told):
        raise InputError(f"{file.name}: the file says SPACE={told.upper()}; got {space.upper()}.")
    known = told or space
    if known is None:
        raise InputError(
            f"{file.name}: the file does not tell whether its coordinates are LPS or RAS; say it: "
            "--model-space lps (3D Slicer since 2019) or ras."
        )
    if mesh is None or not mesh.GetNumberOfPoints():
        raise InputError(f"{file.name}: expected a surface model with points; this has none, or is damaged.")
    signs = np.ones(3) if known == "lps" else _FLIP
    points = vtk_to_numpy(mesh.GetPoints().GetData()).astype(np.float64) * signs
    mapped = vtkPoints()
    kind = mesh.GetPoints().GetDataType()
    mapped.SetDataType(kind)
    found = np.ascontiguousarray(mapping(points) * signs)
    mapped.SetData(numpy_to_vtk(found, deep=True, array_type=kind))
    mesh.SetPoints(mapped)
    had_normals = mesh.GetPointData().GetNormals() is not None
    if had_normals:  # those of before point elsewhere now
        mesh.GetPointData().SetNormals(None)
        normals = vtkPolyDataNormals()
        normals.SetInputData(mesh)
        normals.SplittingOff()
        normals.ConsistencyOff()
        normals.Update()
        mesh = normals.GetOutput()
    if file.suffix.lower() == ".vtp":
        note = vtkStringArray()
        note.SetName(_SPACE)
        note.InsertNextValue(known.upper())
        mesh.GetFieldData().AddArray(note)  # in place of an array of that name
    writer = getattr(vtk_io, writer_name)()
    writer.SetFileName(str(out))
    writer.SetInputData(mesh)
    label = f"carlreg. SPACE={known.upper()}"
    if hasattr(writer, "SetFileTypeToBinary"):
        writer.SetFileTypeToBinary()
    if hasattr(writer, "AddComment"):
        writer.AddComment(f"SPACE={known.upper()}")
    elif hasattr(writer, "SetHeader"):
        writer.SetHeader(label)
    if not writer.Write() or writer.GetErrorCode():
        raise failure(out, "it could not be written")
    if not _is_whole(out, mesh, getattr(vtk_io, reader_name)()):
        raise failure(out, "the file is incomplete")
    return known


def _told_space(file: Path, mesh) -> str | None:
    """As 3D Slicer tells it: SPACE=LPS in the file's head, or a text of that name in a .vtp file's data."""
    array = mesh.GetFieldData().GetAbstractArray(_SPACE) if mesh is not None else None
    if array is not None and array.GetNumberOfValues():
        word = str(array.GetValue(0)).strip().lower()
        return word if word in ("lps", "ras") else None
    with file.open("rb") as stream:
        head = stream.read(_HEAD_BYTES).upper()
    return next((space for space in ("lps", "ras") if f"SPACE={space.upper()}".encode() in head), None)


def _is_whole(out: Path, mesh, reader) -> bool:
    """Whether a mesh was written as a whole: the writers do not tell of every disk that is full."""
    if out.suffix == ".ply":  # its reader crashes on a short file
        return out.stat().st_size >= _ply_bytes(out, mesh)
    reader.SetFileName(str(out))
    reader.Update()
    return reader.GetOutput() is not None and reader.GetOutput().GetNumberOfCells() == mesh.GetNumberOfCells()


def _ply_bytes(file: Path, mesh) -> int:
    """How long a binary PLY file of a mesh is at least: its head, the vertices' properties, the faces' vertices."""
    with file.open("rb") as stream:
        head, end, _ = stream.read(_HEAD_BYTES).partition(b"end_header\n")
    if not end:
        return _HEAD_BYTES**2
    vertex = head.split(b"element vertex", 1)[-1].split(b"element face", 1)[0]
    each = sum(_PLY_SIZES.get(name.decode(), 0) for name in re.findall(rb"property (\w+) ", vertex))
    faces = mesh.GetNumberOfPolys() + 4 * mesh.GetPolys().GetNumberOfConnectivityIds()
    return len(head) + len(end) + each * mesh.GetNumberOfPoints() + faces
