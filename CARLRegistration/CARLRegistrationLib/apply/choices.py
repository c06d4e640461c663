"""What can be chosen in the Apply section."""

from __future__ import annotations

from slicer.i18n import tr as _

from ..common.choices import Choice


class ApplyDirection(Choice):
    TO_FIXED = "to-fixed"
    TO_MOVING = "to-moving"

    def label(self) -> str:
        return {
            ApplyDirection.TO_FIXED: _("Moving side to fixed side"),
            ApplyDirection.TO_MOVING: _("Fixed side to moving side"),
        }[self]


class ApplyMethod(Choice):
    RESAMPLE = "resample"
    PLACE = "place"
    HARDEN = "harden"

    def label(self) -> str:
        return {
            ApplyMethod.RESAMPLE: _("Resample (new voxels)"),
            ApplyMethod.PLACE: _("Place under the transform"),
            ApplyMethod.HARDEN: _("Harden (as Slicer does)"),
        }[self]


class ApplyGrid(Choice):
    """target: the volume that the data is brought to. own: its box, at the spacing of the volume that is resampled."""

    TARGET = "target"
    OWN = "own"
    REFERENCE = "reference"

    def label(self) -> str:
        return {
            ApplyGrid.TARGET: _("Target volume grid"),
            ApplyGrid.OWN: _("Same box, own spacing"),
            ApplyGrid.REFERENCE: _("Reference volume grid"),
        }[self]


class ApplyInterpolation(Choice):
    LINEAR = "linear"
    BSPLINE = "bspline"
    SINC = "sinc"
    NEAREST = "nearest"

    def label(self) -> str:
        return {
            ApplyInterpolation.LINEAR: _("Linear"),
            ApplyInterpolation.BSPLINE: _("B-spline"),
            ApplyInterpolation.SINC: _("Windowed sinc"),
            ApplyInterpolation.NEAREST: _("Nearest neighbor"),
        }[self]


__all__ = ["ApplyDirection", "ApplyGrid", "ApplyInterpolation", "ApplyMethod"]
