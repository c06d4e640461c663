"""The MRML widgets of Slicer that a module user interface holds: qMRMLWidget, qMRMLNodeComboBox and their kin."""

from PySide6 import QtGui, QtWidgets
from PySide6.QtCore import Property

from .ctk_collapsible import ctkCollapsibleButton
from .node_list import EXTRA_ITEM, NODE_ID, NodeList
from .pythonqt import PythonQtObject, cpp_like
from .signals import HostSignal, connect, emit, report_error


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
class qMRMLNodeComboBox(NodeList, PythonQtObject, QtWidgets.QWidget):
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
        wanted = [node_type for node_type in node_types if node_type]
        if wanted == self._node_types:
            return
        self._node_types = wanted
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
        return len(self._rows_with(NODE_ID)) if self._scene else 0

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
        command = self._model.item(row).data(EXTRA_ITEM)
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
