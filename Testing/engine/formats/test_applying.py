"""One transform on volumes, sequences, points, markups and models, both ways."""

from __future__ import annotations

import gzip
import json
import struct

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg import formats
from carlreg.cli import register, worker
from carlreg.cli.main import COMMANDS, build_parser
from carlreg.errors import InputError
from carlreg.physical import invert
from carlreg.progress import Progress
from carlreg.spaces import VolumeGrid

from .geometry_cases import CENTER

FLIP = np.array([-1.0, -1.0, 1.0])


@pytest.fixture(scope="session")
def folder(oblique, tmp_path_factory):
    """A result folder as the engine leaves it (transform, inverse, the volumes' grids) and both volumes."""
    made = tmp_path_factory.mktemp("result")
    sitk.WriteTransform(oblique.transform.to_sitk(), str(made / "transform.h5"))
    inverse, _ = invert(oblique.transform, oblique.moving_grid)
    sitk.WriteTransform(inverse.to_sitk(), str(made / "inverse_transform.h5"))
    inputs = {"fixed": oblique.fixed_grid.as_dict(), "moving": oblique.moving_grid.as_dict()}
    (made / "settings.json").write_text(json.dumps({"inputs": inputs}))
    for side in ("fixed", "moving"):
        sitk.WriteImage(getattr(oblique, side), str(made / f"{side}.nii.gz"))
    return made


@pytest.fixture(scope="session")
def opened(folder):
    return formats.open_transform(folder / "transform.h5")


def main(arguments: list[str]) -> int:
    """A command as the worker runs it, in this process: its own process takes seconds to start."""
    args = build_parser().parse_args(arguments)
    COMMANDS[args.command].check(args)
    return worker.main(arguments)


def plan(opened, **options) -> formats.Applying:
    return formats.Applying(opened, **options)


def expected(oblique, interpolator, grid=None):
    grid = grid or oblique.fixed_grid
    return sitk.GetArrayFromImage(
        sitk.Resample(
            oblique.moving, grid.size_ijk, oblique.transform.to_sitk(), interpolator, grid.origin_lps.tolist(),
            grid.spacing.tolist(), grid.direction.ravel().tolist(), float(sitk.GetArrayFromImage(oblique.moving).min()),
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "interpolator"),
    [
        ("linear", sitk.sitkLinear),
        ("nearest", sitk.sitkNearestNeighbor),
        ("bspline", sitk.sitkBSpline),
        ("sinc", sitk.sitkLanczosWindowedSinc),
    ],
)
def test_volumes(oblique, folder, opened, tmp_path, name, interpolator):
    formats.apply_to_file(plan(opened, interpolation=name), folder / "moving.nii.gz", tmp_path / "out.nii.gz")
    found = sitk.ReadImage(str(tmp_path / "out.nii.gz"))
    assert VolumeGrid.of(found).same_as(oblique.fixed_grid)
    inside = expected(oblique, interpolator)[4:-4, 4:-4, 4:-4]
    assert np.abs(sitk.GetArrayFromImage(found)[4:-4, 4:-4, 4:-4] - inside).max() < 0.05


def test_own_spacing_and_reference(oblique, folder, opened, tmp_path):
    formats.apply_to_file(plan(opened, grid="own"), folder / "moving.nii.gz", tmp_path / "own.nii.gz")
    own = VolumeGrid.of(sitk.ReadImage(str(tmp_path / "own.nii.gz")))
    assert np.allclose(sorted(own.spacing), sorted(oblique.moving_grid.spacing), atol=1e-5)
    assert np.allclose(own.direction, oblique.fixed_grid.direction, atol=1e-5)
    assert np.allclose(own.center_lps, oblique.fixed_grid.center_lps, atol=1e-3)
    assert np.all(own.extent_mm >= oblique.fixed_grid.extent_mm - 1e-3)
    reference = oblique.fixed_grid.cropped((3, 4, 5), (20, 21, 22))
    formats.apply_to_file(plan(opened, reference=reference), folder / "moving.nii.gz", tmp_path / "ref.nrrd")
    found = sitk.ReadImage(str(tmp_path / "ref.nrrd"))
    assert np.abs(sitk.GetArrayFromImage(found) - expected(oblique, sitk.sitkLinear, reference)).max() < 0.05


