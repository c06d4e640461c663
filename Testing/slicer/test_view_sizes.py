"""Views that get their sizes after they were fitted: Qt resizes them when it handles events, as the host does."""

# ruff: noqa: F811 (fixtures that are imported)
import numpy as np
import pytest

from .test_inspect_back import everything
from .test_inspect_panel import section  # noqa: F401
from .test_inspect_views import blob, case, inspect, pairs, placed, show, shown  # noqa: F401
from .test_panel import panel  # noqa: F401
from .volumes import addLinear, addVolume


@pytest.fixture
def wide(shown):
    """A body that is three times as wide as deep or high; moving is the same, 12 mm to the right."""
    from CARLRegistrationLib.inspect.case import Case

    array = np.zeros((20, 20, 58), np.int16)
    array[2:18, 2:18, 3:55] = 200  # the outermost are among those that are looked at
    matrix = np.diag([2.0, 2.0, 2.0, 1.0])
    matrix[:3, 3] = (-57, -19, -19)
    other = matrix.copy()
    other[0, 3] += 12
    back = np.eye(4)
    back[0, 3] = -12.0
    volumes = [addVolume(array, matrix, "fixed"), addVolume(array, other, "moving")]
    for node in volumes:
        node.GetDisplayNode().SetAutoWindowLevel(False)
        node.GetDisplayNode().SetWindowLevelMinMax(0, 255)
    return Case(*volumes, addLinear(back, "shift"))


def assertSame(after, before):
    for part, value in before.items():
        for key in value if isinstance(value, dict) else ():
            assert after[part][key] == value[key], (part, key)
        assert after[part] == value, part


def test_side_by_side_shows_the_whole_width(host, inspect, wide, tmp_path):
    from PIL import Image

    show(inspect, wide, "SIDE_BY_SIDE")
    host.process_events(0.05)
    for name in ("Red", "Yellow"):
        picture = np.asarray(Image.open(host.grab_view(name, tmp_path / "view.png", None)).convert("L"))
        assert picture.shape == (512, 256)
        columns = np.flatnonzero(picture[236:250].mean(axis=0) > 60)  # above the crosshair
        assert columns.min() > 3 and columns.max() < 252, (name, columns.min(), columns.max())
        assert 0.8 < (columns.max() - columns.min()) / 256 < 0.98


def test_what_the_user_has_moved_is_not_fitted_again(host, inspect, wide):
    show(inspect, wide, "SIDE_BY_SIDE")
    host.process_events(0.05)
    red, yellow = (sliceNode for sliceNode, _composite in pairs()[:2])
    fitted = yellow.GetFieldOfView()
    red.SetFieldOfView(40, 80, 1)
    for name in ("Red", "Yellow"):  # the window is made narrower
        host.layout.set_size(name, (128, 512))
    host.process_events(0.05)
    assert red.GetFieldOfView()[:2] == pytest.approx((20, 80))
    assert yellow.GetFieldOfView()[:2] == pytest.approx((fitted[0], fitted[0] * 4))


@pytest.mark.parametrize("resized", [False, True], ids=["left before it was resized", "resized"])
def test_placements_come_back_exactly_with_the_former_sizes(host, section, resized):
    for n, (sliceNode, _composite) in enumerate(pairs()):
        sliceNode.SetFieldOfView(70 + n, 71, 1)  # not of the view's shape
        sliceNode.SetXYZOrigin(2, 3 + n, 0)
    before = everything()
    section.ui.sideBySideModeButton.click()
    if resized:
        host.process_events(0.05)
    section.leave()
    host.process_events(0.05)
    assertSame(everything(), before)
    section.ui.sideBySideModeButton.click()
    if resized:
        host.process_events(0.05)
    section.ui.overlayModeButton.click()
    host.process_events(0.05)
    for sliceNode, _composite in pairs():  # fitted to the size that it has again
        width, height = sliceNode.GetDimensions()[:2]
        across, up = sliceNode.GetFieldOfView()[:2]
        assert (width, height) == (128, 128) and across == pytest.approx(up)
    section.leave()
    host.process_events(0.05)
    assertSame(everything(), before)


def test_a_maximized_view_is_maximized_again(host, section):
    import slicer

    node = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    red = pairs()[0][0]
    before = everything()
    slicer.app.layoutManager().addMaximizedViewNode(red)
    host.process_events(0.05)
    assert red.GetDimensions()[:2] == (256, 256)
    for mode in ("overlay", "sideBySide", "checkerboard"):
        getattr(section.ui, f"{mode}ModeButton").click()
        host.process_events(0.05)
        shows = set(host.layout.shown_shares())
        assert shows == ({"Red", "Yellow"} if mode == "sideBySide" else {"Red"}), mode
    section.leave()
    host.process_events(0.05)
    assert node.GetNumberOfMaximizedViewNodes() == 1 and node.IsMaximizedViewNode(red)
    assert red.GetDimensions()[:2] == (256, 256)
    node.RemoveAllMaximizedViewNodes()
    host.process_events(0.05)
    assertSame(everything(), before)
    # maximized in the layout of side by side itself
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView)
    slicer.app.layoutManager().addMaximizedViewNode(red)
    host.process_events(0.05)
    section.ui.sideBySideModeButton.click()
    host.process_events(0.05)
    assert set(host.layout.shown_shares()) == {"Red", "Yellow"}
    section.leave()
    host.process_events(0.05)
    assert set(host.layout.shown_shares()) == {"Red"}
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    node.RemoveAllMaximizedViewNodes()
    host.process_events(0.05)
