"""elastix' and transformix' parameter files: read as ITK transforms, and written.

Points go fixed to moving in LPS mm, as in ITK. A file may name an initial transform, which acts first ("Compose").
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import GeometryError, InputError
from ..io.itk_file import Record
from ..io.itk_kinds import LINEAR_KINDS
from ..io.itk_transform import affine_to_sitk, check_affine, sampled_transform
from ..io.numbers import numbers_of, within_reach
from ..io.writing import write_image
from ..spaces import VolumeGrid
from ..text_files import cut, is_file, read_text, shown
from ..volumes.memory import require_memory
from .content import Content
from .fields import checked_field

_WORD = re.compile(r'"([^"]*)"|([^\s"()]+)|(\S)')  # no choice at any letter, so that its time is the line's length
_INITIAL_NAMES = ("InitialTransformParameterFileName", "InitialTransformParametersFileName")
_NO_INITIAL = ("", "NoInitialTransform")
_MOST_LINKS = 32
_MOST_BYTES = 512 * 2**20
_KINDS = {"EulerTransform": "Euler3DTransform", "SimilarityTransform": "Similarity3DTransform"}
_SPLINES = ("BSplineTransform", "RecursiveBSplineTransform", "BSplineTransformWithDiffusion")
_FIELDS = ("DeformationFieldTransform", "DisplacementFieldTransform")


def is_parameter_file(head: bytes) -> bool:
    """Whether a file's first bytes are those of a transform parameter file: a line (Transform "...")."""
    for line in head.splitlines():
        inside = line.strip().removeprefix(b"(").lstrip() if line.lstrip().startswith(b"(") else b""
        if inside.startswith(b"Transform") and inside.removeprefix(b"Transform").lstrip().startswith(b'"'):
            return inside[9:10].isspace()
    return False


def read_parameters(
    file: Path, label: str, read_field: Callable[[Path, str], sitk.Image]
) -> tuple[sitk.CompositeTransform, list[Path]]:
    """The transform of a parameter file with all initial transforms it names, and the files that it is made of.

    label: names the file in messages. read_field: how an image of vectors is read, given its path and its label.
    Raises InputError for transforms that are not of rigid, similarity, affine, translation, B-spline or field kind.
    """
    parts: list[sitk.Transform] = []
    files: list[Path] = []
    while True:
        if file in files or len(files) >= _MOST_LINKS:
            raise InputError(
                f"{label}: its initial transforms name each other in a circle, or are more than {_MOST_LINKS}."
            )
        values = _parsed(file)
        files.append(file)
        parts.append(_transform(values, file, files, read_field))
        initial = next(
            (found for name in _INITIAL_NAMES if (found := _first(values, name, file))),
            _NO_INITIAL[0],
        )
        if initial in _NO_INITIAL:
            break
        how = _first(values, "HowToCombineTransforms", file, "Compose")
        if how != "Compose":
            raise InputError(
                f'{file.name}: HowToCombineTransforms is "{how[:40]}"; only "Compose", elastix\' default, can be read. '
                "Run transformix with -def all and give the displacement field."
            )
        file = _beside(file, initial)
    return sitk.CompositeTransform(parts), files


def _first(values: dict[str, list[str]], name: str, file: Path, default: str = "") -> str:
    """The first value of a name; the default where the name is not there. Raises InputError for one without a value."""
    if values.get(name) == []:
        raise InputError(f"{file.name}: expected a value for {name}, got none; the file is damaged.")
    return values[name][0] if name in values else default


def _beside(file: Path, name: str) -> Path:
    """The file that a parameter file names: where it says, or beside the parameter file (results get moved)."""
    for place in (Path(name), file.parent / name, file.parent / Path(name.replace("\\", "/")).name):
        if name and is_file(place):
            return place
    raise InputError(f"{file.name}: it names the file {cut(name)}, which is not there. Put it beside {file.name}.")


