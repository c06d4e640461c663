"""ITK's transform files: every kind against ITK itself, and what a damaged file may not do."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.errors import GeometryError, InputError
from carlreg.io.itk_kinds import LINEAR_KINDS
from carlreg.io.itk_transform import read_transform

HEAD = "#Insight Transform File V1.0\n#Transform 0\n"
POINT = (10.0, -20.0, 30.0)
# ITK's factory does not make it; the three below it makes, but SimpleITK has no class for them.
WITHOUT_ORACLE = ("Rigid3DTransform",)


def row(values) -> str:
    return " ".join(repr(float(value)) for value in np.ravel(values))


def text_of(kind: str, parameters, fixed=None, *, precision: str = "double", number: int = 0) -> str:
    lines = [f"#Transform {number}", f"Transform: {kind}_{precision}_3_3", f"Parameters: {row(parameters)}"]
    if fixed is not None:
        lines.append(f"FixedParameters: {row(fixed)}")
    return "\n".join(lines) + "\n"


def in_composite(*parts: str) -> str:
    joined = "#Transform 0\nTransform: CompositeTransform_double_3_3\n"
    return "#Insight Transform File V1.0\n" + joined + "".join(parts)


def written(path, text: str):
    path.write_text(text)
    return path


def numbers_for(kind: str, rng) -> tuple[np.ndarray, np.ndarray]:
    known = LINEAR_KINDS[kind]
    parameters, fixed = rng.normal(0, 0.2, known.parameters), rng.normal(0, 20, known.fixed[-1])
    if kind == "QuaternionRigidTransform":
        parameters[:4] /= np.linalg.norm(parameters[:4])
    if kind in ("ScaleTransform", "Similarity3DTransform"):
        parameters[-1] += 1
    if len(fixed) == 4:
        fixed[3] = 1
    return parameters, fixed


def by_itk(path, point) -> np.ndarray:
    """ITK's own map: inside a composite it works for kinds that SimpleITK has no class for, too."""
    return np.array(sitk.Transform.TransformPoint(sitk.ReadTransform(str(path)), point))


@pytest.mark.parametrize("precision", ["double", "float"])
@pytest.mark.parametrize("kind", [kind for kind in LINEAR_KINDS if kind not in WITHOUT_ORACLE])
def test_each_linear_kind_is_itks(tmp_path, kind, precision):
    parameters, fixed = numbers_for(kind, np.random.default_rng(len(kind)))
    path = written(tmp_path / "t.tfm", in_composite(text_of(kind, parameters, fixed, precision=precision, number=1)))
    found = read_transform(path).TransformPoint(POINT)
    np.testing.assert_allclose(found, by_itk(path, POINT), atol=1e-9 if precision == "double" else 1e-4)


def test_a_rigid_transform_is_its_matrix_about_its_center(tmp_path):
    turn, center, shift = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.array([5.0, 6, 7]), np.array([1.0, 2, 3])
    path = written(tmp_path / "t.tfm", HEAD + text_of("Rigid3DTransform", [*turn.ravel(), *shift], center))
    expected = turn @ (np.array(POINT) - center) + center + shift
    np.testing.assert_allclose(read_transform(path).TransformPoint(POINT), expected, atol=1e-12)
    scaled = written(tmp_path / "s.tfm", HEAD + text_of("Rigid3DTransform", [*(2 * turn).ravel(), *shift], center))
    with pytest.raises(InputError, match="expected a matrix of a rotation"):
        read_transform(scaled)


