"""Series of one body over time: every frame registered to one reference, each beginning with its neighbor's map."""

from .frames import Series, read_series, series_of
from .register import FrameResult, SeriesResult, SeriesSettings, register_series
from .write import Carried, write_series

__all__ = [
    "Carried",
    "FrameResult",
    "Series",
    "SeriesResult",
    "SeriesSettings",
    "read_series",
    "register_series",
    "series_of",
    "write_series",
]
