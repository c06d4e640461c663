"""The MRML widgets of Slicer that a module user interface holds: qMRMLWidget, qMRMLNodeComboBox and their kin."""

import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property
from shiboken6 import Shiboken

from .ctk_widgets import ctkCollapsibleButton
from .pythonqt import HostSignal, PythonQtObject, connect, cpp_like, emit, report_error

_NODE_ID = QtCore.Qt.ItemDataRole.UserRole + 1
_EXTRA_ITEM = QtCore.Qt.ItemDataRole.UserRole + 2


class _SceneHolder:
    """A widget that knows a scene and says when it changes (Libs/Widgets/qMRMLWidget.cxx)."""

    _scene = None
    mrmlSceneChanged = HostSignal("mrmlSceneChanged(vtkMRMLScene*)")

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene):
        if scene is self._scene:
            return
        self._scene = scene
        emit(self, "mrmlSceneChanged(vtkMRMLScene*)", scene)


@cpp_like
class qMRMLWidget(_SceneHolder, PythonQtObject, QtWidgets.QWidget):
    """Libs/MRML/Widgets/qMRMLWidget.cxx."""


@cpp_like
class qSlicerWidget(_SceneHolder, PythonQtObject, QtWidgets.QWidget):
    """Base/QTGUI/qSlicerWidget.cxx."""


@cpp_like
class qMRMLCollapsibleButton(_SceneHolder, ctkCollapsibleButton):
    """Libs/MRML/Widgets/qMRMLCollapsibleButton.cxx: a ctkCollapsibleButton that passes a scene on."""


