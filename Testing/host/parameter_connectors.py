"""Which widget shows which parameter, and how (Slicer's guiConnectors.py)."""

import enum
import logging
import types
import typing

import slicer
import slicer.util

from . import ctk_widgets, mrml_widgets
from .parameter_annotations import (
    Choice,
    Decimals,
    Maximum,
    Minimum,
    SingleStep,
    WithinRange,
    first_of,
    split_annotated,
)
from .parameter_serializers import PATHS, is_union
from .pythonqt import qt


class _Connector:
    """Reads and writes the value of one widget."""

    signal = ""

    def __init__(self, widget, bare, annotations):
        self.widget = widget
        self.setup(bare, annotations)

    def setup(self, bare, annotations):
        """Make the widget fit the parameter."""

    def connect(self, callback):
        self._callback = callback
        self._slot = lambda: self._callback()
        getattr(self.widget, self.signal).connect(self._slot)

    def disconnect(self):
        getattr(self.widget, self.signal).disconnect(self._slot)


class _CheckBox(_Connector):
    signal = "stateChanged"

    def read(self):
        return self.widget.checked

    def write(self, value):
        self.widget.checked = value


class _PushButton(_CheckBox):
    signal = "toggled"

    def setup(self, bare, annotations):
        if not self.widget.checkable:
            logging.warning("the push button %s becomes checkable to show a bool", self.widget.objectName)
            self.widget.checkable = True


class _Number(_Connector):
    """A number widget takes the range, step and decimals of the annotations; a slider needs a range."""

    signal = "valueChanged"
    unbounded = (float("-inf"), float("inf"))

    def setup(self, bare, annotations):
        self._type = bare
        decimals, step = first_of(annotations, Decimals), first_of(annotations, SingleStep)
        if bare is int and hasattr(type(self.widget), "decimals"):
            self.widget.decimals = 0
        elif decimals is not None:
            self.widget.decimals = decimals.value
        if step is not None:
            self.widget.singleStep = step.value
        within = first_of(annotations, WithinRange)
        minimum, maximum = within or first_of(annotations, Minimum), within or first_of(annotations, Maximum)
        if type(self.widget) in _sliders() and (minimum is None or maximum is None):
            raise RuntimeError(f"a {type(self.widget).__name__} cannot show a number that is unbounded")
        self.widget.minimum = minimum.minimum if minimum else self.unbounded[0]
        self.widget.maximum = maximum.maximum if maximum else self.unbounded[1]

    def read(self):
        return self._type(self.widget.value)

    def write(self, value):
        self.widget.value = self._type(value)


class _Integer(_Number):
    unbounded = (-(2**31), 2**31 - 1)


class _ChoiceBox(_Connector):
    """A combo box with the texts of the choices."""

    signal = "currentIndexChanged"

    def setup(self, bare, annotations):
        choice = first_of(annotations, Choice)
        if choice is None:
            raise RuntimeError("a combo box needs a Choice annotation")
        self._choices = list(choice.choices)
        self._fill([str(value) for value in self._choices])

    def _fill(self, texts):
        self.widget.clear()
        for text in texts:
            self.widget.addItem(text)

    def read(self):
        return self._choices[self.widget.currentIndex]

    def write(self, value):
        if value not in self._choices:
            raise ValueError(f"{value!r} is none of the choices {self._choices}")
        self.widget.currentIndex = self._choices.index(value)


class _EnumBox(_ChoiceBox):
    """A combo box with the labels (or names) of an enumeration; it keeps its row when it is filled."""

    def setup(self, bare, annotations):
        label = getattr(bare, "label", lambda member: member.name)
        self._choices = list(bare)
        row = self._choices[self.widget.currentIndex] if self.widget.currentIndex < len(self._choices) else None
        if row is None:
            raise IndexError("the combo box has more items than the enumeration has members")
        self._fill([label(member) for member in self._choices])
        self.write(row)


class _LineEdit(_Connector):
    signal = "textChanged"

    def read(self):
        return self.widget.text

    def write(self, value):
        if value != self.widget.text:  # writing would move the cursor
            self.widget.text = value


class _Label(_LineEdit):
    """A label has no signal: it shows the value."""

    def connect(self, callback):
        pass

    def disconnect(self):
        pass


class _TextEdit(_Connector):
    signal = "textChanged"

    def read(self):
        return self.widget.toPlainText()

    def write(self, value):
        self.widget.setPlainText(value)


class _PathEdit(_Connector):
    signal = "currentPathChanged"

    def setup(self, bare, annotations):
        self._type = bare

    def read(self):
        return self._type(self.widget.currentPath)

    def write(self, value):
        self.widget.currentPath = str(value)


class _NodeBox(_Connector):
    """A node combo box shows the node classes of the parameter."""

    signal = "currentNodeChanged"

    def setup(self, bare, annotations):
        self.widget.nodeTypes = _node_class_names(bare)

    def read(self):
        return self.widget.currentNode()

    def write(self, value):
        self.widget.setCurrentNode(value)


def _node_classes(bare):
    """The node classes of a type; empty if it is anything but a node class or a union of node classes and None."""
    members = typing.get_args(bare) if is_union(bare) else (bare,)
    members = [split_annotated(member)[0] for member in members]
    classes = [member for member in members if member is not type(None)]
    if not all(isinstance(member, type) and issubclass(member, slicer.vtkMRMLNode) for member in classes):
        return []
    return classes


def _node_class_names(bare):
    return tuple(node_class().GetClassName() for node_class in _node_classes(bare))


def _sliders():
    return (qt.QSlider, ctk_widgets.ctkSliderWidget)


def _is_enum(bare):
    return isinstance(bare, type) and issubclass(bare, enum.Enum)


def _connector_class(widget_class, bare, is_annotated_union):
    """The pairs of widget class and type that Slicer connects (the canRepresent methods); exact classes only."""
    if widget_class in (qt.QCheckBox, ctk_widgets.ctkCheckBox) and bare is bool:
        return _CheckBox
    if widget_class is qt.QPushButton and bare is bool:
        return _PushButton
    if widget_class in (qt.QSlider, qt.QSpinBox) and bare is int:
        return _Integer
    number_widgets = (qt.QDoubleSpinBox, ctk_widgets.ctkSliderWidget, ctk_widgets.ctkDoubleSpinBox)
    if widget_class in number_widgets and bare in (int, float):
        return _Number
    if widget_class in (qt.QComboBox, ctk_widgets.ctkComboBox):
        if bare in (int, float, str, bool):
            return _ChoiceBox
        return _EnumBox if _is_enum(bare) else None
    text_widgets = {qt.QLineEdit: _LineEdit, qt.QLabel: _Label, qt.QTextEdit: _TextEdit}
    if widget_class in text_widgets and bare is str:
        return text_widgets[widget_class]
    if widget_class is ctk_widgets.ctkPathLineEdit and bare in PATHS:
        return _PathEdit
    if widget_class is mrml_widgets.qMRMLNodeComboBox and _node_classes(bare) and not is_annotated_union:
        return _NodeBox
    return None


def connector_for(widget, annotated):
    """A ``A | B`` inside Annotated is no union for Slicer's connectors (util.isNodeOrUnionOfNodes); Union[A, B] is."""
    bare, annotations = split_annotated(annotated)
    is_annotated_union = bare is not annotated and isinstance(bare, types.UnionType)
    connector_class = _connector_class(type(widget), bare, is_annotated_union)
    if connector_class is None:
        raise RuntimeError(f"Slicer connects no {type(widget).__name__} to a parameter of the type {annotated}")
    return connector_class(widget, bare, annotations)
