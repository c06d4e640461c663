"""A case from elsewhere, such as a pair of a cohort, shown in the Inspect section."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import slicer

from .case import Case
from .views import Mode

if TYPE_CHECKING:
    from .panel import InspectPanel


def showCase(section: InspectPanel, case: Case) -> None:
    """Choose what is compared (what the case has not, is not chosen), open the section and show the overlay."""
    with slicer.util.NodeModify(section.parameters):
        for one in fields(Case):
            setattr(section.parameters, f"inspect{one.name[0].upper()}{one.name[1:]}", getattr(case, one.name))
    section.ui.inspectCollapsibleButton.collapsed = False
    section.onMode(Mode.OVERLAY)


__all__ = ["showCase"]
