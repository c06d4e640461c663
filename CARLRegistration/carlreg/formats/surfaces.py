"""Surface models (.vtk, .vtp, .stl, .ply) through VTK, which is an optional package."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..io.being_read import AS_MODEL, being_read
from ..io.guarded import guarded
from ..io.numbers import within_reach
from ..io.writing import failure
from ..text_files import cut, shown

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
    _need_vtk(file)
    vtk_io = import_module(f"vtkmodules.{module}")
    from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
    from vtkmodules.vtkCommonCore import vtkPoints, vtkStringArray
    from vtkmodules.vtkFiltersCore import vtkPolyDataNormals

    with being_read(file.name, AS_MODEL):
        mesh = _read(file)
    told = _told_space(file, mesh)
    if told and space not in (None, told):
        raise InputError(f"{file.name}: the file says SPACE={told.upper()}; got {space.upper()}.")
    known = told or space
    if known is None:
        raise InputError(
            f"{file.name}: the file does not tell whether its coordinates are LPS or RAS; say it: "
            "--model-space lps (3D Slicer since 2019) or ras."
        )
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


def _need_vtk(file: Path) -> None:
    try:
        import_module("vtkmodules.vtkIOLegacy")
    except ImportError as error:
        raise InputError(f"{file.name}: models need the package vtk: pip install vtk.") from error


def _read(file: Path):
    """The mesh in a file, read by VTK in a process of its own and handed over in VTK's own format.

    VTK's readers end the process on some damaged files, and make half a mesh of others.
    """
    from vtkmodules.vtkIOLegacy import vtkPolyDataReader

    with tempfile.TemporaryDirectory(prefix="carlreg.") as folder:
        handed = Path(folder) / "mesh.vtk"
        memory_mb = 2048 + 40 * file.stat().st_size / 2**20
        function = "carlreg.formats.surfaces:hand_over_mesh"
        guarded(function, str(file.resolve()), str(handed), name=file.name, save_as=AS_MODEL, memory_mb=memory_mb)
        reader = vtkPolyDataReader()
        reader.SetFileName(str(handed))
        reader.Update()
    return reader.GetOutput()


def hand_over_mesh(path: str, out: str) -> None:
    """Write a model that is whole and sound in VTK's legacy format. Raises InputError; may crash, see `_read`."""
    from vtkmodules.vtkCommonCore import vtkOutputWindow, vtkStringOutputWindow
    from vtkmodules.vtkIOLegacy import vtkPolyDataWriter

    file = Path(path)
    module, reader_name, _ = _READERS[file.suffix.lower()]
    said = vtkStringOutputWindow()
    vtkOutputWindow.SetInstance(said)
    reader = getattr(import_module(f"vtkmodules.{module}"), reader_name)()
    _check_whole(file)
    reader.SetFileName(path)
    reader.Update()
    mesh = reader.GetOutput()
    complaint = said.GetOutput()
    if isinstance(complaint, bytes):  # VTK repeats what the file says, which need not be UTF-8
        complaint = complaint.decode("utf-8", "replace")
    complaint = complaint.strip()
    if reader.GetErrorCode() or complaint or mesh is None:
        why = f" (VTK says: {cut(complaint.splitlines()[-1].strip(), 120)})" if complaint else ""
        raise InputError(
            f"{file.name}: expected a surface model ({file.suffix}); it is damaged, cut off, or something else{why}."
        )
    _check_mesh(mesh, file.name)
    writer = vtkPolyDataWriter()
    writer.SetFileName(out)
    writer.SetFileTypeToBinary()
    writer.SetInputData(mesh)
    if not writer.Write():
        raise OSError(f"{out} could not be written")


def _check_whole(file: Path) -> None:
    """InputError for an .stl or .ply file that is shorter than its header says; VTK would make half a mesh of it."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    expected = None
    if file.suffix.lower() == ".stl" and head.lstrip()[:5].lower() != b"solid":
        expected = 84 + 50 * int.from_bytes(head[80:84], "little")
    if expected is not None and size != expected:
        raise InputError(
            f"{file.name}: expected {expected} bytes, as its header says, got {size}. It is cut off or "
            "damaged: copy it again."
        )


def _check_mesh(mesh, name: str) -> None:
    """Raise InputError for points that are none, or cells of points that are not there."""
    from vtkmodules.util.numpy_support import vtk_to_numpy

    count = mesh.GetNumberOfPoints()
    if not count:
        raise InputError(f"{name}: expected a surface model with points; this has none, or is damaged.")
    within_reach(vtk_to_numpy(mesh.GetPoints().GetData()), name)
    for cells in (mesh.GetVerts(), mesh.GetLines(), mesh.GetPolys(), mesh.GetStrips()):
        ids = vtk_to_numpy(cells.GetConnectivityArray()) if cells.GetNumberOfCells() else np.zeros(0, dtype=int)
        ends = vtk_to_numpy(cells.GetOffsetsArray()) if cells.GetNumberOfCells() else np.zeros(1, dtype=int)
        bad_ids = len(ids) and (ids.min() < 0 or ids.max() >= count)
        if bad_ids or np.any(np.diff(ends) < 0) or (len(ends) and (ends[0] != 0 or ends[-1] != len(ids))):
            raise InputError(f"{name}: its cells name points that are not there. The model is damaged.")
    for data, tuples in ((mesh.GetPointData(), count), (mesh.GetCellData(), mesh.GetNumberOfCells())):
        for number in range(data.GetNumberOfArrays()):
            array = data.GetAbstractArray(number)
            if array is not None and array.GetNumberOfTuples() != tuples:
                raise InputError(
                    f"{name}: expected {tuples} values of {shown(array.GetName(), 40)}. The model is damaged."
                )


def _told_space(file: Path, mesh) -> str | None:
    """As 3D Slicer tells it: SPACE=LPS in the file's head, or a text of that name in a .vtp file's data."""
    array = mesh.GetFieldData().GetAbstractArray(_SPACE)
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
