"""What the panel's choices have in common."""

from __future__ import annotations

import enum


class Choice(enum.Enum):
    """A choice whose value is what the engine is told, shown by its label."""

    def label(self) -> str:
        return self.value
