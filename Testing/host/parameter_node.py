"""Typed parameters in a MRML node: the contents of ``slicer.parameterNodeWrapper``.

Which types there are, how their values are written into a vtkMRMLScriptedModuleNode (so that scenes can go to and from
Slicer), when values are refused, and which widget can show which type follow Base/Python/slicer/parameterNodeWrapper
(wrapper.py, serializers.py, validators.py, guiConnectors.py, util.py). Lists, dictionaries, parameter packs, colors and
ranges are not here: a parameter of such a type raises when the class is decorated.
"""

import abc
import enum
import logging
import pathlib
import types
import typing
import weakref
from dataclasses import dataclass

import slicer
import slicer.util
import vtk

from . import ctk_widgets, mrml_widgets
from .pythonqt import qt

__all__ = [
    "Choice",
    "Decimals",
    "Default",
    "Exclude",
    "IsInstance",
    "Maximum",
    "Minimum",
    "NotNone",
    "SingleStep",
    "SlicerParameterNamePropertyName",
    "Validator",
    "WithinRange",
    "findChildWidgetForParameter",
    "isParameterNodeWrapper",
    "parameterNodeWrapper",
]

SlicerParameterNamePropertyName = "SlicerParameterName"

_PATHS = (
    pathlib.Path,
    pathlib.PosixPath,
    pathlib.WindowsPath,
    pathlib.PurePath,
    pathlib.PurePosixPath,
    pathlib.PureWindowsPath,
)


# --- annotations (default.py, guiConnectors.py, validators.py) -------------------------------------------------------


class Default:
    """The default of a parameter, or a function that makes one."""

    def __init__(self, value=None, *, generator=None):
        self._value, self._generator = value, generator

    @property
    def value(self):
        return self._generator() if self._generator else self._value

    def __eq__(self, other):
        return isinstance(other, Default) and vars(self) == vars(other)

    __hash__ = None

    def __repr__(self):
        return f"Default(value={self._value}, generator={self._generator})"


@dataclass
class Decimals:
    """The decimals that a widget shows."""

    value: int


@dataclass
class SingleStep:
    """The step of a widget."""

    value: float


class Validator(abc.ABC):
    """Says whether a value may be written."""

    @abc.abstractmethod
    def validate(self, value):
        """Raise for a value that is not allowed."""


class NotNone(Validator):
    def validate(self, value):
        if value is None:
            raise ValueError("None is not allowed here")


class IsInstance(Validator):
    """None is no matter of this validator."""

    def __init__(self, classtype):
        self.classtype = classtype

    def validate(self, value):
        if value is not None and not isinstance(value, self.classtype):
            raise TypeError(f"{value!r} is a {type(value).__name__}, not a {self.classtype}")


class WithinRange(Validator):
    def __init__(self, minimum, maximum):
        self.minimum, self.maximum = minimum, maximum

    def validate(self, value):
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value} is outside {self.minimum} to {self.maximum}")


class Minimum(Validator):
    def __init__(self, minimum):
        self.minimum = minimum

    def validate(self, value):
        if value < self.minimum:
            raise ValueError(f"{value} is below {self.minimum}")


class Maximum(Validator):
    def __init__(self, maximum):
        self.maximum = maximum

    def validate(self, value):
        if value > self.maximum:
            raise ValueError(f"{value} is above {self.maximum}")


class Choice(Validator):
    def __init__(self, choices):
        self.choices = choices

    def validate(self, value):
        if value not in self.choices:
            raise ValueError(f"{value!r} is none of the choices {self.choices}")


class Exclude(Validator):
    def __init__(self, excludedValues):
        self.excludedValues = excludedValues

    def validate(self, value):
        if value in self.excludedValues:
            raise ValueError(f"{value!r} is excluded: {self.excludedValues}")


def _split(annotated):
    """A type without its annotations, and the annotations."""
    if typing.get_origin(annotated) is typing.Annotated:
        bare, *annotations = typing.get_args(annotated)
        return bare, annotations
    return annotated, []


def _first(annotations, kind):
    return next((annotation for annotation in annotations if isinstance(annotation, kind)), None)


def _is_validator(annotation):
    return isinstance(annotation, Validator) or (isinstance(annotation, type) and issubclass(annotation, Validator))


