"""qMRMLNodeComboBox, by the cases of Libs/MRML/Widgets/Testing/qMRMLNodeComboBoxTest1 to 9."""

import pytest


@pytest.fixture
def combo_box(host):
    import slicer

    def make(node_types=("vtkMRMLModelNode",), scene=True, **properties):
        made = slicer.qMRMLNodeComboBox()
        made.nodeTypes = node_types
        for name, value in properties.items():
            setattr(made, name, value)
        if scene:
            made.setMRMLScene(slicer.mrmlScene)
        return made

    return make


@pytest.fixture
def add_node(host):
    return host.scene.AddNewNodeByClass


def test_defaults_and_no_scene(combo_box):
    made = combo_box(scene=False)
    flags = made.addEnabled, made.removeEnabled, made.editEnabled, made.renameEnabled, made.noneEnabled
    assert flags == (True, True, False, False, False)
    assert made.showChildNodeTypes and not made.showHidden and made.noneDisplay == "None"
    assert made.nodeCount() == 0 and made.currentNode() is None and made.mrmlScene() is None and not made.enabled


def test_nodes_come_and_go_with_the_scene(combo_box, add_node, host):
    first = add_node("vtkMRMLModelNode", "first")
    made = combo_box()
    assert made.enabled and made.nodeCount() == 1
    second = add_node("vtkMRMLModelNode", "second")
    add_node("vtkMRMLScalarVolumeNode")
    assert [made.nodeFromIndex(i) for i in range(made.nodeCount())] == [first, second]
    host.scene.RemoveNode(first)
    assert made.nodeCount() == 1
    host.close_scene()
    assert made.nodeCount() == 0 and made.currentNode() is None
    made.setMRMLScene(None)
    assert made.mrmlScene() is None and not made.enabled


def test_a_node_that_is_added_is_not_selected(combo_box, add_node):
    made, none_enabled = combo_box(), combo_box(noneEnabled=True)
    add_node("vtkMRMLModelNode")
    assert made.currentNode() is None and none_enabled.currentNode() is None


def test_without_none_the_first_node_is_selected_with_the_scene(combo_box, add_node):
    node = add_node("vtkMRMLModelNode")
    assert combo_box().currentNode() is node
    assert combo_box(noneEnabled=True).currentNode() is None


def test_signals_of_the_current_node(combo_box, add_node, calls):
    node = add_node("vtkMRMLModelNode")
    made = combo_box(noneEnabled=True)
    made.connect("currentNodeChanged(vtkMRMLNode*)", lambda current: calls.append(current))
    made.connect("currentNodeChanged(bool)", lambda valid: calls.append(valid))
    made.connect("currentNodeIDChanged(QString)", lambda node_id: calls.append(node_id))
    made.setCurrentNode(node)
    assert calls == [node, True, node.GetID()]
    made.setCurrentNode(node)
    assert len(calls) == 3
    made.setCurrentNode(None)
    assert calls[3:] == [None, False, ""]
    made.currentNodeID = node.GetID()
    assert made.currentNode() is node and made.currentNodeID == node.GetID()
    made.setCurrentNodeID("unknown")
    assert made.currentNode() is None
    made.setCurrentNodeIndex(0)
    assert made.currentNode() is node


def test_blocked_signals(combo_box, add_node, calls):
    made = combo_box()
    made.currentNodeChanged.connect(calls.append)
    was_blocked = made.blockSignals(True)
    made.setCurrentNode(add_node("vtkMRMLModelNode"))
    made.blockSignals(was_blocked)
    assert made.currentNode() is not None and calls == []


def test_a_node_asked_for_before_the_scene_is_selected_with_it(combo_box, add_node, host):
    add_node("vtkMRMLModelNode")
    wanted = add_node("vtkMRMLModelNode")
    made = combo_box(scene=False)
    made.setCurrentNode(wanted)
    made.setMRMLScene(host.scene)
    assert made.currentNode() is wanted


def test_removing_the_current_node(combo_box, add_node, host, calls):
    first, second = add_node("vtkMRMLModelNode"), add_node("vtkMRMLModelNode")
    made = combo_box(noneEnabled=True)
    made.setCurrentNode(second)
    made.currentNodeChanged.connect(calls.append)
    host.scene.RemoveNode(second)
    assert made.currentNode() is first and calls[-1] is first
    host.scene.RemoveNode(first)
    assert made.currentNode() is None and calls[-1] is None


def test_renaming_a_node(combo_box, add_node):
    node = add_node("vtkMRMLModelNode", "old")
    made = combo_box()
    node.SetName("new")
    assert "new" in made.item_texts() and "old" not in made.item_texts()


def test_closing_the_scene_selects_nothing(combo_box, add_node, host, calls):
    made = combo_box(noneEnabled=True)
    made.setCurrentNode(add_node("vtkMRMLModelNode"))
    made.currentNodeChanged.connect(calls.append)
    host.close_scene()
    assert calls == [None]


