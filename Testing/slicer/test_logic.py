"""Whole runs through the real engine in its real process; bad input; what is left behind."""

import dataclasses
import os
import signal
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


def engineIsGone(pid) -> bool:
    time.sleep(0.1)
    status = Path(f"/proc/{pid}/status")
    return not status.exists() or "State:\tZ" in status.read_text()


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
    assert result.nodes["warped"].GetName() == "CARLSampleMoving warped to CARLSampleFixed"
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

    result = logic.register(*pair, settings=settings(field_spacing_mm=2.0, io_steps=4), keepJobFolder=True)
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
        model="unigradicon",
        weights="/a b/w.trch",
        allow_untrained=True,
        robustness="rotation",
        fixed_modality="ct",
        moving_modality="mr",
        io_method="network",
        io_steps=7,
        similarity="mind",
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
        args = build_parser().parse_args(arguments)
        args.settings = folder / args.settings
        assert settings_from(args) == wanted and notes == []


# --- stopping


class Callbacks:
    """What a run that is not waited for says."""

    def __init__(self) -> None:
        self.statuses, self.results, self.errors = [], [], []

    def arguments(self) -> dict:
        return {"onStatus": self.statuses.append, "onDone": self.results.append, "onFailed": self.errors.append}

    @property
    def over(self) -> bool:
        return bool(self.results or self.errors)


def started(host, logic, pair, until="optimize", **options):
    """A run that has come to a stage."""
    callbacks = Callbacks()
    given = settings(io_steps=400)
    assert logic.register(*pair, wait=False, settings=given, **callbacks.arguments(), **options) is None
    host.process_events(until=lambda: callbacks.over or any(s.stage == until for s in callbacks.statuses), timeout=60)
    assert not callbacks.over and logic.isRunning
    return callbacks, logic._registration.task.process.pid


def test_cancel(host, logic, pair, temporary, heldEngine):
    from CARLRegistrationLib.common.errors import RegistrationCancelled

    before = contents()
    callbacks, pid = started(host, logic, pair)
    logic.cancel()
    host.process_events(until=lambda: callbacks.over, timeout=10)
    assert isinstance(callbacks.errors[0], RegistrationCancelled) and callbacks.results == []
    assert contents() == before and list(temporary.iterdir()) == [] and engineIsGone(pid)
    assert not logic.isRunning and not logic.canUndo


def test_scene_closed_in_mid_run(host, logic, pair, temporary, heldEngine):
    callbacks, pid = started(host, logic, pair)
    host.close_scene()
    assert engineIsGone(pid)  # it does not wait for the run's end
    assert not logic.isRunning and "ended with the scene" in str(callbacks.errors[0])
    assert list(temporary.iterdir()) == []
    host.process_events(seconds=0.5)
    assert callbacks.results == [] and len(callbacks.errors) == 1


def test_child_killed_from_outside(host, logic, pair, temporary, heldEngine):
    before = contents()
    callbacks, pid = started(host, logic, pair)
    os.killpg(pid, signal.SIGKILL)
    host.process_events(until=lambda: callbacks.over, timeout=10)
    (error,) = callbacks.errors
    assert error.unexpected and "stopped unexpectedly" in str(error)
    assert contents() == before and list(temporary.iterdir()) == []


def test_one_at_a_time(host, logic, pair, heldEngine):
    from CARLRegistrationLib.common.errors import RegistrationError

    callbacks, _pid = started(host, logic, pair, until="prepare")
    with pytest.raises(RegistrationError, match="is running"):
        logic.register(*pair)
    logic.cancel()
    host.process_events(until=lambda: callbacks.over, timeout=10)


