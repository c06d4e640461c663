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
import inspect
import math
import sys
import traceback
import types

import PySide6.QtCore
import PySide6.QtGui
import PySide6.QtUiTools
import PySide6.QtWidgets
from PySide6.QtCore import SIGNAL, QCoreApplication, QEvent, QMetaMethod, QMetaObject, QObject, QTimer, Signal
from shiboken6 import Shiboken

_QT_MODULES = (PySide6.QtCore, PySide6.QtGui, PySide6.QtWidgets)

#: Exceptions raised in slots, timers and VTK observers, which Slicer prints and then goes on.
errors: list[BaseException] = []

_connect_by_signature = QObject.connect
_disconnect_connection = QObject.disconnect
_CONNECTIONS = "_pythonqt_connections"


def report_error(error):
    """Keep and print an exception that a Slicer application would print to its console."""
    errors.append(error)
    traceback.print_exception(type(error), error, error.__traceback__, file=sys.stderr)


def call_slot(callback, arguments):
    """Call a slot as PythonQtSignalTarget::call does (src/PythonQtSignalReceiver.cpp)."""
    function, bound = callback, 0
    if inspect.ismethod(callback):
        function, bound = callback.__func__, 1
    if inspect.isfunction(function) and not function.__code__.co_flags & inspect.CO_VARARGS:
        arguments = arguments[: max(0, function.__code__.co_argcount - bound)]
    try:
        callback(*arguments)
    except BaseException as error:
        report_error(error)


def normalized(signature):
    """Qt's normal form of a signal or slot signature."""
    return bytes(QMetaObject.normalizedSignature(signature).data()).decode()


# --- signals ---------------------------------------------------------------------------------------------------------


class HostSignal:
    """A signal of a class written in this package, which may pass any Python object (for example a MRML node)."""

    def __init__(self, *signatures):
        self.signatures = [normalized(signature) for signature in signatures]

    def __get__(self, owner, owner_class=None):
        return self if owner is None else BoundSignal(owner, self.signatures[0])


class BoundSignal:
    """A signal of one object, as src/PythonQtSignal.cpp shows it to Python."""

    def __init__(self, owner, signature, emitter=None):
        self._owner, self._signature, self._emitter = owner, signature, emitter

    def connect(self, callback):
        return connect(self._owner, self._signature, callback)

    def disconnect(self, callback=None):
        return disconnect(self._owner, self._signature, callback)

    def emit(self, *arguments):
        if self._emitter is None:
            emit(self._owner, self._signature, *arguments)
        else:
            self._emitter.emit(*arguments)

    __call__ = emit


class _QtSignal:
    """Replaces a PySide6 signal in its class, so that it follows PythonQt."""

    def __init__(self, name, signal):
        self._name, self._signal = name, signal

    def __get__(self, owner, owner_class=None):
        if owner is None:
            return self
        return BoundSignal(owner, _first_signature(owner, self._name), self._signal.__get__(owner, owner_class))

    def __set__(self, owner, value):
        # PySide6 stores the signal it made for an object in that object; this descriptor stays in charge of the name.
        if type(value).__name__ != "SignalInstance":
            raise AttributeError(f"signal '{self._name}' of {type(owner).__name__} cannot be replaced")


def _signal_methods(owner):
    meta_object = owner.metaObject()
    methods = (meta_object.method(index) for index in range(meta_object.methodCount()))
    return [method for method in methods if method.methodType() == QMetaMethod.MethodType.Signal]


def _first_signature(owner, name):
    for method in _signal_methods(owner):
        if bytes(method.name().data()).decode() == name:
            return bytes(method.methodSignature().data()).decode()
    raise AttributeError(f"{type(owner).__name__} has no signal {name}")


def _host_signal_signatures(owner):
    signatures = []
    for owner_class in type(owner).__mro__:
        for value in vars(owner_class).values():
            if isinstance(value, HostSignal):
                signatures += value.signatures
    return signatures


def _connections_of(owner, signature):
    """The connections of one signal, kept by the object itself: (callable, Qt's connection) in the order made."""
    return vars(owner).setdefault(_CONNECTIONS, {}).setdefault(signature, [])


def connect(owner, signal, *target):
    """``owner.connect(signal, callable)`` or ``owner.connect(signal, receiver, slot)``; an unknown signal raises.

    PythonQt itself returns False for an unknown signal (src/PythonQtStdDecorators.cpp); the host raises instead, since
    such a call is a mistake in the module.
    """
    signature = normalized(signal)
    if len(target) == 2:
        receiver, slot = target
        callback = slot_by_signature(receiver, slot)
    elif len(target) == 1 and callable(target[0]):
        callback = target[0]
    else:
        raise TypeError(f"connect expects a callable, or a receiver and a slot, not {target!r}")
    if signature in _host_signal_signatures(owner):
        _connections_of(owner, signature).append((callback, None))
        return True
    known = [bytes(m.methodSignature().data()).decode() for m in _signal_methods(owner)] if is_qobject(owner) else []
    if signature not in known:
        raise ValueError(f"{type(owner).__name__} has no signal '{signal}'")
    kept = None if isinstance(owner, PythonQtObject) else owner  # the Python side of an object that Qt made

    def slot_wrapper(*arguments, _kept=kept):
        call_slot(callback, arguments)

    connection = _connect_by_signature(owner, SIGNAL(signature), slot_wrapper)
    _connections_of(owner, signature).append((callback, connection))
    return True


def disconnect(owner, signal, callback=None):
    """Disconnect one callable (the first equal one), or all of them; False if there was none."""
    entries = _connections_of(owner, normalized(signal))
    removed = entries[:] if callback is None else [entry for entry in entries if entry[0] == callback][:1]
    for entry in removed:
        entries[:] = [other for other in entries if other is not entry]
        if entry[1] is not None:
            _disconnect_connection(entry[1])
    return bool(removed)


def emit(owner, signature, *arguments):
    """Emit a HostSignal by its signature, unless the owner's signals are blocked."""
    signature = normalized(signature)
    if signature not in _host_signal_signatures(owner):
        raise ValueError(f"{type(owner).__name__} has no signal '{signature}'")
    if is_qobject(owner) and owner.signalsBlocked():
        return
    for callback, _ in list(_connections_of(owner, signature)):
        call_slot(callback, arguments)


def slot_by_signature(receiver, slot):
    """The method of a receiver that a slot signature such as ``setMRMLScene(vtkMRMLScene*)`` names."""
    method = getattr(receiver, normalized(slot).partition("(")[0], None)
    if not callable(method):
        raise ValueError(f"{type(receiver).__name__} has no slot '{slot}'")
    return method


def is_qobject(owner):
    return isinstance(owner, QObject)


class SignalOwner:
    """``connect`` and ``disconnect`` for host objects that are not Qt objects."""

    def connect(self, signal, *target):
        return connect(self, signal, *target)

    def disconnect(self, signal, callback=None):
        return disconnect(self, signal, callback)


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
            setattr(qt_class, name, _QtSignal(name, value))
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
            kept = {name: value for name, value in vars(widget).items() if name != _CONNECTIONS}
            names = [name for name, value in kept.items() if type(value).__name__ != "SignalInstance"]
            strays += [f"{type(widget).__name__}('{widget.objectName}').{name}" for name in names]
    return strays


# --- the classes of the qt module ------------------------------------------------------------------------------------


class PythonQtObject:
    """What PythonQt adds to every Qt object; mixed into the classes of the qt, ctk and slicer modules."""

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
