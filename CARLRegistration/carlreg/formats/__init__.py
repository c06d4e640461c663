"""Transforms that travel: read, written, inverted, joined and applied in the formats of other programs."""

from .catalog import FORMATS, format_for
from .inverting import Inverse, inverse_of, map_points, map_points_back
from .linear import linear_part
from .reading import CONVENTIONS, DIRECTIONS, Imported, read
from .writing import PRECISIONS, Sides, Written, write

__all__ = [
    "CONVENTIONS",
    "DIRECTIONS",
    "FORMATS",
    "Imported",
    "Inverse",
    "PRECISIONS",
    "Sides",
    "Written",
    "format_for",
    "inverse_of",
    "linear_part",
    "map_points",
    "map_points_back",
    "read",
    "write",
]
