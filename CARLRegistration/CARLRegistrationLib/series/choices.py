"""What the Series section asks."""

from __future__ import annotations

from slicer.i18n import tr as _

from ..common.choices import Choice


class SeriesSource(Choice):
    SEQUENCE = "sequence"
    FILES = "files"

    def label(self) -> str:
        return {
            SeriesSource.SEQUENCE: _("Sequence of the scene"),
            SeriesSource.FILES: _("File or folder"),
        }[self]


class SeriesReference(Choice):
    FIRST = "first"
    FRAME = "frame"
    MEAN = "mean"

    def label(self) -> str:
        return {
            SeriesReference.FIRST: _("First frame"),
            SeriesReference.FRAME: _("Frame number"),
            SeriesReference.MEAN: _("Mean of all frames"),
        }[self]


class SeriesChain(Choice):
    """As the engine calls it."""

    REFERENCE = "reference"
    FRAMES = "frames"

    def label(self) -> str:
        return {
            SeriesChain.REFERENCE: _("Each to the reference"),
            SeriesChain.FRAMES: _("Each to the one before"),
        }[self]
