"""Sequences: their frames, the browser that plays them and the node that shows the present frame."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from ..common.errors import RegistrationError


def frames(sequence) -> list:
    """The nodes of a sequence, in order."""
    return [sequence.GetNthDataNode(n) for n in range(sequence.GetNumberOfDataNodes())]


def browserOf(sequence):
    """The browser that plays a sequence, or None."""
    browsers = slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode")
    return next((b for b in browsers if b.IsSynchronizedSequenceNode(sequence, True)), None)


def proxyOf(sequence):
    """The node that shows a sequence's present frame, or None."""
    browser = browserOf(sequence)
    return browser.GetProxyNode(sequence) if browser is not None else None


def checkNotSequence(node, what: str) -> None:
    """Raise RegistrationError for a volume that shows one frame of a sequence: what it shows changes in mid run."""
    for browser in slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode"):
        if browser.GetSequenceNode(node) is not None:
            raise RegistrationError(
                _(
                    "{name}: the {what} shows one frame of a sequence. Clone the frame to register (right click in "
                    "the Data module, Clone) and choose the clone."
                ).format(name=node.GetName(), what=what)
            )
