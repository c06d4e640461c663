"""Inspect: what the views show of a case, rendered off screen; and that nothing of it stays."""

import numpy as np
import pytest

from .volumes import addLinear, addVolume, matrix

SIZE = 40  # voxels of 2 mm per axis, centered on 0


@pytest.fixture
def shown(host, scene, moduleWidget, tmp_path):
    """The slice views exist; renders one to an array of red, green, blue."""

    def render(name="Red", size=(256, 256)):
        from PIL import Image

        path = host.grab_view(name, tmp_path / "view.png", size)
        return np.asarray(Image.open(path).convert("RGB")).astype(int)

    for name in ("Red", "Yellow", "Green"):
        render(name)
    host.errors.clear()
    yield render
    assert host.errors == []


def blob(shift=(0.0, 0.0, 0.0), size=SIZE):
    """A bright ball of 22 mm and a smaller one beside it, on 20."""
    axis = 2.0 * (np.arange(size) - (size - 1) / 2)
    s, a, r = np.meshgrid(axis - shift[2], axis - shift[1], axis - shift[0], indexing="ij")
    ball = 160.0 * (r**2 + a**2 + s**2 < 22**2) + 60.0 * ((r - 18) ** 2 + (a - 14) ** 2 + s**2 < 12**2)
    return (20 + ball).astype(np.int16)


def placed(size=SIZE, spacing=2.0, direction=None):
    direction = np.eye(3) if direction is None else direction
    middle = direction @ np.full(3, spacing * (size - 1) / 2)
    return matrix(direction, [spacing] * 3, -middle)


@pytest.fixture
def case(shown):
    """Moving is fixed, 12 mm to the right; the transform says so."""
    from CARLRegistrationLib.inspect.case import Case

    fixed = addVolume(blob(), placed(), "fixed")
    moving = addVolume(blob((12.0, 0, 0)), placed(), "moving")
    for node in (fixed, moving):
        node.GetDisplayNode().SetAutoWindowLevel(False)
        node.GetDisplayNode().SetWindowLevelMinMax(0, 255)
    back = np.eye(4)
    back[0, 3] = -12.0  # to parent: moving points back to fixed ones
    return Case(fixed, moving, addLinear(back, "shift"))


@pytest.fixture
def inspect(shown):
    from CARLRegistrationLib.inspect.views import InspectViews

    views = InspectViews()
    yield views
    views.leave()


def show(inspect, case, mode, layer=None, **look):
    from CARLRegistrationLib.inspect.views import Look, Mode

    inspect.enter(case)
    inspect.show(Mode[mode], Look(**look), layer)


def saturation(picture):
    return picture.max(axis=2) - picture.min(axis=2)


# --- each view


def test_overlay_is_aligned_at_all_of_the_transform_and_not_at_none(inspect, case, shown):
    show(inspect, case, "OVERLAY", opacity=0.0)
    fixed = shown()
    show(inspect, case, "OVERLAY", opacity=1.0)
    warped = shown()
    assert fixed.max() > 150 and np.abs(warped - fixed).mean() < 1.0
    show(inspect, case, "OVERLAY", opacity=1.0, share=0.0)
    before = shown()
    # 12 mm in a view of some 88 mm: the ball is found that much to the left (R is left)
    columns = [
        np.average(np.arange(256), weights=(p.sum(axis=(0, 2)) - p.sum(axis=(0, 2)).min() + 1)) for p in (fixed, before)
    ]
    field = next(s for s, _c in pairs()).GetFieldOfView()[0]
    assert columns[0] - columns[1] == pytest.approx(12.0 / field * 256, rel=0.35)
    show(inspect, case, "OVERLAY", opacity=1.0, share=0.5)
    assert np.abs(shown() - fixed).mean() > 2 < np.abs(shown() - before).mean()


def pairs():
    from CARLRegistrationLib.mrml import views

    return views.sliceViews()


def test_opacity_changes_the_picture_step_by_step(inspect, case, shown):
    pictures = []
    for opacity in (0.0, 0.5, 1.0):
        show(inspect, case, "OVERLAY", opacity=opacity, share=0.0)
        pictures.append(shown())
    assert np.abs(pictures[0] - pictures[2]).mean() > 5
    half = (pictures[0] + pictures[2]) / 2
    assert np.abs(pictures[1] - half).mean() < 2