def test_derived_hidden_and_excluded_node_types(combo_box, add_node):
    add_node("vtkMRMLScalarVolumeNode")
    add_node("vtkMRMLLabelMapVolumeNode")
    hidden = add_node("vtkMRMLScalarVolumeNode")
    made = combo_box(("vtkMRMLScalarVolumeNode",))
    assert made.nodeCount() == 3
    hidden.SetHideFromEditors(True)
    hidden.Modified()
    assert made.nodeCount() == 2
    made.showHidden = True
    assert made.nodeCount() == 3
    made.showChildNodeTypes = False
    assert made.nodeCount() == 2
    made.showChildNodeTypes = True
    made.hideChildNodeTypes = ("vtkMRMLLabelMapVolumeNode",)
    assert made.nodeCount() == 2
    made.nodeTypes = ("vtkMRMLScalarVolumeNode", "", "vtkMRMLModelNode")
    assert made.nodeTypes == ("vtkMRMLScalarVolumeNode", "vtkMRMLModelNode")
    with pytest.raises(TypeError):
        made.setNodeTypes("vtkMRMLModelNode")


def test_attributes(combo_box, add_node):
    """An attribute without a value matches any value, an empty value only an empty one."""
    node_type, name = "vtkMRMLScalarVolumeNode", "testingAttribute"
    add_node(node_type)
    add_node(node_type).SetAttribute(name, "")
    changing = add_node(node_type)
    changing.SetAttribute(name, "a")
    for value, count in (("a", 1), ("b", 0), ("", 1), (None, 2)):
        made = combo_box((node_type,))
        made.addAttribute(node_type, name, value)
        assert made.nodeCount() == count
        made.removeAttribute(node_type, name)
        assert made.nodeCount() == 3
    made = combo_box((node_type,), noneEnabled=True)
    made.addAttribute(node_type, name, "a")
    made.setCurrentNode(changing)
    changing.SetAttribute(name, "c")
    changing.Modified()
    assert made.nodeCount() == 0 and made.currentNode() is None


def test_adding_nodes(combo_box, calls):
    types = ("vtkMRMLScalarVolumeNode", "vtkMRMLLabelMapVolumeNode")
    made = combo_box(types, baseName="SomeBaseName")
    made.connect("nodeAdded(vtkMRMLNode*)", lambda node: calls.append("added"))
    made.connect("nodeAddedByUser(vtkMRMLNode*)", lambda node: calls.append("by user"))
    made.connect("nodeAddedByUserAction(vtkMRMLNode*)", lambda node: calls.append("by action"))
    node = made.addNode()
    assert made.currentNode() is node and node.GetName() == "SomeBaseName"
    node.SetName("foo")
    assert made.addNode(types[0]).GetName() == "SomeBaseName_1"
    assert made.addNode(types[1]).GetName() == "SomeBaseName_2"
    assert made.addNode("vtkMRMLModelNode") is None and made.nodeCount() == 3
    made.setBaseName("DifferentBaseName", types[1])
    assert made.addNode(types[1]).GetName() == "DifferentBaseName"
    assert calls == ["added", "by user"] * 4


def test_the_items_below_the_nodes(combo_box, add_node, host, calls):
    made = combo_box(noneEnabled=True, renameEnabled=True)
    made.setNodeTypeLabel("Shape", "vtkMRMLModelNode")
    expected = [
        "separator",
        "Rename current Shape",
        "Create new Shape",
        "Create new Shape as...",
        "Delete current Shape",
    ]
    assert made.item_texts() == ["None", *expected]
    made.connect("nodeAddedByUserAction(vtkMRMLNode*)", lambda node: calls.append(node))
    host.choose(made, "Create new Shape")
    assert calls == [made.currentNode()]
    host.answers.append("renamed")
    host.choose(made, "Rename current Shape")
    assert made.currentNode().GetName() == "renamed"
    host.answers.append("named")
    host.choose(made, "Create new Shape as...")
    assert made.currentNode().GetName() == "named"
    host.choose(made, "renamed")
    assert made.currentNode().GetName() == "renamed"
    host.choose(made, "Delete current Shape")
    assert made.nodeCount() == 1
    made.addEnabled = made.removeEnabled = made.renameEnabled = False
    assert made.item_texts() == ["None", "named"]
    made.noneDisplay = "Nothing"
    assert made.item_texts()[0] == "Nothing"


def test_a_base_name_without_node_types_is_lost(host):
    import slicer

    slicer.qMRMLNodeComboBox().baseName = "lost"
    assert "no node types have been set yet" in str(host.errors[0])
    host.errors.clear()


def test_importing_a_scene_deselects(combo_box, add_node, host, tmp_path):
    """qMRMLSceneModel lists all nodes again after an import, which takes the current one away."""
    host.save_scene(tmp_path / "empty.mrml")
    made = combo_box(noneEnabled=True)
    made.setCurrentNode(add_node("vtkMRMLModelNode"))
    host.load_scene(tmp_path / "empty.mrml", clear=False)
    assert made.nodeCount() == 1 and made.currentNode() is None
