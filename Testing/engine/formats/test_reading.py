"""What is read, what is asked for, and what is refused, in words."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg import formats
from carlreg.errors import GeometryError, InputError
from carlreg.io.itk_transform import affine_to_sitk
from support.geometry import points_at, rotation

from .geometry_cases import CENTER

FIELDS = ("nifti", "nrrd", "mha")
ENDING = {"nifti": ".nii.gz", "nrrd": ".nrrd", "mha": ".mha", "itk": ".h5"}


def sides(case) -> formats.Sides:
    return formats.Sides(grids=(case.fixed_grid, case.moving_grid))


def mapped(transform, case) -> np.ndarray:
    return np.array([transform.TransformPoint(point) for point in case.points.tolist()])


@pytest.mark.parametrize("each_case", ["LAS", "oblique"], indirect=True)
@pytest.mark.parametrize("to", [*FIELDS, "itk"])
def test_round_trips_at_full_resolution(each_case, tmp_path, to):
    """A step loses at most 0.001 mm: written on the voxels' own grid, read, written on it again, read."""
    case = each_case
    transform, expected = case.transform.to_sitk(), None
    for step in range(3):
        file = tmp_path / f"{step}{ENDING[to]}"
        formats.write(transform, file, to=to, sides=sides(case), like=case.fixed_grid, flatten_it=True)
        transform = formats.read(file, fixed=case.fixed_grid).transform
        found = mapped(transform, case)
        if expected is not None:
            assert np.linalg.norm(found - expected, axis=1).max() <= 1e-3
        expected = found
    index = np.random.default_rng(0).integers(1, np.array(case.fixed_grid.size_ijk) - 1, (40, 3))
    nodes = points_at(case.fixed_grid, index)
    last = np.array([transform.TransformPoint(point) for point in nodes.tolist()])
    assert np.linalg.norm(last - case.transform.apply(nodes), axis=1).max() <= 3e-3


def test_simpleitk_reads_our_nifti_by_itself(each_case, tmp_path):
    formats.write(each_case.transform.to_sitk(), tmp_path / "f.nii.gz", sides=sides(each_case))
    field = sitk.Cast(sitk.ReadImage(str(tmp_path / "f.nii.gz")), sitk.sitkVectorFloat64)
    found = mapped(sitk.DisplacementFieldTransform(field), each_case)
    assert np.linalg.norm(found - each_case.transform.apply(each_case.points), axis=1).max() <= 1e-3
    with gzip.open(tmp_path / "f.nii.gz") as stream:
        raw = stream.read(348)
    assert struct.unpack_from("<6h", raw, 40)[0] == 5 and struct.unpack_from("<h", raw, 68)[0] == 1006


@pytest.mark.parametrize("name", ["composite.h5", "flat.h5", "linear.tfm"])
def test_simpleitk_maps_points_and_images(each_case, tmp_path, name):
    linear = affine_to_sitk(each_case.transform.affine_lps)
    transform = linear if name == "linear.tfm" else each_case.transform.to_sitk()
    formats.write(transform, tmp_path / name, sides=sides(each_case), flatten_it=name == "flat.h5")
    read = sitk.ReadTransform(str(tmp_path / name))
    assert np.abs(mapped(read, each_case) - mapped(transform, each_case)).max() <= 1e-6
    images = [sitk.Resample(each_case.moving, each_case.fixed, t, sitk.sitkLinear, 0.0) for t in (read, transform)]
    a, b = (sitk.GetArrayFromImage(image).ravel() for image in images)
    assert np.corrcoef(a, b)[0, 1] >= 0.9999


def patched(source, target, **changes) -> None:
    """A copy of a .nii.gz with header fields changed: intent=..., vox_offset=..."""
    raw = bytearray(gzip.decompress(source.read_bytes()))
    for name, value in changes.items():
        kind, offset = {"intent": ("<h", 68), "magic": ("<i", 0)}[name]
        struct.pack_into(kind, raw, offset, value)
    target.write_bytes(gzip.compress(bytes(raw)))