# --- how values are written into a node (serializers.py) --------------------------------------------------------------


class _Text:
    """A value that is one text parameter of the node; the node parameter has the name of the Python parameter."""

    def __init__(self, default, encode, decode, validators):
        self.default, self._encode, self._decode, self.validators = default, encode, decode, list(validators)

    def validate(self, value):
        for validator in self.validators:
            validator.validate(value)

    def handles(self, value):
        """Whether a value is of the kind that a union gives to this serializer."""
        try:
            NotNone().validate(value)
            self.validate(value)
        except (TypeError, ValueError):
            return False
        return True

    def is_in(self, node, name):
        return node.HasParameter(name)

    def write(self, node, name, value):
        self.validate(value)
        node.SetParameter(name, self._encode(value))

    def read(self, node, name):
        return self._decode(node.GetParameter(name))

    def remove(self, node, name):
        node.UnsetParameter(name)


class _Node(_Text):
    """A node reference, and an empty parameter of the same name which says that it was written."""

    def __init__(self, node_class):
        super().__init__(None, None, None, [IsInstance(node_class)])

    def write(self, node, name, value):
        self.validate(value)
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node, name):
        return node.GetNodeReference(name)

    def remove(self, node, name):
        node.UnsetParameter(name)
        node.RemoveNodeReferenceIDs(name)


class _Nothing(_Text):
    """The None of a union: the text True."""

    def __init__(self):
        super().__init__(None, lambda value: "True", lambda text: None, [])

    def handles(self, value):
        return value is None


class _Union:
    """One of several types: its text or reference has the number of the type behind the name (``name.0``).

    The default is None for ``Optional[X]``, otherwise the default of the first type. A union of node classes cannot
    hold None unless None is one of its types; its default then cannot be written.
    """

    def __init__(self, members, validators):
        self._members, self.validators = members, list(validators)
        optional = len(members) == 2 and isinstance(members[1], _Nothing)
        self.default = None if optional else members[0].default

    def is_in(self, node, name):
        return any(member.is_in(node, f"{name}.{index}") for index, member in enumerate(self._members))

    def write(self, node, name, value):
        for validator in self.validators:
            validator.validate(value)
        with slicer.util.NodeModify(node):
            for index, member in enumerate(self._members):
                if member.handles(value):
                    self.remove(node, name)
                    member.write(node, f"{name}.{index}", value)
                    return
            raise TypeError(f"no type of the union takes {value!r}")

    def read(self, node, name):
        for index, member in enumerate(self._members):
            if member.is_in(node, f"{name}.{index}"):
                return member.read(node, f"{name}.{index}")
        raise KeyError(f"the node has no parameter {name}")

    def remove(self, node, name):
        with slicer.util.NodeModify(node):
            for index, member in enumerate(self._members):
                member.remove(node, f"{name}.{index}")


def _is_union(bare):
    return isinstance(bare, types.UnionType) or typing.get_origin(bare) is typing.Union


def _serializer(bare, validators):
    """The serializer of a type; its own checks come before the parameter's validators."""
    if bare in (int, float):
        checks = [NotNone(), IsInstance((int, float) if bare is float else int)]
        return _Text(0, str, bare, [*checks, *validators])
    if bare is str:
        return _Text("", str, str, [NotNone(), IsInstance(str), *validators])
    if bare is bool:
        checks = [NotNone(), IsInstance(bool)]
        return _Text(
            False, lambda value: "True" if value else "False", lambda text: text == "True", [*checks, *validators]
        )
    if bare in _PATHS:
        return _Text(bare(), str, bare, [NotNone(), IsInstance(bare), *validators])
    if isinstance(bare, type) and issubclass(bare, slicer.vtkMRMLNode):
        serializer = _Node(bare)
        serializer.validators += validators
        return serializer
    if isinstance(bare, type) and issubclass(bare, enum.Enum):
        return _enum_serializer(bare, validators)
    if bare is type(None):
        return _Nothing()
    if _is_union(bare):
        members = [_serializer(*_type_and_validators(member)) for member in typing.get_args(bare)]
        return _Union(members, validators)
    raise TypeError(f"this host has no parameters of the type {bare}")


