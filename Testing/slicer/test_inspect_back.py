"""Inspect: leaving puts everything back; the way of the transform; what cannot be compared."""

# ruff: noqa: F811 (fixtures that are imported)
import numpy as np
import pytest

from .test_inspect_views import (  # noqa: F401
    SIZE,
    blob,
    case,
    inspect,
    pairs,
    placed,
    show,
    shown,
)
from .volumes import DIRECTIONS, OBLIQUE, addLinear, addVolume, matrix

# --- back


def everything():
    """All nodes, and what the views show."""
    import slicer
    from CARLRegistrationLib.inspect.snapshot import Snapshot

    scene = slicer.mrmlScene
    nodes = [scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes())]
    taken = Snapshot.take()
    slices = {key: (value[0].tolist(), *value[1:]) for key, value in taken.slices.items()}
    displays = {
        node.GetID(): (node.GetWindow(), node.GetLevel(), node.GetColorNodeID(), node.GetInterpolate())
        for node in nodes
        if node.IsA("vtkMRMLScalarVolumeDisplayNode")
    }
    return {
        "nodes": sorted(node.GetID() for node in nodes),
        "layout": taken.layout,
        "layers": taken.layers,
        "composites": taken.composites,
        "slices": slices,
        "crosshair": taken.crosshair,
        "displays": displays,
    }


def test_leaving_puts_everything_back_exactly(host, inspect, case, shown):
    from CARLRegistrationLib.mrml import colors

    jacobian = addVolume(np.full((SIZE,) * 3, 1.1, np.float32), placed(), "jacobian")
    uncertainty = addVolume(np.full((SIZE,) * 3, 1.1, np.float32), placed(), "uncertainty")
    colors.style(jacobian, colors.determinantScale())
    for scale in (colors.logScale(), colors.uncertaintyScale(2.0)):
        colors.tableOf(scale)
    colors.style(uncertainty, colors.uncertaintyScale(2.0))
    # an unusual state: turned, zoomed, other layers, linked differently in each view
    for n, (sliceNode, composite) in enumerate(pairs()):
        sliceNode.SetOrientation(("Sagittal", "Coronal", "Axial")[n])
        sliceNode.SetSliceOffset(3.0 + n)
        sliceNode.SetFieldOfView(70 + n, 71, 1)
        sliceNode.SetXYZOrigin(2, 3 + n, 0)
        composite.SetBackgroundVolumeID(jacobian.GetID() if n else None)
        composite.SetLabelVolumeID(uncertainty.GetID())
        composite.SetForegroundOpacity(0.3 + 0.1 * n)
        composite.SetLinkedControl(n == 1)
        composite.SetCompositing(n)
    before = everything()
    for mode in ("OVERLAY", "CHECKERBOARD", "FLICKER", "DIFFERENCE", "SIDE_BY_SIDE"):
        for share in (1.0, 0.4):
            show(inspect, case, mode, share=share, redCyan=share < 1)
    for log in (True, False):
        show(inspect, case, "JACOBIAN", jacobian, log=log)
    show(inspect, case, "UNCERTAINTY", uncertainty)
    inspect.deform(False, 10.0)
    assert everything() != before
    inspect.leave()
    host.process_events(0.3)
    after = everything()
    for part, value in before.items():
        assert after[part] == value, part
    assert not inspect.active


