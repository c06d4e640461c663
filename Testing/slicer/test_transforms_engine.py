"""The Transforms section's engine tasks: files of other programs out and in, and transforms made of transforms."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from .test_inspect_jacobian import addField
from .test_transforms_files import POINTS, affine, bump, throughFile, throughNode, volume
from .volumes import FLIP, addLinear, composite


@pytest.fixture
def engine(scene, moduleWidget, tmp_path, monkeypatch):
    import slicer
    from CARLRegistrationLib.transforms import tasks

    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(slicer.app, "temporaryPath", str(tmp_path / "temporary"))
    return tasks


@pytest.fixture
def subject(engine):
    """A field of 5 mm nodes, two volumes around it."""
    from CARLRegistrationLib.transforms.files import TransformSelection

    return TransformSelection(addField(bump, reach=90, nodes=37), volume(), volume("moving", "LPS"))


def done(work, seconds=600.0):
    """What a task made; its folder is gone."""
    end = time.monotonic() + seconds
    try:
        while (made := work.poll()) is None:
            assert time.monotonic() < end
            time.sleep(0.05)
        return made
    finally:
        assert not work.folder.exists()


def nodes():
    import slicer

    return sorted(node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLTransformableNode"))


def refuses(engine, start, *words):
    """It says these words, and leaves the scene and the disk as they were."""
    import slicer
    from CARLRegistrationLib.common.errors import RegistrationError

    before = nodes()
    with pytest.raises(RegistrationError) as caught:
        done(start())
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "--" not in str(caught.value) and not caught.value.unexpected
    assert nodes() == before and list(Path(slicer.app.temporaryPath).iterdir()) == []
    return caught.value


def far(found, expected):
    return np.linalg.norm(found - expected, axis=1).max()


# --- export


def test_the_formats_of_the_panel_are_those_of_the_engine(engine):
    from carlreg.formats.catalog import CONVENTIONS, DIRECTIONS, FORMATS, LINEAR_KINDS, PRECISIONS
    from CARLRegistrationLib.transforms import choices as choices

    assert [one.value for one in choices.ExportFormat] == list(FORMATS)
    assert [one.value for one in choices.Convention][1:] == list(CONVENTIONS)
    assert [one.value for one in choices.Direction][1:] == list(DIRECTIONS)
    assert [one.value for one in choices.Precision][1:] == list(PRECISIONS)
    assert [one.value for one in choices.LinearKind] == list(LINEAR_KINDS)
    assert all(one.label() and one.text() for one in choices.ExportFormat)


def test_the_preview_tells_what_is_saved_then(engine, subject, tmp_path):
    from CARLRegistrationLib.transforms.choices import ExportFormat, Precision

    export = engine.Export(format=ExportFormat.NIFTI, spacing=8.0, precision=Precision.FLOAT64)
    seen = done(engine.startExport(subject, export, "field.nii.gz", True))
    assert [path.name for path in tmp_path.iterdir()] == ["temporary"]
    assert 0.001 < seen.error["mean"] < 0.2 and seen.sidecar["maps"] == "fixed points to moving points"
    made = done(engine.startExport(subject, export, tmp_path / "field.nii.gz", False))
    assert made.files == seen.files and made.error == seen.error
    size = (tmp_path / "field.nii.gz").stat().st_size
    assert seen.sizes() == f"field.nii.gz: {engine.sizeText(size)}"
    image = sitk.ReadImage(str(tmp_path / "field.nii.gz"))  # intent 1006: turned to LPS by the reader
    assert image.GetSpacing() == pytest.approx((8, 8, 8), abs=0.5) and "64-bit float" in image.GetPixelIDTypeAsString()
    found = sitk.DisplacementFieldTransform(sitk.Cast(image, sitk.sitkVectorFloat64))
    mapped = np.array([found.TransformPoint(point) for point in (POINTS * FLIP).tolist()]) * FLIP
    assert far(mapped, throughNode(subject.transform)) <= seen.error["max"] * 1.5 + 0.02
    coarser = done(engine.startExport(subject, engine.Export(spacing=16.0), "field.h5", True))
    assert coarser.error["mean"] > seen.error["mean"] and coarser.files[0][1] < size


def test_inverse_and_with_the_initial_transform(engine, subject, tmp_path):
    from CARLRegistrationLib.transforms.choices import Which
    from CARLRegistrationLib.transforms.files import TransformSelection

    out = tmp_path / "out.h5"
    made = done(engine.startExport(subject, engine.Export(Which.INVERSE), out, False))
    assert made.sidecar["maps"] == "moving points to fixed points"
    assert far(throughFile(out, throughNode(subject.transform)), POINTS) < 0.05
    known = addField(lambda points: -bump(points), reach=90, nodes=37)  # not the true one: taken as it is
    both = TransformSelection(subject.transform, subject.fixed, subject.moving, inverse=known)
    made = done(engine.startExport(both, engine.Export(Which.INVERSE), out, False))
    assert far(throughFile(out), throughNode(known)) < 0.05 and "the inverse that the registration wrote" in made.notes
    placed = addLinear(affine(), "placed")
    subject.moving.SetAndObserveTransformNodeID(placed.GetID())
    first = TransformSelection(subject.transform, subject.fixed, subject.moving, initial=placed)
    done(engine.startExport(first, engine.Export(Which.WITH_INITIAL), out, False))
    assert far(throughFile(out), throughNode(placed, throughNode(subject.transform))) < 0.05
    refuses(engine, lambda: engine.startExport(subject, engine.Export(Which.WITH_INITIAL), out, True), "initial")


def test_fsl_gets_the_moving_volume_as_it_was(engine, tmp_path):
    """A FLIRT matrix depends on both geometries: with the initial transform, on the moving volume's own."""
    from CARLRegistrationLib.transforms.choices import ExportFormat, Which
    from CARLRegistrationLib.transforms.files import TransformSelection

    fixed, moving, node, placed = (
        volume(),
        volume("moving", "LAS"),
        addLinear(affine()),
        addLinear(affine(25), "placed"),
    )
    moving.SetAndObserveTransformNodeID(placed.GetID())
    subject = TransformSelection(node, fixed, moving, initial=placed)
    export = engine.Export(Which.WITH_INITIAL, ExportFormat.FLIRT)
    done(engine.startExport(subject, export, tmp_path / "a.mat", False))
    moving.SetAndObserveTransformNodeID(None)
    from CARLRegistrationLib.transforms.choices import Convention

    moving.SetAndObserveTransformNodeID(node.GetID())  # where it is placed meanwhile does not count
    made = done(engine.startImport([tmp_path / "a.mat"], convention=Convention.FSL, fixed=fixed, moving=moving))
    assert far(throughNode(made.nodes[0]), throughNode(placed, throughNode(node))) < 1e-4
    assert "moving as in its file, not as it is placed under linear" in made.notes[0]
    moving.SetAndObserveTransformNodeID(None)
    refuses(engine, lambda: engine.startExport(subject, export, "a.mat", True), "moving is not placed under it")