def _parsed(file: Path) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for line in read_text(file, file.name, "an elastix parameter file", _MOST_BYTES).splitlines():
        line = line.strip()
        if not line or line.startswith("//"):
            continue
        name, *words = _words(line, file)
        if name in values:
            raise InputError(f"{file.name}: expected each name once; {cut(name)} is there twice.")
        values[name] = words
    return values


def _words(line: str, file: Path) -> list[str]:
    """The name and the values of a line (Name value "value" ...), after which a comment may stand."""
    before, _, after = line.rpartition(")")
    if line.startswith("(") and '"' not in line and not after:  # the rows of numbers, which may be very long
        words = before[1:].split()
        if words and words[0].isidentifier() and "(" not in before[1:] and ")" not in before:
            return words
    words, ended = [], False
    for found in _WORD.finditer(line, 1):
        if ended:
            if line.startswith("//", found.start()):
                break
            words = []
            break
        if found[3] == ")":
            ended = True
        elif found[3]:
            words = []
            break
        else:
            words.append(found[1] if found[2] is None else found[2])
    if not line.startswith("(") or not ended or not words or not words[0].isidentifier():
        raise InputError(f"{file.name}: expected lines like (Name value ...), got {shown(line, 60)}.")
    return words


def _transform(values: dict[str, list[str]], file: Path, files: list[Path], read_field) -> sitk.Transform:
    def numbers(name: str, count: int | None = None) -> np.ndarray:
        found = numbers_of(values.get(name, ()), f"{file.name}: {name}")
        if not len(found) or (count is not None and len(found) != count):
            expected = f"{count} numbers" if count else "numbers"
            raise InputError(
                f"{file.name}: expected {expected} for {name}, got {len(found)}; the file is cut off or damaged."
            )
        return within_reach(found, f"{file.name}: {name}")

    kind = _first(values, "Transform", file)
    dimension = _first(values, "FixedImageDimension", file, "3")
    if dimension != "3":
        raise InputError(f"{file.name}: expected a 3-D transform, got FixedImageDimension {shown(dimension, 20)}.")
    if _first(values, "UseBinaryFormatForTransformationParameters", file, "false") == "true":
        raise InputError(f"{file.name}: its parameters are in a binary file; run elastix with that option off.")
    if kind in _FIELDS:
        path = _beside(
            file, _first(values, "DeformationFieldFileName", file) or _first(values, "DisplacementFieldFileName", file)
        )
        files.append(path)
        image = read_field(path, f"{file.name}: the field {path.name}")
        return checked_field(sitk.GetArrayFromImage(image), VolumeGrid.of(image), f"{file.name}: the field {path.name}")
    if kind == "TranslationTransform":
        return sitk.TranslationTransform(3, numbers("TransformParameters", 3).tolist())
    if kind in ("EulerTransform", "SimilarityTransform", "AffineTransform"):
        return _linear(kind, numbers, file.name, z_first=_first(values, "ComputeZYX", file, "false") == "true")
    if kind in _SPLINES:
        return _bspline(values, numbers, file)
    raise InputError(
        f"{file.name}: the elastix transform {cut(kind) or 'without a name'} cannot be read. Run "
        "transformix with -def all and give the displacement field, with --convention lps."
    )


def _linear(kind: str, numbers: Callable[..., np.ndarray], label: str, z_first: bool) -> sitk.Transform:
    """z_first: Euler angles are applied in the order z, y, x instead of ITK's own."""
    known = LINEAR_KINDS[_KINDS.get(kind, kind)]
    fixed = np.append(numbers("CenterOfRotationPoint", 3), float(z_first))
    try:
        return affine_to_sitk(check_affine(known.matrix(numbers("TransformParameters", known.parameters), fixed)))
    except GeometryError as error:
        raise GeometryError(f"{label}: {error}") from error
    except InputError as error:
        raise error if str(error).startswith(label) else InputError(f"{label}: {error}.") from error


