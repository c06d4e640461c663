"""The sample pair: a torso that never lived, in two poses and fields of view, painted by the engine. No download."""

from __future__ import annotations

import slicer

from ..mrml.volumes import fillVolume

FIXED_NAME, MOVING_NAME = "CARLSampleFixed", "CARLSampleMoving"
_SPACING_MM = 3.0


def loadSamplePair(spacingMm: float = _SPACING_MM) -> tuple:
    """Two new scalar volume nodes: fixed (shoulders to kidneys) and moving (heart to pelvis, turned and deformed)."""
    from carlreg.phantom import make_pair

    pair = make_pair(seed=0, spacing_mm=spacingMm)
    return _addVolume(pair.fixed, FIXED_NAME), _addVolume(pair.moving, MOVING_NAME)


def _addVolume(image, name: str):
    name = slicer.mrmlScene.GenerateUniqueName(name)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    fillVolume(image, node)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(500, 40)
    return node
