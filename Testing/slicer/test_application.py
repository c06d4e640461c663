"""The panel in applications of all kinds: with and without a main window, with lists of nodes that let go of views."""

# ruff: noqa: F811 (fixtures that are imported)
import pytest

from .test_inspect_panel import MODES, section  # noqa: F401
from .test_inspect_views import pairs
from .test_panel import panel  # noqa: F401


def test_without_a_layout_manager(host, section):
    """As with --no-main-window: nothing is shown, and nothing goes wrong."""
    with host.no_layout_manager():
        for mode in MODES:
            getattr(section.ui, f"{mode}ModeButton").click()
            assert section.ui.inspectWhyLabel.text == "", mode
        section.leave()
    assert host.errors == [] and not section.views.active


def test_dialogs_belong_to_the_main_window(host, panel, monkeypatch):
    import qt

    parents = []
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", lambda parent, *_: parents.append(parent) or "")
    with host.main_window() as window:
        panel.machine.choosePython()
        panel.machine.chooseWeights()
        assert parents == [window, window]
    panel.machine.choosePython()
    assert parents[-1] is None and host.errors == []


@pytest.mark.parametrize("mode", ["overlay", "checkerboard", "sideBySide", "jacobian"])
def test_hidden_volumes_stay_in_the_views_when_lists_are_made_anew(host, section, mode):
    """The selectors of the views do not list what Inspect shows, and say None to the views."""
    import slicer

    getattr(section.ui, f"{mode}ModeButton").click()
    host.process_events(0.05)
    layers = [(c.GetBackgroundVolumeID(), c.GetForegroundVolumeID()) for _s, c in pairs()]
    assert any(slicer.mrmlScene.GetNodeByID(one).GetHideFromEditors() for ids in layers for one in ids if one)
    scene = slicer.mrmlScene
    scene.StartState(scene.BatchProcessState)
    for _slice, composite in pairs():
        for one in ("Background", "Foreground"):
            getattr(composite, f"Set{one}VolumeID")(None)
    scene.EndState(scene.BatchProcessState)
    host.process_events(0.05)
    assert [(c.GetBackgroundVolumeID(), c.GetForegroundVolumeID()) for _s, c in pairs()] == layers
    section.leave()
    for _slice, composite in pairs():
        composite.SetBackgroundVolumeID(None)
    scene.StartState(scene.BatchProcessState)
    scene.EndState(scene.BatchProcessState)
    host.process_events(0.05)
    assert [c.GetBackgroundVolumeID() for _s, c in pairs()] == [None] * 3  # the views are the user's again


def test_the_hosts_selectors_follow_the_views(host, section):
    import slicer

    fixed = section.parameters.inspectFixed
    red = pairs()[0][1]
    selector = host.layout.lists("Red").selectors["Background"]
    selector.setCurrentNode(fixed)
    assert red.GetBackgroundVolumeID() == fixed.GetID()
    red.SetBackgroundVolumeID(None)
    assert selector.currentNode() is None
    red.SetBackgroundVolumeID(fixed.GetID())
    assert selector.currentNode() is fixed
    fixed.SetHideFromEditors(True)
    slicer.mrmlScene.StartState(slicer.mrmlScene.ImportState)
    slicer.mrmlScene.EndState(slicer.mrmlScene.ImportState)  # the lists are made anew
    assert selector.currentNode() is None
    fixed.SetHideFromEditors(False)


def test_a_click_beside_the_handle_is_a_step(section):
    """The page step, which CTK gives its inner slider."""
    ui = section.ui
    for name, step in (("opacitySlider", 0.1), ("flickerSlider", 1.0), ("checkerSlider", 10.0), ("shareSlider", 10.0)):
        slider = getattr(ui, name)
        slider.value = slider.minimum + 0.4 * (slider.maximum - slider.minimum)
        before, inner = slider.value, slider._slider
        inner.triggerAction(inner.SliderAction.SliderPageStepAdd)
        assert slider.value == pytest.approx(before + step), name
