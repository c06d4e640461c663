"""Transforms that travel: read, written, inverted, joined and applied in the formats of other programs.

Importing the package loads the catalog of formats only; everything else comes on first use.
"""

from __future__ import annotations

from .catalog import CONVENTIONS, DIRECTIONS, FORMATS, LINEAR_KINDS, PRECISIONS, format_for

_LAZY = {
    "Imported": "reading",
    "read": "reading",
    "Sides": "content",
    "Written": "writing",
    "write": "writing",
    "Opened": "opening",
    "open_transform": "opening",
    "chosen": "opening",
    "compose": "opening",
    "Inverse": "inverting",
    "inverse_of": "inverting",
    "map_points": ".io.itk_transform",
    "map_points_back": "inverting",
    "linear_part": "linear",
    "apply_to_file": "applying",
    "Applying": "applying",
}
__all__ = ["CONVENTIONS", "DIRECTIONS", "FORMATS", "LINEAR_KINDS", "PRECISIONS", "format_for", *_LAZY]


def __getattr__(name: str):
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
