"""Parameters and the widgets that show them, by the cases of Slicer's test_slicer_parameter_node_wrapper*.py."""

import pathlib
from typing import Annotated, Union

import pytest

from .parameter_types import Color, Labelled


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
