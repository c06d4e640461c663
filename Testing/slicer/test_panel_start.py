"""Preview start: the pair at its best start in the views, removed by one click; what is no pair is called so."""

# ruff: noqa: F811 (fixtures that are imported)
from __future__ import annotations

import numpy as np
import pytest

from .test_panel import SPACING, blank, isShown, pair, panel  # noqa: F401
from .test_panel_live import before, front, layers, seen, temporary  # noqa: F401


def wait(host, panel) -> None:
    host.process_events(until=lambda: not panel.start.running, timeout=120)


@pytest.mark.whole
def test_the_start_is_shown_and_removed(host, panel, pair, before):
    from carlreg.phantom import make_pair

    ui = panel.ui
    assert ui.startButton.enabled and ui.startButton.text == "&Preview start" and not isShown(ui.startLabel)
    ui.startButton.click()
    assert ui.startButton.text == "Stop looking" and "Looking" in ui.startLabel.text and layers() == before
    wait(host, panel)
    assert ui.startLabel.text.startswith("Start: good.") and ui.startButton.text == "Remove preview"
    fixedPoints, movingPoints = make_pair(seed=0, spacing_mm=SPACING).landmarks
    turn = np.array([-1.0, -1.0, 1.0])  # LPS to RAS
    found = np.array([seen(front(), point) for point in fixedPoints * turn])
    assert np.linalg.norm(found - movingPoints * turn, axis=1).mean() < 2 * SPACING
    assert pair[1].GetParentTransformNode() is None
    ui.startButton.click()
    assert layers() == before and temporary() == [] and not isShown(ui.startLabel)
    assert ui.startButton.text == "&Preview start"


@pytest.fixture
def found(host, panel, pair, before, monkeypatch):
    """The preview is shown, of a start that nothing was computed for: mirrored."""
    import vtk
    from CARLRegistrationLib.register.start import Start

    told = {"verdict": {"word": "poor", "reasons": ["left and right are exchanged."]}, "warnings": ["And small."]}
    panel.start._of = panel.start._job()
    panel.start._onFound(Start(vtk.vtkGeneralTransform(), told))
    assert panel.preview.shown and layers() != before
    return pair


def test_what_is_no_pair_is_called_so(panel, found):
    assert panel.ui.startLabel.text == "Start: poor. left and right are exchanged.\nCheck: And small."


def test_it_goes_with_other_volumes(panel, found, before):
    panel.ui.movingVolumeSelector.setCurrentNode(blank("another"))
    assert layers() == before and temporary() == [] and not isShown(panel.ui.startLabel)


def test_it_goes_when_a_registration_begins(host, panel, found, before, heldEngine):
    panel.ui.applyButton.click()
    assert layers() == before and not isShown(panel.ui.startButton) and not isShown(panel.ui.startLabel)
    panel.logic.abort()
    assert isShown(panel.ui.startButton) and layers() == before


def test_it_goes_when_another_module_is_shown_or_something_else_uses_the_views(panel, found, before, moduleWidget):
    from CARLRegistrationLib.inspect.snapshot import Snapshot

    Snapshot.take()
    assert layers() == before and panel.ui.startButton.text == "&Preview start"
    moduleWidget.exit()
    moduleWidget.enter()
    assert layers() == before and temporary() == []


def test_it_goes_with_the_scene(host, panel, found):
    host.close_scene()
    assert not panel.preview.shown and temporary() == [] and not panel.ui.startButton.enabled


def test_looking_can_be_stopped(host, panel, pair, before, tmp_path):
    panel.ui.startButton.click()
    assert panel.start.running
    panel.ui.startButton.click()
    assert not panel.start.running and layers() == before and list((tmp_path / "temporary").iterdir()) == []


def test_what_the_engine_cannot_use_is_said(host, panel, pair):
    import slicer

    slicer.util.updateVolumeFromArray(pair[1], np.full((20, 20, 20), 7, np.int16))
    panel.ui.startButton.click()
    wait(host, panel)
    assert "all voxels have the value 7" in panel.ui.startLabel.text and not panel.preview.shown


def test_a_warning_of_the_run_is_shown_at_once(panel, pair):
    from CARLRegistrationLib.register.run import Status

    panel._onStatus(Status("affine", "", 0.2, 3.0, warning="Mirrored."))
    panel._onStatus(Status("affine", "", 0.2, 3.0, warning="Little in common."))
    choice = "The registration goes on. Cancel it if the two do not belong together."
    assert panel.ui.warningLabel.text == f"Mirrored.\nLittle in common.\n{choice}" and isShown(panel.ui.warningLabel)
    panel.forgetResult()


def test_time_left_changes_over_and_is_never_none_at_all(panel):
    """From the expected 60 s to the engine's pace; what takes longer says so by saying nothing."""
    from CARLRegistrationLib.register.progress import TimeLeft, statusText
    from CARLRegistrationLib.register.run import Status

    def text(stage, message, fraction, elapsed, left):
        return statusText(Status(stage, message, fraction, elapsed, left), TimeLeft(60.0))

    assert text("load", "loading libraries", 0.0, 4.0, None) == "Loading libraries, 4 s elapsed, about 56 s left"
    # a fifth of the way to being sure: 0.8 x 60 + 0.2 x 200
    assert text("starts", "trying other sizes", 0.1, 20.0, 180.0).endswith(
        ": trying other sizes, 20 s elapsed, about 68 s left"
    )
    assert text("optimize", "instance optimization (field, 9 steps)", 0.5, 50.0, 50.0).startswith(
        "Refining the transform, 50 s"
    )
    assert text("optimize", "removing folds", 0.9, 50.0, 0.4) == "Refining the transform: removing folds, 50 s elapsed"


def test_what_is_written_is_what_the_command_takes(panel, pair, tmp_path):
    """With masks, an initial transform, and landmarks to guide the registration, which the command does not know."""
    import dataclasses

    import slicer
    from carlreg.cli.main import build_parser
    from CARLRegistrationLib.register.run import writeInputs, writePair

    from .volumes import addLinear

    points = [slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name) for name in ("one", "other")]
    for node in points:
        for n in range(4):
            node.AddControlPoint(10 * n, 5 * n * n, 3 * n)
    job = dataclasses.replace(
        panel.start._job(),
        initialTransform=addLinear(np.eye(4), "initial"),
        fixedLandmarks=points[0],
        movingLandmarks=points[1],
    )
    written, _notes, _images = writePair(job, tmp_path)
    args = build_parser().parse_args(["check", *written, "--start", "start.h5"])
    assert (args.fixed, args.moving, args.initial_transform) == ("fixed.mha", "moving.mha", "initial.h5")
    everything, _notes = writeInputs(job, tmp_path)
    assert set(written) < set(everything)
