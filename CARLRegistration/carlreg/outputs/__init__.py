"""What a registration leaves: transform files, warped volume, Jacobian, quality figures, picture sheet."""

from .apply import apply_to_image, apply_to_points, evaluate
from .report import write_report
from .sheet import write_sheet
from .write import write_result

__all__ = ["apply_to_image", "apply_to_points", "evaluate", "write_report", "write_result", "write_sheet"]