def test_nothing_temporary_is_saved(host, inspect, case, shown, tmp_path):
    show(inspect, case, "DIFFERENCE")
    show(inspect, case, "CHECKERBOARD")
    host.save_scene(tmp_path / "scene.mrb")
    inspect.leave()
    host.load_scene(tmp_path / "scene.mrb")
    import slicer

    names = {node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLVolumeNode")}
    assert names == {"fixed", "moving"}


def test_a_removed_volume_does_no_harm_to_leaving(inspect, case, shown):
    import slicer

    show(inspect, case, "OVERLAY")
    slicer.mrmlScene.RemoveNode(case.moving)
    inspect.leave()
    assert not inspect.active


# --- the way of the transform


def test_part_of_a_turn_is_a_turn(case):
    from CARLRegistrationLib.inspect.case import Case
    from CARLRegistrationLib.inspect.partial import PartialMap
    from CARLRegistrationLib.mrml.geometry import transformPoints

    from .volumes import rotation

    turn = np.eye(4)
    turn[:3, :3] = rotation((0, 0, 1), 80)
    whole = Case(case.fixed, case.moving, addLinear(np.linalg.inv(turn)))
    partial = PartialMap(whole)
    points = np.array([[20.0, 5, 3], [-7, 30, 12]])
    for share in (0.0, 0.25, 0.5, 1.0):
        expected = points @ rotation((0, 0, 1), 80 * share).T
        assert np.abs(transformPoints(partial.at(share), points) - expected).max() < 1e-3
    assert np.abs(transformPoints(partial.local(), points) - points).max() < 1e-3


def test_the_way_begins_with_centers_aligned_when_little_overlaps(case):
    from CARLRegistrationLib.inspect.case import Case
    from CARLRegistrationLib.inspect.partial import PartialMap
    from CARLRegistrationLib.mrml.geometry import transformPoints

    far = placed()
    far[:3, 3] += (500.0, 40.0, -300.0)
    moving = addVolume(blob(), far, "far")
    back = np.eye(4)
    back[:3, 3] = (-503.0, -40.0, 300.0)
    away = Case(case.fixed, moving, addLinear(back))
    away.check()
    assert away.shareBefore() == 0.0
    found = transformPoints(PartialMap(away).at(0.0), np.zeros((1, 3)))[0]
    assert np.abs(found - (500.0, 40.0, -300.0)).max() < 1e-6


def test_a_moving_volume_placed_under_the_transform_is_not_warped_twice(inspect, case, shown):
    show(inspect, case, "OVERLAY", opacity=1.0)
    plain = shown()
    inspect.leave()
    case.moving.SetAndObserveTransformNodeID(case.transform.GetID())
    show(inspect, case, "OVERLAY", opacity=1.0)
    assert np.abs(shown() - plain).mean() < 0.5


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_resampled_equals_sitk(case, direction):
    """Another grid on the moving side, flipped or oblique: as SimpleITK resamples it."""
    import SimpleITK as sitk
    from CARLRegistrationLib.inspect.case import Case
    from CARLRegistrationLib.inspect.partial import resampled
    from CARLRegistrationLib.mrml.geometry import rasFromIjk
    from CARLRegistrationLib.mrml.volumes import worldImage

    moving = addVolume(blob(), placed(direction=DIRECTIONS[direction]), "moving")
    other = Case(case.fixed, moving, case.transform)
    values, inside, _lattice = resampled(moving, other.fullMap(), rasFromIjk(case.fixed), (SIZE,) * 3)
    shift = sitk.TranslationTransform(3, (-12.0, 0.0, 0.0))  # R +12 is L -12
    expected = sitk.Resample(worldImage(moving, "")[0], worldImage(case.fixed, "")[0], shift, sitk.sitkLinear, -999.0)
    expected = sitk.GetArrayFromImage(sitk.Cast(expected, sitk.sitkFloat32))
    both = inside & (expected > -999)
    assert both.mean() > 0.5 and np.abs(values - expected)[both].max() < 1.01  # SimpleITK rounds to the pixel type


# --- bad input, in words


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: {"fixed": None}, "Choose a fixed volume"),
        (lambda c: {"moving": None}, "Choose a moving volume"),
        (lambda c: {"transform": None}, "Choose a transform"),
        (lambda c: {"moving": c.fixed}, "same volume"),
        (
            lambda c: {"transform": addLinear(matrix(np.eye(3), [1, 1, 1], (900, 0, 0)), "elsewhere")},
            "elsewhere no part",
        ),
    ],
)
def test_what_cannot_be_compared_is_said(case, change, message):
    import dataclasses

    from CARLRegistrationLib.common.errors import RegistrationError

    with pytest.raises(RegistrationError, match=message):
        dataclasses.replace(case, **change(case)).check()


def test_a_transform_of_other_volumes_is_said(case):
    import dataclasses

    import slicer
    from CARLRegistrationLib.common.errors import RegistrationError

    kind = slicer.vtkMRMLTransformNode
    far = np.eye(4)
    far[0, 3] = 700.0
    inverse = addLinear(far, "inverse")
    inverse.SetNodeReferenceID(kind.GetFixedNodeReferenceRole(), case.moving.GetID())
    inverse.SetNodeReferenceID(kind.GetMovingNodeReferenceRole(), case.fixed.GetID())
    with pytest.raises(RegistrationError, match="the inverse"):
        dataclasses.replace(case, transform=inverse).check()
    case.fixed.SetAndObserveTransformNodeID(case.transform.GetID())
    with pytest.raises(RegistrationError, match="itself placed under"):
        case.check()


def test_oblique_is_shown_aligned(inspect, shown):
    """Fixed and moving on oblique grids of different size: warped over fixed is fixed."""
    from CARLRegistrationLib.inspect.case import Case

    fixed = addVolume(blob(), placed(), "fixed")
    resliced = addVolume(blob(size=48), placed(48, 2.0, OBLIQUE), "moving")
    turn = np.eye(4)
    turn[:3, :3] = OBLIQUE.T
    case = Case(fixed, resliced, addLinear(turn))
    for node in (fixed, resliced):
        node.GetDisplayNode().SetAutoWindowLevel(False)
        node.GetDisplayNode().SetWindowLevelMinMax(0, 255)
    show(inspect, case, "OVERLAY", opacity=0.0)
    one = shown()
    show(inspect, case, "OVERLAY", opacity=1.0)
    assert np.abs(shown() - one).mean() < 2
