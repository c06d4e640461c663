"""Mend what is wrong, begun with a linear transform."""

# ruff: noqa: F811 (fixtures that are imported)
from __future__ import annotations

import numpy as np
import pytest

from .test_mending import missed, place, planted, settle, wait  # noqa: F401
from .test_panel import pair, panel  # noqa: F401
from .volumes import addLinear


@pytest.mark.whole
def test_a_linear_transform_is_mended_as_a_new_node(host, planted):
    pose = planted.pair.moving_from_fixed.pose
    linear = addLinear(np.linalg.inv(np.diag([-1.0, -1, 1, 1]) @ pose @ np.diag([-1.0, -1, 1, 1])), "pose")
    planted.ui.inspectTransformSelector.setCurrentNode(linear)
    assert planted.ui.mendTable.rowCount == 0
    place(planted, planted.fixed, planted.moving, "1")
    settle(host, planted)
    before = missed(linear, planted)
    assert before > 1.0
    planted.ui.mendButton.click()
    wait(host, planted)
    made = planted.section._case.transform
    assert made is not linear and missed(linear, planted) == before, planted.ui.mendInfoLabel.text
    assert missed(made, planted) < before and settle(host, planted)[0][0] == "1"
    planted.ui.mendUndoButton.click()
    assert planted.section._case.transform is linear and settle(host, planted)[0][0] == "1"
    import slicer

    assert (
        not slicer.mrmlScene.IsNodePresent(made) and len(slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")) == 2
    )