def _enum_serializer(bare, validators):
    if not len(bare):
        raise ValueError("an enumeration without members cannot be a parameter")

    def decode(text):
        if text not in bare.__members__:
            raise ValueError(f"the node holds {text!r}, which is no name of {bare!r}")
        return bare[text]

    return _Text(next(iter(bare)), lambda value: value.name, decode, [IsInstance(bare), *validators])


def _type_and_validators(annotated):
    bare, annotations = _split(annotated)
    return bare, [annotation for annotation in annotations if _is_validator(annotation)]


# --- the parameters of a node (wrapper.py) ----------------------------------------------------------------------------


@dataclass
class _ParameterInfo:
    name: str
    serializer: object
    default: Default
    annotated_type: object


class _CachedParameter:
    """One parameter of one node: its value is read when the node is modified, and kept."""

    def __init__(self, info, node):
        self._info, self._node = info, node
        self._is_writing = False
        if not info.serializer.is_in(node, info.name):
            info.serializer.write(node, info.name, info.default.value)
        self._value = info.serializer.read(node, info.name)
        reference = weakref.ref(self)
        self._observer = node.AddObserver(
            vtk.vtkCommand.ModifiedEvent, lambda caller, event: reference()._on_modified()
        )

    def __del__(self):
        if hasattr(self, "_observer"):
            self._node.RemoveObserver(self._observer)

    def _on_modified(self):
        if not self._is_writing:
            self._value = self._read()

    def _read(self):
        if not self._info.serializer.is_in(self._node, self._info.name):
            self._info.serializer.write(self._node, self._info.name, self._info.default.value)
        return self._info.serializer.read(self._node, self._info.name)

    def read(self):
        return self._value

    def write(self, value):
        """Observers of the node are called after the new value can be read."""
        self._is_writing = True
        try:
            with slicer.util.NodeModify(self._node):
                self._info.serializer.write(self._node, self._info.name, value)
                self._value = self._read()
        finally:
            self._is_writing = False


class _Wrapper:
    """What parameterNodeWrapper adds to a class."""

    _is_parameter_node_wrapper = True

    def __init__(self, parameterNode):
        self.parameterNode = parameterNode
        self._connections = {}
        self._next_tag = 0
        self._is_updating_gui = False
        self._cached = {name: _CachedParameter(info, parameterNode) for name, info in self.allParameters.items()}

    def default(self, name):
        return self._info(name).default

    def isCached(self, name):
        self._info(name)
        return True

    @classmethod
    def dataType(cls, name):
        return cls._info(name).annotated_type

    @classmethod
    def _info(cls, name):
        if name not in cls.allParameters:
            raise ValueError(f"there is no parameter {name} among {list(cls.allParameters)}")
        return cls.allParameters[name]

    def getValue(self, name):
        self._info(name)
        return self._cached[name].read()

    def setValue(self, name, value):
        self._info(name)
        self._cached[name].write(value)

    def StartModify(self):
        return self.parameterNode.StartModify()

    def EndModify(self, wasModified):
        return self.parameterNode.EndModify(wasModified)

    def AddObserver(self, event, callback, priority=0.0):
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag):
        return self.parameterNode.RemoveObserver(tag)

    def Modified(self):
        return self.parameterNode.Modified()

    def connectGui(self, gui):
        """Connect every widget that names a parameter in its property SlicerParameterName.

        ``gui`` is a widget, or an object whose attributes are widgets (slicer.util.childWidgetVariables).
        """
        is_widget = getattr(gui, "isWidgetType", lambda: False)()
        widgets = gui.findChildren(qt.QWidget) if is_widget else vars(gui).values()
        mapping = {}
        for widget in widgets:
            name = widget.property(SlicerParameterNamePropertyName)
            if name:
                mapping[name] = widget
        return self.connectParametersToGui(mapping)

    def connectParametersToGui(self, mapping):
        for name in mapping:
            self._info(name)
        connectors = {name: _connector(widget, self.dataType(name)) for name, widget in mapping.items()}
        tag, self._next_tag = self._next_tag, self._next_tag + 1
        for name, connector in connectors.items():
            connector.write(self.getValue(name))
            connector.connect(self._gui_callback(name, connector))
        observer = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: self._update_gui())
        self._connections[tag] = (connectors, observer)
        return tag

    def disconnectGui(self, guiTag):
        connectors, observer = self._connections.pop(guiTag, ({}, None))
        for connector in connectors.values():
            connector.disconnect()
        if observer is not None:
            self.RemoveObserver(observer)

    def _gui_callback(self, name, connector):
        def on_changed():
            with slicer.util.NodeModify(self):
                if not self._is_updating_gui:
                    self.setValue(name, connector.read())

        return on_changed

    def _update_gui(self):
        if self._is_updating_gui:
            return
        self._is_updating_gui = True
        try:
            with slicer.util.NodeModify(self):
                for connectors, _ in list(self._connections.values()):
                    for name, connector in connectors.items():
                        connector.write(self.getValue(name))
        finally:
            self._is_updating_gui = False