def fakeEngine(tmp_path, code):
    """A Python whose `-m carlreg` is this code: a script that stands for the interpreter."""
    script = tmp_path / "python"
    fit = """{"python": "3.12.0", "missing": {}, "devices": []}"""
    script.write_text(f"#!/bin/sh\nif [ $3 = check ]; then echo '{fit}'; exit 0; fi\n{code}\n")
    script.chmod(0o755)
    return str(script)


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
@pytest.mark.parametrize(
    ("code", "message", "unexpected"),
    [
        ("echo 'Error: The disk is full; nothing was written.' >&2; exit 1", "The disk is full", False),
        ("echo 'Error: Not enough memory. Choose --grid 96.' >&2; exit 2", "Choose Network grid 96", False),
        ("echo 'Traceback: boom' >&2; exit 1", "stopped unexpectedly", True),
        ("kill -SEGV $$", "stopped unexpectedly", True),
        ("exit 0", "could not be loaded", True),
    ],
)
def test_what_the_engine_says_arrives(logic, pair, tmp_path, temporary, code, message, unexpected):
    from CARLRegistrationLib.common.errors import RegistrationError

    before = contents()
    python = fakeEngine(tmp_path, code)
    with pytest.raises(RegistrationError, match=message) as caught:
        logic.register(*pair, enginePython=python)
    assert caught.value.unexpected == unexpected
    assert contents() == before and list(temporary.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("exit 1", "no Python that can run the engine"),
        ("echo hello", "no Python that can run the engine"),
        ("""echo '{"python": "3.8.1", "missing": {}, "devices": []}'""", "Python 3.8.1 is too old"),
        ("""echo '{"python": "3.12.0", "missing": {"torch": "x"}, "devices": []}'""", "Missing there: torch"),
    ],
)
def test_another_python_is_checked_before_use(logic, pair, tmp_path, temporary, answer, message):
    from CARLRegistrationLib.common.errors import RegistrationError

    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\nif [ $3 = check ]; then {answer}; exit $?; fi\ntouch {tmp_path}/used\n")
    script.chmod(0o755)
    before = contents()
    with pytest.raises(RegistrationError, match=message):
        logic.register(*pair, enginePython=str(script))
    assert not (tmp_path / "used").exists() and contents() == before and list(temporary.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_cancel_while_another_python_is_checked(host, logic, pair, tmp_path, temporary):
    from CARLRegistrationLib.common.errors import RegistrationCancelled

    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexec sleep 600\n")
    script.chmod(0o755)
    callbacks = Callbacks()
    logic.register(*pair, wait=False, enginePython=str(script), **callbacks.arguments())
    host.process_events(0.3)
    assert callbacks.statuses[-1].stage == "check"
    logic.cancel()
    host.process_events(until=lambda: callbacks.over, timeout=5)
    assert isinstance(callbacks.errors[0], RegistrationCancelled) and list(temporary.iterdir()) == []


def test_another_python_does_the_job(logic, pair, truth):
    """This one, by its path: as an environment of the user's would."""
    import sys

    result = logic.register(*pair, settings=settings(), enginePython=sys.executable, createInverse=False)
    assert landmarkError(result.nodes["transform"], truth) < 4.0


# --- bad input: a clear message, no change to the scene


def blank(name="blank", className="vtkMRMLScalarVolumeNode", shape=(9, 9, 9)):
    return addVolume(np.zeros(shape, np.int16), np.eye(4), name, className)


def badInputs():
    """name -> (what makes the options, the message)."""
    import slicer

    def node(className, name="n"):
        return slicer.mrmlScene.AddNewNodeByClass(className, name)

    def sequenceFrame(fixed, moving):
        browser, sequence = node("vtkMRMLSequenceBrowserNode"), node("vtkMRMLSequenceNode")
        sequence.SetDataNodeAtValue(fixed, "0")
        browser.AddSynchronizedSequenceNode(sequence)
        proxy = browser.GetProxyNode(sequence)
        return {"fixedVolume": proxy}

    return {
        "no volume": (lambda f, m: {"fixedVolume": None}, "Choose a fixed volume"),
        "no moving volume": (lambda f, m: {"movingVolume": None}, "Choose a moving volume"),
        "same volume": (lambda f, m: {"movingVolume": f}, "the same volume"),
        "no output": (
            lambda f, m: {f"create{name}": False for name in OUTPUTS},
            "No output is chosen",
        ),
        "vector volume": (
            lambda f, m: {"fixedVolume": blank("color", "vtkMRMLVectorVolumeNode", (9, 9, 9, 3))},
            "color or vector volume",
        ),
        "sequence": (sequenceFrame, "one frame of a sequence"),
        "empty": (lambda f, m: {"fixedVolume": node("vtkMRMLScalarVolumeNode")}, "no voxels"),
        "2-D": (lambda f, m: {"fixedVolume": blank("slice", shape=(1, 9, 9))}, "must be 3-D, its size is 9 x 9 x 1"),
        "output is input": (lambda f, m: {"outputWarped": m}, "both an input and an output"),
        "output is a parent": (lambda f, m: {"outputTransform": underTransform(m)}, "both an input and an output"),
        "linear output": (
            lambda f, m: {"outputTransform": node("vtkMRMLLinearTransformNode")},
            "must be a general transform",
        ),
        "one node twice": (lambda f, m: twice(node("vtkMRMLScalarVolumeNode")), "chosen for two outputs"),
        "weights missing": (lambda f, m: {"settings": settings(weights="/nowhere/w.trch")}, "is not there"),
        "weights needed": (lambda f, m: {"settings": settings(model="unigradicon")}, "Choose your weights file"),
        "mask elsewhere": (
            lambda f, m: {
                "fixedMask": addVolume(
                    np.ones((3, 3, 3), np.int16),
                    matrix(np.eye(3), (1, 1, 1), (9999, 0, 0)),
                    "far",
                    "vtkMRMLLabelMapVolumeNode",
                )
            },
            "does not touch its volume",
        ),
        "python missing": (lambda f, m: {"enginePython": "/nowhere/python"}, "/nowhere/python is not there"),
    }


def underTransform(node):
    import slicer

    parent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "parent")
    node.SetAndObserveTransformNodeID(parent.GetID())
    return parent


