"""The nodes of a scene as the items of a combo box: which are shown, and when that changes."""

import vtk
from PySide6 import QtCore, QtGui
from shiboken6 import Shiboken

from .signals import emit

NODE_ID = QtCore.Qt.ItemDataRole.UserRole + 1
EXTRA_ITEM = QtCore.Qt.ItemDataRole.UserRole + 2


class NodeList:
    """What qMRMLNodeComboBox shows (qMRMLSortFilterProxyModel.cxx, qMRMLSceneModel.cxx); mixed into it.

    ``_observer_priority``: of its observers of the scene. Slicer's are 0, as those of modules are; the one
    that was there first is called first.
    """

    _observer_priority = 0.0

    # --- scene

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene):
        if scene is self._scene:
            return
        old_current_id = self.currentNodeID
        previous_scene_was_valid = self.nodeCount() > 0
        self._stop_observing_all()
        self._scene = scene
        was_blocked = self._combo_box.blockSignals(True)
        self._model.clear()
        if scene is not None:
            self._observe_scene()
            self._update_none_item()
            self._update_action_items()
            self._insert_nodes(announce=False)
        if previous_scene_was_valid:
            wanted_id = old_current_id
        else:
            first = None if self.noneEnabled else self.nodeFromIndex(0)
            wanted_id = self._requested_node_id or (first.GetID() if first else "")
        self._requested_node_id = ""
        self._select_id(wanted_id)
        self._combo_box.blockSignals(was_blocked)
        self._emit_current_node_changed()
        self._update_default_text()
        self.setEnabled(scene is not None)

    def _observe_scene(self):
        scene = self._scene

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def on_added(caller, event, node):
            if self._is_alive():
                self._on_node_added(node)

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def on_removed(caller, event, node):
            if self._is_alive():
                self._on_node_removed(node)

        def on_reset(caller, event):
            if self._is_alive():
                self._on_scene_reset()

        callbacks = {
            scene.NodeAddedEvent: on_added,
            scene.NodeAboutToBeRemovedEvent: on_removed,
            scene.EndCloseEvent: on_reset,
            scene.EndImportEvent: on_reset,
        }
        priority = self._observer_priority
        self._scene_observers = [scene.AddObserver(event, one, priority) for event, one in callbacks.items()]

    def _is_alive(self):
        """False for a widget that Qt deleted; it then stops observing."""
        if self._scene is not None and not (Shiboken.isValid(self) and Shiboken.isValid(self._combo_box)):
            self._stop_observing_all()
            self._scene = None
        return self._scene is not None

    def _stop_observing_all(self):
        for tag in self._scene_observers:
            self._scene.RemoveObserver(tag)
        self._scene_observers = []
        self._forget_nodes()

    def _on_node_added(self, node):
        if not self._scene.IsImporting():
            self._insert_node(node)

    def _on_node_removed(self, node):
        if not self._scene.IsClosing():
            self._remove_row(self._row_of_id(node.GetID()))
            self._stop_observing(node)

    def _on_scene_reset(self):
        self._forget_nodes()
        first = self._first_node_row()
        self._model.removeRows(first, self.nodeCount())
        self._deselect_if_no_node()
        self._insert_nodes(announce=True)

    # --- the list

    def _accepts(self, node):
        """qMRMLSortFilterProxyModel::filterAcceptsNode."""
        if node.GetHideFromEditors() and not self.showHidden:
            return False
        if not self._node_types:
            return True
        for node_type in self._node_types:
            if not node.IsA(node_type):
                continue
            if not self.showChildNodeTypes and node.GetClassName() != node_type:
                continue
            if self.showChildNodeTypes and any(node.IsA(hidden) for hidden in self._hidden_child_types):
                return False
            if node_type in self._attributes:
                name, value = self._attributes[node_type]
                stored = node.GetAttribute(name)
                if stored is None or value not in (None, stored):
                    return False
            return True
        return False

    def _insert_nodes(self, announce):
        for index in range(self._scene.GetNumberOfNodes()):
            self._insert_node(self._scene.GetNthNode(index), announce)

    def _insert_node(self, node, announce=True):
        if not self._has_type(node):
            return
        self._observe_node(node)
        if not self._accepts(node) or self._row_of_id(node.GetID()) >= 0:
            return
        item = QtGui.QStandardItem(node.GetName() or "")
        item.setData(node.GetID(), NODE_ID)
        self._model.insertRow(self._row_for(node), item)
        if announce:
            emit(self, "nodeAdded(vtkMRMLNode*)", node)

    def _row_for(self, node):
        """The nodes stand in the order of the scene."""
        following = False
        for index in range(self._scene.GetNumberOfNodes()):
            candidate = self._scene.GetNthNode(index)
            if following:
                row = self._row_of_id(candidate.GetID())
                if row >= 0:
                    return row
            following = following or candidate is node
        return self._first_node_row() + self.nodeCount()

    def _has_type(self, node):
        return not self._node_types or any(node.IsA(node_type) for node_type in self._node_types)

    def _observe_node(self, node):
        if node.GetID() not in self._node_observers:
            tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._on_node_modified)
            self._node_observers[node.GetID()] = (node, tag)

    def _stop_observing(self, node):
        known = self._node_observers.pop(node.GetID(), None)
        if known:
            known[0].RemoveObserver(known[1])

    def _forget_nodes(self):
        for node, tag in self._node_observers.values():
            node.RemoveObserver(tag)
        self._node_observers = {}

    def _on_node_modified(self, node, event):
        if not self._is_alive() or self._scene.IsImporting():
            return
        row = self._row_of_id(node.GetID())
        if row >= 0 and not self._accepts(node):
            self._remove_row(row)
        elif row < 0:
            if self._scene.IsNodePresent(node):
                self._insert_node(node)
        elif self._model.item(row).text() != (node.GetName() or ""):
            self._model.item(row).setText(node.GetName() or "")

    def _filter_again(self):
        if self._scene is None:
            return
        for row in reversed(range(self._first_node_row(), self._first_node_row() + self.nodeCount())):
            node = self._node_of_row(row)
            if node is None or not self._accepts(node):
                self._remove_row(row)
        self._insert_nodes(announce=True)

    def _remove_row(self, row):
        if row >= 0:
            node = self._node_of_row(row)
            if node:
                emit(self, "nodeAboutToBeRemoved(vtkMRMLNode*)", node)
            self._model.removeRow(row)
            self._deselect_if_no_node()

    def _deselect_if_no_node(self):
        """qMRMLNodeComboBox::refreshIfCurrentNodeHidden."""
        if self.currentNode() is None:
            self._select_id("")

    def _first_node_row(self):
        return 1 if self.noneEnabled and self._scene else 0

    def _rows_with(self, role):
        return [row for row in range(self._model.rowCount()) if self._model.item(row).data(role)]

    def _row_of_id(self, node_id):
        return next((row for row in self._rows_with(NODE_ID) if self._model.item(row).data(NODE_ID) == node_id), -1)

    def _node_of_row(self, row):
        item = self._model.item(row) if row >= 0 else None
        node_id = item.data(NODE_ID) if item else None
        return self._scene.GetNodeByID(node_id) if node_id and self._scene else None

    def _update_none_item(self):
        if self._scene is None:
            return
        first = self._model.item(0)
        has_none = first is not None and not first.data(NODE_ID) and not first.data(EXTRA_ITEM)
        if self.noneEnabled and not has_none:
            self._model.insertRow(0, QtGui.QStandardItem(self.noneDisplay))
        elif self.noneEnabled:
            first.setText(self.noneDisplay)
        elif has_none:
            self._model.removeRow(0)

    def _update_action_items(self):
        current = self._combo_box.currentIndex
        was_blocked = self._combo_box.blockSignals(True)
        for row in reversed(self._rows_with(EXTRA_ITEM)):
            self._model.removeRow(row)
        for text, command in self._actions() if self._scene else []:
            item = QtGui.QStandardItem(text)
            item.setData(command, EXTRA_ITEM)
            self._model.appendRow(item)
        self._combo_box.setCurrentIndex(current)
        self._combo_box.blockSignals(was_blocked)

    def _actions(self):
        """The items below the nodes, with what each does (updateActionItems)."""
        actions = []
        label = self.nodeTypeLabel(self._node_types[0] if len(self._node_types) == 1 else "")
        if self.renameEnabled:
            actions.append((f"Rename current {label}", "RENAME"))
        if self.editEnabled:
            actions.append((f"Edit current {label}", "EDIT"))
        if self.addEnabled:
            for node_type in self._node_types:
                type_label = self.nodeTypeLabel(node_type)
                actions.append((f"Create new {type_label}", f"CREATE/{node_type}"))
                if self.renameEnabled:
                    actions.append((f"Create new {type_label} as...", f"CREATE_AS/{node_type}"))
        if self.removeEnabled:
            actions.append((f"Delete current {label}", "DELETE"))
        flags = self.addEnabled, self.removeEnabled, self.editEnabled, self.renameEnabled
        return [("separator", "SEPARATOR"), *actions] if any(flags) else actions

    def _update_default_text(self):
        self._combo_box.setPlaceholderText(f"Select a {self.nodeTypeLabel((*self._node_types, '')[0])}")
