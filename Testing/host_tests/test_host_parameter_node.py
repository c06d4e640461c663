"""parameterNodeWrapper, by the cases of Base/Python/slicer/tests/test_slicer_parameter_node_wrapper*.py."""

import enum
import pathlib
from typing import Annotated, Any, Optional, Union

import pytest


@pytest.fixture
def pnw(host):
    import slicer.parameterNodeWrapper

    return slicer.parameterNodeWrapper


@pytest.fixture
def new_node(host):
    return lambda: host.scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")


@pytest.fixture
def wrap(pnw, new_node):
    """A wrapper with the given annotations (and defaults), on a new node or the given one."""

    def make(annotations, node=None, **defaults):
        cls = pnw.parameterNodeWrapper(type("Parameters", (), {"__annotations__": annotations, **defaults}))
        return cls(node or new_node())

    return make


class Color(enum.Enum):
    RED = 1
    GREEN = 2


class Labelled(enum.Enum):
    RED = 1
    GREEN = 2

    def label(self):
        return self.name.title()


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


def connect_one(param, name, widget):
    return param.connectParametersToGui({name: widget})


@pytest.mark.parametrize("widget_name", ["qt.QCheckBox", "ctk.ctkCheckBox", "qt.QPushButton"])
def test_buttons_show_a_bool(wrap, widget_name):
    import ctk
    import qt

    widget = {"qt": qt, "ctk": ctk}[widget_name.split(".")[0]].__dict__.get(widget_name.split(".")[1])
    widget = (widget or getattr(qt, widget_name.split(".")[1]))()
    param = wrap({"alpha": bool, "bravo": bool}, alpha=True)
    tag = connect_one(param, "alpha", widget)
    assert widget.checked and widget.checkable
    widget.checked = False
    assert param.alpha is False
    param.alpha = True
    assert widget.checked
    param.disconnectGui(tag)
    param.alpha = False
    assert widget.checked
    widget.checked = False
    widget.checked = True
    assert param.alpha is False


def test_number_widgets(pnw, wrap):
    import ctk
    import qt

    bounded_int = Annotated[int, pnw.WithinRange(0, 9), pnw.SingleStep(3)]
    for widget in (qt.QSpinBox(), qt.QSlider(), ctk.ctkSliderWidget(), qt.QDoubleSpinBox()):
        param = wrap({"n": bounded_int}, n=4)
        connect_one(param, "n", widget)
        assert (widget.value, widget.minimum, widget.maximum, widget.singleStep) == (4, 0, 9, 3)
        widget.value = 9
        assert param.n == 9 and type(param.n) is int
        param.n = 2
        assert widget.value == 2
    bounded = Annotated[float, pnw.WithinRange(0.1, 9.5), pnw.Default(0.2), pnw.Decimals(2), pnw.SingleStep(0.1)]
    for widget in (qt.QDoubleSpinBox(), ctk.ctkSliderWidget(), ctk.ctkDoubleSpinBox()):
        param = wrap({"x": bounded})
        connect_one(param, "x", widget)
        assert (widget.value, widget.minimum, widget.maximum, widget.decimals) == (0.2, 0.1, 9.5, 2)
        widget.value = 4.4
        assert param.x == 4.4
        param.x = 9.5
        assert widget.value == 9.5
    spin_box = qt.QSpinBox()
    connect_one(wrap({"n": int}), "n", spin_box)
    assert (spin_box.minimum, spin_box.maximum) == (-(2**31), 2**31 - 1)
    double_spin_box = qt.QDoubleSpinBox()
    connect_one(wrap({"x": float}), "x", double_spin_box)
    assert (double_spin_box.minimum, double_spin_box.maximum) == (float("-inf"), float("inf"))
    for name, annotation, widget in (("n", int, qt.QSlider()), ("x", float, ctk.ctkSliderWidget())):
        with pytest.raises(RuntimeError, match="unbounded"):
            connect_one(wrap({name: annotation}), name, widget)


def test_combo_boxes(pnw, wrap):
    import qt

    box = qt.QComboBox()
    param = wrap({"c": Annotated[str, pnw.Choice(["a", "b", "c"])]}, c="b")
    connect_one(param, "c", box)
    assert (box.count, box.currentText) == (3, "b")
    box.currentIndex = 2
    assert param.c == "c"
    with pytest.raises(RuntimeError, match="Choice"):
        connect_one(wrap({"c": str}), "c", qt.QComboBox())
    for enumeration, texts in ((Color, ["RED", "GREEN"]), (Labelled, ["Red", "Green"])):
        box = qt.QComboBox()
        param = wrap({"e": enumeration}, e=enumeration.GREEN)
        connect_one(param, "e", box)
        assert [box.itemText(i) for i in range(box.count)] == texts and box.currentIndex == 1
        box.currentIndex = 0
        assert param.e is enumeration.RED
        param.e = enumeration.GREEN
        assert box.currentText == texts[1]


