"""Loading, reloading and unloading a scripted module, and its parameters in saved scenes."""

import pytest


@pytest.fixture
def widget(host, example_path):
    return host.load_module(example_path)


def test_a_module_is_loaded_as_slicer_loads_it(host, widget, example_path):
    import slicer

    module = slicer.modules.hostexample
    assert (module.name, module.title, module.path) == ("HostExample", "Host Example", str(example_path))
    assert (module.categories, module.helpText) == (["Examples"], "Help of the example.")
    assert slicer.util.getModule("HostExample") is module and "HostExample" in slicer.util.moduleNames()
    assert slicer.modules.HostExampleWidget is widget is module.widgetRepresentation().self()
    assert slicer.util.getModuleWidget("HostExample") is widget
    assert slicer.util.getModuleLogic("HostExample") is widget.logic
    assert widget.resourcePath("UI/HostExample.ui").endswith("example_module/Resources/UI/HostExample.ui")
    assert widget.parent.objectName == "HostExampleModuleWidget" and widget.calls == ["enter"]
    assert not hasattr(widget, "reloadButton")


def test_what_a_module_may_not_set(host, widget):
    import slicer

    with pytest.raises(AttributeError):
        slicer.modules.hostexample.titel = "misspelled"


def test_startup_completed_comes_once(host, widget):
    import slicer

    sources = slicer.modules.sampleDataSources["HostExample"]
    assert [source.sampleName for source in sources] == ["HostExampleVolume"]
    node = host.sample_data.press_button("HostExample", "HostExampleVolume")
    assert node.GetName() == "Example volume"
    with pytest.raises(KeyError):
        host.sample_data.press_button("HostExample", "NoSuchSample")


def test_the_user_interface_follows_the_parameters(host, widget):
    ui, parameters = widget.ui, widget._parameterNode
    shown = (
        ui.thresholdSlider.value,
        ui.stepsSpinBox.value,
        ui.methodComboBox.currentText,
        ui.qualityComboBox.currentText,
    )
    assert shown == (100, 7, "Exact", "high") and not ui.applyButton.enabled
    ui.stepsSpinBox.value, ui.thresholdSlider.value, ui.methodComboBox.currentIndex = 12, 55.5, 0
    assert (parameters.steps, parameters.threshold, parameters.method.name) == (12, 55.5, "FAST")
    ui.inputSelector.setCurrentNode(host.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "image"))
    assert ui.applyButton.enabled and parameters.inputVolume.GetName() == "image"


def test_an_error_is_shown_and_recorded(host, widget):
    widget.ui.inputSelector.setCurrentNode(host.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode"))
    widget.ui.applyButton.click()
    assert host.dialogs.texts("error") == ["Failed to compute results.\n\nThe input volume has no image data."]
    assert [str(error) for error in host.errors] == ["The input volume has no image data."]
    host.errors.clear()


def test_reload_makes_a_new_widget_that_is_set_up_but_not_entered(host, widget):
    import slicer

    widget._parameterNode.steps = 21
    reloaded = host.reload("HostExample")
    assert reloaded is not widget and slicer.modules.HostExampleWidget is reloaded
    assert widget.calls == ["enter", "cleanup"] and reloaded.calls == []
    assert type(reloaded) is not type(widget) and reloaded.ui.stepsSpinBox.value == 21
    host.unload("HostExample")
    assert widget.calls == ["enter", "cleanup"] and reloaded.calls == ["exit", "cleanup"]


def test_unload(host, widget):
    import slicer

    host.unload("HostExample")
    assert widget.calls == ["enter", "exit", "cleanup"]
    assert not hasattr(slicer.modules, "hostexample") and "HostExample" not in slicer.selfTests
    with pytest.raises(KeyError):
        host.unload("HostExample")


def test_leaving_and_entering(host, widget):
    host.leave("HostExample")
    assert widget._parameterNode is None
    host.enter("HostExample")
    assert widget.calls == ["enter", "exit", "enter"] and widget._parameterNode is not None


def test_self_test(host, widget):
    import slicer

    slicer.selfTests["HostExample"]()
    assert slicer.selfTestsRun is True and "Testing the example" in host.dialogs.texts()
    del slicer.selfTestsRun


def test_the_developer_section(host, example_path):
    import qt

    qt.QSettings().setValue("Developer/DeveloperMode", "true")
    widget = host.load_module(example_path)
    widget.reloadButton.click()
    assert widget.calls == ["enter", "cleanup"]


def test_closing_the_scene_gives_new_parameters(host, widget):
    widget.ui.stepsSpinBox.value = 33
    host.close_scene()
    assert widget._parameterNode.steps == 7 and widget.ui.stepsSpinBox.value == 7


@pytest.mark.parametrize("name", ["scene.mrb", "scene.mrml", "folder"])
def test_parameters_in_saved_scenes(host, widget, tmp_path, name):
    import slicer

    volume = host.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "image")
    widget.ui.inputSelector.setCurrentNode(volume)
    widget.ui.stepsSpinBox.value, widget.ui.modelFileEdit.currentPath = 13, "/models/one"
    host.save_scene(tmp_path / name)
    host.load_scene(tmp_path / name)
    assert slicer.util.getNode("image") is not volume
    host.leave("HostExample")
    host.enter("HostExample")
    parameters = widget._parameterNode
    assert (parameters.steps, str(parameters.modelFile)) == (13, "/models/one")
    assert parameters.inputVolume.GetName() == "image" and widget.ui.inputSelector.currentNode() is not None


def test_a_node_is_not_known_while_its_scene_is_imported(host, widget, tmp_path):
    """The node is copied before the volume is in the scene, so a wrapper that stays keeps None until it is modified."""
    volume = host.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "image")
    widget.ui.inputSelector.setCurrentNode(volume)
    host.save_scene(tmp_path / "scene.mrml")
    host.load_scene(tmp_path / "scene.mrml")
    assert widget._parameterNode.inputVolume is None
    widget._parameterNode.parameterNode.Modified()
    assert widget._parameterNode.inputVolume.GetName() == "image"


def test_a_file_without_the_class_is_no_module(host, tmp_path):
    (tmp_path / "Nothing.py").write_text("")
    with pytest.raises(RuntimeError, match="class Nothing was not found"):
        host.load_module(tmp_path / "Nothing.py")


def test_pictures(host, widget, tmp_path):
    picture = host.grab(widget, tmp_path / "module.png")
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 5000