def test_a_volume_without_contrast_is_mapped(oblique, folder, opened, tmp_path):
    """An empty label map, a frame before the tracer arrives: nothing to register, but something to map."""
    sitk.WriteImage(oblique.moving * 0, str(tmp_path / "empty.nii.gz"))
    for interpolation in ("nearest", "linear"):
        formats.apply_to_file(
            plan(opened, interpolation=interpolation), tmp_path / "empty.nii.gz", tmp_path / "o.nii.gz"
        )
        found = sitk.ReadImage(str(tmp_path / "o.nii.gz"))
        assert VolumeGrid.of(found).same_as(oblique.fixed_grid) and not sitk.GetArrayViewFromImage(found).any()


def test_segments_of_one_layer_keep_their_names(oblique, opened, tmp_path):
    labels = sitk.OtsuThreshold(oblique.moving, 0, 4)
    kept = {"Segment0_Name": "liver", "Segment0_LabelValue": "4", "Segment0_Layer": "0"}
    for key, value in (kept | {"Segment0_Extent": "1 2 1 2 1 2"}).items():
        labels.SetMetaData(key, value)
    sitk.WriteImage(labels, str(tmp_path / "s.seg.nrrd"))
    formats.apply_to_file(plan(opened, interpolation="nearest"), tmp_path / "s.seg.nrrd", tmp_path / "out.seg.nrrd")
    found = sitk.ReadImage(str(tmp_path / "out.seg.nrrd"))
    assert {key: found.GetMetaData(key) for key in kept} == kept
    i, j, k = found.GetSize()  # where the segment lies now is not known without a look
    assert found.GetMetaData("Segment0_Extent") == f"0 {i - 1} 0 {j - 1} 0 {k - 1}"
    assert set(np.unique(sitk.GetArrayFromImage(found))) == {0, 4}


def test_sequences_frame_by_frame(oblique, opened, tmp_path):
    frames = [oblique.moving, oblique.moving * 2, oblique.moving + 7]
    series = sitk.JoinSeries(frames, 1.5, 2.5)
    for name, image in (("s.nii.gz", series), ("s.nrrd", series), ("s.seq.nrrd", sitk.Compose(frames))):
        sitk.WriteImage(image, str(tmp_path / name))
        out = tmp_path / f"out_{name}"
        said = formats.apply_to_file(plan(opened), tmp_path / name, out)
        found = sitk.ReadImage(str(out))
        if name != "s.seq.nrrd":
            assert said.startswith("3 frames") and found.GetSize()[3] == 3
            assert np.isclose(found.GetSpacing()[3], 2.5)
        array = sitk.GetArrayFromImage(found)
        second = array[1] if name != "s.seq.nrrd" else array[..., 1]
        assert np.abs(second - 2 * expected(oblique, sitk.sitkLinear)).max() < 0.1
    head = (tmp_path / "out_s.seq.nrrd").read_bytes().split(b"\n\n")[0]
    assert b"kinds: list domain domain domain" in head


def test_mass_is_kept(oblique, folder, opened, tmp_path):
    """The integral over space: the ball lies inside both volumes."""
    image = oblique.moving
    array = sitk.GetArrayFromImage(image)
    array[array < 20] = 0
    ball = sitk.GetImageFromArray(array)
    ball.CopyInformation(image)
    sitk.WriteImage(ball, str(tmp_path / "activity.nrrd"))
    totals = {}
    for scaled in (True, False):
        out = tmp_path / f"{scaled}.nrrd"
        formats.apply_to_file(plan(opened, mass_preserving=scaled), tmp_path / "activity.nrrd", out)
        values = sitk.GetArrayFromImage(sitk.ReadImage(str(out)))
        totals[scaled] = float(values.sum(dtype=float)) * np.prod(oblique.fixed_grid.spacing)
    before = float(array.sum(dtype=float)) * np.prod(oblique.moving_grid.spacing)
    assert abs(totals[True] / before - 1) < 0.005 < abs(totals[False] / before - 1)
    with pytest.raises(InputError, match="labels"):
        plan(opened, mass_preserving=True, interpolation="nearest")


