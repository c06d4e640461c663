"""Random anatomies to train on: `make_anatomy` draws one, and one file per body part paints it on a `canvas`."""

from .anatomy import PAINTERS, Anatomy, make_anatomy

__all__ = ["PAINTERS", "Anatomy", "make_anatomy"]
