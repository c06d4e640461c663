"""Transform nodes as files and back: what the engine reads is the node's map of the world."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk

from .test_inspect_jacobian import addField
from .volumes import DIRECTIONS, FLIP, OBLIQUE, addLinear, addVolume, addWarp, composite, matrix, rotation

POINTS = np.random.default_rng(5).uniform(-28, 28, (40, 3))


@pytest.fixture
def files(scene, moduleWidget):
    from CARLRegistrationLib.transforms import files as transforms_files

    return transforms_files


@pytest.fixture
def nodes(scene, moduleWidget):
    from CARLRegistrationLib.mrml import transforms

    return transforms


def bump(points):
    """A gentle displacement, RAS mm."""
    weight = np.cos(np.pi * points / 160.0).prod(axis=1)
    return np.column_stack([4 * weight, -3 * weight, 2 * weight])


def affine(degrees=10.0):
    made = np.eye(4)
    made[:3, :3] = rotation((1, 2, 3), degrees) @ np.diag([1.05, 0.95, 1.0])
    made[:3, 3] = (4, -6, 3)
    return made


def volume(name="fixed", direction="oblique", edge=30):
    axes = DIRECTIONS[direction]
    own = matrix(axes, (2.0, 2.2, 2.5), -axes @ (np.array([2.0, 2.2, 2.5]) * (edge - 1) / 2))
    return addVolume(np.random.default_rng(0).integers(0, 99, (edge,) * 3).astype(np.int16), own, name)


def throughNode(node, points=POINTS):
    """World points through a node and its parents, from the world."""
    import vtk
    from CARLRegistrationLib.mrml.geometry import transformPoints

    made = vtk.vtkGeneralTransform()
    node.GetTransformFromWorld(made)
    return transformPoints(made, points)


def throughFile(path, points=POINTS):
    transform = sitk.ReadTransform(str(path))
    return np.array([transform.TransformPoint(point) for point in (points * FLIP).tolist()]) * FLIP


def grid(node):
    from CARLRegistrationLib.mrml.volumes import worldImage

    return worldImage(node, "fixed volume")[0]


def off(node, path):
    expected = throughNode(node)
    assert np.linalg.norm(expected - POINTS, axis=1).min() > 0.5
    return np.linalg.norm(throughFile(path) - expected, axis=1).max()


def test_what_files_can_hold_is_written_as_it_is(nodes, tmp_path):
    path = tmp_path / "out.h5"
    for node, tolerance in ((addLinear(affine()), 1e-9), (addField(bump, reach=80, nodes=41), 0.05)):
        assert nodes.writeNode(node, path, None) == ""
        assert off(node, path) < tolerance
    read = nodes.addTransform(path, "again")  # a file of Slicer's, back in Slicer
    assert np.abs(throughNode(read) - throughNode(node)).max() < 1e-3
    assert sitk.ReadTransform(str(path)).GetName() == "DisplacementFieldTransform"


def test_chained_nodes_are_flattened_to_the_world(nodes, scene, tmp_path):
    top, middle, bottom = addLinear(affine(), "top"), addField(bump, reach=90, nodes=46), addLinear(affine(-20), "low")
    middle.SetAndObserveTransformNodeID(top.GetID())
    bottom.SetAndObserveTransformNodeID(middle.GetID())
    path = tmp_path / "chain.h5"
    assert nodes.writeNode(bottom, path, None) == ""
    assert off(bottom, path) < 0.05
    bottom.SetAndObserveTransformNodeID(top.GetID())
    assert nodes.writeNode(bottom, path, None) == ""
    assert off(bottom, path) < 1e-9


def test_the_rest_is_sampled_and_that_is_said(nodes, tmp_path):
    from CARLRegistrationLib.common.errors import RegistrationError

    warp, fixed, path = addWarp(), volume(), tmp_path / "warp.h5"
    with pytest.raises(RegistrationError, match="Choose the volume around which it is sampled"):
        nodes.writeNode(warp, path, None)
    note = nodes.writeNode(warp, path, grid(fixed))
    said = float(note.split(":")[1].split("mm off")[0])
    assert "warp was sampled every" in note and off(warp, path) <= 1.2 * said < 0.05
    turned = addField(bump, reach=80, nodes=41)
    turned.Inverse()  # to parent now: the other tools' readers do not know it
    assert "sampled" in nodes.writeNode(turned, path, grid(fixed)) and off(turned, path) < 0.05


def test_singular_and_empty_transforms(files, scene, tmp_path):
    from CARLRegistrationLib.common.errors import RegistrationError

    flat = np.diag([1.0, 1.0, 0.0, 1.0])
    below, top = addLinear(affine(), "below"), addLinear(flat, "flat")
    below.SetAndObserveTransformNodeID(top.GetID())
    for node in (top, below):
        with pytest.raises(RegistrationError, match="flat: the transform is singular"):
            files.writeSubject(files.TransformSelection(node), tmp_path)
    empty = scene.AddNewNodeByClass("vtkMRMLTransformNode", "empty")
    with pytest.raises(RegistrationError, match="empty is empty"):
        files.TransformSelection(empty).check()
    with pytest.raises(RegistrationError, match="Choose a transform, or register first"):
        files.TransformSelection().check()
    assert list(tmp_path.iterdir()) == []


def test_volumes_that_cannot_be_right(files):
    from CARLRegistrationLib.common.errors import RegistrationError

    fixed, node = volume(), addLinear(affine(), "T")
    with pytest.raises(RegistrationError, match="same volume"):
        files.TransformSelection(node, fixed, fixed).check()
    fixed.SetAndObserveTransformNodeID(node.GetID())
    with pytest.raises(RegistrationError, match="fixed is itself placed under T"):
        files.TransformSelection(node, fixed).check()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_grids_are_those_of_the_world(files, tmp_path, direction):
    from CARLRegistrationLib.mrml.volumes import writeGrid

    node = volume(direction=direction)
    turn = np.eye(4)
    turn[:3, :3], turn[:3, 3] = OBLIQUE, (5, 6, 7)
    node.SetAndObserveTransformNodeID(addLinear(turn).GetID())
    writeGrid(node, tmp_path / "grid.mha", "fixed volume")
    found, expected = sitk.ReadImage(str(tmp_path / "grid.mha")), grid(node)
    assert found.GetSize() == expected.GetSize()
    for index in ((0, 0, 0), (29, 0, 0), (3, 29, 17)):
        there = [image.TransformIndexToPhysicalPoint(index) for image in (found, expected)]
        assert np.abs(np.subtract(*there)).max() < 1e-4
    assert (tmp_path / "grid.mha").stat().st_size < 2000


def test_a_moving_volume_under_the_transform_counts_where_it_was(files, tmp_path):
    fixed, moving, node = volume(), volume("moving"), addLinear(affine(), "T")
    moving.SetAndObserveTransformNodeID(node.GetID())
    arguments, notes = files.writeSubject(files.TransformSelection(node, fixed, moving), tmp_path)
    assert arguments == ["transform.h5", "--fixed", "fixed.mha", "--moving", "moving.mha"] and notes == []
    found = sitk.ReadImage(str(tmp_path / "moving.mha"))
    own = np.array([moving.GetOrigin()])
    assert np.abs(np.array(found.GetOrigin()) - own * FLIP).max() < 1e-6


def test_nodes_of_files_know_their_volumes(nodes, scene, tmp_path):
    fixed, moving = volume(), volume("moving")
    transform, _ = composite(20.0, bump=2.0)
    sitk.WriteTransform(transform, str(tmp_path / "both.h5"))
    node = nodes.addTransform(tmp_path / "both.h5", "both", fixed, moving)
    assert nodes.sidesOf(node) == (fixed, moving) and not node.IsLinear()
    assert np.linalg.norm(throughNode(node) - throughFile(tmp_path / "both.h5"), axis=1).max() < 0.05
    sitk.WriteTransform(sitk.TranslationTransform(3, (3.0, 4.0, 5.0)), str(tmp_path / "shift.tfm"))
    shift = nodes.addTransform(tmp_path / "shift.tfm", "both")
    assert shift.GetClassName() == "vtkMRMLLinearTransformNode" and shift.GetName() == "both_1"
    assert np.abs(throughNode(shift) - POINTS - (-3, -4, 5)).max() < 1e-9
    assert nodes.sidesOf(shift) == (None, None)


def test_what_files_say_of_their_direction(files, tmp_path):
    def made(name, content=b"", sidecar=None):
        path = tmp_path / name
        path.write_bytes(content)
        if sidecar:
            text = json.dumps({"maps": sidecar, "files": [name]})
            (tmp_path / f"{name.replace('1Warp', '')}.json").write_text(text)
        return files.directionOf(path)

    assert made("a.h5") == ("", "") and made("b.nii.gz") == ("", "") and made("c.txt", b"1 0 0 0") == ("", "")
    assert made("d.h5", sidecar="fixed points to moving points") == ("forward", "its sidecar says so")
    assert made("e.h5", sidecar="moving points to fixed points")[0] == "inverse"
    assert made("sub1Warp.nii.gz")[0] == "forward"
    assert made("back1Warp.nii.gz", sidecar="moving points to fixed points")[0] == "inverse"
    assert made("sub1InverseWarp.nii.gz")[0] == made("inverse_transform.h5")[0] == "inverse"
    assert made("sub0GenericAffine.mat")[0] == "forward"
    assert made("T.0.txt", b'(Transform "EulerTransform")\n(NumberOfParameters 6)\n')[0] == "forward"
    header = np.zeros(348, np.uint8)
    header[:4] = np.frombuffer(np.int32(348).tobytes(), np.uint8)
    header[40:50] = np.frombuffer(np.array([4, 5, 5, 5, 3], np.int16).tobytes(), np.uint8)
    header[70:74] = np.frombuffer(np.array([16, 32], np.int16).tobytes(), np.uint8)
    header[344:348] = np.frombuffer(b"n+1\0", np.uint8)
    header[68:70] = np.frombuffer(np.int16(2006).tobytes(), np.uint8)
    assert made("warp.nii", header.tobytes())[0] == "forward"
    assert files.directionOf(tmp_path / "not there.h5") == ("", "")
    assert files.antsAffineBeside(tmp_path / "sub1Warp.nii.gz") == tmp_path / "sub0GenericAffine.mat"
    assert files.antsAffineBeside(tmp_path / "back1Warp.nii.gz") is None
