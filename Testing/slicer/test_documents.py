"""The blocks for Slicer's Python console in docs/slicer.md, run one after the other as a user would."""

from __future__ import annotations

import ast

import numpy as np
import pytest
from support.documents import ROOT, blocks

from .test_inspect_jacobian import addSegment
from .volumes import addVolume, matrix

BLOCKS = [block for block in blocks(ROOT / "docs" / "slicer.md") if block.language == "python"]
SHAPE, SPACING = (20, 22, 24), 4.0  # k, j, i
SHIFT = np.array([4.0, -4.0, 6.0])  # RAS mm


def ball(centerRas) -> np.ndarray:
    """A bright ball in noise, on the grid of `grid()`."""
    k, j, i = np.meshgrid(*(np.arange(n) * SPACING for n in SHAPE), indexing="ij")
    squared = sum((axis - c) ** 2 for axis, c in zip((i, j, k), centerRas, strict=True))
    noise = np.random.default_rng(0).normal(0, 5, SHAPE)
    return (800 * np.exp(-squared / 400) + noise).astype(np.float32)


def grid() -> np.ndarray:
    return matrix(np.eye(3), (SPACING,) * 3, (0, 0, 0))


@pytest.fixture
def names(scene, moduleWidget) -> dict:
    """What the blocks take for given: the nodes of a scene with a ball that is moved by SHIFT."""
    import slicer

    center = np.array([46.0, 44.0, 40.0])
    curve = scene.AddNewNodeByClass("vtkMRMLMarkupsCurveNode", "curve")
    for offset in ((0, 0, 0), (8, 0, 0), (8, 8, 0)):
        curve.AddControlPoint(*(center + SHIFT + offset))
    moving = addVolume(ball(center + SHIFT), grid(), "moving")
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "segments")
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(moving)
    addSegment(segmentation, "ball", grid(), ball(center + SHIFT) > 400, SHAPE[::-1])
    return {
        "slicer": slicer,
        "fixedNode": addVolume(ball(center), grid(), "fixed"),
        "movingNode": moving,
        "petNode": addVolume(2 * ball(center + SHIFT), grid(), "pet"),
        "segmentationNode": segmentation,
        "curveNode": curve,
    }


def test_the_console_blocks_of_the_documents(names):
    """They run; the transform brings the moved ball back, and every node has a result."""
    for block in BLOCKS:
        tree = ast.parse(block.text)
        last = tree.body.pop()
        exec(compile(tree, block.name, "exec"), names)
        value = eval(compile(ast.Expression(last.value), block.name, "eval"), names)
        names[f"shown{BLOCKS.index(block)}"] = value
    quality, made = names["shown0"], names["shown1"]
    assert quality["similarity"]["after"]["lncc"] > quality["similarity"]["before"]["lncc"]
    assert [source.GetName() for source, _made in made] == ["pet", "segments", "curve"]
    found = np.zeros(3)
    made[2][1].GetNthControlPointPositionWorld(0, found)
    assert np.linalg.norm(found - [46.0, 44.0, 40.0]) < 1.5
