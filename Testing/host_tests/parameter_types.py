"""Enumerations that the tests of parameters use."""

import enum


class Color(enum.Enum):
    RED = 1
    GREEN = 2


class Labelled(enum.Enum):
    RED = 1
    GREEN = 2

    def label(self):
        return self.name.title()