def test_text_and_path_widgets(wrap):
    import ctk
    import qt

    for widget in (qt.QLineEdit(), qt.QTextEdit()):
        param = wrap({"s": str}, s="before")
        connect_one(param, "s", widget)
        read = (lambda w=widget: w.toPlainText()) if hasattr(widget, "toPlainText") else (lambda w=widget: w.text)
        assert read() == "before"
        param.s = "after"
        assert read() == "after"
        widget.clear()
        assert param.s == ""
    label = qt.QLabel()
    param = wrap({"s": str}, s="shown")
    connect_one(param, "s", label)
    assert label.text == "shown"
    edit = ctk.ctkPathLineEdit()
    param = wrap({"p": pathlib.Path})
    connect_one(param, "p", edit)
    assert edit.currentPath == "."
    edit.currentPath = "/some/file"
    assert param.p == pathlib.Path("/some/file")
    param.p = pathlib.Path("/other")
    assert edit.currentPath == "/other"


def test_node_combo_boxes(wrap, host):
    import slicer
    from slicer import vtkMRMLModelNode, vtkMRMLScalarVolumeNode

    param = wrap({"alpha": vtkMRMLModelNode, "bravo": Union[vtkMRMLModelNode, vtkMRMLScalarVolumeNode, None]})  # noqa: UP007
    boxes = {name: slicer.qMRMLNodeComboBox() for name in ("alpha", "bravo")}
    for box in boxes.values():
        box.setMRMLScene(slicer.mrmlScene)
    param.connectParametersToGui(boxes)
    assert boxes["alpha"].nodeTypes == ("vtkMRMLModelNode",)
    assert sorted(boxes["bravo"].nodeTypes) == ["vtkMRMLModelNode", "vtkMRMLScalarVolumeNode"]
    model = host.scene.AddNewNodeByClass("vtkMRMLModelNode")
    volume = host.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    assert param.alpha is None and boxes["alpha"].currentNode() is None
    boxes["alpha"].setCurrentNode(model)
    boxes["bravo"].setCurrentNode(volume)
    assert param.alpha is model and param.bravo is volume
    param.alpha, param.bravo = None, model
    assert boxes["alpha"].currentNode() is None and boxes["bravo"].currentNode() is model
    boxes["bravo"].setCurrentNode(None)
    assert param.bravo is None


def test_pairs_that_slicer_does_not_connect_raise(wrap):
    import ctk
    import qt
    import slicer
    from slicer import vtkMRMLModelNode

    class MyLineEdit(qt.QLineEdit):
        pass

    for annotation, widget in (
        (str, qt.QPlainTextEdit()),
        (str, qt.QSpinBox()),
        (str, MyLineEdit()),
        (str, ctk.ctkPathLineEdit()),
        (pathlib.Path, qt.QLineEdit()),
        (float, qt.QSpinBox()),
        (bool, qt.QRadioButton()),
        (bool, qt.QToolButton()),
        (bool, ctk.ctkCollapsibleButton()),
        (int, slicer.qMRMLNodeComboBox()),
        (vtkMRMLModelNode, qt.QComboBox()),
        (Annotated[vtkMRMLModelNode | None, "note"], slicer.qMRMLNodeComboBox()),
    ):
        with pytest.raises(RuntimeError, match="Slicer connects no"):
            connect_one(wrap({"p": annotation}), "p", widget)


def test_connect_by_the_property_of_the_widgets(pnw, wrap):
    import qt

    form = qt.QWidget()
    layout = qt.QVBoxLayout(form)
    spin_box, line_edit, unused = qt.QSpinBox(), qt.QLineEdit(), qt.QLineEdit()
    for widget in (spin_box, line_edit, unused):
        layout.addWidget(widget)
    spin_box.setProperty(pnw.SlicerParameterNamePropertyName, "n")
    line_edit.setProperty("SlicerParameterName", "s")
    param = wrap({"n": int, "s": str}, n=3, s="text")
    param.connectGui(form)
    assert (spin_box.value, line_edit.text, unused.text) == (3, "text", "")
    assert pnw.findChildWidgetForParameter(form, "s") is line_edit
    assert pnw.findChildWidgetForParameter(form, "t") is None
    gui = type("", (), {})()
    gui.spin_box = qt.QSpinBox()
    gui.spin_box.setProperty("SlicerParameterName", "unknown")
    with pytest.raises(ValueError, match="there is no parameter"):
        param.connectGui(gui)


def test_connections_do_not_add_up(wrap):
    import qt

    param, box = wrap({"alpha": bool}), qt.QCheckBox()
    for _ in range(5):
        tag = connect_one(param, "alpha", box)
        param.disconnectGui(tag)
    box.checked = True
    assert param.alpha is False and param._connections == {}


def test_two_widgets_of_one_parameter_follow_each_other(wrap):
    import qt

    param, first, second = wrap({"n": int}), qt.QSpinBox(), qt.QSpinBox()
    connect_one(param, "n", first)
    connect_one(param, "n", second)
    first.value = 5
    assert second.value == 5 == param.n
