"""PySide6 with the calling conventions that PythonQt gives Qt inside a Slicer application.

Facts followed (repository commontk/PythonQt):

* src/PythonQtClassInfo.cpp: a Qt property is found before a method of the same name, ``name`` is another spelling of
  ``objectName``, and everything else stays a method.
* src/PythonQtInstanceWrapper.cpp: properties are read and written as attributes; writing a read-only property, or
  an attribute that a C++ object does not have, is an AttributeError; ``className()`` exists on every object.
* src/PythonQtSignal.cpp: a signal is an attribute with ``connect``, ``disconnect`` and ``emit``; it stands for its
  first overload, and calling it emits.
* src/PythonQtSignalReceiver.cpp: a callable with a fixed number of positional parameters gets that many of the signal's
  arguments, any other callable gets all of them; the connection holds the callable; callables are compared by equality
  when disconnecting; an exception in a slot is reported and goes no further.
"""

import ctypes
import functools
import math
import sys
import types

import PySide6.QtCore
import PySide6.QtGui
import PySide6.QtUiTools
import PySide6.QtWidgets
from PySide6.QtCore import QCoreApplication, QEvent, QObject, QTimer, Signal
from shiboken6 import Shiboken

from .signals import CONNECTIONS, QtSignal, call_slot, connect, disconnect, slot_by_signature

_QT_MODULES = (PySide6.QtCore, PySide6.QtGui, PySide6.QtWidgets)

# --- properties ------------------------------------------------------------------------------------------------------


class _QtProperty:
    """A Qt property as a Python attribute (src/PythonQtInstanceWrapper.cpp, getattro and setattro)."""

    def __init__(self, owner_class, meta_property, class_attribute):
        self._name = meta_property.name()
        self._type = meta_property.typeName()
        self._class_attribute = class_attribute
        capital = self._name[0].upper() + self._name[1:]
        self._read = _method(class_attribute)
        for prefix in ("is", "has"):
            self._read = self._read or _method(getattr(owner_class, prefix + capital, None))
        self._write = None
        if meta_property.isWritable():
            self._write = _method(getattr(owner_class, "set" + capital, None)) or self._set_property

    def _set_property(self, owner, value):
        if not owner.setProperty(self._name, value):
            raise TypeError(f"property {self._name} of {type(owner).__name__} does not take {value!r}")

    def __get__(self, owner, owner_class=None):
        if owner is None:
            if self._class_attribute is None:
                raise AttributeError(f"{owner_class.__name__} has no class attribute {self._name}")
            return self._class_attribute
        value = self._read(owner) if self._read else owner.property(self._name)
        return tuple(value or ()) if self._type == "QStringList" else value

    def __set__(self, owner, value):
        if self._write is None:
            raise AttributeError(f"property '{self._name}' of {type(owner).__name__} is not writable")
        self._write(owner, self._converted(owner, value))

    def _converted(self, owner, value):
        """The conversions of PythonQtConv::PyObjToQVariant that modules rely on (src/PythonQtConversion.cpp)."""
        if self._type == "bool":
            return bool(value)
        if self._type in ("int", "uint") and isinstance(value, float):
            return math.floor(value)
        if self._type == "double":
            return float(value)
        if self._type == "QString" and not isinstance(value, str):
            return str(value)
        if self._type == "QStringList":
            return list(value)
        if isinstance(value, int) and not isinstance(value, bool) and self._type not in ("int", "uint", "qlonglong"):
            return type(self.__get__(owner))(value)
        return value


def _method(candidate):
    return candidate if isinstance(candidate, types.MethodDescriptorType) else None


def _object_name():
    return property(lambda owner: owner.objectName, lambda owner, name: setattr(owner, "objectName", name))


def _adapt_class(qt_class):
    """Give one PySide6 class the properties and signals of PythonQt."""
    for name, value in list(vars(qt_class).items()):
        if type(value) is Signal:
            setattr(qt_class, name, QtSignal(name, value))
    meta_object = qt_class.staticMetaObject
    for index in range(meta_object.propertyCount()):
        own = index >= meta_object.propertyOffset()
        meta_property = meta_object.property(index)
        class_attribute = vars(qt_class).get(meta_property.name())
        if own or class_attribute is not None:
            setattr(qt_class, meta_property.name(), _QtProperty(qt_class, meta_property, class_attribute))


def qt_classes():
    """Every PySide6 class that is a QObject, base classes first."""
    found = {}
    for module in _QT_MODULES:
        for name in dir(module):  # not vars(): PySide6 makes a class when it is first asked for
            value = getattr(module, name)
            if isinstance(value, type) and issubclass(value, QObject):
                found[name] = value
    return sorted(found.values(), key=lambda qt_class: len(qt_class.__mro__))


def _single_shot(milliseconds, *target):
    """QTimer.singleShot with a Python callable, which is kept until it is called."""
    callback = target[-1] if len(target) == 1 else slot_by_signature(*target)
    _original_single_shot(int(milliseconds), lambda: call_slot(callback, ()))


_original_single_shot = QTimer.singleShot
_adapted = []


