"""Signals and slots with the conventions of PythonQt, see pythonqt.py; and the errors of slots."""

import functools
import inspect
import sys
import traceback

from PySide6.QtCore import SIGNAL, QMetaMethod, QMetaObject, QObject

#: Exceptions raised in slots, timers and VTK observers, which Slicer prints and then goes on.
errors: list[BaseException] = []

_connect_by_signature = QObject.connect
_disconnect_connection = QObject.disconnect
CONNECTIONS = "_pythonqt_connections"
_by_class: dict[tuple[type, str], list[tuple[str, str]]] = {}


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


class QtSignal:
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


def _qt_signatures(owner):
    """Name and signature of each of Qt's signals that an object has, looked up once for each class.

    Qt may have made an object of a class that Python knows by a base only: both classes count.
    """
    meta_object = owner.metaObject()
    key = type(owner), meta_object.className()
    if key not in _by_class:
        methods = (meta_object.method(index) for index in range(meta_object.methodCount()))
        _by_class[key] = [
            (bytes(method.name().data()).decode(), bytes(method.methodSignature().data()).decode())
            for method in methods
            if method.methodType() == QMetaMethod.MethodType.Signal
        ]
    return _by_class[key]


def _first_signature(owner, name):
    for found, signature in _qt_signatures(owner):
        if found == name:
            return signature
    raise AttributeError(f"{type(owner).__name__} has no signal {name}")


def _host_signal_signatures(owner):
    return _host_signals_of_class(type(owner))


@functools.cache
def _host_signals_of_class(owner_class):
    return [
        signature
        for one in owner_class.__mro__
        for value in vars(one).values()
        if isinstance(value, HostSignal)
        for signature in value.signatures
    ]


def _connections_of(owner, signature):
    """The connections of one signal, kept by the object itself: (callable, Qt's connection) in the order made."""
    return vars(owner).setdefault(CONNECTIONS, {}).setdefault(signature, [])


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
    known = [found for _, found in _qt_signatures(owner)] if is_qobject(owner) else []
    if signature not in known:
        raise ValueError(f"{type(owner).__name__} has no signal '{signal}'")
    kept = (
        None if getattr(type(owner), "keeps_python_side", False) else owner
    )  # the Python side of an object that Qt made

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
        raise ValueError(f"{type(receiver).__name__} has no slot '{slot}'")  # noqa: TRY004
    return method


def is_qobject(owner):
    return isinstance(owner, QObject)


class SignalOwner:
    """``connect`` and ``disconnect`` for host objects that are not Qt objects."""

    def connect(self, signal, *target):
        return connect(self, signal, *target)

    def disconnect(self, signal, callback=None):
        return disconnect(self, signal, callback)