def test_points_and_markups_of_every_kind(oblique, opened, tmp_path):
    points = oblique.points
    rows = "\n".join(",".join(map(repr, p)) + f",n{k}" for k, p in enumerate(points.tolist()))
    (tmp_path / "p.csv").write_text(f"x,y,z,name\n{rows}\n")
    for space, version in (("LPS", "LPS"), ("0", "RAS")):
        signs = np.ones(3) if version == "LPS" else FLIP
        lines = [
            f"id{k},{','.join(map(repr, p))},0,0,0,1,1,1,0,F-{k},,," for k, p in enumerate((points * signs).tolist())
        ]
        text = f"# Markups fiducial file version = 4.11\n# CoordinateSystem = {space}\n# columns = id,x,y,z,ow\n"
        (tmp_path / f"{version}.fcsv").write_text(text + "\n".join(lines) + "\n")
        control = [
            {"id": str(k), "label": f"F-{k}", "position": p, "positionStatus": "defined"}
            for k, p in enumerate((points * signs).tolist())
        ]
        control.append({"id": "x", "label": "unplaced", "position": [], "positionStatus": "undefined"})
        curve = {
            "type": "Curve",
            "coordinateSystem": version,
            "controlPoints": control,
            "measurements": [{"name": "length"}],
        }
        (tmp_path / f"{version}.mrk.json").write_text(json.dumps({"@schema": "s", "markups": [curve]}))
    want = oblique.transform.apply(points)

    def check(name, signs, out):
        formats.apply_to_file(plan(opened), tmp_path / name, out)
        text = out.read_text()
        if name.endswith(".mrk.json"):
            (entry,) = json.loads(text)["markups"]
            found = [p["position"] for p in entry["controlPoints"][:-1]]
            assert "measurements" not in entry and entry["controlPoints"][-1]["position"] == []
        else:
            table = [line.split(",") for line in text.splitlines() if line and not line.startswith(("#", "x,"))]
            found = [[float(v) for v in (row[1:4] if name.endswith(".fcsv") else row[:3])] for row in table]
            assert table[3][-1 if name.endswith(".csv") else 11] == ("n3" if name.endswith(".csv") else "F-3")
        assert np.linalg.norm(np.array(found) * signs - want, axis=1).max() < 1e-4

    check("p.csv", np.ones(3), tmp_path / "o.csv")
    for version, signs in (("LPS", np.ones(3)), ("RAS", FLIP)):
        check(f"{version}.fcsv", signs, tmp_path / f"o{version}.fcsv")
        check(f"{version}.mrk.json", signs, tmp_path / f"o{version}.mrk.json")
    # Back again: points of the moving side come along with its volumes, exactly.
    said = formats.apply_to_file(plan(opened, points_follow=True), tmp_path / "o.csv", tmp_path / "back.csv")
    backward = np.loadtxt(tmp_path / "back.csv", delimiter=",", skiprows=1, usecols=(0, 1, 2))
    assert said == "moving to fixed points" and np.linalg.norm(backward - points, axis=1).max() < 1e-3


