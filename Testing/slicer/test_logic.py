"""Whole runs through the real engine in its real process; bad input; what is left behind."""

import dataclasses
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from .volumes import FLIP, addLinear, addVolume, addWarp, matrix, rotation

SPACING = 6.0  # of the generated pair: a run takes some five seconds
QUICK = {"io_steps": 20}
OUTPUTS = ("Transform", "Inverse", "Warped", "Jacobian", "Uncertainty")


@pytest.fixture
def pair(scene, moduleWidget):
    from CARLRegistrationLib.register.sample_data import loadSamplePair

    return loadSamplePair(SPACING)


@pytest.fixture(scope="session")
def truth():
    from carlreg.phantom import make_pair

    return make_pair(seed=0, spacing_mm=SPACING)


@pytest.fixture(autouse=True)
def temporary(host, tmp_path, monkeypatch):
    """Job folders go here, so that what is left can be seen."""
    import slicer

    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(slicer.app, "temporaryPath", str(folder))
    return folder


def settings(**changes):
    from carlreg.settings import RegistrationSettings

    return RegistrationSettings(**(QUICK | changes))


def contents():
    """IDs, names and contents' times of all nodes."""
    import slicer

    scene = slicer.mrmlScene
    nodes = [scene.GetNthNode(i) for i in range(scene.GetNumberOfNodes())]
    return {node.GetID(): node.GetName() for node in nodes}


def landmarkError(transformNode, truth) -> float:
    from CARLRegistrationLib.mrml.geometry import transformPoints

    fixed, moving = truth.landmarks
    found = transformPoints(transformNode.GetTransformFromParent(), fixed * FLIP) * FLIP
    return float(np.linalg.norm(found - moving, axis=1).mean())


def engineIsGone(pid, seconds=300.0) -> bool:
    """It was ended; that the system has taken it away may last a moment, and longer on a busy machine."""
    end, status = time.monotonic() + seconds, Path(f"/proc/{pid}/status")
    while time.monotonic() < end:
        try:
            if "State:\tZ" in status.read_text():
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


# --- runs


@pytest.mark.whole
def test_the_generated_pair(logic, pair, truth, temporary):
    import slicer

    fixed, moving = pair
    before = [slicer.util.arrayFromVolume(node).copy() for node in pair]
    seen = []
    result = logic.register(fixed, moving, settings=settings(), onStatus=seen.append)
    assert landmarkError(result.nodes["transform"], truth) < 4.0
    assert result.quality["jacobian"]["fold_percent"] == 0
    assert [s.fraction for s in seen] == sorted(s.fraction for s in seen) and seen[-1].fraction == 1.0
    assert {"predict", "optimize", "write"} <= {s.stage for s in seen} and seen[-1].elapsed > 0
    # names, types, references
    kinds = {kind: node.GetClassName() for kind, node in result.nodes.items()}
    assert kinds["transform"] == kinds["inverse_transform"] == "vtkMRMLTransformNode"
    assert kinds["warped"] == kinds["jacobian"] == "vtkMRMLScalarVolumeNode"
    assert result.nodes["warped"].GetName() == "Warped: CARLSampleMoving to CARLSampleFixed"
    node = result.nodes["transform"]
    assert node.GetNodeReference(node.GetFixedNodeReferenceRole()) is fixed
    assert node.GetNodeReference(node.GetMovingNodeReferenceRole()) is moving
    # the warped volume is what SimpleITK makes with the node's transform
    warped = slicer.util.arrayFromVolume(result.nodes["warped"])
    assert warped.shape == before[0].shape
    from CARLRegistrationLib.mrml.geometry import rasFromIjk, transformPoints

    indices = np.argwhere(before[0] > -500)[::211]
    grid = rasFromIjk(fixed)
    ras = indices[:, ::-1] @ grid[:3, :3].T + grid[:3, 3]
    mapped = transformPoints(node.GetTransformFromParent(), ras) * FLIP
    inside, values = [], []
    for point, index in zip(mapped.tolist(), indices, strict=True):
        place = truth.moving.TransformPhysicalPointToContinuousIndex(point)
        if all(1 < c < n - 2 for c, n in zip(place, truth.moving.GetSize(), strict=True)):
            inside.append(float(truth.moving.EvaluateAtPhysicalPoint(point, sitk.sitkLinear)))
            values.append(float(warped[tuple(index)]))
    assert len(inside) > 100 and np.corrcoef(inside, values)[0, 1] > 0.999
    # inputs and files
    assert all(np.array_equal(slicer.util.arrayFromVolume(n), a) for n, a in zip(pair, before, strict=True))
    assert list(temporary.iterdir()) == []
    # undo
    logic.undo()
    assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == 2
    left = set(slicer.util.getNodesByClass("vtkMRMLTransformableNode"))
    assert not left & set(result.nodes.values()) and not logic.canUndo


