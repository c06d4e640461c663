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
from ..io.itk_transform import affine_from_sitk, check_affine
from ..spaces import VolumeGrid
from .content import Content
from .fields import field_transform

_LINE = re.compile(r"^\s*\(\s*(\w+)\s+(.*?)\s*\)\s*(?://.*)?$")
_VALUE = re.compile(r'"([^"]*)"|(\S+)')
_NO_INITIAL = ("", "NoInitialTransform")
_MOST_LINKS = 32


def is_parameter_file(head: bytes) -> bool:
    """Whether a file's first bytes are those of a transform parameter file."""
    return bool(re.search(rb'^\s*\(\s*Transform\s+"', head, re.MULTILINE))


def read_parameters(file: Path) -> tuple[sitk.CompositeTransform, list[Path]]:
    """The transform of a parameter file with all initial transforms it names, and the files that it is made of.

    Raises InputError for transforms that are not of rigid, similarity, affine, translation, B-spline or field kind.
    """
    parts: list[sitk.Transform] = []
    files: list[Path] = []
    while True:
        if file in files or len(files) >= _MOST_LINKS:
            raise InputError(f"{file.name}: its initial transforms name each other in a circle.")
        values = _parsed(file)
        files.append(file)
        parts.append(_transform(values, file, files))
        names = values.get("InitialTransformParameterFileName") or values.get("InitialTransformParametersFileName")
        initial = names[0] if names else "NoInitialTransform"
        if initial in _NO_INITIAL:
            break
        if values.get("HowToCombineTransforms", ["Compose"])[0] != "Compose":
            raise InputError(
                f'{file.name}: HowToCombineTransforms is "Add"; only "Compose", elastix\' default, can be read. Run '
                "transformix with -def all and give the displacement field."
            )
        file = _beside(file, initial)
    return sitk.CompositeTransform(parts), files


def _beside(file: Path, name: str) -> Path:
    """The file that a parameter file names: where it says, or beside the parameter file (results get moved)."""
    for place in (Path(name), file.parent / name, file.parent / Path(name.replace("\\", "/")).name):
        if place.is_file():
            return place
    raise InputError(f"{file.name}: it names the file {name}, which is not there. Put it beside {file.name}.")


def _parsed(file: Path) -> dict[str, list[str]]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file.name}: cannot be read as an elastix parameter file (text).") from error
    values = {}
    for line in text.splitlines():
        if line.strip() and not line.strip().startswith("//"):
            found = _LINE.match(line)
            if not found:
                raise InputError(f"{file.name}: expected lines like (Name value ...), got {line.strip()[:60]!r}.")
            values[found[1]] = [quoted or plain for quoted, plain in _VALUE.findall(found[2])]
    return values


def _transform(values: dict[str, list[str]], file: Path, files: list[Path]) -> sitk.Transform:
    def numbers(name: str, count: int | None = None) -> list[float]:
        try:
            found = [float(value) for value in values[name]]
        except (KeyError, ValueError):
            found = []
        if not found or (count is not None and len(found) != count) or not np.isfinite(found).all():
            expected = f"{count} numbers" if count else "numbers"
            raise InputError(f"{file.name}: expected {expected} for {name}; the file is cut off or damaged.")
        return found

    kind = values.get("Transform", [""])[0]
    if values.get("FixedImageDimension", ["3"])[0] != "3":
        raise InputError(f"{file.name}: expected a 3-D transform, got {values['FixedImageDimension'][0]}-D.")
    if values.get("UseBinaryFormatForTransformationParameters", ["false"])[0] == "true":
        raise InputError(f"{file.name}: its parameters are in a binary file; run elastix with that option off.")
    if kind in ("DeformationFieldTransform", "DisplacementFieldTransform"):
        name = values.get("DeformationFieldFileName", values.get("DisplacementFieldFileName", [""]))[0]
        path = _beside(file, name)
        files.append(path)
        try:
            return field_transform(sitk.ReadImage(str(path)))
        except RuntimeError as error:
            raise InputError(f"{file.name}: the field {path.name} cannot be read as a vector image.") from error
    if kind == "TranslationTransform":
        return sitk.TranslationTransform(3, numbers("TransformParameters", 3))
    if kind in ("EulerTransform", "SimilarityTransform", "AffineTransform"):
        made = _linear(kind, numbers, z_first=values.get("ComputeZYX", ["false"])[0] == "true")
        try:
            check_affine(affine_from_sitk(made))
        except GeometryError as error:
            raise GeometryError(f"{file.name}: {error}") from error
        return made
    if kind in ("BSplineTransform", "RecursiveBSplineTransform", "BSplineTransformWithDiffusion"):
        return _bspline(values, numbers, file)
    raise InputError(
        f"{file.name}: the elastix transform {kind or 'without a name'} cannot be read. Run transformix with -def all "
        "and give the displacement field, with --convention lps."
    )


def _linear(kind: str, numbers: Callable[[str, int], list[float]], z_first: bool) -> sitk.Transform:
    """z_first: Euler angles are applied in the order z, y, x instead of ITK's own."""
    center = numbers("CenterOfRotationPoint", 3)
    if kind == "AffineTransform":
        parameters = numbers("TransformParameters", 12)
        return sitk.AffineTransform(parameters[:9], parameters[9:], center)
    if kind == "EulerTransform":
        parameters = numbers("TransformParameters", 6)
        euler = sitk.Euler3DTransform(center, *parameters[:3], parameters[3:])
        euler.SetComputeZYX(z_first)
        return euler
    similarity = sitk.Similarity3DTransform()
    similarity.SetCenter(center)
    similarity.SetParameters(numbers("TransformParameters", 7))
    return similarity


def _bspline(values: dict, numbers, file: Path) -> sitk.Transform:
    i, j, k = (int(n) for n in numbers("GridSize", 3))
    spacing = np.array(numbers("GridSpacing", 3))
    direction = np.array(numbers("GridDirection", 9)).reshape(3, 3).T  # column after column in the file
    index = np.array(numbers("GridIndex", 3)) if "GridIndex" in values else np.zeros(3)
    origin = np.array(numbers("GridOrigin", 3)) + direction @ (spacing * index)
    order = int(numbers("BSplineTransformSplineOrder", 1)[0]) if "BSplineTransformSplineOrder" in values else 3
    if values.get("UseCyclicTransform", ["false"])[0] == "true":
        raise InputError(f"{file.name}: a cyclic B-spline cannot be read.")
    parameters = np.array(numbers("TransformParameters", 3 * i * j * k)).reshape(3, k, j, i)
    try:
        grid = VolumeGrid((i, j, k), spacing, origin, direction)
    except GeometryError as error:
        raise GeometryError(f"{file.name}: {error}") from error
    return sitk.BSplineTransform([grid.image(component) for component in parameters], order)


def write_parameters(content: Content, place, name: str) -> None:
    """A parameter file of what there is: an affine, a field, or an affine after the field in a file beside it."""
    grid = content.sides.grids[0] or content.grid
    if grid is None:
        raise InputError("A transformix parameter file names the output's grid: name the fixed volume (--fixed).")
    first = None
    if content.has_field:
        alone = content.affine_is_identity
        field_name = f"{content.name}.field.mha"
        sitk.WriteImage(content.taken_field(np.float32), str(place(field_name)), useCompression=True)
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