@pytest.mark.parametrize(
    ("text", "message"),
    [("a,b\n1,2\n", "x, y, z"), ("x,y,z\n", "at least one point"), ("x,y,z\n1,2,far\n", "line 2")],
)
def test_tables_without_points_are_refused(opened, tmp_path, text, message):
    (tmp_path / "points.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        formats.apply_to_file(plan(opened), tmp_path / "points.csv", tmp_path / "out.csv")


def test_markups_that_cannot_be_bent_are_refused(opened, tmp_path):
    (tmp_path / "roi.mrk.json").write_text(json.dumps({"markups": [{"type": "ROI", "controlPoints": []}]}))
    with pytest.raises(InputError, match="'ROI' are not points or curves"):
        formats.apply_to_file(plan(opened), tmp_path / "roi.mrk.json", tmp_path / "o.mrk.json")
    (tmp_path / "broken.mrk.json").write_text('{"markups": [')
    with pytest.raises(InputError, match="markups"):
        formats.apply_to_file(plan(opened), tmp_path / "broken.mrk.json", tmp_path / "o.mrk.json")
    (tmp_path / "no.fcsv").write_text("id0,1,2,3\n")
    with pytest.raises(InputError, match="CoordinateSystem"):
        formats.apply_to_file(plan(opened), tmp_path / "no.fcsv", tmp_path / "o.fcsv")


@pytest.mark.parametrize("ending", [".vtk", ".vtp", ".stl", ".ply"])
def test_models(oblique, opened, tmp_path, ending):
    pytest.importorskip("vtkmodules", reason="models need vtk (pip install vtk)")
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkFiltersSources import vtkSphereSource
    from vtkmodules.vtkIOGeometry import vtkSTLReader, vtkSTLWriter
    from vtkmodules.vtkIOLegacy import vtkPolyDataReader, vtkPolyDataWriter
    from vtkmodules.vtkIOPLY import vtkPLYReader, vtkPLYWriter
    from vtkmodules.vtkIOXML import vtkXMLPolyDataReader, vtkXMLPolyDataWriter

    kinds = {
        ".vtk": (vtkPolyDataReader, vtkPolyDataWriter),
        ".vtp": (vtkXMLPolyDataReader, vtkXMLPolyDataWriter),
        ".stl": (vtkSTLReader, vtkSTLWriter),
        ".ply": (vtkPLYReader, vtkPLYWriter),
    }
    source = vtkSphereSource()
    source.SetCenter(*CENTER)
    source.SetRadius(9)
    source.Update()
    reader, writer = (kind() for kind in kinds[ending])
    writer.SetFileName(str(tmp_path / f"m{ending}"))
    writer.SetInputData(source.GetOutput())
    writer.Write()
    with pytest.raises(InputError, match="--model-space"):
        formats.apply_to_file(plan(opened), tmp_path / f"m{ending}", tmp_path / f"o{ending}")
    formats.apply_to_file(plan(opened, model_space="lps"), tmp_path / f"m{ending}", tmp_path / f"o{ending}")

    def vertices(path):
        fresh = type(reader)()
        fresh.SetFileName(str(path))
        fresh.Update()
        mesh = fresh.GetOutput()
        return vtk_to_numpy(mesh.GetPoints().GetData()).astype(float), mesh.GetNumberOfPolys()

    before, polys = vertices(tmp_path / f"m{ending}")
    after, kept = vertices(tmp_path / f"o{ending}")
    assert polys == kept and np.linalg.norm(after - oblique.transform.apply(before), axis=1).max() < 1e-3
    # The result tells its space, so that it need not be said again.
    formats.apply_to_file(plan(opened, points_follow=True), tmp_path / f"o{ending}", tmp_path / f"b{ending}")
    assert np.linalg.norm(vertices(tmp_path / f"b{ending}")[0] - before, axis=1).max() < 2e-3


def test_the_command_line_takes_many_files_or_leaves_nothing(oblique, folder, tmp_path, capfd):
    table = tmp_path / "p.csv"
    table.write_text("x,y,z\n" + "\n".join(",".join(map(repr, p)) for p in oblique.points.tolist()) + "\n")
    out = tmp_path / "out"
    files = [str(folder / "moving.nii.gz"), str(table)]
    assert main(["apply", str(folder / "transform.h5"), *files, "--out", str(out), "--points", "follow"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["moving.nii.gz", "p.csv"]
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    capfd.readouterr()
    code = main(["apply", str(folder / "transform.h5"), files[0], f"{tmp_path}/bad.csv", "--out", f"{tmp_path}/no"])
    assert code == 2 and "x, y, z not found" in capfd.readouterr().err and not (tmp_path / "no").exists()
    # The other way: the fixed volume onto the moving grid.
    backward = tmp_path / "back.nii.gz"
    assert (
        main(["apply", str(folder / "transform.h5"), str(folder / "fixed.nii.gz"), "--inverse", "--out", str(backward)])
        == 0
    )
    found = sitk.ReadImage(str(backward))
    inverse = sitk.ReadTransform(str(folder / "inverse_transform.h5"))
    again = sitk.Resample(oblique.fixed, oblique.moving, inverse, sitk.sitkLinear, 0.0)
    assert np.corrcoef(sitk.GetArrayFromImage(found).ravel(), sitk.GetArrayFromImage(again).ravel())[0, 1] > 0.9999


def test_export_invert_compose_linear_as_a_user_runs_them(oblique, folder, tmp_path, capfd):
    h5 = str(folder / "transform.h5")
    assert main(["export", h5, "--to", "nifti", "--out", str(tmp_path / "f.nii.gz"), "--dry-run"]) == 0
    said = capfd.readouterr().out
    assert "kB" in said or "MB" in said
    assert "largest" in said and "nothing was written" in said and list(tmp_path.iterdir()) == []
    fixed, moving = str(folder / "fixed.nii.gz"), str(folder / "moving.nii.gz")
    assert main(["export", h5, "--to", "ants", "--which", "inverse", "--out", str(tmp_path / "a.nii.gz")]) == 0
    wrote = capfd.readouterr().out.splitlines()[-1].removeprefix("wrote ").split(", ")
    assert sorted(wrote) == sorted(str(tmp_path / name) for name in ("a1Warp.nii.gz", "a0GenericAffine.mat"))
    again = ["--direction", "inverse", "--fixed", fixed, "--moving", moving, "--out", str(tmp_path / "again.nrrd")]
    assert main(["convert", str(tmp_path / "a1Warp.nii.gz"), *again]) == 0
    assert main(["invert", h5, "--out", str(tmp_path / "i.h5"), "--failed", str(tmp_path / "no.nii.gz")]) == 0
    assert "there and back again" in capfd.readouterr().out
    backward = formats.map_points(sitk.ReadTransform(str(tmp_path / "i.h5")), oblique.transform.apply(oblique.points))
    assert np.linalg.norm(backward - oblique.points, axis=1).max() < 0.2
    assert main(["compose", h5, str(tmp_path / "i.h5"), "--fixed", fixed, "--out", str(tmp_path / "same.mha")]) == 0
    same = formats.map_points(formats.read(tmp_path / "same.mha").transform, oblique.points)
    assert np.linalg.norm(same - oblique.points, axis=1).max() < 0.2
    assert main(["linear", h5, "--kind", "rigid", "--out", str(tmp_path / "l.tfm")]) == 0
    assert "leaves mean" in capfd.readouterr().out
    assert sitk.ReadTransform(str(tmp_path / "l.tfm")).GetNumberOfParameters() == 12
    assert main(["export", h5, "--out", str(tmp_path / "t.tfm")]) == 2
    assert "carlreg linear" in capfd.readouterr().err and not (tmp_path / "t.tfm").exists()


def test_any_programs_file_starts_a_registration(oblique, folder, tmp_path):
    """As a registration gets it: fixed to moving points, whatever the file; a field stays a field."""
    sides = formats.Sides(grids=(oblique.fixed_grid, oblique.moving_grid))
    transform = oblique.transform.to_sitk()
    formats.write(transform, tmp_path / "f.nii.gz", sides=sides)
    formats.write(transform, tmp_path / "fsl.nii.gz", to="fsl", sides=sides)
    formats.write(transform, tmp_path / "t.txt", to="elastix", sides=sides)
    both = [f"{folder}/fixed.nii.gz", f"{folder}/moving.nii.gz"]
    cases = [([f"{tmp_path}/{name}"], 0.05) for name in ("f.nii.gz", "fsl.nii.gz", "t.txt")]
    cases += [([f"{folder}/inverse_transform.h5", "--initial-direction", "inverse"], 0.2)]
    for given, tolerance in cases:
        arguments = ["register", *both, "--out", str(tmp_path / "out"), "--initial-transform", *given]
        inputs = register.read_inputs(build_parser().parse_args(arguments), Progress(lambda record: None))
        found = formats.map_points(inputs["initial_transform"], oblique.points)
        assert np.linalg.norm(found - oblique.transform.apply(oblique.points), axis=1).max() < tolerance


def test_inputs_that_are_cut_off_or_hold_no_numbers_are_refused_as_sequences_too(oblique, opened, tmp_path):
    frames = sitk.JoinSeries([sitk.Cast(oblique.moving, sitk.sitkFloat32)] * 3)
    for name in ("s.nii", "s.nii.gz", "s.mha", "s.nrrd"):
        sitk.WriteImage(frames, str(tmp_path / name), useCompression=name != "s.nii")
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(InputError, match=r"cut off|damaged"):
            formats.apply_to_file(plan(opened), tmp_path / name, tmp_path / f"out_{name}")
    array = sitk.GetArrayFromImage(frames)
    array[1, 3, 4, 5] = np.nan
    spoiled = sitk.GetImageFromArray(array, isVector=False)
    spoiled.CopyInformation(frames)
    colors = sitk.GetImageFromArray(np.stack([array[0], array[1]], axis=-1), isVector=True)
    colors.CopyInformation(oblique.moving)
    for name, made in (("n.nii.gz", spoiled), ("n.mha", spoiled), ("c.nrrd", colors)):
        sitk.WriteImage(made, str(tmp_path / name))
        with pytest.raises(InputError, match=r"1 of .* voxels are NaN"):
            formats.apply_to_file(plan(opened), tmp_path / name, tmp_path / f"out_{name}")


def test_what_the_reader_knows_is_said(oblique, folder, tmp_path, capsys):
    content = bytearray((folder / "moving.nii.gz").read_bytes())
    content = bytearray(gzip.decompress(content))
    struct.pack_into("<2h", content, 252, 1, 2)  # the qform counts, and the sform says another origin
    struct.pack_into("<f", content, 280 + 12, struct.unpack_from("<f", content, 280 + 12)[0] + 30.0)
    (tmp_path / "moving.nii").write_bytes(content)
    arguments = ["apply", str(folder / "transform.h5"), str(tmp_path / "moving.nii"), "--out", str(tmp_path / "o.nii")]
    assert main(arguments) == 0
    assert capsys.readouterr().out.count("Warning: input (moving.nii): its header holds two geometries") == 1
    (tmp_path / "reference.nii").write_bytes(content)
    assert main([*arguments[:2], str(folder / "moving.nii.gz"), "--reference", str(tmp_path / "reference.nii"),
                 "--out", str(tmp_path / "o.nii.gz")]) == 0  # fmt: skip
    assert "Warning: reference (reference.nii): its header holds two geometries" in capsys.readouterr().out


def test_points_without_an_inverse_are_told_at_any_size(tmp_path):
    """The same fold, and the same point in it, of voxels of 2 mm, 0.2 micrometers and 2 meters."""
    off = {}
    for size in (1.0, 1e-4, 1e3):
        grid = VolumeGrid((31, 31, 31), (2.0 * size,) * 3, (-30.0 * size,) * 3, np.eye(3))
        k, j, i = np.meshgrid(*(np.arange(31) * 2.0 - 30,) * 3, indexing="ij")
        field = np.zeros((31, 31, 31, 3))
        field[..., 0] = -14 * size * np.exp(-((i - 10) ** 2 + j**2 + k**2) / (2 * 6.0**2)) * (i - 10) / 6
        fold = sitk.DisplacementFieldTransform(grid.image(field))
        opened = formats.Opened(fold, formats.Sides(grids=(grid, grid)))
        (tmp_path / "p.csv").write_text(f"x,y,z\n{11 * size},{0.3 * size},{0.2 * size}\n")
        said = formats.apply_to_file(plan(opened, points_follow=True), tmp_path / "p.csv", tmp_path / "out.csv")
        off[size] = float(said.split("up to ")[1].split(" mm")[0]) / size
    assert off[1.0] > 0.1
    assert off[1e-4] == pytest.approx(off[1.0], rel=0.05) and off[1e3] == pytest.approx(off[1.0], rel=0.05)