def test_a_field_without_an_intent_is_asked_for(oblique, tmp_path):
    formats.write(oblique.transform.to_sitk(), tmp_path / "f.nii.gz", sides=sides(oblique))
    patched(tmp_path / "f.nii.gz", tmp_path / "none.nii.gz", intent=0)
    with pytest.raises(InputError, match=r"does not tell its convention; say it with --convention \(lps"):
        formats.read(tmp_path / "none.nii.gz")
    found = formats.read(tmp_path / "none.nii.gz", convention="ras").transform
    assert np.allclose(mapped(found, oblique), oblique.transform.apply(oblique.points), atol=1e-3)
    wrong = formats.read(tmp_path / "none.nii.gz", convention="lps").transform
    assert np.linalg.norm(mapped(wrong, oblique) - mapped(found, oblique), axis=1).min() > 1.0
    with pytest.raises(InputError, match="its intent, 1006, says RAS vectors; got --convention lps"):
        formats.read(tmp_path / "f.nii.gz", convention="lps")


def test_nrrd_without_a_space_is_asked_for(oblique, tmp_path):
    formats.write(oblique.transform.to_sitk(), tmp_path / "f.nrrd", sides=sides(oblique))
    head, data = (tmp_path / "f.nrrd").read_bytes().split(b"\n\n", 1)
    other = head.replace(b"space: left-posterior-superior", b"space: right-anterior-superior")
    assert other != head
    (tmp_path / "ras.nrrd").write_bytes(other + b"\n\n" + data)
    with pytest.raises(InputError, match="right-anterior-superior"):
        formats.read(tmp_path / "ras.nrrd")


@pytest.mark.parametrize("convention", ["lps", "ras"])
def test_plain_matrices_are_asked_for(oblique, tmp_path, convention):
    matrix = oblique.transform.affine_lps
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    np.savetxt(tmp_path / "m.txt", matrix if convention == "lps" else flip @ matrix @ flip)
    with pytest.raises(InputError, match="a matrix of plain numbers"):
        formats.read(tmp_path / "m.txt")
    found = formats.read(tmp_path / "m.txt", convention=convention).transform
    assert np.allclose(mapped(found, oblique), mapped(affine_to_sitk(matrix), oblique), atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("EulerTransform", [0.1, -0.2, 0.3, 4, 5, -6]),
        ("SimilarityTransform", [0.05, -0.1, 0.12, 4, 5, -6, 1.1]),
        ("AffineTransform", [1.1, 0.1, 0, -0.1, 0.9, 0.05, 0, 0.02, 1, 3, -4, 5]),
    ],
)
def test_elastix_linear_kinds(tmp_path, oblique, kind, parameters):
    """Against ITK's classes with the same parameters and center; elastix itself in test_from_tools.py."""
    row = " ".join(map(str, parameters))
    center = " ".join(map(str, CENTER))
    text = f'(Transform "{kind}")\n(NumberOfParameters {len(parameters)})\n(TransformParameters {row})\n'
    text += f'(CenterOfRotationPoint {center})\n(InitialTransformParametersFileName "NoInitialTransform")\n'
    (tmp_path / "t.txt").write_text(text)
    found = mapped(formats.read(tmp_path / "t.txt").transform, oblique)
    made = {
        "EulerTransform": sitk.Euler3DTransform,
        "SimilarityTransform": sitk.Similarity3DTransform,
        "AffineTransform": lambda: sitk.AffineTransform(3),
    }[kind]()
    made.SetFixedParameters([*CENTER, 0] if kind == "EulerTransform" else list(CENTER))
    made.SetParameters(parameters)
    assert np.allclose(found, mapped(made, oblique), atol=1e-9)


def test_elastix_chains_and_their_faults(tmp_path, oblique):
    formats.write(oblique.transform.to_sitk(), tmp_path / "t.txt", to="elastix", sides=sides(oblique))
    found = formats.read(tmp_path / "t.txt")
    assert np.allclose(mapped(found.transform, oblique), oblique.transform.apply(oblique.points), atol=1e-4)
    text = (tmp_path / "t.txt").read_text()
    (tmp_path / "add.txt").write_text(text.replace('"Compose"', '"Add"'))
    with pytest.raises(InputError, match=r'HowToCombineTransforms is "Add"'):
        formats.read(tmp_path / "add.txt")
    (tmp_path / "circle.txt").write_text(text.replace("t.field.txt", "circle.txt"))
    with pytest.raises(InputError, match="in a circle"):
        formats.read(tmp_path / "circle.txt")
    (tmp_path / "lost.txt").write_text(text.replace("t.field.txt", "gone.txt"))
    with pytest.raises(InputError, match=r"gone.txt, which is not there"):
        formats.read(tmp_path / "lost.txt")
    (tmp_path / "cut.txt").write_text(text[: text.index("CenterOfRotation")])
    with pytest.raises(InputError, match=r"cut.txt"):
        formats.read(tmp_path / "cut.txt")
    (tmp_path / "other.txt").write_text('(Transform "SplineKernelTransform")\n')
    with pytest.raises(InputError, match="SplineKernelTransform cannot be read"):
        formats.read(tmp_path / "other.txt")