@cpp_like
class qMRMLNodeComboBox(PythonQtObject, QtWidgets.QWidget):
    """A combo box with the nodes of a scene (Libs/MRML/Widgets/qMRMLNodeComboBox.cxx).

    As there, the items live in a model of a real QComboBox: the None item, the nodes, and the action items below a
    separator. So a removed, renamed or reset current node has the consequences that QComboBox gives it. Which nodes are
    shown follows qMRMLSortFilterProxyModel.cxx (filterAcceptsNode), when the list changes follows qMRMLSceneModel.cxx:
    at once for a node that is added or removed, and as a whole after the scene is closed or imported.
    """

    currentNodeChanged = HostSignal("currentNodeChanged(vtkMRMLNode*)", "currentNodeChanged(bool)")
    currentNodeIDChanged = HostSignal("currentNodeIDChanged(QString)")
    currentNodeRenamed = HostSignal("currentNodeRenamed(QString)")
    nodeActivated = HostSignal("nodeActivated(vtkMRMLNode*)")
    nodeAdded = HostSignal("nodeAdded(vtkMRMLNode*)")
    nodeAddedByUser = HostSignal("nodeAddedByUser(vtkMRMLNode*)")
    nodeAddedByUserAction = HostSignal("nodeAddedByUserAction(vtkMRMLNode*)")
    nodeAboutToBeRemoved = HostSignal("nodeAboutToBeRemoved(vtkMRMLNode*)")
    nodeAboutToBeEdited = HostSignal("nodeAboutToBeEdited(vtkMRMLNode*)")

    def __init__(self, parent=None):
        QtWidgets.QWidget.__init__(self, parent)
        self._scene = None
        self._scene_observers = []
        self._node_observers = {}
        self._node_types = []
        self._base_names = {}
        self._type_labels = {}
        self._attributes = {}
        self._factory_attributes = {}
        self._hidden_child_types = []
        self._requested_node_id = ""
        self._options = {
            "noneEnabled": False,
            "addEnabled": True,
            "removeEnabled": True,
            "editEnabled": False,
            "renameEnabled": False,
            "showHidden": False,
            "showChildNodeTypes": True,
            "selectNodeUponCreation": True,
            "noneDisplay": "None",
            "interactionNodeSingletonTag": "Singleton",
        }
        self._combo_box = QtWidgets.QComboBox(self)
        self._model = QtGui.QStandardItemModel(self)
        self._combo_box.setModel(self._model)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo_box)
        policy = QtWidgets.QSizePolicy.Policy
        self.setSizePolicy(policy.Preferred, policy.Fixed)
        connect(self._combo_box, "currentTextChanged(QString)", self._emit_current_node_changed)
        connect(self._combo_box, "activated(int)", self._on_activated)
        self._update_default_text()
        self.setEnabled(False)

    # --- properties

    def _option(value_type, name, update):
        def read(self):
            return self._options[name]

        def write(self, value):
            if self._options[name] != value:
                self._options[name] = value
                getattr(self, update)()

        return Property(value_type, read, write)

    noneEnabled = _option(bool, "noneEnabled", "_update_none_item")
    noneDisplay = _option(str, "noneDisplay", "_update_none_item")
    addEnabled = _option(bool, "addEnabled", "_update_action_items")
    removeEnabled = _option(bool, "removeEnabled", "_update_action_items")
    editEnabled = _option(bool, "editEnabled", "_update_action_items")
    renameEnabled = _option(bool, "renameEnabled", "_update_action_items")
    showHidden = _option(bool, "showHidden", "_filter_again")
    showChildNodeTypes = _option(bool, "showChildNodeTypes", "_filter_again")
    selectNodeUponCreation = _option(bool, "selectNodeUponCreation", "_nothing")
    interactionNodeSingletonTag = _option(str, "interactionNodeSingletonTag", "_nothing")
    del _option

    def _nothing(self):
        pass

    def _get_node_types(self):
        return tuple(self._node_types)

    def setNodeTypes(self, node_types):
        if isinstance(node_types, str):
            raise TypeError("nodeTypes takes a list of class names")
        self._node_types = [node_type for node_type in node_types if node_type]
        self._filter_again()
        self._update_default_text()
        self._update_action_items()

    nodeTypes = Property("QStringList", _get_node_types, setNodeTypes)

    def _get_hidden_child_types(self):
        return tuple(self._hidden_child_types)

    def setHideChildNodeTypes(self, node_types):
        self._hidden_child_types = list(node_types)
        self._filter_again()

    hideChildNodeTypes = Property("QStringList", _get_hidden_child_types, setHideChildNodeTypes)

    def _get_base_name(self):
        return self._base_names.get(self._node_types[0], "") if self._node_types else ""

    def setBaseName(self, base_name, node_type=""):
        if not node_type and not self._node_types:
            report_error(ValueError("qMRMLNodeComboBox::setBaseName failed: no node types have been set yet"))
        for named_type in [node_type] if node_type else self._node_types:
            self._base_names[named_type] = base_name

    baseName = Property(str, _get_base_name, setBaseName)

    def setNoneEnabled(self, enabled):
        self.noneEnabled = enabled

    def setAddEnabled(self, enabled):
        self.addEnabled = enabled

    def setRemoveEnabled(self, enabled):
        self.removeEnabled = enabled

    def setEditEnabled(self, enabled):
        self.editEnabled = enabled

    def setRenameEnabled(self, enabled):
        self.renameEnabled = enabled

    def setNodeTypeLabel(self, label, node_type):
        if label:
            self._type_labels[node_type] = label
        else:
            self._type_labels.pop(node_type, None)
        self._update_default_text()
        self._update_action_items()

    def nodeTypeLabel(self, node_type):
        label = self._type_labels.get(node_type, "")
        if not label and self._scene and node_type:
            label = self._scene.GetTypeDisplayNameByClassName(node_type)
        return label or "node"

    def addAttribute(self, node_type, name, value=None):
        self._factory_attributes[name] = "" if value is None else str(value)
        self._attributes[node_type] = (name, None if value is None else str(value))
        self._filter_again()

    def removeAttribute(self, node_type, name):
        self._factory_attributes.pop(name, None)
        if self._attributes.get(node_type, ("", None))[0] == name:
            del self._attributes[node_type]
        self._filter_again()

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

        self._scene_observers = [
            scene.AddObserver(scene.NodeAddedEvent, on_added),
            scene.AddObserver(scene.NodeAboutToBeRemovedEvent, on_removed),
            scene.AddObserver(scene.EndCloseEvent, on_reset),
            scene.AddObserver(scene.EndImportEvent, on_reset),
        ]

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
        if self._has_type(node):
            self._observe_node(node)
        if not self._accepts(node) or self._row_of_id(node.GetID()) >= 0:
            return
        item = QtGui.QStandardItem(node.GetName() or "")
        item.setData(node.GetID(), _NODE_ID)
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
        return next((row for row in self._rows_with(_NODE_ID) if self._model.item(row).data(_NODE_ID) == node_id), -1)

    def _node_of_row(self, row):
        item = self._model.item(row) if row >= 0 else None
        node_id = item.data(_NODE_ID) if item else None
        return self._scene.GetNodeByID(node_id) if node_id and self._scene else None

    def _update_none_item(self):
        if self._scene is None:
            return
        first = self._model.item(0)
        has_none = first is not None and not first.data(_NODE_ID) and not first.data(_EXTRA_ITEM)
        if self.noneEnabled and not has_none:
            self._model.insertRow(0, QtGui.QStandardItem(self.noneDisplay))
        elif self.noneEnabled:
            first.setText(self.noneDisplay)
        elif has_none:
            self._model.removeRow(0)

    def _update_action_items(self):
        current = self._combo_box.currentIndex
        was_blocked = self._combo_box.blockSignals(True)
        for row in reversed(self._rows_with(_EXTRA_ITEM)):
            self._model.removeRow(row)
        for text, command in self._actions() if self._scene else []:
            item = QtGui.QStandardItem(text)
            item.setData(command, _EXTRA_ITEM)
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

    # --- the current node

    def currentNode(self):
        return self._node_of_row(self._combo_box.currentIndex)

    def _get_current_node_id(self):
        node = self.currentNode()
        return node.GetID() if node else ""

    def setCurrentNodeID(self, node_id):
        if self._scene is None:
            self._requested_node_id = node_id or ""
        self._select_id(node_id or "")

    currentNodeID = Property(str, _get_current_node_id, setCurrentNodeID)

    def setCurrentNode(self, node):
        self.setCurrentNodeID(node.GetID() if node is not None else "")

    def setCurrentNodeIndex(self, index):
        wanted = -1 if index >= self.nodeCount() else index
        self._combo_box.setCurrentIndex(wanted + 1 if self.noneEnabled else wanted)

    def nodeCount(self):
        return len(self._rows_with(_NODE_ID)) if self._scene else 0

    def nodeFromIndex(self, index):
        return self._node_of_row(index + self._first_node_row())

    def _select_id(self, node_id):
        row = self._row_of_id(node_id) if node_id else -1
        if row < 0:
            row = 0 if self.noneEnabled and self._scene else -1
        self._combo_box.setCurrentIndex(row)

    def _emit_current_node_changed(self, text=None):
        """A current item that is no node and not None gives way to the last node (emitCurrentNodeChanged)."""
        row = self._combo_box.currentIndex
        node = self._node_of_row(row)
        if node is None and self._scene and row != (0 if self.noneEnabled else -1):
            last = self.nodeFromIndex(self.nodeCount() - 1) if self.nodeCount() else None
            if last:
                self.setCurrentNode(last)
            return
        emit(self, "currentNodeChanged(vtkMRMLNode*)", node)
        emit(self, "currentNodeChanged(bool)", node is not None)
        emit(self, "currentNodeIDChanged(QString)", node.GetID() if node else "")

    def _on_activated(self, row):
        node = self._node_of_row(row)
        if node or (self.noneEnabled and row == 0):
            emit(self, "nodeActivated(vtkMRMLNode*)", node)

    # --- what the items below the nodes do

    def item_texts(self):
        """The items of the list from top to bottom, for tests."""
        return [self._model.item(row).text() for row in range(self._model.rowCount())]

    def choose_item(self, text):
        """What a user does: open the list and click an item (activateExtraItem)."""
        row = self.item_texts().index(text)
        command = self._model.item(row).data(_EXTRA_ITEM)
        if not command:
            self._combo_box.setCurrentIndex(row)
            self._on_activated(row)
            return
        verb, _, node_type = command.partition("/")
        if verb in ("CREATE", "CREATE_AS"):
            name = ask_text(f"Create new {self.nodeTypeLabel(node_type)}", "") if verb == "CREATE_AS" else ""
            if verb == "CREATE_AS" and not name:
                return
            node = self.addNode(node_type)
            if name:
                node.SetName(name)
            self.setCurrentNode(node)
            emit(self, "nodeAddedByUserAction(vtkMRMLNode*)", node)
        elif verb == "DELETE":
            self.removeCurrentNode()
        elif verb == "RENAME":
            self.renameCurrentNode()
        elif verb == "EDIT":
            self.editCurrentNode()

    def addNode(self, node_type=None):
        """qMRMLNodeFactory::createNode; None for a type that is not among nodeTypes."""
        node_type = node_type or next(iter(self._node_types), None)
        if self._scene is None or node_type not in self._node_types:
            return None
        node = self._scene.CreateNodeByClass(node_type)
        node.UnRegister(None)
        base_name = self._base_names.get(node_type) or ("" if node.GetName() else node.GetDefaultNodeNamePrefix())
        if base_name:
            node.SetName(self._scene.GetUniqueNameByString(base_name))
        for name, value in self._factory_attributes.items():
            node.SetAttribute(name, value)
        node = self._scene.AddNode(node)
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        emit(self, "nodeAddedByUser(vtkMRMLNode*)", node)
        return node

    def removeCurrentNode(self):
        self._scene.RemoveNode(self.currentNode())

    def renameCurrentNode(self):
        node = self.currentNode()
        if node is None:
            return
        name = ask_text(f"Rename {self.nodeTypeLabel(node.GetClassName())}", node.GetName())
        if name:
            node.SetName(name)
            emit(self, "currentNodeRenamed(QString)", name)

    def editCurrentNode(self):
        emit(self, "nodeAboutToBeEdited(vtkMRMLNode*)", self.currentNode())


def ask_text(title, text):
    """The text that a user types into an input dialog, "" for Cancel; Host gives the test's answers."""
    raise NotImplementedError("the host is not started")


WIDGETS = (qMRMLCollapsibleButton, qMRMLNodeComboBox, qMRMLWidget, qSlicerWidget)