def test_red_and_cyan_are_gray_where_both_agree(inspect, case, shown):
    show(inspect, case, "OVERLAY", redCyan=True)
    aligned = shown()
    assert aligned.max() > 150 and saturation(aligned).mean() < 2
    show(inspect, case, "OVERLAY", redCyan=True, share=0.0)
    apart = shown()
    red = (apart[..., 0] > 120) & (apart[..., 1] < 60)
    cyan = (apart[..., 0] < 60) & (apart[..., 1] > 120) & (apart[..., 2] > 120)
    assert red.mean() > 0.02 and cyan.mean() > 0.02
    # fixed alone at the left end of the slider, moving alone at the right end
    show(inspect, case, "OVERLAY", redCyan=True, share=0.0, opacity=0.0)
    assert shown()[..., 1].max() < 20
    show(inspect, case, "OVERLAY", redCyan=True, share=0.0, opacity=1.0)
    assert shown()[..., 0].max() < 20


def test_checkerboard_alternates_in_cells_of_the_size_asked_for(inspect, shown):
    from CARLRegistrationLib.inspect.case import Case

    flat = [addVolume(np.full((SIZE,) * 3, value, np.int16), placed(), f"flat {value}") for value in (50, 200)]
    for node in flat:
        node.GetDisplayNode().SetAutoWindowLevel(False)
        node.GetDisplayNode().SetWindowLevelMinMax(0, 255)
    case = Case(*flat, addLinear(np.eye(4)))
    for cell in (10.0, 20.0):
        show(inspect, case, "CHECKERBOARD", checkerMm=cell)
        picture = shown()[..., 0]
        inside = np.flatnonzero((picture > 20).any(axis=0))
        row = picture[118, inside[0] + 2 : inside[-1] - 2] > 125
        changes = np.flatnonzero(np.diff(row.astype(int)))
        width = next(s for s, _c in pairs()).GetFieldOfView()[0] / 256
        assert len(changes) >= 3 and np.diff(changes).mean() * width == pytest.approx(cell, rel=0.1)
        # only the two values, but for single pixels on edges: nothing is made up between them
        values = picture[8:-8, inside[0] + 2 : inside[-1] - 2]
        exact = (np.abs(values - 50) < 3) | (np.abs(values - 200) < 3) | (values < 3)
        assert exact.mean() > 0.97


def test_checkerboard_shows_fixed_where_moving_has_nothing(inspect, shown):
    from CARLRegistrationLib.inspect.case import Case

    fixed = addVolume(np.full((SIZE,) * 3, 200, np.int16), placed(), "fixed")
    half = placed()
    half[0, 3] += SIZE  # its right half alone
    moving = addVolume(np.full((SIZE,) * 3, 90, np.int16), half, "moving")
    for node in (fixed, moving):
        node.GetDisplayNode().SetAutoWindowLevel(False)
        node.GetDisplayNode().SetWindowLevelMinMax(0, 255)
    case = Case(fixed, moving, addLinear(np.eye(4)))
    clipped = [composite.GetClipToBackgroundVolume() for _s, composite in pairs()]
    show(inspect, case, "CHECKERBOARD", checkerMm=10.0)
    inspect.center()
    for sliceNode, _composite in pairs():
        sliceNode.SetFieldOfView(100, 100, 1)
        sliceNode.JumpSliceByCentering(0, 0, 0)
    picture = shown()[..., 0]
    left, right = picture[80:176, 60:120], picture[80:176, 136:196]  # R is left: both; L has fixed alone
    for part, other in ((left, 90), (right, 0)):
        assert 0.35 < (np.abs(part - 200) < 3).mean() < 0.65 and 0.35 < (np.abs(part - other) < 3).mean() < 0.65
    show(inspect, case, "OVERLAY")
    assert [composite.GetClipToBackgroundVolume() for _s, composite in pairs()] == clipped


