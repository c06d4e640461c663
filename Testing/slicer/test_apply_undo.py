"""Applying a transform: the way back, and what is said when it cannot be done."""

# ruff: noqa: F811 (fixtures that are imported)
from __future__ import annotations

import time

import numpy as np
import pytest
import SimpleITK as sitk

from .test_apply_run import (  # noqa: F401
    MOVING_SIZE,
    SIZE,
    case,
    choices,
    ids,
    imageOf,
    organs,
    picture,
    placed,
    run,
    temporary,
)
from .test_apply_scene import (  # noqa: F401
    landmarks,
    method,
    points,
    sequence,
    sphere,
    toMoving,
    voxels,
)
from .volumes import OBLIQUE, addLinear, addVolume, addWarp

# --- the way back, and in the middle


def test_undo_removes_all_that_came(case, scene):
    from CARLRegistrationLib.apply.job import ApplyJob
    from CARLRegistrationLib.apply.run import Applying
    from CARLRegistrationLib.common.polling import waitFor

    _fixed, moving = case.inMoving(4)
    organ, _grid = organs(case)
    nodes = (case.moving, landmarks(moving), sphere(moving[0]), organ)
    before = ids(scene)
    applying = Applying(ApplyJob(nodes, case.transform))
    applying.start()
    assert len(waitFor(applying).made) == 4
    assert len(ids(scene) - before) >= 8  # with display nodes
    applying.undo.apply()
    assert ids(scene) == before


@pytest.mark.parametrize(
    ("how", "step"),
    [
        ("RESAMPLE", "Writing moving"),
        ("RESAMPLE", "Resampling volumes"),
        ("RESAMPLE", "Mapping model"),
        ("HARDEN", "Hardening landmarks"),
        ("HARDEN", "Hardening model"),
        ("PLACE", "Placing landmarks"),
        ("PLACE", "Placing model"),
    ],
)
def test_cancelled_midway_nothing_is_left(case, scene, how, step):
    import slicer
    from CARLRegistrationLib.apply.job import ApplyJob
    from CARLRegistrationLib.apply.run import Applying
    from CARLRegistrationLib.common.errors import RegistrationCancelled

    _fixed, moving = case.inMoving(4)
    nodes = (case.moving, landmarks(moving), sphere(moving[0]))
    before, content = ids(scene), slicer.util.arrayFromVolume(case.moving).copy()
    told = []
    applying = Applying(ApplyJob(nodes, case.transform, method=method(how), inPlace=how == "HARDEN"))
    applying._tell = lambda text, share: (told.append(text), text.startswith(step) and applying.cancel())
    applying.start()
    with pytest.raises(RegistrationCancelled, match="nothing was changed"):
        while applying.poll() is None:
            time.sleep(0.01)
            assert len(told) < 1_000_000
    assert ids(scene) == before and applying._task is None
    assert all(node.GetParentTransformNode() is None for node in nodes)
    assert np.array_equal(slicer.util.arrayFromVolume(case.moving), content)
    assert np.array_equal(points(nodes[1]), moving)


