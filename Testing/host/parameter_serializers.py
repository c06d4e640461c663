"""How values of parameters are written into a node (Slicer's serializers.py)."""

import enum
import pathlib
import types
import typing

import slicer
import slicer.util

from .parameter_annotations import IsInstance, NotNone, is_validator, split_annotated

PATHS = (
    pathlib.Path,
    pathlib.PosixPath,
    pathlib.WindowsPath,
    pathlib.PurePath,
    pathlib.PurePosixPath,
    pathlib.PureWindowsPath,
)


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


def is_union(bare):
    return isinstance(bare, types.UnionType) or typing.get_origin(bare) is typing.Union


def serializer_of(bare, validators):
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
    if bare in PATHS:
        return _Text(bare(), str, bare, [NotNone(), IsInstance(bare), *validators])
    if isinstance(bare, type) and issubclass(bare, slicer.vtkMRMLNode):
        serializer = _Node(bare)
        serializer.validators += validators
        return serializer
    if isinstance(bare, type) and issubclass(bare, enum.Enum):
        return _enum_serializer(bare, validators)
    if bare is type(None):
        return _Nothing()
    if is_union(bare):
        members = [serializer_of(*type_and_validators(member)) for member in typing.get_args(bare)]
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


def type_and_validators(annotated):
    bare, annotations = split_annotated(annotated)
    return bare, [annotation for annotation in annotations if is_validator(annotation)]