def test_what_cannot_be_read_is_said(oblique, tmp_path):
    file = tmp_path / "f.nii.gz"
    formats.write(oblique.transform.to_sitk(), file, sides=sides(oblique))
    (tmp_path / "cut.nii.gz").write_bytes(file.read_bytes()[:9000])
    with pytest.raises(InputError, match="cut off or damaged"):
        formats.read(tmp_path / "cut.nii.gz")
    sitk.WriteImage(oblique.moving, str(tmp_path / "volume.nii.gz"))
    with pytest.raises(InputError, match=r"expected a displacement field .* got a volume of 35 x 31 x 29"):
        formats.read(tmp_path / "volume.nii.gz")
    sitk.WriteImage(oblique.moving, str(tmp_path / "volume.nrrd"))
    with pytest.raises(InputError, match="vectors with three components"):
        formats.read(tmp_path / "volume.nrrd")
    formats.write(oblique.transform.to_sitk(), tmp_path / "t.h5", sides=sides(oblique))
    (tmp_path / "cut.h5").write_bytes((tmp_path / "t.h5").read_bytes()[:5000])
    with pytest.raises(InputError, match="not one, or it is damaged"):
        formats.read(tmp_path / "cut.h5")
    np.savetxt(tmp_path / "flat.txt", np.diag([1.0, 1, 0, 1]))
    with pytest.raises(GeometryError, match="singular"):
        formats.read(tmp_path / "flat.txt", convention="lps")
    (tmp_path / "w.m3z").write_bytes(b"\0" * 100)
    with pytest.raises(InputError, match="mri_warp_convert"):
        formats.read(tmp_path / "w.m3z")
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(InputError, match=r"x.txt"):
        formats.read(tmp_path / "x.txt")
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
    array[3, 3, 3, 0] = np.nan
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=True), str(tmp_path / "nan.mha"))
    with pytest.raises(InputError, match="NaN"):
        formats.read(tmp_path / "nan.mha")


@pytest.mark.parametrize("to", FIELDS)
def test_a_field_of_another_frame_is_refused(oblique, tmp_path, to):
    formats.write(oblique.transform.to_sitk(), tmp_path / f"f{ENDING[to]}", sides=sides(oblique))
    grid = oblique.fixed_grid
    elsewhere = type(grid)(grid.size_ijk, grid.spacing, grid.origin_lps + 500, grid.direction)
    with pytest.raises(GeometryError, match="lie apart"):
        formats.read(tmp_path / f"f{ENDING[to]}", fixed=elsewhere)


def test_bsplines_and_composites_of_itk(oblique, tmp_path):
    spline = sitk.BSplineTransformInitializer(oblique.fixed, [5, 5, 5], 3)
    spline.SetParameters(np.random.default_rng(1).normal(0, 2, len(spline.GetParameters())).tolist())
    turn = sitk.AffineTransform(rotation((0, 1, 0), 10).ravel().tolist(), [1.0, 2, 3], CENTER.tolist())
    both = sitk.CompositeTransform([turn, spline])
    sitk.WriteTransform(both, str(tmp_path / "both.h5"))
    found = formats.read(tmp_path / "both.h5").transform
    assert np.array_equal(mapped(found, oblique), mapped(both, oblique))
    written = formats.write(both, tmp_path / "field.nii.gz", sides=sides(oblique))
    again = formats.read(tmp_path / "field.nii.gz").transform
    off = np.linalg.norm(mapped(again, oblique) - mapped(both, oblique), axis=1)
    # At the very faces, where the spline ends, the error told is larger; these points are inside.
    assert 0 < off.max() <= min(0.1, written.error_mm["max"])
