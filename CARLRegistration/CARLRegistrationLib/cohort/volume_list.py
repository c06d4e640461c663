"""The list of the scene's volumes that are brought onto the fixed one; what is checked is saved with the scene."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from ..mrml.references import refer, referencedIds
from ..mrml.volumes import inputVolumes

_CHECKED_ROLE = "CARLRegistration.CohortOf"
_NODE_ID = 256  # Qt.UserRole
_QUIET_MS = 60  # a volume that is loaded gets its name and its contents after it is added


class VolumeList(VTKObservationMixin):
    """Args: table: that shows it. parameters: the parameter node, or None. onChecked: called when that changes."""

    def __init__(self, table, parameters: Callable[[], Any], onChecked: Callable[[], None]) -> None:
        VTKObservationMixin.__init__(self)
        self._table, self._parameters, self._onChecked = table, parameters, onChecked
        self._filling = False
        self._later = qt.QTimer()
        self._later.setSingleShot(True)
        self._later.setInterval(_QUIET_MS)
        self._later.connect("timeout()", self.fill)
        table.setColumnCount(1)
        table.horizontalHeader().visible = table.verticalHeader().visible = False
        table.horizontalHeader().setStretchLastSection(True)
        table.connect("itemChanged(QTableWidgetItem*)", self._onItem)

    def follow(self, on: bool) -> None:
        """Follow the scene, or let go of it."""
        scene = slicer.mrmlScene
        for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndImportEvent):
            if self.hasObserver(scene, event, self._onScene):
                self.removeObserver(scene, event, self._onScene)
            if on:
                self.addObserver(scene, event, self._onScene)
        self._later.start() if on else self._later.stop()

    def _onScene(self, caller, event) -> None:
        self._later.start()

    def _offered(self) -> list:
        fixed = self._parameters().fixedVolume
        return [node for node in inputVolumes() if node is not fixed]

    def checked(self) -> list:
        """The volumes that are checked and still there, in the order of the scene; the fixed one aside."""
        if self._parameters() is None:
            return []
        ids = referencedIds(self._parameters().parameterNode, _CHECKED_ROLE)
        return [node for node in self._offered() if node.GetID() in ids]

    def check(self, nodes) -> None:
        """Check these volumes and no others."""
        refer(self._parameters().parameterNode, _CHECKED_ROLE, nodes)
        self.fill()

    def checkAll(self, on: bool) -> None:
        self.check(self._offered() if on else [])

    def fill(self) -> None:
        """Show what is in the scene."""
        if self._parameters() is None or slicer.mrmlScene.IsImporting() or slicer.mrmlScene.IsClosing():
            return
        table, nodes = self._table, self._offered()
        checked = {node.GetID() for node in self.checked()}
        self._filling = True
        try:
            table.setRowCount(len(nodes))
            for row, node in enumerate(nodes):
                item = qt.QTableWidgetItem(node.GetName())
                item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable | qt.Qt.ItemIsUserCheckable)
                item.setCheckState(qt.Qt.Checked if node.GetID() in checked else qt.Qt.Unchecked)
                item.setData(_NODE_ID, node.GetID())
                item.setToolTip(_("{name}: check it to bring it onto the fixed volume.").format(name=node.GetName()))
                table.setItem(row, 0, item)
        finally:
            self._filling = False
        self._onChecked()

    def _onItem(self, item) -> None:
        node = None if self._filling else slicer.mrmlScene.GetNodeByID(item.data(_NODE_ID) or "")
        if node is None:
            return
        others = [one for one in self.checked() if one is not node]
        refer(
            self._parameters().parameterNode,
            _CHECKED_ROLE,
            [*others, node] if item.checkState() == qt.Qt.Checked else others,
        )
        self._onChecked()


__all__ = ["VolumeList"]
