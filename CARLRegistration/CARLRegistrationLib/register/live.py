"""What is seen and done while an optimization goes on: the map in the views, the curve, and Stop here."""

from __future__ import annotations

from collections.abc import Callable

from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from ..mrml.preview import ViewPreview
from ..mrml.transforms import readTransform
from .curve import Curve
from .job import Job
from .run import Status

_STAGE = "optimize"


class LiveControls:
    """Args: ui: of the panel. stop: asks the run to stop here. mayShow: whether the views may be used now."""

    def __init__(self, ui, preview: ViewPreview, stop: Callable[[], None], mayShow: Callable[[], bool]) -> None:
        self._ui, self._preview, self._stop, self._mayShow = ui, preview, stop, mayShow
        self._job: Job | None = None
        self._asked = False
        self._curve = Curve(ui.curveLabel, ui.curveInfoLabel)
        ui.stopButton.connect("clicked(bool)", self.onStop)
        self.end()

    def begin(self, job: Job) -> None:
        """A run has been started."""
        self._job, self._asked = job, False
        self._curve.clear()
        ui = self._ui
        ui.stopButton.visible = True
        self._allowStop(False)

    def onStop(self) -> None:
        self._asked = True
        self._allowStop(False)
        self._stop()

    def follow(self, status: Status) -> None:
        """What the run says now."""
        steps = status.step is not None
        self._allowStop(steps and status.stage == _STAGE and not (self._asked or status.cancelling))
        if status.newStep and status.step is not None:
            self._curve.add(status.step)
        if status.newMap is not None and self._job is not None and self._mayShow():
            try:
                fromFixed = readTransform(status.newMap)
            except RegistrationError:  # it has just been replaced, or taken away
                return
            self._preview.show(self._job.fixedVolume, self._job.movingVolume, fromFixed)

    def end(self) -> None:
        """The run is over, however it ended: the views show what they showed before."""
        self._job, self._asked = None, False
        self._preview.hide()
        self._curve.clear()
        self._allowStop(False)
        self._ui.stopButton.visible = False

    def _allowStop(self, on: bool) -> None:
        button = self._ui.stopButton
        button.enabled = on
        if self._asked:
            button.text = _("Stopping ...")
        else:
            button.text = _("Sto&p here")
        button.toolTip = (
            _("Take no further step: keep the transform as it is now, and finish with all outputs.")
            if on or self._asked
            else _("Possible while the transform is refined: keeps it as it is then, and finishes with all outputs.")
        )


__all__ = ["LiveControls"]