def test_a_scene_holds_both_volumes(engine, subject, scene, host, tmp_path):
    import slicer
    from CARLRegistrationLib.transforms.choices import ExportFormat

    expected = throughNode(subject.transform)
    values = slicer.util.arrayFromVolume(subject.moving).copy()
    subject.moving.SetAndObserveTransformNodeID(subject.transform.GetID())  # placed already: it does not count twice
    export = engine.Export(format=ExportFormat.SLICER)
    done(engine.startExport(subject, export, tmp_path / "scene.mrb", False))
    host.close_scene()
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"), True)
    moving = slicer.util.getNode("moving")
    assert far(throughNode(moving.GetParentTransformNode()), expected) < 0.05
    assert np.array_equal(slicer.util.arrayFromVolume(moving), values)


def test_what_cannot_be_exported_is_said(engine, subject, tmp_path):
    import dataclasses

    from CARLRegistrationLib.common.errors import RegistrationError
    from CARLRegistrationLib.transforms.choices import ExportFormat
    from CARLRegistrationLib.transforms.files import TransformSelection

    def start(one, export, out="out.h5", dryRun=True):
        return lambda: engine.startExport(one, export, out, dryRun)

    refuses(engine, start(TransformSelection(), engine.Export()), "Choose a transform, or register first")
    flat = addLinear(np.diag([1, 1, 0, 1.0]), "flat")
    refuses(engine, start(TransformSelection(flat), engine.Export()), "flat: the transform is singular")
    tfm = engine.Export(format=ExportFormat.TFM)
    refuses(engine, start(subject, tfm, "out.tfm"), "tfm files hold linear transforms only", "Linear part")
    fsl = engine.Export(format=ExportFormat.FSL)
    alone = TransformSelection(subject.transform)
    refuses(engine, start(alone, fsl, "out.nii.gz"), "Fixed", "Moving")
    elsewhere = volume("elsewhere")
    elsewhere.SetOrigin(900, 900, 900)
    lost = dataclasses.replace(subject, fixed=elsewhere)
    refuses(engine, start(lost, engine.Export()), "The transform: its field", "lie apart", "no point in common")
    (tmp_path / "a file").write_text("not a folder")
    refuses(engine, start(alone, engine.Export(), tmp_path / "a file" / "out.h5", False), "nothing can be written in")
    if os.geteuid() != 0:  # root may write anywhere
        locked = tmp_path / "temporary" / "locked"
        locked.mkdir(mode=0o555)
        with pytest.raises(RegistrationError, match="nothing can be written in"):
            done(engine.startExport(alone, engine.Export(), locked / "out.h5", False))
        locked.rmdir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a file", "temporary"]


