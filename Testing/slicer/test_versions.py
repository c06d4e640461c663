"""What other versions of Slicer and of this module leave behind: wrappers, values that are not known any more."""

# ruff: noqa: F811 (fixtures that are imported)
import gc

from .test_panel import pair, panel  # noqa: F401


def test_scenes_come_and_go_and_the_panel_stays_as_quick(host, panel, moduleWidget, monkeypatch):
    """Slicer 5.10 leaves an observer, and with it a whole wrapper, behind each time that the panel is connected."""
    for _ in range(5):
        host.close_scene()
        moduleWidget.enter()
    wrapper = panel.parameters
    gc.collect()
    assert [one for one in gc.get_objects() if type(one) is type(wrapper)] == [wrapper]
    updates = []
    update = type(wrapper)._update_gui
    monkeypatch.setattr(type(wrapper), "_update_gui", lambda self: (updates.append(self), update(self)))
    wrapper.ioSteps = 33
    assert updates == [wrapper] * 6  # the panel and its five sections
    assert panel.ui.ioStepsSlider.value == 33


def test_values_of_another_version_do_not_leave_the_panel_dead(host, panel, pair, tmp_path, moduleWidget):
    panel.parameters.ioSteps = 77
    panel.parameters.device = "cpu"
    node = panel.parameters.parameterNode
    given = {"similarity": "MUTUAL_INFORMATION", "preset": "WHOLE_BODY", "grid": "9000", "smoothness": "much"}
    for name, value in given.items():
        node.SetParameter(name, value)
    host.errors.clear()  # Slicer's wrapper says so while the values are set
    host.save_scene(tmp_path / "scene.mrb")
    host.close_scene()
    moduleWidget.enter()
    host.load_scene(tmp_path / "scene.mrb")
    host.process_events(0.05)
    host.errors.clear()
    parameters = panel.parameters
    assert (parameters.similarity.value, parameters.preset.value) == ("lncc2", "general")
    assert (parameters.grid, parameters.smoothness) == (128, 1.0)
    assert (parameters.ioSteps, parameters.device) == (77, "cpu")  # the others are kept
    assert panel.ui.similarityComboBox.currentIndex == 0 and panel.ui.applyButton.enabled
    parameters.ioSteps = 12
    assert panel.ui.ioStepsSlider.value == 12 and host.errors == []
