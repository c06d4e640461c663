"""parameterNodeWrapper, by the cases of Base/Python/slicer/tests/test_slicer_parameter_node_wrapper*.py."""

import pathlib
from typing import Annotated, Any, Optional, Union

import pytest

from .parameter_types import Color


def test_defaults_and_values_of_simple_types(pnw, wrap):
    annotations = {
        "int1": int,
        "float1": float,
        "bool1": bool,
        "string1": str,
        "int2": int,
        "float2": Annotated[float, pnw.Default(9.9)],
        "path": pathlib.Path,
        "pure": Annotated[pathlib.PurePosixPath, pnw.Default(pathlib.PurePosixPath("/root"))],
    }
    param = wrap(annotations, int2=4)
    assert (param.int1, param.float1, param.bool1, param.string1, param.int2) == (0, 0.0, False, "", 4)
    assert (param.float2, param.path, param.pure) == (9.9, pathlib.Path(), pathlib.PurePosixPath("/root"))
    param.int1, param.float2, param.bool1, param.string1 = 7, 4, True, "Python"
    param.path = pathlib.Path("relative/folder")
    again = wrap(annotations, param.parameterNode, int2=4)
    assert (again.int1, again.float2, again.bool1, again.string1) == (7, 4.0, True, "Python")
    assert again.path == pathlib.Path("relative/folder")
    assert param.isCached("int1") and param.default("int2").value == 4 and param.dataType("float1") is float
    for name in ("int1", "float1", "bool1", "string1", "path"):
        with pytest.raises(ValueError):
            setattr(param, name, None)
    with pytest.raises(TypeError):
        param.float1 = "not a number"
    with pytest.raises(TypeError):
        param.int1 = 1.5
    with pytest.raises(TypeError):
        param.path = "a text"


def test_the_texts_in_the_node_are_those_of_slicer(wrap, new_node, host):
    """serializers.py: a scene written by Slicer can be read, and the other way round."""
    from slicer import vtkMRMLModelNode, vtkMRMLScalarVolumeNode

    param = wrap(
        {
            "number": float,
            "flag": bool,
            "file": pathlib.Path,
            "color": Color,
            "model": vtkMRMLModelNode,
            "either": Union[vtkMRMLModelNode, vtkMRMLScalarVolumeNode, None],  # noqa: UP007
            "maybe": Optional[int],  # noqa: UP045
        }
    )
    node = param.parameterNode
    model = host.scene.AddNewNodeByClass("vtkMRMLModelNode")
    volume = host.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    param.number, param.flag, param.file, param.color = 1e-3, True, pathlib.Path("/a/b"), Color.GREEN
    param.model, param.either = model, volume
    assert {name: node.GetParameter(name) for name in ("number", "flag", "file", "color", "model")} == {
        "number": "0.001",
        "flag": "True",
        "file": "/a/b",
        "color": "GREEN",
        "model": "",
    }
    assert node.GetNodeReferenceID("model") == model.GetID()
    assert node.GetNodeReferenceID("either.1") == volume.GetID() and not node.HasParameter("either.0")
    assert node.GetParameter("maybe.1") == "True" and param.maybe is None
    param.maybe = 3
    assert node.GetParameter("maybe.0") == "3" and not node.HasParameter("maybe.1")
    param.either = None
    assert node.GetParameter("either.2") == "True" and node.GetNodeReferenceID("either.1") is None
    node.SetParameter("color", "PURPLE")
    assert "PURPLE" in str(host.errors.pop())
    with pytest.raises(ValueError, match="PURPLE"):
        wrap({"color": Color}, node)


def test_nodes(wrap, host):
    from slicer import vtkMRMLModelNode, vtkMRMLVolumeNode

    param = wrap({"model": vtkMRMLModelNode, "volume": vtkMRMLVolumeNode})
    assert param.model is None
    label_map = host.scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    param.volume = label_map
    assert param.volume is label_map
    with pytest.raises(TypeError):
        param.model = label_map
    host.scene.RemoveNode(label_map)
    param.parameterNode.Modified()
    assert param.volume is None


def test_a_union_of_nodes_needs_none_for_its_default(wrap, host):
    from slicer import vtkMRMLModelNode, vtkMRMLScalarVolumeNode, vtkMRMLTransformNode

    param = wrap({"either": vtkMRMLModelNode | vtkMRMLScalarVolumeNode | None})
    assert param.either is None
    param.either = volume = host.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    assert param.either is volume
    with pytest.raises(TypeError):
        param.either = host.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    assert param.either is volume and issubclass(vtkMRMLTransformNode, object)
    with pytest.raises(TypeError, match="no type of the union"):
        wrap({"either": vtkMRMLModelNode | vtkMRMLScalarVolumeNode})


def test_validators(pnw, wrap):
    class Is7Or8(pnw.Validator):
        def validate(self, value):
            if value not in (7, 8):
                raise ValueError("neither 7 nor 8")

    param = wrap(
        {
            "within": Annotated[int, pnw.WithinRange(0, 9)],
            "least": Annotated[float, pnw.Minimum(1), pnw.Default(1)],
            "most": Annotated[float, pnw.Maximum(1)],
            "choice": Annotated[str, pnw.Choice(["a", "b"])],
            "other": Annotated[int, pnw.Exclude([3])],
            "own": Annotated[int, Is7Or8(), pnw.Default(7)],
        },
        choice="b",
    )
    for name, value in (("within", 10), ("least", 0), ("most", 2), ("choice", "c"), ("other", 3), ("own", 9)):
        with pytest.raises(ValueError):
            setattr(param, name, value)
    assert (param.within, param.least, param.choice, param.own) == (0, 1, "b", 7)
    with pytest.raises(ValueError):
        wrap({"least": Annotated[float, pnw.Minimum(1)]})


def test_default_generator(pnw, wrap):
    numbers = iter(range(5))
    annotations = {"x": Annotated[int, pnw.Default(generator=lambda: next(numbers))]}
    assert [wrap(annotations).x, wrap(annotations).x] == [0, 1]


def test_unknown_types_and_names_raise(pnw, wrap):
    for annotation in (list[int], dict[str, int], Any, object, bytes):
        with pytest.raises(TypeError, match="cannot be stored"):
            wrap({"p": annotation})
    with pytest.raises(ValueError, match="reserved"):
        wrap({"connectGui": int})
    param = wrap({"p": int})
    for ask in (param.getValue, param.isCached, param.default, param.dataType):
        with pytest.raises(ValueError, match="there is no parameter"):
            ask("q")
    assert pnw.isParameterNodeWrapper(param) and not pnw.isParameterNodeWrapper(3)


def test_observers_see_the_new_value(wrap, calls):
    param = wrap({"x": int, "y": int})
    param.AddObserver("ModifiedEvent", lambda caller, event: calls.append(param.x))
    param.x = 3
    param.setValue("x", 4)
    assert calls == [3, 4] and param.getValue("x") == 4


def test_node_modify_joins_the_events(wrap, calls):
    import slicer

    param = wrap({"x": int, "y": int})
    param.AddObserver("ModifiedEvent", lambda caller, event: calls.append((param.x, param.y)))
    with slicer.util.NodeModify(param):
        param.x, param.y = 1, 2
    assert calls == [(1, 2)]


def test_a_value_written_into_the_node_arrives(wrap):
    param = wrap({"x": int})
    param.parameterNode.SetParameter("x", "12")
    assert param.x == 12
    param.parameterNode.UnsetParameter("x")
    assert param.x == 0
