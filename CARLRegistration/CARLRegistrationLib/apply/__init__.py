"""The Apply section: one transform on many nodes. From Python: `apply(ApplyJob(nodes, transform))`."""

from __future__ import annotations

_FROM = {"ApplyJob": "job", "ApplyResult": "job", "apply": "run"}


def __getattr__(name: str):
    """For scripts; imported when it is asked for, so that a part of this section does not bring the whole."""
    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_FROM[name]}", __name__), name)
