"""Texts and keys that the parts of the section share."""

from __future__ import annotations

from slicer.i18n import tr as _

_NO_ERROR_MM = 1e-6


def placeOf(node) -> tuple:
    """What changes when another node is chosen, or it is moved by transforms."""
    if node is None:
        return ()
    above = node if node.IsA("vtkMRMLTransformNode") else node.GetParentTransformNode()
    return (node.GetID(), above.GetID(), above.GetTransformToWorldMTime()) if above is not None else (node.GetID(),)


def errorText(error: dict) -> str:
    """mean, 99 % and largest in mm, in a line."""
    if error.get("mean") is None:
        return _("unknown")
    if error["max"] < _NO_ERROR_MM:
        return _("none")
    return _("mean {mean:.2g} mm, 99 % below {p99:.2g}, largest {max:.2g}").format(**error)


__all__ = ["errorText", "placeOf"]
