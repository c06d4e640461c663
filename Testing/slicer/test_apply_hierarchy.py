"""Where results stand in the subject hierarchy, and what SlicerRT's export of spatial registrations finds there.

SlicerRT itself is not here. What it asks for is taken from its sources: DicomSroImportExportPlugin.examineForExport
(a transform node's item; references to a moving and a fixed volume) and vtkPlmpyDicomSroExport::DoExport (both are
scalar volumes of the scene; what is not linear is turned into a grid transform on the fixed volume's grid).
"""

from __future__ import annotations

import numpy as np
import pytest

from .test_apply_run import Case, case, imageOf, organs, run, temporary  # noqa: F401
from .test_apply_scene import landmarks, sequence
from .volumes import FLIP

SIDES = {"fixed": ("1.2.826.1", "1.2.826.1.77"), "moving": ("1.2.826.2", "1.2.826.2.77")}  # series, frame


def tree():
    import slicer

    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)


def names():
    import slicer

    return slicer.vtkMRMLSubjectHierarchyConstants


def series(node, study, series_uid, frame_uid):
    """A node as Slicer's DICOM module leaves it."""
    item = tree().CreateItem(study, node)
    tree().SetItemUID(item, names().GetDICOMUIDName(), series_uid)
    tree().SetItemUID(item, names().GetDICOMInstanceUIDName(), " ".join(f"{series_uid}.{n}" for n in (1, 2, 3)))
    tree().SetItemAttribute(item, names().GetDICOMSeriesModalityAttributeName(), "CT")
    tree().SetItemUID(item, names().GetDICOMFrameOfReferenceUIDAttributeName(), frame_uid)
    node.SetAttribute("DICOM.instanceUIDs", " ".join(f"{series_uid}.{n}" for n in (1, 2, 3)))
    return item


def studies(fixed, moving):
    """Two studies of one patient with a series each; {side: study's item}."""
    patient = tree().CreateSubjectItem(tree().GetSceneItemID(), "patient")
    made = {}
    for side, node in (("fixed", fixed), ("moving", moving)):
        made[side] = tree().CreateStudyItem(patient, f"{side} study")
        series(node, made[side], *SIDES[side])
    return made


def parent(node):
    return tree().GetItemParent(tree().GetItemByDataNode(node))


def frame(node):
    item, name = tree().GetItemByDataNode(node), names().GetDICOMFrameOfReferenceUIDAttributeName()
    assert tree().GetItemUID(item, name) == tree().GetItemAttribute(item, name)
    return tree().GetItemUID(item, name)


def referred(node):
    """The nodes whose DICOM instances a node refers to, as the Data module highlights them."""
    found = tree().GetItemsReferencedFromItemByDICOM(tree().GetItemByDataNode(node))
    return {tree().GetItemDataNode(item).GetName() for item in found}


def offered(node):
    """What examineForExport and DoExport ask a transform for: (fixed, moving), or None."""
    import slicer

    item = tree().GetItemByDataNode(node)
    found = tree().GetItemDataNode(item) if item else None
    if found is None or not found.IsA("vtkMRMLTransformNode"):
        return None
    kind = slicer.vtkMRMLTransformNode
    roles = (kind.GetFixedNodeReferenceRole(), kind.GetMovingNodeReferenceRole())
    volumes = [found.GetNodeReference(role) for role in roles]
    return None if any(v is None or not v.IsA("vtkMRMLScalarVolumeNode") for v in volumes) else tuple(volumes)


@pytest.fixture
def registered(scene, moduleWidget, logic):
    """A quick registration of a generated pair that came by DICOM."""
    from carlreg.settings import RegistrationSettings
    from CARLRegistrationLib.register.sample_data import loadSamplePair

    fixed, moving = loadSamplePair(10.0)
    found = studies(fixed, moving)
    result = logic.register(fixed, moving, settings=RegistrationSettings(io_steps=0))
    return fixed, moving, found, result


def test_a_registrations_transforms_can_be_exported(registered, host, scene, tmp_path):
    import slicer

    fixed, moving, study, result = registered
    made = result.nodes
    assert offered(made["transform"]) == (fixed, moving)
    assert offered(made["inverse_transform"]) == (moving, fixed)
    # read back by SlicerRT, the volume of the transform's own study is the fixed one
    assert parent(made["transform"]) == study["fixed"] and parent(made["inverse_transform"]) == study["moving"]
    assert parent(made["warped"]) == study["moving"] and parent(made["jacobian"]) == study["fixed"]
    assert frame(made["transform"]) == frame(made["warped"]) == frame(made["jacobian"]) == SIDES["fixed"][1]
    assert frame(made["inverse_transform"]) == SIDES["moving"][1]
    assert referred(made["transform"]) == {fixed.GetName(), moving.GetName()} == referred(made["inverse_transform"])
    assert referred(made["warped"]) == {moving.GetName()} and referred(made["jacobian"]) == {fixed.GetName()}
    modality = names().GetDICOMSeriesModalityAttributeName()
    assert tree().GetItemAttribute(tree().GetItemByDataNode(made["warped"]), modality) == "CT"
    for side, node in (("fixed", fixed), ("moving", moving)):  # a series UID stays with its series
        item = tree().GetItemByUID(names().GetDICOMUIDName(), SIDES[side][0])
        assert tree().GetItemDataNode(item) is node
    # what the exporter makes of it is the same map
    logic = slicer.vtkSlicerTransformLogic()
    logic.SetMRMLScene(slicer.mrmlScene)
    grid = logic.ConvertToGridTransform(made["transform"], fixed)
    points = np.random.default_rng(0).uniform(0.1, 0.9, (60, 3)) * np.array(fixed.GetImageData().GetDimensions())
    world = [imageOf(fixed).TransformContinuousIndexToPhysicalPoint(p.tolist()) for p in points] * FLIP
    one, other = (
        np.array([node.GetTransformFromParent().TransformPoint(*p) for p in world.tolist()])
        for node in (made["transform"], grid)
    )
    assert np.linalg.norm(one - world, axis=1).min() > 10 and np.linalg.norm(one - other, axis=1).max() < 0.1
    scene.RemoveNode(grid)
    # and it is kept with the scene
    name = made["transform"].GetName()
    host.save_scene(tmp_path / "scene.mrb")
    host.load_scene(tmp_path / "scene.mrb")
    again = slicer.mrmlScene.GetFirstNodeByName(name)
    assert [node.GetName() for node in offered(again)] == [fixed.GetName(), moving.GetName()]
    assert referred(again) == {fixed.GetName(), moving.GetName()}


