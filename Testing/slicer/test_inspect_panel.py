"""The Inspect section in the test host: buttons and selectors, what they show and say, and the way back."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from .test_inspect_back import everything
from .test_inspect_jacobian import addField, addSegment
from .test_inspect_views import SIZE, blob, placed
from .test_panel import isShown, panel, waitForEnd  # noqa: F401
from .volumes import addLinear, addVolume


@pytest.fixture
def section(host, panel, tmp_path):  # noqa: F811
    """The open section; two volumes 12 mm apart and the transform, chosen."""
    for name in ("Red", "Yellow", "Green"):
        host.grab_view(name, tmp_path / "view.png", (128, 128))
    section = panel.inspect
    fixed, moving = addVolume(blob(), placed(), "fixed"), addVolume(blob((12.0, 0, 0)), placed(), "moving")
    back = np.eye(4)
    back[0, 3] = -12.0
    transform = addLinear(back, "shift")
    section.ui.inspectCollapsibleButton.collapsed = False
    for side, node in (("Fixed", fixed), ("Moving", moving), ("Transform", transform)):
        getattr(section.ui, f"inspect{side}Selector").setCurrentNode(node)
    yield section
    section.leave()
    section.ui.inspectCollapsibleButton.collapsed = True


MODES = ("overlay", "checkerboard", "flicker", "difference", "sideBySide", "jacobian")


def test_opens_closed_and_says_what_to_choose(host, panel):  # noqa: F811
    ui = panel.inspect.ui
    assert ui.inspectCollapsibleButton.collapsed
    assert "Choose a fixed volume, a moving volume, a transform" in ui.inspectWhatLabel.text
    assert not any(getattr(ui, f"{mode}ModeButton").enabled for mode in (*MODES, "uncertainty"))
    assert not ui.figuresButton.enabled and not ui.reportButton.enabled


def test_one_click_each_and_back(host, section):
    ui = section.ui
    before = everything()
    for mode in MODES[:-1]:
        getattr(ui, f"{mode}ModeButton").click()
        assert section.views.mode.value.replace(" ", "") == mode.lower() and ui.inspectWhyLabel.text == ""
        checked = [m for m in MODES if getattr(ui, f"{m}ModeButton").checked]
        assert checked == [mode]
    ui.overlayModeButton.click()
    ui.overlayModeButton.click()  # a second time: back
    assert section.views.mode is None and everything() == before
    ui.checkerboardModeButton.click()
    ui.inspectOffButton.click()
    assert everything() == before
    ui.flickerModeButton.click()
    ui.inspectCollapsibleButton.collapsed = True
    host.process_events(0.6)
    assert everything() == before


def test_leaving_the_module_and_closing_the_scene(host, section, moduleWidget):
    before = everything()
    section.ui.sideBySideModeButton.click()
    moduleWidget.exit()
    assert everything() == before
    moduleWidget.enter()
    section.ui.flickerModeButton.click()
    host.close_scene()
    host.process_events(0.6)
    import slicer

    assert not section.views.active and slicer.util.getNodesByClass("vtkMRMLVolumeNode") == []
    assert slicer.app.layoutManager().layout == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView


def test_each_option_is_there_where_it_counts(section):
    ui = section.ui
    options = {
        "opacitySlider": {"overlay", "jacobian"},
        "mixingComboBox": {"overlay"},
        "checkerSlider": {"checkerboard"},
        "flickerSlider": {"flicker"},
        "planeComboBox": {"sideBySide"},
        "scaleComboBox": {"jacobian"},
        "shareSlider": {"overlay", "checkerboard", "flicker", "difference", "sideBySide"},
    }
    for mode in MODES:
        getattr(ui, f"{mode}ModeButton").click()
        for name, modes in options.items():
            assert isShown(getattr(ui, name)) == (mode in modes), (mode, name)


def test_options_change_the_view(host, section, tmp_path):
    ui = section.ui

    def picture():
        return host.grab_view("Red", tmp_path / "view.png", (128, 128)).read_bytes()

    ui.overlayModeButton.click()
    pictures = [picture()]
    for change in (
        lambda: setattr(ui.opacitySlider, "value", 0.2),
        lambda: ui.beforeButton.click(),
        lambda: setattr(ui.shareSlider, "value", 60),
        lambda: setattr(ui.mixingComboBox, "currentIndex", 1),
        lambda: ui.checkerboardModeButton.click(),
        lambda: setattr(ui.checkerSlider, "value", 12),
        lambda: ui.afterButton.click(),
        lambda: ui.jacobianModeButton.click(),
        lambda: setattr(ui.scaleComboBox, "currentIndex", 1),
        lambda: setattr(ui.deformationComboBox, "currentIndex", 1),
        lambda: ui.deformationLocalCheckBox.click(),
        lambda: setattr(ui.deformationComboBox, "currentIndex", 2),
    ):
        change()
        pictures.append(picture())
        assert section.ui.inspectWhyLabel.text == ""
    assert ui.deformationInfoLabel.text == "Displacement: gray 1, green 2, yellow 5, red 10 mm"
    # the affine is all there is to this transform: without it, the grid is straight and still there
    assert all(a != b for a, b in itertools.pairwise(pictures))
    ui.linkCheckBox.click()
    from CARLRegistrationLib.mrml import views

    assert not any(composite.GetLinkedControl() for _s, composite in views.sliceViews())
    ui.flickerModeButton.click()
    ui.flickerSlider.value = 4
    assert section.views._flicker.interval == 250


def test_the_cursor_tells_displacement_and_jacobian(section):
    import slicer

    section.ui.jacobianModeButton.click()
    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    crosshair.SetCursorPositionRAS([3.0, 4.0, 5.0])
    assert section.ui.cursorLabel.text == "12.0 mm displaced (R +12.0, A +0.0, S +0.0), Jacobian 1.00"


def test_folds_are_listed_and_visited(host, section, tmp_path):
    import slicer
    from CARLRegistrationLib.mrml import views

    def displace(points):
        moved = np.zeros_like(points)
        for center, width in (((10.0, -6, 4), 6.0), ((-12.0, 8, -5), 4.0)):
            away = points - center
            moved[:, 0] -= 1.6 * away[:, 0] * np.exp(-0.5 * (away**2).sum(axis=1) / width**2)
        return moved

    ui = section.ui
    ui.inspectTransformSelector.setCurrentNode(addField(displace))
    ui.jacobianModeButton.click()
    assert "2 folded regions" in ui.jacobianInfoLabel.text and not ui.jacobianCollapsibleButton.collapsed
    assert ui.foldsTable.rowCount == 2 and "ml" in ui.foldsTable.item(0, 1).text()
    sliceNode = views.sliceViews()[0][0]
    for center in ((10.0, -6, 4), (-12.0, 8, -5), (10.0, -6, 4)):
        ui.nextFoldButton.click()
        at = [sliceNode.GetSliceToRAS().GetElement(i, 3) for i in range(3)]
        assert np.linalg.norm(np.array(at) - center) < 2.5
    from .test_inspect_views import magenta

    def picture():
        from PIL import Image

        path = host.grab_view("Red", tmp_path / "view.png", (256, 256))
        return np.asarray(Image.open(path).convert("RGB")).astype(int)

    ui.opacitySlider.value = 1.0
    assert magenta(picture())[118:138, 118:138].mean() > 0.3  # in the middle of the view
    # the Jacobian was made to stay
    section.leave()
    assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == 3


def test_segments_tell_their_volume_change(section):
    import slicer

    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "organs")
    addSegment(segmentation, "ball", placed(), np.s_[10:30, 10:30, 10:30], (SIZE,) * 3)
    ui = section.ui
    scale = np.diag([1 / 1.2, 1, 1, 1.0])
    ui.inspectTransformSelector.setCurrentNode(addLinear(scale, "wider"))
    ui.inspectFixedSegmentationSelector.setCurrentNode(segmentation)
    ui.jacobianModeButton.click()
    assert [ui.segmentsTable.item(0, n).text() for n in (0, 1, 2)] == ["ball", "+20.0 %", "1.200"]
    blank = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "blank")
    ui.inspectFixedSegmentationSelector.setCurrentNode(blank)
    ui.jacobianModeButton.click()
    ui.jacobianModeButton.click()
    assert "blank has no segments" in ui.segmentsInfoLabel.text


def test_unknown_uncertainty_is_said(section):
    from CARLRegistrationLib.mrml.colors import UNKNOWN

    ui = section.ui
    nothing = addVolume(np.full((SIZE,) * 3, UNKNOWN, np.float32), placed(), "nothing known")
    ui.inspectUncertaintySelector.setCurrentNode(nothing)
    ui.uncertaintyModeButton.click()
    assert "nothing known: the uncertainty is unknown everywhere" in ui.inspectWhyLabel.text
    some = addVolume(np.full((SIZE,) * 3, 2.0, np.float32), placed(), "known")
    ui.inspectUncertaintySelector.setCurrentNode(some)
    ui.uncertaintyModeButton.click()
    assert ui.inspectWhyLabel.text == "" and "uncertainty 2.0 mm" in section.textAt((0, 0, 0))


def test_what_does_not_belong_together_is_said(section):
    ui = section.ui
    far = np.eye(4)
    far[0, 3] = 900
    ui.inspectTransformSelector.setCurrentNode(addLinear(far, "elsewhere"))
    before = everything()
    for mode in (*MODES, "figures"):
        getattr(ui, f"{mode}ModeButton" if mode != "figures" else "figuresButton").click()
        assert "Under elsewhere no part of fixed lies in moving" in ui.inspectWhyLabel.text
        assert everything() == before and not section.views.active
    ui.inspectMovingSelector.setCurrentNode(section.ui.inspectFixedSelector.currentNode())
    ui.overlayModeButton.click()
    assert "same volume" in ui.inspectWhyLabel.text
    ui.inspectTransformSelector.setCurrentNode(None)
    assert "Choose a transform" in ui.inspectWhatLabel.text and not ui.overlayModeButton.enabled


def test_a_changed_transform_is_not_shown_as_it_was(section):
    section.ui.overlayModeButton.click()
    section._case.transform.SetMatrixTransformToParent(
        __import__("vtk").vtkMatrix4x4(),
    )
    assert not section.views.active and "was changed" in section.ui.inspectWhyLabel.text


def test_segments_and_points_that_do_not_fit(section):
    import slicer

    ui = section.ui
    fixedOnes = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "fixed organs")
    movingOnes = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "moving organs")
    ui.inspectFixedSegmentationSelector.setCurrentNode(fixedOnes)

    def says(text):
        ui.figuresButton.click()
        assert text in ui.inspectWhyLabel.text and section.task is None
        assert list(Path(slicer.app.temporaryPath).iterdir()) == []

    says("fixed organs has no segments")
    for node, names in ((fixedOnes, ("liver", "lung")), (movingOnes, ("heart", "spleen"))):
        for name in names:
            addSegment(node, name, placed(), np.s_[10:20, 10:20, 10:20], (SIZE,) * 3)
    ui.inspectMovingSegmentationSelector.setCurrentNode(movingOnes)
    says("no segment of the same name")
    ui.inspectMovingSegmentationSelector.setCurrentNode(None)
    ui.inspectFixedSegmentationSelector.setCurrentNode(None)
    points = [slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name) for name in ("F", "M")]
    ui.inspectFixedPointsSelector.setCurrentNode(points[0])
    says("list of points for both")
    points[0].AddControlPoint(1, 2, 3)
    ui.inspectMovingPointsSelector.setCurrentNode(points[1])
    says("as many points in F as in M, got 1 and 0")


def test_figures_of_any_transform(host, section, tmp_path):
    """Judged by the engine in the background: before and after, Dice, points; as table and charts in the scene."""
    import slicer

    ui = section.ui
    organs = []
    for name, shift in (("fixed organs", 0), ("moving organs", 6)):
        organs.append(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name))
        addSegment(organs[-1], "ball", placed(), np.s_[12:28, 12:28, 12 + shift : 28 + shift], (SIZE,) * 3)
    lists = [slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name) for name in ("F", "M")]
    for point in ((0, 0, 0), (5, 6, 7), (-10, 3, 2)):
        lists[0].AddControlPoint(*point)
        lists[1].AddControlPoint(point[0] + 12, point[1] + 3, point[2])
    for name, node in (
        ("FixedSegmentation", organs[0]),
        ("MovingSegmentation", organs[1]),
        ("FixedPoints", lists[0]),
        ("MovingPoints", lists[1]),
    ):
        getattr(ui, f"inspect{name}Selector").setCurrentNode(node)
    # the moving side is placed under the transform already: nothing of it counts twice
    for node in (section._case.moving, organs[1], lists[1]):
        node.SetAndObserveTransformNodeID(section._case.transform.GetID())
    ui.figuresButton.click()
    assert ui.figuresButton.text == "Stop" and isShown(ui.figuresInfoLabel)
    host.process_events(until=lambda: section.task is None)
    assert ui.inspectWhyLabel.text == "" and ui.figuresButton.text == "Compute figures"
    rows = {ui.figuresTable.item(n, 0).text(): n for n in range(ui.figuresTable.rowCount)}

    def value(figure, column):
        return float(ui.figuresTable.item(rows[figure], column).text())

    assert value("Local correlation", 2) > 0.95 > value("Local correlation", 1)
    assert value("Dice, ball", 2) == pytest.approx(1.0, abs=0.02)
    assert value("Dice, ball", 1) == pytest.approx(10 / 16, abs=0.02)
    assert value("Landmarks, mean, mm", 2) == pytest.approx(3.0, abs=0.01)
    assert value("Landmarks, mean, mm", 1) == pytest.approx(np.hypot(12, 3), abs=0.01)
    assert ui.verdictLabel.text in ("Good", "Check") and "\u2022" in ui.reasonsLabel.text
    charts = [ui.chartComboBox.itemText(n) for n in range(ui.chartComboBox.count)]
    assert {"Similarity", "Jacobian histogram", "Dice", "Surface distance", "Landmark errors"} <= set(charts)
    ui.chartComboBox.currentIndex = charts.index("Landmark errors")
    ui.chartButton.click()
    chart = slicer.mrmlScene.GetNodeByID(slicer.app.applicationLogic().GetSelectionNode().GetActivePlotChartID())
    assert chart.GetTitle() == "Landmark errors" and chart.GetNumberOfPlotSeriesNodes() == 2
    after = chart.GetNthPlotSeriesNode(1)
    column = after.GetTableNode().GetTable().GetColumnByName(after.GetYColumnName())
    assert [column.GetValue(n) for n in range(3)] == pytest.approx([3.0] * 3, abs=0.01)

    # a second time fills the same nodes; and they are saved
    def figures():
        kinds = ("vtkMRMLTableNode", "vtkMRMLPlotChartNode", "vtkMRMLPlotSeriesNode")
        return [node.GetName() for kind in kinds for node in slicer.util.getNodesByClass(kind)]

    names = figures()
    section.ui.figuresButton.click()
    host.process_events(until=lambda: section.task is None)
    assert figures() == names
    host.save_scene(tmp_path / "scene.mrb")
    host.close_scene()
    host.load_scene(tmp_path / "scene.mrb")
    assert sorted(figures()) == sorted(names)


@pytest.mark.whole
def test_after_a_registration_it_is_what_is_inspected(host, panel, tmp_path, monkeypatch):  # noqa: F811
    import qt
    import slicer
    from CARLRegistrationLib.register.sample_data import loadSamplePair

    for name in ("Red", "Yellow", "Green"):
        host.grab_view(name, tmp_path / "view.png", (128, 128))
    fixed, moving = loadSamplePair(10.0)
    panel.ui.fixedVolumeSelector.setCurrentNode(fixed)
    panel.ui.movingVolumeSelector.setCurrentNode(moving)
    panel.ui.applyButton.click()
    waitForEnd(host, panel)
    section, ui = panel.inspect, panel.inspect.ui
    ui.inspectCollapsibleButton.collapsed = False
    assert ui.inspectFixedSelector.currentNode() is fixed and ui.inspectMovingSelector.currentNode() is moving
    assert ui.inspectTransformSelector.currentNode() is panel.results.result.nodes["transform"]
    assert ui.verdictLabel.text in ("Good", "Check", "Poor") and ui.figuresTable.rowCount > 5
    count = len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"))
    ui.jacobianModeButton.click()  # the run's own, none is made
    hidden = [n for n in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if n.GetHideFromEditors()]
    assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) - len(hidden) == count
    assert "No folds" in ui.jacobianInfoLabel.text
    uncertainty = panel.results.result.nodes.get("uncertainty")
    if uncertainty is not None:
        values = slicer.util.arrayFromVolume(uncertainty)
        assert np.isfinite(values).all() and (values > 0).mean() > 0.1 and (values == -1).any()
        ui.uncertaintyModeButton.click()
        assert ui.inspectWhyLabel.text == "" and ui.uncertaintyModeButton.checked
    opened = []
    monkeypatch.setattr(qt.QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()) or True)
    assert ui.reportButton.enabled and not ui.figuresButton.enabled  # it would add nothing
    assert ui.inspectWhatLabel.text == "Last registration"
    ui.reportButton.click()
    host.process_events(until=lambda: section.task is None)
    assert ui.inspectWhyLabel.text == "" and len(opened) == 1
    with open(opened[0], encoding="utf-8") as file:
        assert "<html" in file.read(5000).lower()
    host.answers[:] = [str(tmp_path / "mine.html")]
    ui.reportSaveButton.click()
    host.process_events(until=lambda: section.task is None)
    assert len(opened) == 1 and "<html" in (tmp_path / "mine.html").read_text(encoding="utf-8")[:5000].lower()
    panel.ui.undoButton.click()
    assert not ui.reportButton.enabled and not section.views.active
    assert "Choose" in ui.inspectWhatLabel.text