def test_a_failure_in_the_middle_of_adding_leaves_nothing(case, scene, monkeypatch):
    from CARLRegistrationLib.apply import ApplyJob, apply
    from CARLRegistrationLib.common.errors import RegistrationError
    from CARLRegistrationLib.mrml import hierarchy

    _fixed, moving = case.inMoving(4)
    before, calls = None, []
    nodes = (landmarks(moving), sphere(moving[0]))
    before = ids(scene)

    def second(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise RuntimeError("no more")

    monkeypatch.setattr(hierarchy, "addImage", second)
    with pytest.raises(RegistrationError, match="Please report this: no more"):
        apply(ApplyJob(nodes, case.transform))
    assert ids(scene) == before


# --- in words


def error(*nodes, transform, **options):
    from CARLRegistrationLib.common.errors import RegistrationError

    with pytest.raises(RegistrationError) as caught:
        run(*nodes, transform=transform, **options)
    assert not caught.value.unexpected
    return str(caught.value)


def test_what_cannot_be_done_is_said(case, scene):
    import slicer

    grids, interpolations = choices().ApplyGrid, choices().ApplyInterpolation
    empty = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "organs")
    drawn = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "nothing drawn")
    drawn.GetSegmentation().AddEmptySegment("liver", "liver")
    table = scene.AddNewNodeByClass("vtkMRMLTableNode", "figures")
    blank = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "blank")
    unborn = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "unborn")
    free = addLinear(np.diag([1.0, 1.0, 1.0, 1.0]), "free")
    flat = addLinear(np.diag([1.0, 1.0, 0.0, 1.0]), "flat")
    far = addVolume(picture(SIZE), placed(SIZE, (3, 3, 3), np.eye(3), (900, 0, 0)), "far away")
    hidden = addVolume(picture(SIZE), placed(SIZE, (3, 3, 3), np.eye(3), (0, 700, 0)), "reference elsewhere")
    given, _browser = sequence(case, browse=False)
    before = ids(scene)
    t = case.transform
    emptied = scene.AddNewNodeByClass("vtkMRMLTransformNode", "of an empty volume")
    emptied.CopyContent(t, True)
    emptied.SetNodeReferenceID(emptied.GetFixedNodeReferenceRole(), blank.GetID())
    assert "of an empty volume does not say" in error(case.moving, transform=emptied)
    before.add(emptied.GetID())
    assert "Check at least one node" in error(transform=t)
    assert "Choose a transform" in error(case.moving, transform=None)
    assert "organs: the segmentation is empty" in error(empty, transform=t)
    assert "nothing drawn: the segmentation is empty" in error(case.moving, drawn, transform=t)
    assert "figures: a transform cannot be applied to a Table" in error(table, transform=t)
    assert "blank has no voxels" in error(blank, transform=t)
    assert "unborn: the sequence has no frames" in error(unborn, transform=t)
    assert "landmarks has no points" in error(landmarks([], "landmarks"), transform=t)
    assert "flat: the transform is singular" in error(case.moving, transform=flat)
    assert "free does not say which volumes" in error(case.moving, transform=free)
    assert "Choose a reference volume" in error(case.moving, transform=t, grid=grids.REFERENCE)
    assert "far away lies outside moving, which moving to fixed was made for" in error(far, transform=t)
    assert "far away lies outside moving" in error(far, transform=t, method=method("PLACE"))
    said = error(case.moving, transform=t, grid=grids.REFERENCE, reference=hidden)
    assert "Under moving to fixed no part of moving lies in reference elsewhere" in said
    said = error(far, transform=free, grid=grids.REFERENCE, reference=case.fixed)
    assert "no part of far away lies in fixed" in said
    said = error(case.moving, transform=t, massPreserving=True, interpolation=interpolations.NEAREST)
    assert "Mass-preserving scales intensities" in said
    assert "no browser shows this sequence" in error(given, transform=t, method=method("PLACE"))
    said = error(given, transform=t, method=method("HARDEN"), inPlace=True)
    assert "not changed in place" in said
    case.fixed.SetAndObserveTransformNodeID(t.GetID())
    assert "fixed is itself placed under moving to fixed" in error(case.moving, transform=t)
    case.fixed.SetAndObserveTransformNodeID(None)
    array = slicer.util.arrayFromVolume(case.moving).astype(np.float32)
    array[3, 3, 3] = np.nan
    grid = placed(MOVING_SIZE, (3.1, 3.3, 3.7), OBLIQUE, case.toMoving([[0, 0, 0]])[0])
    broken = addVolume(array, grid, "PET")
    assert "PET" in error(broken, transform=t) and "NaN" in error(broken, transform=t)
    assert ids(scene) - before <= {broken.GetID(), *(n.GetID() for n in _ownOf(broken)), *_markups(scene)}


def _ownOf(node):
    return [n for n in (node.GetDisplayNode(), node.GetStorageNode()) if n is not None]


def _markups(scene):
    return {n for n in ids(scene) if "Markups" in n}


def test_segments_that_fall_outside_are_named(case):
    import slicer

    node, _grid = organs(case)
    from .test_inspect_jacobian import addSegment

    away = placed((12, 12, 12), (2, 2, 2), np.eye(3), case.toMoving([[0, 0, 0]])[0] + (0, 0, 300))
    node.GetSegmentation().AddEmptySegment("later", "drawn later")  # as empty as before: nothing to tell
    addSegment(node, "foot", away, np.s_[2:8, 2:8, 2:8], (12, 12, 12))
    result = run(node, transform=case.transform)
    assert result.notes == ["organs: outside the new grid, and empty there: foot."]
    assert result.made[0][1].GetSegmentation().GetNumberOfSegments() == 4
    assert slicer.util.arrayFromSegmentBinaryLabelmap(result.made[0][1], "id foot", case.fixed).sum() == 0


def test_a_transform_that_files_cannot_hold_is_sampled_and_said(case):
    """A thin plate spline, to parent: no field at all."""
    import slicer
    from CARLRegistrationLib.mrml.geometry import transformPoints

    warp = addWarp("spline", reach=120.0)
    grids = choices().ApplyGrid
    grid = placed(MOVING_SIZE, (3, 3, 3), np.eye(3), (6, 2, 3))
    volume = addVolume(picture(MOVING_SIZE, 4), grid, "scan")
    result = run(volume, transform=warp, grid=grids.REFERENCE, reference=case.fixed)
    assert result.made[0][1].GetName() == "scan in fixed" and "spline was sampled every" in result.notes[0]
    at = np.random.default_rng(5).uniform(-20, 20, (300, 3))
    flip = np.array([-1.0, -1.0, 1.0])
    there = transformPoints(warp.GetTransformFromParent(), at)
    value = [imageOf(volume).EvaluateAtPhysicalPoint(p, sitk.sitkLinear) for p in (there * flip).tolist()]
    made = imageOf(result.made[0][1])
    seen = [made.EvaluateAtPhysicalPoint(p, sitk.sitkLinear) for p in (at * flip).tolist()]
    assert np.corrcoef(value, seen)[0, 1] > 0.97
    assert slicer.mrmlScene.GetNodeByID(warp.GetID()) is warp