def _bspline(values: dict, numbers: Callable[..., np.ndarray], file: Path) -> sitk.Transform:
    size, spacing = numbers("GridSize", 3), numbers("GridSpacing", 3)
    direction = numbers("GridDirection", 9).reshape(3, 3).T  # column after column in the file
    index = numbers("GridIndex", 3) if "GridIndex" in values else np.zeros(3)
    origin = numbers("GridOrigin", 3) + direction @ (spacing * index)
    order = numbers("BSplineTransformSplineOrder", 1)[0] if "BSplineTransformSplineOrder" in values else 3.0
    if order not in (1.0, 2.0, 3.0):
        raise InputError(f"{file.name}: expected a B-spline of the order 1, 2 or 3, got {order:g}.")
    if _first(values, "UseCyclicTransform", file, "false") == "true":
        raise InputError(f"{file.name}: a cyclic B-spline cannot be read.")
    coefficients = numbers("TransformParameters")
    fixed = np.concatenate([size, origin, spacing, direction.ravel()])
    record = Record("BSplineTransform", int(order), len(coefficients), lambda: coefficients, fixed)
    return sampled_transform(record, fixed, file.name, require_memory)


def write_parameters(content: Content, place, name: str) -> None:
    """A parameter file of what there is: an affine, a field, or an affine after the field in a file beside it."""
    grid = content.sides.grids[0] or content.grid
    if grid is None:
        raise InputError("A transformix parameter file names the output's grid: name the fixed volume (--fixed).")
    first = None
    if content.has_field:
        alone = content.affine_is_identity
        field_name = f"{content.name}.field.mha"
        write_image(content.taken_field(np.float32), place(field_name))
        first = name if alone else f"{content.name}.field.txt"
        lines = _field_lines(field_name)
        place(first).write_text(_parameter_text(lines, grid, None), encoding="utf-8")
        if alone:
            return
    lines = _affine_lines(content.affine_lps)
    place(name).write_text(_parameter_text(lines, grid, first), encoding="utf-8")


def _parameter_text(transform_lines: list[str], grid: VolumeGrid, initial: str | None) -> str:
    """A parameter file: the given lines, and the output grid that transformix resamples on."""

    def row(values) -> str:
        return " ".join(repr(float(value)) for value in values)

    lines = [
        *transform_lines,
        f'(InitialTransformParameterFileName "{initial or "NoInitialTransform"}")',
        f'(InitialTransformParametersFileName "{initial or "NoInitialTransform"}")',
        '(HowToCombineTransforms "Compose")',
        "(FixedImageDimension 3)",
        "(MovingImageDimension 3)",
        '(FixedInternalImagePixelType "float")',
        '(MovingInternalImagePixelType "float")',
        f"(Size {' '.join(str(n) for n in grid.size_ijk)})",
        "(Index 0 0 0)",
        f"(Spacing {row(grid.spacing)})",
        f"(Origin {row(grid.origin_lps)})",
        f"(Direction {row(grid.direction.T.ravel())})",
        '(UseDirectionCosines "true")',
        '(ResampleInterpolator "FinalLinearInterpolator")',
        '(Resampler "DefaultResampler")',
        "(DefaultPixelValue 0)",
        '(ResultImageFormat "nii.gz")',
        '(ResultImagePixelType "float")',
        '(CompressResultImage "true")',
    ]
    return "\n".join(lines) + "\n"


def _field_lines(file_name: str) -> list[str]:
    """The lines of a displacement field that another file holds."""
    return [
        '(Transform "DeformationFieldTransform")',
        "(NumberOfParameters 0)",
        f'(DeformationFieldFileName "{file_name}")',
        "(DeformationFieldInterpolationOrder 1)",
    ]


def _affine_lines(affine_lps: np.ndarray) -> list[str]:
    """The lines of an affine, y = A x + t, about the origin."""
    numbers = [*affine_lps[:3, :3].ravel(), *affine_lps[:3, 3]]
    return [
        '(Transform "AffineTransform")',
        "(NumberOfParameters 12)",
        f"(TransformParameters {' '.join(repr(float(value)) for value in numbers)})",
        "(CenterOfRotationPoint 0.0 0.0 0.0)",
    ]
