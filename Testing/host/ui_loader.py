"""Loading a Qt Designer file as slicer.util.loadUI does, with qt.QUiLoader (Base/Python/slicer/util.py)."""

import xml.etree.ElementTree as ElementTree

from PySide6 import QtCore, QtUiTools

from . import ctk_widgets, mrml_widgets
from .pythonqt import PythonQtObject, no_child_attributes, qt
from .signals import connect

_HOST_WIDGETS = {widget.__name__: widget for widget in (*ctk_widgets.WIDGETS, *mrml_widgets.WIDGETS)}


def widget_class(class_name):
    """The class for a class name of a .ui file; an unknown name raises."""
    if class_name == "Line":
        return qt.QFrame
    known = _HOST_WIDGETS.get(class_name) or getattr(qt, class_name, None)
    if known is None:
        raise ValueError(f"the .ui file holds a {class_name}, which this host does not have")
    return known


class QUiLoader(PythonQtObject, QtUiTools.QUiLoader):
    """Makes the widgets of the qt, ctk and slicer modules; refuses unknown classes, properties and connections.

    Connections of the file are made here, since signals of the host's widgets are not in their Qt meta-objects.
    """

    def load(self, device, parent=None):
        if not device.isOpen():
            device.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        root = ElementTree.fromstring(bytes(device.readAll().data()))
        for element in root.iter("widget"):
            widget_class(element.get("class"))
        sets = _take_sets(root)
        connections = _take_connections(root)
        self._made = []
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(root))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        with no_child_attributes:
            widget = super().load(buffer, parent)
        if widget is None:
            raise RuntimeError(f"Qt could not load the .ui file: {self.errorString()}")
        children = {child.objectName: child for child in [widget, *widget.findChildren(QtCore.QObject)]}
        for name, property_name, value in sets:
            setattr(children[name], property_name, value)
        _check_properties(root, children)
        for sender, signal, receiver, slot in connections:
            connect(children[sender], signal, children[receiver], slot)
        self._made = []
        return widget

    def createWidget(self, class_name, parent=None, name=""):
        made = widget_class(class_name)(parent) if parent is not None else widget_class(class_name)()
        if class_name == "Line":
            made.setFrameShadow(qt.QFrame.Shadow.Sunken)
        made.setObjectName(name)
        self._made.append(made)
        return made

    def createLayout(self, class_name, parent=None, name=""):
        made = getattr(qt, class_name)()
        made.setObjectName(name)
        if parent is not None and parent.isWidgetType():
            parent.setLayout(made)
        self._made.append(made)
        return made

    def createAction(self, parent=None, name=""):
        made = qt.QAction(parent)
        made.setObjectName(name)
        self._made.append(made)
        return made


def _take_sets(root):
    """Enumeration properties of host widgets (Qt cannot read them): (widget name, property name, value)."""
    taken = []
    for element in root.iter("widget"):
        enumerations = getattr(widget_class(element.get("class")), "ui_sets", {})
        for child in [child for child in element.findall("property") if child.get("name") in enumerations]:
            enumeration = enumerations[child.get("name")]
            value = enumeration(0)
            for flag in (child.findtext("set") or "").split("|"):
                value |= enumeration[flag.rpartition("::")[2]]
            taken.append((element.get("name"), child.get("name"), value))
            element.remove(child)
    return taken


def _take_connections(root):
    taken = []
    for connections in root.findall("connections"):
        for connection in connections:
            taken.append(tuple(connection.findtext(part) for part in ("sender", "signal", "receiver", "slot")))
        root.remove(connections)
    return taken


def _check_properties(root, children):
    """A property that is neither one of the class nor marked as dynamic (stdset="0") is a mistake."""
    for element in root.iter("widget"):
        widget = children[element.get("name")]
        for child in element.findall("property"):
            name = child.get("name")
            known = widget.metaObject().indexOfProperty(name) >= 0 or hasattr(type(widget), name)
            if not known and child.get("stdset") != "0" and not (name == "buddy" or element.get("class") == "Line"):
                raise ValueError(f"{element.get('class')} '{element.get('name')}' has no property '{name}'")