def test_a_full_disk_is_said(engine, subject, monkeypatch):
    def full(*_arguments):
        raise RuntimeError("No space left on device")

    monkeypatch.setattr(sitk, "WriteImage", full)
    refuses(engine, lambda: engine.startInvert(subject), "could not be written", "the disk may be full")


def test_a_cancelled_export_leaves_nothing(engine, subject, tmp_path):
    import slicer
    from CARLRegistrationLib.common.errors import RegistrationCancelled

    work = engine.startExport(subject, engine.Export(spacing=1.0), tmp_path / "out.h5", False)
    work.cancel()
    with pytest.raises(RegistrationCancelled, match="nothing was changed"):
        done(work)
    assert [path.name for path in tmp_path.iterdir()] == ["temporary"]
    assert list(Path(slicer.app.temporaryPath).iterdir()) == []


def test_which_files_a_save_will_make(engine):
    made = engine.TaskResult(files=[("a1Warp.nii.gz", 1), ("a0GenericAffine.mat", 1), ("a.nii.gz.json", 1)])
    found = engine.filesFor(made, "a.nii.gz", Path("/x/subject.nii.gz"))
    assert [path.name for path in found] == ["subject1Warp.nii.gz", "subject0GenericAffine.mat", "subject.nii.gz.json"]
    assert engine.Export().named(Path("/x/y")) == Path("/x/y.h5")
    assert engine.Export().named(Path("/x/y.HDF5")) == Path("/x/y.HDF5")


# --- import

FORMATS = ("itk", "nifti", "ants", "elastix", "fsl", "flirt")


@pytest.mark.parametrize("name", FORMATS)
def test_what_was_exported_comes_back(engine, subject, tmp_path, name):
    from CARLRegistrationLib.mrml.transforms import sidesOf
    from CARLRegistrationLib.transforms import files as transforms_files
    from CARLRegistrationLib.transforms.choices import Convention, Direction, ExportFormat

    linear = name == "flirt"
    node = addLinear(affine()) if linear else subject.transform
    used = transforms_files.TransformSelection(node, subject.fixed, subject.moving)
    export = engine.Export(format=ExportFormat(name))
    out = export.named(tmp_path / "out")
    made = done(engine.startExport(used, export, out, False))
    file = tmp_path / made.files[0][0] if name == "ants" else out
    if name != "flirt":  # FSL's matrix tells its direction by its convention
        assert transforms_files.directionOf(file)[0] == "forward"
    convention = Convention.FSL if name == "flirt" else Convention.FILE
    back = done(
        engine.startImport(
            [file], convention=convention, direction=Direction.FORWARD, fixed=used.fixed, moving=used.moving
        )
    ).nodes[0]
    inside = 0.5 * POINTS  # FSL's warp ends with the fixed volume
    assert far(throughNode(back, inside), throughNode(node, inside)) < (1e-3 if linear else 0.05)
    assert back.IsLinear() == linear and sidesOf(back) == (used.fixed, used.moving)
    assert back.GetName().startswith("out")