def test_flicker_shows_both_in_turn_at_its_rate(host, inspect, case, shown):
    show(inspect, case, "FLICKER", share=0.0, flickerHz=8.0)
    seen = set()

    def both():
        seen.add(pairs()[0][1].GetForegroundOpacity())
        return seen == {0.0, 1.0}

    host.process_events(until=both)
    show(inspect, case, "OVERLAY")
    before = pairs()[0][1].GetForegroundOpacity()
    host.process_events(0.4)
    assert pairs()[0][1].GetForegroundOpacity() == before == 0.5


def test_difference_is_signed(inspect, case, shown):
    show(inspect, case, "DIFFERENCE")
    equal = shown()
    assert saturation(equal).mean() < 12 and equal[100:156, 100:130].max() < 90
    show(inspect, case, "DIFFERENCE", share=0.0)
    apart = shown()
    orange = apart[..., 0] > apart[..., 2] + 60
    blue = apart[..., 2] > apart[..., 0] + 60
    assert orange.mean() > 0.02 and blue.mean() > 0.02
    # moving's ball is farther right, which is left in the picture: brighter there
    assert np.argwhere(orange)[:, 1].mean() < np.argwhere(blue[:, :200])[:, 1].mean()


def test_difference_values(case):
    from CARLRegistrationLib.inspect.comparisons import differenceOf

    inside = np.ones((4, 4, 4), bool)
    fixed, warped = np.full((4, 4, 4), -1000.0), np.full((4, 4, 4), -900.0, np.float32)
    found, unit = differenceOf(fixed, warped, inside)
    assert unit == "HU" and (found == 100).all()
    ramp = np.linspace(0, 100, 64).reshape(4, 4, 4)
    found, unit = differenceOf(ramp, (5 * ramp).astype(np.float32), inside)  # another scale of the same picture
    assert "%" in unit and np.abs(found).max() < 1e-3


def test_side_by_side_has_the_same_place_in_both_views(host, inspect, case, shown):
    import slicer

    show(inspect, case, "SIDE_BY_SIDE", plane="Coronal")
    assert slicer.app.layoutManager().layout == slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView
    left, right = shown("Red"), shown("Yellow")
    assert left.max() > 100 and np.abs(left - right).mean() < 2  # aligned
    byName = {s.GetLayoutName(): (s, c) for s, c in pairs()}
    assert byName["Red"][0].GetOrientation() == byName["Yellow"][0].GetOrientation() == "Coronal"
    assert byName["Red"][1].GetLinkedControl() and byName["Yellow"][1].GetLinkedControl()
    assert byName["Red"][1].GetBackgroundVolumeID() == case.fixed.GetID()
    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    assert crosshair.GetCrosshairMode() != crosshair.NoCrosshair
    show(inspect, case, "OVERLAY")
    assert slicer.app.layoutManager().layout == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
    assert byName["Yellow"][0].GetOrientation() == "Sagittal"


# --- layers


def magenta(picture):
    return (picture[..., 0] > 150) & (picture[..., 1] < 110) & (picture[..., 2] > 150)


@pytest.mark.parametrize("log", [True, False])
def test_a_planted_fold_has_its_color_in_its_place(inspect, case, shown, log):
    from CARLRegistrationLib.inspect import jacobian as inspect_jacobian

    values = np.full((SIZE,) * 3, 1.0, np.float32)
    values[:, 20:26, 20:26] = -0.3
    values[:, 10:16, 20:28] = 0.01  # almost folded is not folded
    node = addVolume(values, placed(), "jacobian")
    show(inspect, case, "JACOBIAN", node, layerOpacity=1.0, log=log)
    picture = shown()
    found = magenta(picture)
    mm = next(s for s, _c in pairs()).GetFieldOfView()[0] / 256
    assert found.sum() * mm**2 == pytest.approx(12 * 12, rel=0.1)
    sliceNode = next(s for s, _c in pairs())
    rows, columns = (np.argwhere(found)[:, n].mean() for n in (0, 1))
    ras = np.array(sliceNode.GetXYToRAS().MultiplyPoint((columns, 255 - rows, 0, 1)))[:2]
    assert np.abs(ras - (2 * 22.5 - 39, 2 * 22.5 - 39)).max() < 1.5  # where it was planted, by the view's own geometry
    fold = inspect_jacobian.folds(node)
    assert len(fold) == 1 and fold[0].voxels == 36 * SIZE and fold[0].volume_mm3 == pytest.approx(36 * SIZE * 8)
    legend = legendOf(inspect)
    assert legend.GetVisibility()
    assert legend.GetTitleText() == ("log2 " if log else "") + "Jacobian\n(magenta: folded)"
    show(inspect, case, "OVERLAY")
    assert not legend.GetVisibility()


