"""What the Cohort section asks."""

from __future__ import annotations

from slicer.i18n import tr as _

from ..common.choices import Choice


class CohortSource(Choice):
    PLAN = "plan"
    VOLUMES = "volumes"

    def label(self) -> str:
        return {
            CohortSource.PLAN: _("Plan file (CSV)"),
            CohortSource.VOLUMES: _("Volumes of the scene"),
        }[self]
