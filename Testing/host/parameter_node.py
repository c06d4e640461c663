"""Typed parameters in a MRML node: the contents of ``slicer.parameterNodeWrapper``.

Which types there are, how their values are written into a vtkMRMLScriptedModuleNode (so that scenes can go to and from
Slicer), when values are refused, and which widget can show which type follow Base/Python/slicer/parameterNodeWrapper
(wrapper.py, serializers.py, validators.py, guiConnectors.py, util.py). Lists, dictionaries, parameter packs, colors and
ranges are not here: a parameter of such a type raises when the class is decorated.
"""

import logging
import typing
import weakref
from dataclasses import dataclass

import slicer
import slicer.util
import vtk

from .parameter_annotations import (
    Choice,
    Decimals,
    Default,
    Exclude,
    IsInstance,
    Maximum,
    Minimum,
    NotNone,
    SingleStep,
    Validator,
    WithinRange,
    is_validator,
    split_annotated,
)
from .parameter_connectors import connector_for
from .parameter_serializers import serializer_of, type_and_validators
from .pythonqt import qt
from .signals import report_error

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


@dataclass
class _ParameterInfo:
    name: str
    serializer: object
    default: Default
    annotated_type: object


class _CachedParameters:
    """The parameters of one node: their values are read when the node is modified, and kept.

    Slicer has an observer for each parameter; of these, every one reads again for each default that another one writes.
    One for all of them, which writes what is missing at once, leaves the same values for whoever is called next.
    """

    def __init__(self, infos, node):
        self._infos, self._node = infos, node
        self._written = set()
        with slicer.util.NodeModify(node):
            self._values = {name: self._read(info) for name, info in infos.items()}
        reference = weakref.ref(self)
        self._observer = node.AddObserver(
            vtk.vtkCommand.ModifiedEvent, lambda caller, event: reference()._on_modified()
        )

    def __del__(self):
        if hasattr(self, "_observer"):
            self._node.RemoveObserver(self._observer)

    def _on_modified(self):
        with slicer.util.NodeModify(self._node):
            for name, info in self._infos.items():
                if name in self._written:
                    continue
                try:
                    self._values[name] = self._read(info)
                except Exception as error:  # an observer's; the other parameters' observers are called all the same
                    report_error(error)

    def _read(self, info):
        if not info.serializer.is_in(self._node, info.name):
            info.serializer.write(self._node, info.name, info.default.value)
        return info.serializer.read(self._node, info.name)

    def read(self, name):
        return self._values[name]

    def write(self, name, value):
        """Observers of the node are called after the new value can be read."""
        info = self._infos[name]
        self._written.add(name)
        try:
            with slicer.util.NodeModify(self._node):
                info.serializer.write(self._node, name, value)
                self._values[name] = self._read(info)
        finally:
            self._written.discard(name)


class _Wrapper:
    """What parameterNodeWrapper adds to a class."""

    _is_parameter_node_wrapper = True

    def __init__(self, parameterNode):
        self.parameterNode = parameterNode
        self._connections = {}
        self._next_tag = 0
        self._is_updating_gui = False
        self._cached = _CachedParameters(self.allParameters, parameterNode)

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
        return self._cached.read(name)

    def setValue(self, name, value):
        self._info(name)
        self._cached.write(name, value)

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
        connectors = {name: connector_for(widget, self.dataType(name)) for name, widget in mapping.items()}
        tag, self._next_tag = self._next_tag, self._next_tag + 1
        for name, connector in connectors.items():
            connector.write(self.getValue(name))
            connector.connect(self._gui_callback(name, connector))
        self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: self._update_gui())
        self._connections[tag] = connectors
        return tag

    def disconnectGui(self, guiTag):
        """As Slicer 5.10 does it: the observer of the node stays, and keeps this object (5.12 removes it)."""
        for connector in self._connections.pop(guiTag, {}).values():
            connector.disconnect()

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
                for connectors in list(self._connections.values()):
                    for name, connector in connectors.items():
                        connector.write(self.getValue(name))
        finally:
            self._is_updating_gui = False


def _parameter_property(name):
    return property(lambda self: self._cached.read(name), lambda self, value: self._cached.write(name, value))


def _parameter_info(cls, name, annotated):
    _, annotations = split_annotated(annotated)
    try:
        serializer = serializer_of(*type_and_validators(annotated))
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
    unknown = [extra for extra in annotations if not is_validator(extra) and not isinstance(extra, known)]
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