def test_undo_takes_the_items_away(registered, logic):
    fixed, moving, study, _result = registered
    import vtk

    def children(item):
        found = vtk.vtkIdList()
        tree().GetItemChildren(item, found, True)
        return found.GetNumberOfIds()

    assert children(study["fixed"]) > 1 and children(study["moving"]) > 1
    logic.undo()
    assert children(study["fixed"]) == children(study["moving"]) == 1
    assert tree().GetItemByDataNode(fixed) and tree().GetItemByDataNode(moving)


def test_what_was_applied_stands_beside_its_source(case, scene):  # noqa: F811
    import slicer

    study = studies(case.fixed, case.moving)
    organ, _grid = organs(case)
    tree().CreateItem(study["moving"], organ)
    tips = landmarks(case.inMoving(4)[1])
    tree().CreateItem(tree().CreateFolderItem(tree().GetSceneItemID(), "drawn"), tips)
    from CARLRegistrationLib.apply.scene import SOURCE_ROLE, TRANSFORM_ROLE

    for node, new in run(case.moving, organ, tips, transform=case.transform).made:
        assert parent(new) == parent(node) and frame(new) == SIDES["fixed"][1]
        assert new.GetNodeReference(SOURCE_ROLE) is node
        assert new.GetNodeReference(TRANSFORM_ROLE) is case.transform
        assert new.GetAttribute("DICOM.instanceUIDs") is None
        if node is case.moving:
            assert referred(new) == {"moving"}
    item = tree().GetItemByUID(names().GetDICOMUIDName(), SIDES["moving"][0])
    assert tree().GetItemDataNode(item) is case.moving
    assert slicer.mrmlScene.GetFirstNodeByName("organs in fixed") is not None


def test_hardened_copies_and_sequences_too(case, scene):  # noqa: F811
    from CARLRegistrationLib.apply.choices import ApplyMethod

    study = studies(case.fixed, case.moving)
    given, browser = sequence(case)
    tree().CreateItem(study["moving"], browser.GetProxyNode(given))
    made = dict(run(case.moving, given, transform=case.transform, method=ApplyMethod.HARDEN).made)
    assert parent(made[case.moving]) == study["moving"] and frame(made[case.moving]) == SIDES["fixed"][1]
    assert made[case.moving].GetAttribute("DICOM.instanceUIDs") is None
    assert parent(browser.GetProxyNode(made[given])) == study["moving"]


def test_a_new_inverse_can_be_exported(case):  # noqa: F811
    from CARLRegistrationLib.apply.choices import ApplyDirection, ApplyMethod

    study = studies(case.fixed, case.moving)
    tips = landmarks(case.inMoving(3)[0])
    run(tips, transform=case.transform, method=ApplyMethod.PLACE, direction=ApplyDirection.TO_MOVING)
    inverse = tips.GetParentTransformNode()
    assert offered(inverse) == (case.moving, case.fixed) and parent(inverse) == study["moving"]


def test_the_study_is_found(case, scene):  # noqa: F811
    """What belongs to a volume: its study, or its folder; sequences by what shows them."""
    from CARLRegistrationLib.apply.nodes import candidates, together

    assert together(case.moving) == [case.moving]
    study = studies(case.fixed, case.moving)
    organ, _grid = organs(case)
    given, browser = sequence(case)
    proxy = browser.GetProxyNode(given)
    for node in (organ, proxy):
        tree().CreateItem(study["moving"], node)
    alone = landmarks([[0, 0, 0]], "alone")
    assert together(case.moving) == [case.moving, organ, given]
    assert candidates() == [case.fixed, case.moving, organ, given, alone]


def test_an_imported_or_derived_transform_stands_there_too(case, scene):  # noqa: F811
    from CARLRegistrationLib.mrml.transforms import setSides

    study = studies(case.fixed, case.moving)
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "imported")
    setSides(node, case.fixed, case.moving)
    assert offered(node) == (case.fixed, case.moving) and parent(node) == study["fixed"]
    assert referred(node) == {"fixed", "moving"}
