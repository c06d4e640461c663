"""ITK's transform files (.tfm, .txt, .mat, .h5) as what they say: kinds and numbers, before ITK makes anything of them.

ITK's readers trust a file: too few numbers are filled up with what lies in memory, none at all end the process.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..text_files import read_bytes, read_text, shown
from . import hdf5
from .being_read import AS_TRANSFORM, being_read
from .guarded import guarded
from .numbers import numbers_of

_TITLE = "#Insight Transform File"
_NAME = re.compile(r"([A-Za-z0-9]{1,100}?)_(double|float)_([0-9]{1,2})_([0-9]{1,2})((?:_[A-Za-z0-9]{1,20}){0,3})")
_MOST_TEXT, _MOST_MATLAB = 512 * 2**20, 16 * 2**20
_MOST_PARTS = 10_000
_SMALL = 1000  # numbers that are read at once
_MATLAB_NAME = 256


@dataclass(frozen=True, eq=False)
class Record:
    """One transform of a file: kind ("AffineTransform"), order of a spline, its parameters and its fixed ones.

    count: of the parameters; `parameters` reads them (large in fields). fixed: None where the file names none.
    """

    kind: str
    order: int
    count: int
    parameters: Callable[[], np.ndarray]
    fixed: np.ndarray | None


def read_records(file: Path, label: str) -> list[Record]:
    """What is in a transform file, in its order. Raises InputError: another file, a damaged one, not 3-D."""
    with being_read(label, AS_TRANSFORM):
        return _read_records(file, label)


def _read_records(file: Path, label: str) -> list[Record]:
    with file.open("rb") as stream:
        head = stream.read(4096)
    try:
        if head.startswith(hdf5.SIGNATURE):
            return _from_hdf5(file, label)
        if head.lstrip().startswith(_TITLE.encode()) or head.startswith(b"\xef\xbb\xbf#Insight"):
            return _from_text(file, label)
        if _is_matlab(head):
            return _from_matlab(file, label)
    except hdf5.Damaged as error:
        raise _no_transform(label, str(error)) from error
    raise _no_transform(label)


def _no_transform(label: str, why: str = "") -> InputError:
    reason = f" ({why})" if why else ""
    return InputError(
        f"{label}: expected an ITK transform (.h5, .tfm, .txt or .mat), as 3D Slicer, ANTs and SimpleITK write it; "
        f"this is not one, or it is damaged{reason}."
    )


def _record(name: str, parameters: np.ndarray | None, fixed: np.ndarray | None, label: str) -> Record:
    values = np.zeros(0) if parameters is None else parameters
    kind, order = _kind(name, label)
    return Record(kind, order, len(values), lambda: values, fixed)


def _kind(name: str, label: str) -> tuple[str, int]:
    """The kind in a name such as BSplineTransform_double_3_3_2, and its last number. Raises InputError."""
    found = _NAME.fullmatch(name.strip())
    if not found:
        raise _no_transform(label, f"{shown(name, 60)} is no kind of transform")
    kind, _, from_axes, to_axes, rest = found.groups()
    if (from_axes, to_axes) != ("3", "3"):
        axes = from_axes if from_axes == to_axes else f"{from_axes}-D to {to_axes}"
        raise InputError(f"{label}: expected a 3-D transform, got a {axes}-D one.")
    order = rest.split("_")[-1]
    return kind, int(order) if order.isdigit() and len(order) < 3 else 3


def _from_text(file: Path, label: str) -> list[Record]:
    text = read_text(file, label, "an ITK transform", _MOST_TEXT)
    parts: list[dict[str, str]] = []
    for line in text.splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        key, colon, value = line.partition(":")
        key = key.strip()
        if key == "Transform":
            parts.append({})
        if not colon or not parts or key not in ("Transform", "Parameters", "FixedParameters") or key in parts[-1]:
            raise _no_transform(label, f"{shown(line, 60)} is not expected there")
        parts[-1][key] = value.strip()
        if len(parts) > _MOST_PARTS:
            raise InputError(f"{label}: expected at most {_MOST_PARTS} transforms in a file; it has more.")
    numbers = [
        {key: numbers_of(value.split(), label) for key, value in part.items() if key != "Transform"} for part in parts
    ]
    return [
        _record(part["Transform"], found.get("Parameters"), found.get("FixedParameters"), label)
        for part, found in zip(parts, numbers, strict=True)
    ]


def _is_matlab(head: bytes) -> bool:
    """Whether a file begins as MATLAB's version 4 files do: a matrix whose name is a transform's."""
    if len(head) < 20:
        return False
    for order in "<>":
        *_, length = struct.unpack_from(f"{order}5i", head)
        if 0 < length <= _MATLAB_NAME and b"_" in head[20 : 20 + length] and b"Transform" in head[20 : 20 + length]:
            return True
    return False


def _from_matlab(file: Path, label: str) -> list[Record]:
    """MATLAB's version 4: matrices, each with a header of five numbers and its name; the second is called fixed."""
    content, at = read_bytes(file, label, _MOST_MATLAB), 0
    matrices: list[tuple[str, np.ndarray]] = []
    while at < len(content):
        header = content[at : at + 20]
        order = next((o for o in "<>" if len(header) == 20 and _sound(struct.unpack(f"{o}5i", header))), None)
        if order is None or len(matrices) > _MOST_PARTS:
            raise _no_transform(label, "one of its matrices is damaged")
        code, rows, columns, _, length = struct.unpack(f"{order}5i", header)
        dtype = np.dtype(f"{order}f{4 if code % 100 // 10 == 1 else 8}")
        start, size = at + 20 + length, rows * columns * dtype.itemsize
        values = content[start : start + size]
        if len(values) < size:
            raise _no_transform(label, "it ends too early")
        name = content[at + 20 : start].split(b"\0")[0].decode("latin-1")
        matrices.append((name, np.frombuffer(values, dtype).astype(np.float64)))
        at = start + size
    records: list[Record] = []
    for number, (name, values) in enumerate(matrices):
        if name != "fixed":
            following = matrices[number + 1] if number + 1 < len(matrices) else ("", values)
            records.append(_record(name, values, following[1] if following[0] == "fixed" else None, label))
        elif number == 0 or matrices[number - 1][0] == "fixed":
            raise _no_transform(label, "its matrices are in another order")
    return records


