"""A rigid registration in the scene: plain linear transform nodes, undo, and a change to another kind of transform."""

# ruff: noqa: F811 (fixtures that are imported)
import numpy as np
import pytest

from .test_panel import choose, pair, panel, waitForEnd  # noqa: F401


@pytest.mark.whole
def test_a_rigid_run_makes_linear_transform_nodes(host, panel, pair):
    import slicer

    before = slicer.util.getNodesByClass("vtkMRMLLinearTransformNode")  # the slice views have their own
    ui = panel.ui
    choose(ui.transformKindComboBox, "Rigid (turn and shift)")
    for control in (ui.ioStepsSlider, ui.ioMethodComboBox, ui.smoothnessSpinBox, ui.createUncertaintyCheckBox):
        assert not control.enabled
    assert "refinement steps" not in ui.presetInfoLabel.text and "linear transform" in ui.transformInfoLabel.text
    ui.applyButton.click()
    waitForEnd(host, panel)
    parameters = panel.parameters
    made = panel.results.result.nodes
    forward, inverse = made["transform"], made["inverse_transform"]
    assert forward.GetClassName() == inverse.GetClassName() == "vtkMRMLLinearTransformNode"
    there, back = (slicer.util.arrayFromTransformMatrix(node) for node in (forward, inverse))
    np.testing.assert_allclose(there @ back, np.eye(4), atol=1e-6)
    np.testing.assert_allclose(there[:3, :3] @ there[:3, :3].T, np.eye(3), atol=1e-6)
    angle = np.degrees(np.arccos((np.trace(there[:3, :3]) - 1) / 2))
    assert 8 < angle < 16  # the pair's pose is a turn of 12 degrees, its deformation aside
    assert "uncertainty" not in made
    assert "stated for deformable registrations" in ui.warningLabel.text
    node = forward.GetNodeReference(forward.GetFixedNodeReferenceRole())
    assert node is parameters.fixedVolume
    # another kind of transform does not go into them
    parameters.outputTransform, parameters.outputInverse = forward, inverse
    choose(ui.transformKindComboBox, "Deformable")
    assert parameters.outputTransform is None and parameters.outputInverse is None
    assert ui.applyButton.enabled and ui.ioStepsSlider.enabled
    assert list(ui.outputTransformSelector.nodeTypes) == ["vtkMRMLTransformNode"]
    parameters.outputTransform = forward  # as a script may
    assert "must be a general transform node" in ui.whyLabel.text and not ui.applyButton.enabled
    parameters.outputTransform = None
    ui.undoButton.click()
    assert slicer.util.getNodesByClass("vtkMRMLLinearTransformNode") == before
    assert host.errors == []
