"""What a registration leaves: transform files, warped volume, Jacobian, quality, picture sheet, report."""

from .evaluate import evaluate
from .report import recorded_images, write_report
from .sheet import write_sheet
from .stated import recorded_inverse, recorded_uncertainty
from .write import write_result, write_transform_alone

__all__ = [
    "evaluate",
    "recorded_images",
    "recorded_inverse",
    "recorded_uncertainty",
    "write_report",
    "write_result",
    "write_sheet",
    "write_transform_alone",
]