def adapt():
    """Make PySide6 follow PythonQt in this process (once)."""
    if _adapted:
        return
    _adapted.append(True)
    _make_singletons_immortal()
    QTimer.singleShot = staticmethod(_single_shot)
    for qt_class in qt_classes():
        _adapt_class(qt_class)
    QObject.name = _object_name()
    QObject.className = lambda owner: owner.metaObject().className()
    QObject.delete = lambda owner: Shiboken.delete(owner)
    PySide6.QtWidgets.QDialog.exec_ = PySide6.QtWidgets.QDialog.exec
    PySide6.QtWidgets.QMenu.exec_ = PySide6.QtWidgets.QMenu.exec


def _make_singletons_immortal():
    """PySide6 6.12 gives None, True and False away without counting, as Python allows from 3.12 on (PEP 683).

    Before that, some thousand calls would free None and end the process. Here they get a count that never runs out.
    """
    if sys.version_info < (3, 12):
        for singleton in (None, True, False):
            ctypes.c_ssize_t.from_address(id(singleton)).value += 1 << 40


def stray_attributes(widgets):
    """Python attributes on widgets that Qt itself made, which PythonQt would refuse and PySide6 keeps silently."""
    strays = []
    for widget in widgets:
        if type(widget).__module__.startswith("PySide6."):
            kept = {name: value for name, value in vars(widget).items() if name != CONNECTIONS}
            names = [name for name, value in kept.items() if type(value).__name__ != "SignalInstance"]
            strays += [f"{type(widget).__name__}('{widget.objectName}').{name}" for name in names]
    return strays


# --- the classes of the qt module ------------------------------------------------------------------------------------


class PythonQtObject:
    """What PythonQt adds to every Qt object; mixed into the classes of the qt, ctk and slicer modules."""

    keeps_python_side = True

    def __getattribute__(self, name):
        # Shiboken's own lookup would always find QObject.connect and QObject.disconnect first.
        if name == "connect":
            return functools.partial(connect, self)
        if name == "disconnect":
            return functools.partial(disconnect, self)
        return super().__getattribute__(name)

    @staticmethod
    def flush_deletions():
        """Delete what deleteLater() was called for, as the running event loop of an application does."""
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)

    def findChildren(self, child_class, name=""):
        children = QObject.findChildren(self, _pyside_class(child_class))
        return [child for child in children if not name or child.objectName == name]

    def findChild(self, child_class, name=""):
        return next(iter(PythonQtObject.findChildren(self, child_class, name)), None)

    def __getattr__(self, name):
        if not name.startswith("_") and name in _dynamic_properties(self):
            return self.property(name)
        raise AttributeError(f"{type(self).__name__} has no attribute '{name}'")

    def __setattr__(self, name, value):
        own_state = name.startswith("_") and type(self).__module__ != "qt"
        if type(self) in _qt_types and not own_state and not _has_attribute(type(self), name):
            if no_child_attributes.are_refused_silently:
                return
            if name not in _dynamic_properties(self):
                raise AttributeError(
                    f"Attribute '{name}' of {type(self).__name__} does not exist; PythonQt adds none to a C++ object"
                )
            self.setProperty(name, value)
            return
        super().__setattr__(name, value)


class _ChildAttributes:
    """PySide6's QUiLoader makes each child an attribute of the loaded widget; PythonQt's does not."""

    are_refused_silently = False

    def __enter__(self):
        self.are_refused_silently = True

    def __exit__(self, *_):
        self.are_refused_silently = False


no_child_attributes = _ChildAttributes()

#: Classes whose instances take no new attributes (a Python class derived from them does).
_qt_types: set[type] = set()


def _has_attribute(owner_class, name):
    return any(name in vars(base) for base in owner_class.__mro__)


def _dynamic_properties(owner):
    return [bytes(name.data()).decode() for name in QObject.dynamicPropertyNames(owner)]


def _pyside_class(child_class):
    """The PySide6 class behind a class of the qt module; a class of this package stands for itself."""
    if child_class.__module__ == "qt":
        return next(base for base in child_class.__mro__ if base.__module__.startswith("PySide6."))
    return child_class


def cpp_like(widget_class):
    """Class decorator for a widget written here that stands for a C++ widget: it takes no new attributes."""
    _qt_types.add(widget_class)
    return widget_class


class QtModule(types.ModuleType):
    """The ``qt`` module: what Slicer's Base/Python/qt.py gathers from QtCore, QtGui, QtWidgets and QtUiTools.

    A class is made when it is first asked for. As in PythonQt (src/PythonQt.cpp, createNewPythonQtClassWrapper) the
    Python classes of Qt widgets do not derive from one another: a QPushButton is no Python instance of qt.QWidget.
    """

    def __getattr__(self, name):
        source = next((part for part in _QT_MODULES if name.startswith("Q") and hasattr(part, name)), None)
        if source is None:
            raise AttributeError(f"module 'qt' has no attribute '{name}'")
        value = getattr(source, name)
        if isinstance(value, type) and issubclass(value, QObject) and not issubclass(value, QCoreApplication):
            value = type(value)(name, (PythonQtObject, value), {"__module__": "qt", "__doc__": value.__doc__})
            _qt_types.add(value)
        setattr(self, name, value)
        return value


qt = QtModule("qt", "Qt with PythonQt's calling conventions")
qt.Signal, qt.Slot = PySide6.QtCore.Signal, PySide6.QtCore.Slot
