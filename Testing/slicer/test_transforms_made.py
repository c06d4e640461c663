"""Transforms made of transforms by the engine: inverse, linear part, resampled, composed."""

# ruff: noqa: F811 (fixtures that are imported)
from __future__ import annotations

import itertools

import numpy as np
import pytest

from .test_inspect_jacobian import addField
from .test_transforms_engine import (  # noqa: F401
    done,
    engine,
    far,
    nodes,
    refuses,
    subject,
)
from .test_transforms_files import POINTS, affine, bump, throughNode
from .volumes import addLinear, addVolume, rotation


def fold(points):
    """A displacement that folds around one place, RAS mm."""
    moved = np.zeros_like(points)
    away = points - (8, -6, 4)
    moved[:, 0] = -1.8 * away[:, 0] * np.exp(-0.5 * (away**2).sum(axis=1) / 8.0**2)
    return moved


def test_the_inverse_and_where_there_is_none(engine, subject):
    from CARLRegistrationLib.mrml.transforms import sidesOf
    from CARLRegistrationLib.transforms.files import TransformSelection

    made = done(engine.startInvert(subject))
    (inverse,) = made.nodes
    error = made.figures["inverse"]["error_mm"]
    there_and_back = throughNode(inverse, throughNode(subject.transform))
    assert far(there_and_back, POINTS) < 0.05 and error["max"] < 0.05
    assert inverse.GetName() == "field (inverse)" and sidesOf(inverse) == (subject.moving, subject.fixed)
    folded = TransformSelection(addField(fold, reach=60, nodes=61), subject.fixed, subject.moving)
    made = done(engine.startInvert(folded))
    _inverse, failed = made.nodes
    import slicer

    values = slicer.util.arrayFromVolume(failed)
    assert failed.IsA("vtkMRMLLabelMapVolumeNode") and 0 < values.mean() < 0.2
    assert made.figures["inverse"]["not_inverted_percent"] > 0
    from CARLRegistrationLib.mrml.geometry import rasFromIjk

    ras = rasFromIjk(failed)
    at = np.argwhere(values)[:, ::-1] @ ras[:3, :3].T + ras[:3, 3]
    assert np.linalg.norm(at - (8, -6, 4), axis=1).max() < 35 and np.linalg.norm(at.mean(axis=0) - (8, -6, 4)) < 6


def test_where_there_is_no_inverse_at_any_size(engine, scene):
    """The same fold in a head, in a thousandth of it and in a thousand of them: the same share is not inverted."""
    from CARLRegistrationLib.transforms.files import TransformSelection

    found = {}
    for size in (1.0, 1e-3, 1e3):
        voxels = np.diag([2.0 * size, 2.0 * size, 2.0 * size, 1.0])
        voxels[:3, 3] = -30.0 * size
        sides = [addVolume(np.arange(31**3, dtype=np.int16).reshape(31, 31, 31), voxels, name) for name in "fm"]
        transform = addField(lambda points, size=size: size * fold(points / size), reach=60 * size, nodes=41)
        found[size] = done(engine.startInvert(TransformSelection(transform, *sides))).figures["inverse"]
    for size, report in found.items():
        assert report["tolerance_mm"] == pytest.approx(size * found[1.0]["tolerance_mm"], rel=1e-3)
        assert report["not_inverted_percent"] == pytest.approx(found[1.0]["not_inverted_percent"], rel=0.05)
    assert 0.1 < found[1.0]["not_inverted_percent"] < 20


def test_linear_parts_and_what_they_leave(engine, subject):
    import slicer
    from CARLRegistrationLib.transforms.choices import LinearKind
    from CARLRegistrationLib.transforms.files import TransformSelection

    turn = np.eye(4)
    turn[:3, :3] = 1.1 * rotation((1, 1, 0), 20)
    used = TransformSelection(addLinear(turn, "turn"), subject.fixed)
    left = {}
    for kind in LinearKind:
        made = done(engine.startLinear(used, kind))
        matrix = np.linalg.inv(slicer.util.arrayFromTransformMatrix(made.nodes[0]))
        left[kind] = made.figures["left_mm"]["max"]
        scale = np.cbrt(np.linalg.det(matrix[:3, :3]))
        assert np.abs(matrix[:3, :3] / scale @ (matrix[:3, :3] / scale).T - np.eye(3)).max() < 1e-6
        assert scale == pytest.approx(1.0 if kind is LinearKind.RIGID else 1 / 1.1, abs=1e-6)
    assert left[LinearKind.RIGID] > 2.0 > 1e-5 > left[LinearKind.SIMILARITY]
    assert made.nodes[0].GetName() == "turn (affine part)"
    refuses(engine, lambda: engine.startLinear(TransformSelection(used.transform), LinearKind.RIGID), "Fixed")


def test_resampling_and_composing(engine, subject):
    from CARLRegistrationLib.mrml.transforms import sidesOf
    from CARLRegistrationLib.transforms.files import TransformSelection

    made = done(engine.startResample(subject, 12.0))
    expected = throughNode(subject.transform)
    assert far(throughNode(made.nodes[0]), expected) < 0.5 and 0.005 < made.error["mean"] < 0.3
    refuses(engine, lambda: engine.startResample(subject, 0.0), "field spacing")
    second, third = addLinear(affine(), "second"), addField(bump, reach=120, nodes=61)
    made = done(engine.startCompose(subject, [second, third]))
    expected = throughNode(third, throughNode(second, expected))
    assert far(throughNode(made.nodes[0]), expected) < 0.1
    assert sidesOf(made.nodes[0]) == (subject.fixed, subject.moving)
    refuses(engine, lambda: engine.startCompose(subject, []), "Add the transforms")
    refuses(engine, lambda: engine.startResample(TransformSelection(second), 3.0), "second is linear")


def test_every_option_reaches_the_engine(engine):
    from CARLRegistrationLib.transforms.choices import ExportFormat, Precision, Which

    kinds = [
        engine.Export(which, kind, 3.0, Precision.FLOAT32, True).arguments()
        for which, kind in itertools.product(Which, ExportFormat)
    ]
    offered = {tuple(one[1:2]): one for one in kinds}
    assert "--spacing" in offered[("nifti",)] and "--precision" in offered[("nifti",)]
    assert "--flatten" not in offered[("nifti",)] and "--flatten" in offered[("ants",)]
    assert "--precision" not in offered[("itk",)] and "--spacing" not in offered[("fsl",)]
    assert offered[("tfm",)] == ["--to", "tfm", "--which", "with-initial"]
