"""Bad input to a registration: a clear message, no change to the scene."""

# ruff: noqa: F811 (fixtures that are imported)
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from .test_logic import (  # noqa: F401
    OUTPUTS,
    contents,
    pair,
    settings,
    temporary,
)
from .volumes import addVolume, matrix


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
        "unknown model": (lambda f, m: {"settings": settings(model="anything")}, "expected one of carl-compact,"),
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
        "unknown model",
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

    def full(image, path, *options):
        Path(path).write_bytes(b"half")
        raise RuntimeError("No space left on device")

    monkeypatch.setattr(sitk, "WriteImage", full)
    before = contents()
    with pytest.raises(RegistrationError, match="disk may be full"):
        logic.register(*pair)
    assert contents() == before and list(temporary.iterdir()) == []