def _parameter_property(name):
    return property(lambda self: self._cached[name].read(), lambda self, value: self._cached[name].write(value))


def _parameter_info(cls, name, annotated):
    _, annotations = _split(annotated)
    try:
        serializer = _serializer(*_type_and_validators(annotated))
    except Exception as error:
        raise TypeError(f"the parameter {name} of {cls} cannot be stored") from error
    defaults = [annotation for annotation in annotations if isinstance(annotation, Default)]
    if len(defaults) > 1:
        raise ValueError("more than one default")
    if hasattr(cls, name):
        default = Default(getattr(cls, name))
    else:
        default = defaults[0] if defaults else Default(serializer.default)
    known = (Default, Decimals, SingleStep)
    unknown = [extra for extra in annotations if not _is_validator(extra) and not isinstance(extra, known)]
    if unknown:
        logging.warning("annotations without meaning: %s", unknown)
    return _ParameterInfo(name, serializer, default, annotated)


def parameterNodeWrapper(classtype=None):
    """Class decorator: the annotated members of the class become parameters of the node it is made with."""

    def wrap(cls):
        infos = {}
        for name, annotated in typing.get_type_hints(cls, include_extras=True).items():
            infos[name] = _parameter_info(cls, name, annotated)
            setattr(cls, name, _parameter_property(name))
        for name, member in vars(_Wrapper).items():
            if name.startswith("__") and name != "__init__":
                continue
            if name != "__init__" and hasattr(cls, name):
                raise ValueError(f"a parameter cannot have the reserved name {name}")
            setattr(cls, name, member)
        if hasattr(cls, "allParameters"):
            raise ValueError("a parameter cannot have the reserved name allParameters")
        cls.allParameters = infos
        return cls

    return wrap if classtype is None else wrap(classtype)


def isParameterNodeWrapper(classOrObj):
    return getattr(classOrObj, "_is_parameter_node_wrapper", False)


def findChildWidgetForParameter(widget, parameter):
    for child in widget.findChildren(qt.QWidget):
        if child.property(SlicerParameterNamePropertyName) == parameter:
            return child
    return None


# --- widgets (guiConnectors.py) ---------------------------------------------------------------------------------------


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
        decimals, step = _first(annotations, Decimals), _first(annotations, SingleStep)
        if bare is int and hasattr(type(self.widget), "decimals"):
            self.widget.decimals = 0
        elif decimals is not None:
            self.widget.decimals = decimals.value
        if step is not None:
            self.widget.singleStep = step.value
        within = _first(annotations, WithinRange)
        minimum, maximum = within or _first(annotations, Minimum), within or _first(annotations, Maximum)
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
        choice = _first(annotations, Choice)
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
    members = typing.get_args(bare) if _is_union(bare) else (bare,)
    members = [_split(member)[0] for member in members]
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
    if widget_class is ctk_widgets.ctkPathLineEdit and bare in _PATHS:
        return _PathEdit
    if widget_class is mrml_widgets.qMRMLNodeComboBox and _node_classes(bare) and not is_annotated_union:
        return _NodeBox
    return None


def _connector(widget, annotated):
    """A ``A | B`` inside Annotated is no union for Slicer's connectors (util.isNodeOrUnionOfNodes); Union[A, B] is."""
    bare, annotations = _split(annotated)
    is_annotated_union = bare is not annotated and isinstance(bare, types.UnionType)
    connector_class = _connector_class(type(widget), bare, is_annotated_union)
    if connector_class is None:
        raise RuntimeError(f"Slicer connects no {type(widget).__name__} to a parameter of the type {annotated}")
    return connector_class(widget, bare, annotations)