def twice(node):
    return {"outputWarped": node, "outputJacobian": node}


@pytest.mark.parametrize(
    "name",
    [
        "no volume",
        "no moving volume",
        "same volume",
        "no output",
        "vector volume",
        "sequence",
        "empty",
        "2-D",
        "output is input",
        "output is a parent",
        "linear output",
        "one node twice",
        "weights missing",
        "weights needed",
        "mask elsewhere",
        "python missing",
    ],
)
def test_bad_input(logic, pair, temporary, name):
    from CARLRegistrationLib.common.errors import RegistrationError

    make, message = badInputs()[name]
    options = {"fixedVolume": pair[0], "movingVolume": pair[1]} | make(*pair)
    before = contents()
    with pytest.raises(RegistrationError, match=message):
        logic.register(options.pop("fixedVolume"), options.pop("movingVolume"), **options)
    assert contents() == before and list(temporary.iterdir()) == [] and not logic.isRunning


@pytest.mark.parametrize("case", ["wrong weights", "NaN", "constant"])
def test_bad_input_that_the_engine_finds(logic, pair, temporary, tmp_path, case):
    import slicer
    from CARLRegistrationLib.common.errors import RegistrationError

    fixed, moving = pair
    options = {}
    if case == "wrong weights":
        (tmp_path / "w.trch").write_bytes(b"this is not a checkpoint")
        options["settings"] = settings(model="unigradicon", weights=str(tmp_path / "w.trch"))
        message = "w.trch"
    elif case == "NaN":
        array = slicer.util.arrayFromVolume(fixed).astype(np.float32)
        array[5, 5, 5] = np.nan
        slicer.util.updateVolumeFromArray(fixed, array)
        message = "NaN"
    else:
        slicer.util.updateVolumeFromArray(moving, np.full((20, 20, 20), 7, np.int16))
        message = "all voxels have the value 7"
    before = contents()
    with pytest.raises(RegistrationError, match=message) as caught:
        logic.register(fixed, moving, **options)
    assert not caught.value.unexpected and contents() == before and list(temporary.iterdir()) == []


def test_disk_full_while_the_inputs_are_written(logic, pair, temporary, monkeypatch):
    from CARLRegistrationLib.common.errors import RegistrationError

    def full(image, path):
        Path(path).write_bytes(b"half")
        raise RuntimeError("No space left on device")

    monkeypatch.setattr(sitk, "WriteImage", full)
    before = contents()
    with pytest.raises(RegistrationError, match="disk may be full"):
        logic.register(*pair)
    assert contents() == before and list(temporary.iterdir()) == []