@pytest.mark.whole
def test_parents_are_respected(logic, pair, truth):
    """Fixed under a linear, moving under another and a warped parent: the result aligns what the views show."""
    import slicer

    fixed, moving = pair
    placedFixed = matrix(rotation((0, 0, 1), 12), (1, 1, 1), (30, -20, 300))
    fixed.SetAndObserveTransformNodeID(addLinear(placedFixed).GetID())
    warp = addWarp(reach=300.0)
    moving.SetAndObserveTransformNodeID(warp.GetID())
    result = logic.register(fixed, moving, settings=settings(), placeMoving=True)
    assert "resampled" in " ".join(result.notes)
    from CARLRegistrationLib.mrml.geometry import transformPoints, worldFromNode

    fixedLps, movingLps = truth.landmarks
    fixedWorld = (fixedLps * FLIP) @ placedFixed[:3, :3].T + placedFixed[:3, 3]
    markups = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "moving landmarks")
    slicer.util.updateMarkupsControlPointsFromArray(markups, movingLps * FLIP)
    markups.SetAndObserveTransformNodeID(moving.GetTransformNodeID())
    # placeMoving put the warp, and so all that is under it, under the result
    assert moving.GetParentTransformNode() is warp and warp.GetParentTransformNode() is result.nodes["transform"]
    seen = slicer.util.arrayFromMarkupsControlPoints(markups, world=True)
    assert np.linalg.norm(seen - fixedWorld, axis=1).mean() < 4.5
    # and the warped volume lies on the fixed one
    corner = transformPoints(worldFromNode(fixed), np.zeros((1, 3)))
    assert np.all(np.isfinite(corner))
    warped, reference = result.nodes["warped"], slicer.util.arrayFromVolume(fixed)
    assert warped.GetParentTransformNode() is None
    assert slicer.util.arrayFromVolume(warped).shape == reference.shape
    logic.undo()
    assert warp.GetParentTransformNode() is None


@pytest.mark.whole
def test_two_runs_in_a_row_into_the_same_nodes(logic, pair, truth):
    import slicer

    fixed, moving = pair
    first = logic.register(fixed, moving, settings=settings(io_steps=0))
    rough = landmarkError(first.nodes["transform"], truth)
    kept = slicer.util.arrayFromVolume(first.nodes["warped"]).copy()
    outputs = {
        "outputTransform": first.nodes["transform"],
        "outputInverse": first.nodes["inverse_transform"],
        "outputWarped": first.nodes["warped"],
        "outputJacobian": first.nodes["jacobian"],
        "outputUncertainty": first.nodes["uncertainty"],
    }
    count = len(contents())
    second = logic.register(fixed, moving, settings=settings(), **outputs)
    assert second.nodes == first.nodes and len(contents()) == count
    fine = landmarkError(second.nodes["transform"], truth)
    assert fine < rough and not np.array_equal(slicer.util.arrayFromVolume(second.nodes["warped"]), kept)
    logic.undo()
    assert landmarkError(first.nodes["transform"], truth) == pytest.approx(rough, abs=1e-6)
    assert np.array_equal(slicer.util.arrayFromVolume(first.nodes["warped"]), kept)
    assert len(contents()) == count


@pytest.mark.whole
def test_only_what_is_wanted_is_made_and_masks_arrive(logic, pair, truth):
    import slicer

    fixed, moving = pair
    array = (slicer.util.arrayFromVolume(fixed) > -500).astype(np.uint8)
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "body")
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(fixed)
    segmentId = segmentation.GetSegmentation().AddEmptySegment("body", "body")
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, segmentation, segmentId, fixed)
    result = logic.register(
        fixed,
        moving,
        settings=settings(),
        fixedMask=segmentation,
        fixedMaskSegment=segmentId,
        createInverse=False,
        createWarped=False,
        createJacobian=False,
        createUncertainty=False,
        keepJobFolder=True,
    )
    assert list(result.nodes) == ["transform"]
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(result.job_folder / "fixed_mask.mha")))
    assert np.array_equal(mask, array)
    assert landmarkError(result.nodes["transform"], truth) < 4.0