def foreign(tmp_path):
    """Files as other programs write them, and what they do to POINTS."""
    euler = sitk.Euler3DTransform((5.0, 6.0, 7.0), 0.1, -0.2, 0.15, (3.0, 2.0, 1.0))
    spline = sitk.BSplineTransform(3, 3)
    spline.SetTransformDomainOrigin([-80.0] * 3)
    spline.SetTransformDomainPhysicalDimensions([160.0] * 3)
    spline.SetTransformDomainMeshSize([5] * 3)
    spline.SetParameters(np.random.default_rng(0).normal(0, 3, len(spline.GetParameters())).tolist())
    similarity = sitk.Similarity3DTransform(1.2, (0.1, 0.2, 0.3), 0.4, (1.0, 2.0, 3.0))
    made = {
        "euler.tfm": euler,
        "similarity.h5": similarity,
        "bspline.tfm": spline,
        "composite.h5": sitk.CompositeTransform([euler, spline]),
        "half turn.h5": composite(180.0, bump=2.0)[0],
        "two fields.h5": sitk.CompositeTransform([composite(10.0)[0].GetNthTransform(1), composite(30.0)[0]]),
    }
    for name, transform in made.items():
        if name == "two fields.h5":  # ITK writes no composite in a composite
            flat = sitk.CompositeTransform([transform.GetNthTransform(0)])
            inner = sitk.CompositeTransform(transform.GetNthTransform(1))
            for number in range(inner.GetNumberOfTransforms()):
                flat.AddTransform(inner.GetNthTransform(number))
            transform = flat
        sitk.WriteTransform(transform, str(tmp_path / name))
        expected = np.array([transform.TransformPoint(p) for p in (POINTS * FLIP).tolist()]) * FLIP
        yield tmp_path / name, expected


def test_foreign_transforms_come_in(engine, tmp_path):
    for path, expected in foreign(tmp_path):
        made = done(engine.startImport([path]))
        assert far(throughNode(made.nodes[0]), expected) < 0.05, path.name
        assert len(made.nodes) == 1 and made.nodes[0].GetName().startswith(path.name.rpartition(".")[0])


def test_matrices_of_plain_numbers_are_asked_about(engine, tmp_path):
    from CARLRegistrationLib.transforms.choices import Convention

    path = tmp_path / "matrix.txt"
    np.savetxt(path, affine())
    error = refuses(engine, lambda: engine.startImport([path]), "does not tell its convention", "Coordinates (lps:")
    assert isinstance(error, engine.ConventionNeeded)
    ras = done(engine.startImport([path], convention=Convention.RAS)).nodes[0]
    expected = POINTS @ affine()[:3, :3].T + affine()[:3, 3]
    assert far(throughNode(ras), expected) < 1e-6
    lps = done(engine.startImport([path], convention=Convention.LPS)).nodes[0]
    expected = ((POINTS * FLIP) @ affine()[:3, :3].T + affine()[:3, 3]) * FLIP
    assert far(throughNode(lps), expected) < 1e-6


def test_files_that_lead_the_other_way(engine, subject, tmp_path):
    from CARLRegistrationLib.transforms.choices import Direction, ExportFormat, Which

    out = tmp_path / "back.nrrd"
    done(engine.startExport(subject, engine.Export(Which.INVERSE, ExportFormat.NRRD), out, False))
    from CARLRegistrationLib.transforms.files import directionOf

    assert directionOf(out)[0] == "inverse"
    back = {"direction": Direction.INVERSE}
    refuses(engine, lambda: engine.startImport([out], **back), "Fixed", "Moving")
    made = done(engine.startImport([out], fixed=subject.fixed, moving=subject.moving, **back))
    assert far(throughNode(made.nodes[0]), throughNode(subject.transform)) < 0.05
    assert any("inverted numerically" in note for note in made.notes)


def test_files_that_cannot_be_read(engine, subject, tmp_path):
    sitk.WriteTransform(composite(10.0)[0], str(tmp_path / "whole.h5"))
    content = (tmp_path / "whole.h5").read_bytes()
    singular = sitk.AffineTransform(3)
    singular.SetMatrix(np.diag([1.0, 1, 0]).ravel().tolist())
    sitk.WriteTransform(singular, str(tmp_path / "singular.tfm"))
    (tmp_path / "half.h5").write_bytes(content[: len(content) // 2])
    (tmp_path / "letter.txt").write_text("Dear all, this is no transform.")
    for name, *words in (
        ("half.h5", "half.h5"),
        ("letter.txt", "letter.txt"),
        ("singular.tfm", "singular.tfm", "singular"),
        ("not there.h5", "is not there"),
    ):
        refuses(engine, lambda name=name: engine.startImport([tmp_path / name]), *words)
    import slicer

    hollow = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "hollow")
    refuses(engine, lambda: engine.startImport([tmp_path / "whole.h5"], fixed=hollow), "hollow", "no voxels")
    elsewhere = volume("elsewhere")
    elsewhere.SetOrigin(900, 900, 900)
    sitk.WriteTransform(composite(0.0)[0].GetNthTransform(1), str(tmp_path / "field.h5"))
    refuses(engine, lambda: engine.startImport([tmp_path / "field.h5"], fixed=elsewhere), "lie apart")
