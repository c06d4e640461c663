"""Inspect and what the scene keeps: saved in the middle of it, loaded again, added to."""

# ruff: noqa: F811 (fixtures that are imported)
import numpy as np
import pytest

from .test_inspect_back import everything
from .test_inspect_panel import section  # noqa: F401
from .test_panel import panel  # noqa: F401

MODES = ("overlay", "checkerboard", "flicker", "difference", "sideBySide", "jacobian")


def state():
    """What a user sees of the views, by the names of the volumes; and the names of all nodes that are there."""
    import slicer

    def name(nodeId):
        return slicer.mrmlScene.GetNodeByID(nodeId).GetName() if nodeId else None

    found = everything()
    found["layers"] = {key: [name(one) for one in ids] for key, ids in found["layers"].items()}
    scene = slicer.mrmlScene
    found["nodes"] = sorted(scene.GetNthNode(n).GetName() or "" for n in range(scene.GetNumberOfNodes()))
    # The third number of the field of view is Slicer's own: it changes whenever a view is resized.
    found["slices"] = {key: (value[0], value[1][:2], *value[2:]) for key, value in found["slices"].items()}
    del found["displays"]
    return found


def unusual():
    """A state of the views that nothing else would make."""
    import slicer
    from CARLRegistrationLib.mrml import views

    moving = slicer.util.getNode("moving")
    for n, (sliceNode, composite) in enumerate(views.sliceViews()):
        sliceNode.SetOrientation(("Sagittal", "Coronal", "Axial")[n])
        sliceNode.SetSliceOffset(3.0 + n)
        height = 70.0 + n
        width, rows = sliceNode.GetDimensions()[:2]
        sliceNode.SetFieldOfView(height * width / rows, height, 1)
        sliceNode.SetXYZOrigin(2, 3 + n, 0)
        composite.SetBackgroundVolumeID(moving.GetID() if n else None)
        composite.SetForegroundOpacity(0.25 + 0.125 * n)
        composite.SetLinkedControl(n == 1)


@pytest.mark.parametrize("mode", MODES)
def test_a_scene_saved_in_the_middle_comes_back_with_the_views_of_before(host, section, tmp_path, mode):
    """Slicer tells nobody that it saves: what is written are the views as Inspect shows them."""
    unusual()
    host.save_scene(tmp_path / "before.mrb")
    getattr(section.ui, f"{mode}ModeButton").click()
    section.ui.deformationComboBox.currentIndex = 1
    section.ui.deformationLocalCheckBox.click()
    host.process_events(0.05)
    shown = everything()["layers"]
    host.save_scene(tmp_path / "scene.mrb")
    assert section.views.active and everything()["layers"] == shown  # saving changes nothing
    section.ui.deformationLocalCheckBox.click()
    states = {}
    for name in ("before", "scene"):
        host.load_scene(tmp_path / f"{name}.mrb")
        host.process_events(0.05)
        states[name] = state()
    if mode == "jacobian":  # it stays in the scene, with its colors
        kept = set(states["scene"]["nodes"]) - set(states["before"]["nodes"])
        assert "Jacobian, shift" in kept and not any("Inspect" in name or "(" in name for name in kept)
        states["scene"]["nodes"] = states["before"]["nodes"]
    assert set(states["scene"]["nodes"]) == set(states["before"]["nodes"])
    for part, value in states["before"].items():
        for key in value if isinstance(value, dict) else ():
            assert states["scene"][part][key] == value[key], (part, key)
        assert states["scene"][part] == value, part
    assert not section.views.active
    assert not [name for name in section.parameters.parameterNode.GetParameterNames() if "former" in name.lower()]


def test_the_views_come_back_where_the_module_was_not_opened(host, section, tmp_path, moduleWidget):
    unusual()
    before = state()
    section.ui.sideBySideModeButton.click()
    host.save_scene(tmp_path / "scene.mrb")
    host.close_scene()
    moduleWidget.panel.setParameterNode(None)
    moduleWidget.removeObservers()
    try:
        host.load_scene(tmp_path / "scene.mrb")
        host.process_events(0.05)
        after = state()
        for part in ("layout", "layers", "slices", "composites", "crosshair"):
            assert after[part] == before[part], part
    finally:
        scene = moduleWidget.parent.mrmlScene()
        moduleWidget.addObserver(scene, scene.StartCloseEvent, moduleWidget.onSceneStartClose)
        moduleWidget.addObserver(scene, scene.EndCloseEvent, moduleWidget.onSceneEndClose)
        moduleWidget.addObserver(scene, scene.EndImportEvent, moduleWidget.onSceneEndImport)
        moduleWidget.enter()


@pytest.mark.parametrize("priority", [-1.0, 1.0], ids=["after the module", "before the module"])
def test_the_views_come_back_whoever_hears_of_the_scene_first(host, section, tmp_path, priority):
    """The selectors of the views make their lists anew at the same event, and may say None to a view."""
    unusual()
    before = state()
    section.ui.checkerboardModeButton.click()
    host.save_scene(tmp_path / "scene.mrb")
    section.leave()
    selectors = [one for name in ("Red", "Yellow", "Green") for one in host.layout.lists(name).selectors.values()]
    try:
        for selector in selectors:
            _listenAgain(selector, priority)
        host.load_scene(tmp_path / "scene.mrb", clear=False)
        host.process_events(0.05)
        assert state()["layers"] == before["layers"] and state()["slices"] == before["slices"]
    finally:
        for selector in selectors:
            _listenAgain(selector, 0.0)


def _listenAgain(selector, priority):
    scene, was = selector.mrmlScene(), selector.blockSignals(True)
    selector._observer_priority = priority
    selector.setMRMLScene(None)
    selector.setMRMLScene(scene)
    selector.blockSignals(was)


def test_a_scene_added_in_the_middle_ends_it(host, section, tmp_path):
    """Its views are shown then, as always when a scene is added."""
    unusual()
    saved = state()
    host.save_scene(tmp_path / "scene.mrb")
    for _slice, composite in _views():
        composite.SetForegroundOpacity(0.875)
    section.ui.overlayModeButton.click()
    host.load_scene(tmp_path / "scene.mrb", clear=False)
    host.process_events(0.05)
    assert not section.views.active
    after = state()
    assert after["slices"] == saved["slices"] and after["composites"] == saved["composites"]
    assert not [name for name in after["nodes"] if "Inspect" in name]


def test_a_scene_added_that_was_saved_in_the_middle(host, section, tmp_path):
    """IDs of nodes change when a scene is added to another: the former volumes are found all the same."""
    unusual()
    section.ui.overlayModeButton.click()
    host.save_scene(tmp_path / "scene.mrb")
    section.leave()
    host.load_scene(tmp_path / "scene.mrb", clear=False)
    host.process_events(0.05)
    import slicer

    layers = [composite.GetBackgroundVolumeID() for _slice, composite in _views()]
    assert layers[0] is None and layers[1] == layers[2] is not None
    names = [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")]
    assert sorted(names) == ["fixed", "fixed", "moving", "moving"]
    assert slicer.mrmlScene.GetNodeByID(layers[1]).GetName() == "moving"
    assert np.isfinite([s.GetFieldOfView() for s, _c in _views()]).all()


def _views():
    from CARLRegistrationLib.mrml import views

    return views.sliceViews()