@pytest.mark.parametrize("kind", LINEAR_KINDS)
@pytest.mark.parametrize("change", [-1, 1])
def test_too_few_and_too_many_numbers_are_refused(tmp_path, kind, change):
    parameters, fixed = numbers_for(kind, np.random.default_rng(0))
    wrong = parameters[:change] if change < 0 else [*parameters, 0.0]
    if kind == "IdentityTransform" and change < 0:
        wrong = [0.0]
    with pytest.raises(InputError, match=f"expected {len(parameters)} parameters of a {kind}"):
        read_transform(written(tmp_path / "t.tfm", HEAD + text_of(kind, wrong, fixed)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (text_of("Euler3DTransform", [0] * 6, [0] * 3).replace("0.0", "nan", 1), "finite numbers, got 'nan'"),
        (text_of("Euler3DTransform", [0] * 6, [0] * 3).replace("0.0", "1e999", 1), "finite numbers"),
        (text_of("Euler3DTransform", [0] * 6, [0] * 3).replace("0.0", "1_0", 1), "finite numbers, got '1_0'"),
        (text_of("TranslationTransform", [1e9, 0, 0], []), "up to ten kilometers"),
        (text_of("VersorTransform", [1, 1, 1], [0] * 3), "a versor"),
        (text_of("QuaternionRigidTransform", [1, 1, 1, 1, 0, 0, 0], [0] * 3), "a quaternion of length 1"),
        ("Transform: DisplacementFieldTransform_double_3_3\n", "18 fixed parameters of a displacement field, got 0"),
        ("Transform: CompositeTransform_double_3_3\n", "a composite of none"),
        (
            "Transform: TimeVaryingVelocityFieldTransform_double_3_3\n",
            "VelocityFieldTransform, which cannot",
        ),
        ("Transform: InverseAffineTransform_double_3_3\n", "leads the other way"),
        ("Transform: Euler2DTransform_double_2_2\n", "expected a 3-D transform, got a 2-D one"),
        ("Transform: Rigid3DPerspectiveTransform_double_3_2\n", "3-D to 2-D"),
        ("Parameters: 1 2 3\n", "is not expected there"),
        ("Transform: 3\n", "is no kind of transform"),
        (text_of("AffineTransform", [0] * 12, [0] * 3), "a singular one"),
        (2 * text_of("TranslationTransform", [1, 2, 3], []), "holds 2 transforms"),
    ],
)
def test_what_no_file_can_mean_is_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        read_transform(written(tmp_path / "t.tfm", "#Insight Transform File V1.0\n" + text))
    assert len(str(caught.value)) < 400


def field_file(path, array, size=(4, 3, 5)) -> str:
    image = sitk.GetImageFromArray(array, isVector=True)
    image.SetSpacing((2, 3, 4))
    image.SetOrigin((1, 2, 3))
    assert image.GetSize() == size
    sitk.WriteTransform(sitk.DisplacementFieldTransform(image), str(path))
    return path


def random_field(rng) -> np.ndarray:
    return rng.normal(0, 3, (5, 3, 4, 3))


@pytest.mark.parametrize("ending", [".tfm", ".h5"])
def test_fields_and_splines_are_itks(tmp_path, ending):
    rng = np.random.default_rng(1)
    field = field_file(tmp_path / f"f{ending}", random_field(rng))
    spline = sitk.BSplineTransformInitializer(sitk.Image(20, 20, 20, sitk.sitkUInt8), (4, 5, 6), 2)
    spline.SetParameters(rng.normal(0, 2, len(spline.GetParameters())).tolist())
    sitk.WriteTransform(spline, str(tmp_path / f"s{ending}"))
    joined = sitk.CompositeTransform([sitk.TranslationTransform(3, (1, 2, 3)), spline])
    joined.AddTransform(sitk.ReadTransform(str(field)))
    sitk.WriteTransform(joined, str(tmp_path / f"c{ending}"))
    for name in "fsc":
        path = tmp_path / f"{name}{ending}"
        for point in ((3.0, 4.0, 9.0), (5.5, 6.5, 12.0), (2.2, 7.1, 5.3)):
            np.testing.assert_allclose(read_transform(path).TransformPoint(point), by_itk(path, point), atol=1e-6)


@pytest.mark.parametrize("ending", [".tfm", ".h5"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e12])
def test_fields_that_lead_nowhere_are_refused(tmp_path, ending, bad):
    array = random_field(np.random.default_rng(2))
    array[1, 1, 1, 0] = bad
    with pytest.raises(InputError, match="finite numbers"):
        read_transform(field_file(tmp_path / f"f{ending}", array))


def test_a_field_of_another_size_than_it_says_is_refused(tmp_path):
    path = field_file(tmp_path / "f.tfm", random_field(np.random.default_rng(3)))
    text = path.read_text()
    for size, message in (("4 3 6", "expected 216 parameters"), ("-4 -3 5", "a grid of"), ("4.5 3 5", "a grid of")):
        changed = text.replace("FixedParameters: 4 3 5", f"FixedParameters: {size}")
        assert changed != text
        with pytest.raises(InputError, match=message):
            read_transform(written(tmp_path / "g.tfm", changed))
    changed = text.replace("FixedParameters: 4 3 5 1 2 3 2 3 4", "FixedParameters: 4 3 5 1 2 3 0 3 4")
    with pytest.raises(GeometryError, match="positive voxel spacing"):
        read_transform(written(tmp_path / "g.tfm", changed))