@pytest.mark.whole
def test_the_node_is_the_engines_file(logic, pair):
    """At the field's nodes and between them; what lies under the node lands on the fixed side.

    Between the nodes ITK interpolates linearly and Slicer cubically: the finer the field, the less that matters.
    """
    import slicer
    from CARLRegistrationLib.mrml.geometry import transformPoints

    result = logic.register(
        *pair,
        settings=settings(field_spacing_mm=2.5, io_steps=4, smoothness=3.0),
        createInverse=False,
        createWarped=False,
        createJacobian=False,
        createUncertainty=False,
        keepJobFolder=True,
    )
    written = sitk.ReadTransform(str(result.job_folder / "result" / "transform.h5"))
    parts = [sitk.CompositeTransform(written).GetNthTransform(i) for i in range(2)]
    (part,) = [part for part in parts if "DisplacementField" in part.GetName()]
    field = sitk.DisplacementFieldTransform(part).GetDisplacementField()
    size = np.array(field.GetSize())
    indices = np.random.default_rng(0).integers(1, size - 1, (300, 3))
    nodes = np.array([field.TransformIndexToPhysicalPoint(i) for i in indices.tolist()])
    between = nodes + 0.4 * np.array(field.GetSpacing())
    transform = result.nodes["transform"].GetTransformFromParent()
    for points, tolerance in ((nodes, 1e-3), (between, 0.05)):
        expected = np.array([written.TransformPoint(p) for p in points.tolist()])
        found = transformPoints(transform, points * FLIP) * FLIP
        assert np.linalg.norm(found - expected, axis=1).max() < tolerance
    bounds = np.zeros(6)
    pair[0].GetRASBounds(bounds)
    fixedPoints = np.random.default_rng(1).uniform(bounds[::2], bounds[1::2], (60, 3))
    markups = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "moving")
    moving = np.array([written.TransformPoint(p) for p in (fixedPoints * FLIP).tolist()]) * FLIP
    slicer.util.updateMarkupsControlPointsFromArray(markups, moving)
    markups.SetAndObserveTransformNodeID(result.nodes["transform"].GetID())
    seen = slicer.util.arrayFromMarkupsControlPoints(markups, world=True)
    assert np.linalg.norm(seen - fixedPoints, axis=1).max() < 0.1


def recorded(folder, quality: dict):
    """A result's folder with these metrics and no nodes to load."""
    import json

    (folder / "quality.json").write_text(json.dumps(quality))
    (folder / "settings.json").write_text("{}")
    return folder


def test_what_the_engine_warns_of_is_said_once_and_nothing_else(scene, moduleWidget, tmp_path):
    """The engine judges; the panel has no limits of its own."""
    from CARLRegistrationLib.mrml.undo import Undo
    from CARLRegistrationLib.register.job import Job
    from CARLRegistrationLib.register.result import loadResult, warningsOf

    wanted = {f"create{name}": False for name in OUTPUTS}
    poor = {
        "similarity": {"before": {"lncc": 0.7}, "after": {"lncc": 0.01}},
        "jacobian": {"fold_percent": 0.02},
        "overlap_percent": 12.0,
    }
    for warnings in ([], ["The map folds.", "Only 12 % of the fixed body lies in the moving volume."]):
        given = poor | {"warnings": [*warnings, *warnings]}
        nodes, quality, notes = loadResult(Job(None, None, **wanted), recorded(tmp_path, given), Undo())
        assert (nodes, notes, quality) == ({}, [], given) and warningsOf(quality) == warnings


def test_settings_reach_the_engine(scene, moduleWidget, tmp_path):
    """Through settings.json in the job folder, whatever they are; the command line adds none of its own."""
    from carlreg.cli.main import build_parser
    from carlreg.cli.options import settings_from
    from carlreg.settings import RegistrationSettings
    from CARLRegistrationLib.register.job import Job
    from CARLRegistrationLib.register.run import writeInputs

    changed = RegistrationSettings(
        transform="rigid",
        model="unigradicon",
        weights="/a b/w.trch",
        allow_untrained=True,
        robustness="rotation",
        fixed_modality="ct",
        moving_modality="mr",
        effort="fast",
        io_method="network",
        io_steps=0,
        similarity="mind",
        stretch_bounds=(0.8, 1.25, 1.2),
        symmetric=True,
        landmarks_accuracy_mm=0.5,
        smoothness=2.5,
        field_spacing_mm=3.5,
        grid=96,
        device="cuda:1",
        seed=5,
        threads=3,
    )
    default = RegistrationSettings()
    assert all(
        getattr(changed, field.name) != getattr(default, field.name)
        for field in dataclasses.fields(RegistrationSettings)
    )
    volumes = [addVolume(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4), name) for name in ("one", "two")]
    for number, wanted in enumerate((changed, default)):
        folder = tmp_path / str(number)
        folder.mkdir()
        arguments, notes = writeInputs(Job(*volumes, settings=wanted), folder)
        args = build_parser().parse_args(["register", *arguments, "--out", "result"])
        args.settings = folder / args.settings
        assert settings_from(args) == wanted and notes == []
