"""What annotates a parameter: default, steps and what it refuses (default.py, guiConnectors.py, validators.py)."""

import abc
import typing
from dataclasses import dataclass


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


def split_annotated(annotated):
    """A type without its annotations, and the annotations."""
    if typing.get_origin(annotated) is typing.Annotated:
        bare, *annotations = typing.get_args(annotated)
        return bare, annotations
    return annotated, []


def first_of(annotations, kind):
    return next((annotation for annotation in annotations if isinstance(annotation, kind)), None)


def is_validator(annotation):
    return isinstance(annotation, Validator) or (isinstance(annotation, type) and issubclass(annotation, Validator))