def test_a_large_compressed_field_is_read_whole(tmp_path):
    rng = np.random.default_rng(4)
    array = rng.normal(0, 3, (20, 30, 40, 3))
    image = sitk.GetImageFromArray(array, isVector=True)
    sitk.WriteTransform(sitk.DisplacementFieldTransform(image), str(tmp_path / "f.h5"))
    found = sitk.DisplacementFieldTransform(read_transform(tmp_path / "f.h5"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found.GetDisplacementField()), array)


@pytest.mark.parametrize("count", [9, 60])
def test_composites_of_many_parts(tmp_path, count):
    """With nine and more, HDF5 keeps the parts in another way."""
    parts = [sitk.TranslationTransform(3, (float(n), 1.0, -1.0)) for n in range(count)]
    sitk.WriteTransform(sitk.CompositeTransform(parts), str(tmp_path / "c.h5"))
    found = read_transform(tmp_path / "c.h5").TransformPoint((0.0, 0.0, 0.0))
    np.testing.assert_allclose(found, (count * (count - 1) / 2, count, -count))


def test_files_of_other_writers_of_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    for low, high in (("earliest", "v108"), ("v108", "v108"), ("v110", "v110")):
        with h5py.File(tmp_path / "t.h5", "w", libver=(low, high)) as file:
            part = file.create_group("TransformGroup/0")
            kind = np.array(["AffineTransform_double_3_3"], dtype=h5py.string_dtype("ascii"))
            part["TransformType"] = kind
            numbers = np.array([0, -1, 0, 1, 0, 0, 0, 0, 1, 1, 2, 3], dtype=np.float32)
            part.create_dataset("TransformParameters", data=numbers, compression="gzip", shuffle=True)
            part["TransformFixedParameters"] = np.zeros(3)
        found = read_transform(tmp_path / "t.h5").TransformPoint((10.0, 20.0, 30.0))
        np.testing.assert_allclose(found, (-19, 12, 33), atol=1e-6, err_msg=f"{low}, {high}")


def test_matlab_files_are_checked(tmp_path):
    path = tmp_path / "t.mat"
    sitk.WriteTransform(sitk.Euler3DTransform((1, 2, 3), 0.1, 0.2, 0.3, (4, 5, 6)), str(path))
    np.testing.assert_allclose(read_transform(path).TransformPoint(POINT), by_itk(path, POINT), atol=1e-9)
    content = path.read_bytes()
    (tmp_path / "cut.mat").write_bytes(content[:60])
    with pytest.raises(InputError, match="ends too early"):
        read_transform(tmp_path / "cut.mat")
    (tmp_path / "few.mat").write_bytes(struct.pack("<i", 0) + struct.pack("<i", 5) + content[8:])
    with pytest.raises(InputError, match="damaged"):
        read_transform(tmp_path / "few.mat")


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])
def test_no_damaged_hdf5_file_raises_anything_but_our_errors(tmp_path, seed):
    """ITK's own reader ends the process on one in a hundred of these, and the HDF5 library never returns from some."""
    rng = np.random.default_rng(seed)
    image = sitk.GetImageFromArray(rng.normal(0, 3, (6, 6, 6, 3)), isVector=True)
    parts = [sitk.AffineTransform(3), sitk.DisplacementFieldTransform(image)]
    sitk.WriteTransform(sitk.CompositeTransform(parts), str(tmp_path / "c.h5"))
    right = (tmp_path / "c.h5").read_bytes()
    outcomes = set()
    for _ in range(60):
        content = bytearray(right)
        for place in rng.integers(0, min(len(right), 7000), rng.integers(1, 20)):
            content[place] = rng.choice([0, 1, 127, 255, rng.integers(256)])
        (tmp_path / "m.h5").write_bytes(content)
        try:
            found = read_transform(tmp_path / "m.h5").TransformPoint((1.0, 1.0, 1.0))
            assert np.isfinite(found).all()
            outcomes.add("read")
        except InputError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