def _sound(header: tuple[int, ...]) -> bool:
    code, rows, columns, imaginary, length = header
    # Thousands: byte order; tens: 0 for double, 1 for single precision; hundreds: the library that ITK writes with.
    known = code in {big + row + kind for big in (0, 1000) for row in (0, 100) for kind in (0, 10)}
    return known and 0 <= rows <= 2**24 and 0 <= columns <= 2**24 and imaginary == 0 and 0 < length <= _MATLAB_NAME


def _from_hdf5(file: Path, label: str) -> list[Record]:
    try:
        with file.open("rb") as stream:
            return _hdf5_records(hdf5.open_file(file, stream), file, label)
    except (struct.error, IndexError, RecursionError, OverflowError) as error:
        raise _no_transform(label) from error
    except hdf5.UnknownLayout:
        return [_record(*found, label) for found in _asked_itk(file, label)]


def _hdf5_records(opened: hdf5.Hdf5File, file: Path, label: str) -> list[Record]:
    top = opened.members(opened.root)
    if "TransformGroup" not in top:
        raise _no_transform(label, "it holds no TransformGroup")
    group = opened.members(top["TransformGroup"])
    if len(group) > _MOST_PARTS:
        raise InputError(f"{label}: expected at most {_MOST_PARTS} transforms in a file, got {len(group)}.")
    if sorted(group) != sorted(str(number) for number in range(len(group))):
        raise _no_transform(label, "its transforms are not numbered 0, 1, 2 ...")
    records = []
    for number in range(len(group)):
        inside = opened.members(group[str(number)])
        arrays = {}
        for name in ("Transform", "Tranform"):  # early versions of ITK wrote the second
            for key in ("FixedParameters", "Parameters"):
                if name + key in inside:
                    arrays.setdefault(key, opened.dataset(inside[name + key]))
        if "TransformType" not in inside:
            raise _no_transform(label, "a transform has no kind")
        kind, order = _kind(opened.dataset(inside["TransformType"]).text(), label)
        fixed = arrays.get("FixedParameters")
        if fixed is not None and fixed.count > _SMALL:
            raise _no_transform(label, "a transform has too many fixed parameters")
        data = arrays.get("Parameters")
        count = 0 if data is None else data.count
        if data is None or count <= _SMALL:
            read = _constant(np.zeros(0) if data is None else data.numbers())
        else:
            read = _later(file, number, data, label)
        records.append(Record(kind, order, count, read, None if fixed is None else fixed.numbers()))
    return records


def _constant(values: np.ndarray) -> Callable[[], np.ndarray]:
    return lambda: values


def _later(file: Path, number: int, data: hdf5.Dataset, label: str) -> Callable[[], np.ndarray]:
    """What reads a large array once its numbers are wanted; the file is opened anew."""

    def read() -> np.ndarray:
        try:
            with file.open("rb") as stream:
                opened = hdf5.open_file(file, stream)
                return replace(data, file=opened).numbers()
        except hdf5.UnknownLayout:
            return _asked_itk(file, label)[number][1]
        except (hdf5.Damaged, struct.error, IndexError, OverflowError) as error:
            raise _no_transform(label, str(error)) from error

    return read


def _asked_itk(file: Path, label: str) -> list[tuple[str, np.ndarray, np.ndarray]]:
    return guarded("carlreg.io.itk_file:records_by_itk", str(file.resolve()), name=label, save_as=AS_TRANSFORM)


def records_by_itk(path: str) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(kind, parameters, fixed parameters) of each transform in a file, as ITK reads it; in a process of its own."""
    import SimpleITK as sitk

    def parts(transform: sitk.Transform) -> list[tuple[str, np.ndarray, np.ndarray]]:
        name = f"{transform.GetName()}_double_{transform.GetDimension()}_{transform.GetDimension()}"
        if transform.GetName() == "CompositeTransform":
            joined = sitk.CompositeTransform(transform)
            inner = [joined.GetNthTransform(n) for n in range(joined.GetNumberOfTransforms())]
            return [(name, np.zeros(0), np.zeros(0)), *(found for part in inner for found in parts(part))]
        return [(name, np.array(transform.GetParameters()), np.array(transform.GetFixedParameters()))]

    try:
        return parts(sitk.ReadTransform(path))
    except RuntimeError as error:
        raise InputError(f"{Path(path).name}: expected an ITK transform; it is none, or damaged.") from error