def legendOf(inspect):
    import slicer

    return slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(inspect._legendOf)


def test_the_legend_is_in_the_picture(inspect, case, shown):
    node = addVolume(np.full((SIZE,) * 3, 1.0, np.float32), placed(), "jacobian")
    show(inspect, case, "JACOBIAN", node, layerOpacity=0.0)
    picture = shown()
    assert (saturation(picture[:, 200:]) > 80).mean() > 0.005  # the bar's blue and red; the layer is not seen
    legendOf(inspect).SetVisibility(False)
    places = np.argwhere(np.abs(picture - shown()).sum(axis=2) > 20)
    height, width = np.ptp(places, axis=0)
    assert 500 < height * width < picture[..., 0].size / 6  # with its title


def test_unknown_uncertainty_is_striped_and_not_of_the_scale(inspect, case, shown):
    from CARLRegistrationLib.mrml import colors

    values = np.full((SIZE,) * 3, 0.5, np.float32)
    values[:, :, 18:] = np.nan
    values[:, 26:, :18] = 9.0
    node = addVolume(colors.knownUncertainty(values), placed(), "uncertainty")
    show(inspect, case, "UNCERTAINTY", node, layerOpacity=1.0)
    picture = shown()[:, :180]  # the legend is beside it
    lit = picture.max(axis=2) > 10
    gray = (saturation(picture) < 12) & lit
    dark, light = (
        np.abs(picture[..., 0] - 255 * c[0][0]) < 12 for c in (colors.UNKNOWN_COLORS[:1], colors.UNKNOWN_COLORS[1:])
    )
    assert (dark & gray).sum() > 0.3 * gray.sum() and (light & gray).sum() > 0.3 * gray.sum()
    toRas = pairs()[0][0].GetXYToRAS()
    border = next(x for x in range(256) if toRas.MultiplyPoint((x, 128, 0, 1))[0] < -4)  # R is left in the picture
    assert gray[:, :border].sum() > 0.97 * gray.sum()
    green = (picture[..., 1] > picture[..., 0] + 40) & (picture[..., 1] > 60)
    red = (picture[..., 0] > picture[..., 1] + 60) & (picture[..., 0] > 100)
    assert green.mean() > 0.02 and red.mean() > 0.005 and not (green | red)[:, : border - 2].any()
    legend = legendOf(inspect)
    assert "mm" in legend.GetTitleText() and "unknown" in legend.GetTitleText()


def test_the_deformation_is_drawn_and_taken_away(inspect, case, shown):
    import slicer

    show(inspect, case, "OVERLAY")
    plain = shown()
    count = slicer.mrmlScene.GetNumberOfNodes()
    for arrows in (False, True):
        inspect.deform(arrows, 10.0, local=False)
        assert (np.abs(shown() - plain).max(axis=2) > 30).mean() > 0.01
    inspect.deformation.hide()
    assert np.abs(shown() - plain).max() < 3 and slicer.mrmlScene.GetNumberOfNodes() == count
    # a display node of the user's own is left as it is
    case.transform.CreateDefaultDisplayNodes()
    display = case.transform.GetDisplayNode()
    display.SetVisibility(False)
    display.SetGridSpacingMm(33.0)
    inspect.deform(True, 10.0, local=False)
    assert (np.abs(shown() - plain).max(axis=2) > 30).mean() > 0.01
    assert not display.GetVisibility() and display.GetGridSpacingMm() == 33.0
    inspect.deformation.hide()
    assert case.transform.GetDisplayNode() is display and not display.GetVisibility()
