"""A series in the scene: its result folder as sequences that a browser plays together, and the panel's section."""

# ruff: noqa: F811 (fixtures that are imported)

from __future__ import annotations

import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from .test_panel import choose, isShown, panel  # noqa: F401
from .volumes import FLIP, addLinear, matrix

POINTS = np.array([[9.0, -3.0, 14.0], [8.0, -2.0, 15.0]])  # LPS mm
SHIFTS = np.array([[0.0, 0.0, 0.0], [3.0, -2.0, 1.0], [5.0, 0.0, -4.0]])


def series_folder(folder):
    # Here: whoever starts the host imports this file, too (slicer/__init__.py), and must not load PyTorch.
    from carlreg import RegistrationSettings
    from carlreg.physical import PhysicalTransform
    from carlreg.series import Carried, SeriesSettings, series_of, write_series
    from carlreg.series.register import FrameResult, SeriesResult

    random = np.random.default_rng(0)
    images = []
    for _ in SHIFTS:
        image = sitk.GetImageFromArray(random.normal(size=(8, 9, 10)).astype(np.float32))
        image.SetOrigin((5.0, -7.0, 11.0))
        images.append(image)
    frames = []
    for shift in SHIFTS:
        matrix = np.eye(4)
        matrix[:3, 3] = shift
        one = PhysicalTransform.from_affine(matrix)
        frames.append(FrameResult(one, one.linear_inverse(), "searched"))
    series = series_of(images, [0.0, 0.5, 1.0])
    result = SeriesResult(series, series.frames[0], tuple(frames), RegistrationSettings(), SeriesSettings())
    labels = np.zeros((8, 9, 10), np.uint8)
    labels[2:5, 3:6, 4:7] = 3
    marked = sitk.GetImageFromArray(labels)
    marked.CopyInformation(images[0])
    for key, text in (("LabelValue", "3"), ("Name", "cyst")):
        marked.SetMetaData(f"Segment0_{key}", text)
    write_series(result, str(folder), carried=Carried(marked, POINTS, ["a", ""]))
    return images


@pytest.fixture(scope="module")
def breath(tmp_path_factory):
    """The folder of a series, and its images."""
    folder = tmp_path_factory.mktemp("series") / "breath"
    return folder, series_folder(folder)


def test_a_series_is_played(scene, breath, tmp_path):
    import slicer
    import vtk
    from CARLRegistrationLib.common.errors import RegistrationError
    from CARLRegistrationLib.mrml.series import loadSeries

    images = breath[1]
    shutil.copytree(breath[0], tmp_path / "breath")
    nodes = loadSeries(tmp_path / "breath")
    assert [float(nodes.transforms.GetNthIndexValue(n)) for n in range(3)] == [0.0, 0.5, 1.0]
    browser = nodes.browser
    for sequence in (nodes.transforms, nodes.inverses, nodes.warped, nodes.ventilation):
        assert browser.IsSynchronizedSequenceNode(sequence, True) and sequence.GetNumberOfDataNodes() == 3
    for n in (1, 2, 0):
        browser.SetSelectedItemNumber(n)
        shown = browser.GetProxyNode(nodes.transforms)
        matrix = vtk.vtkMatrix4x4()
        shown.GetMatrixTransformFromParent(matrix)
        moved = [matrix.GetElement(row, 3) for row in range(3)]
        assert np.allclose(moved, SHIFTS[n] * [-1, -1, 1], atol=1e-5)
    voxels = slicer.util.arrayFromVolume(browser.GetProxyNode(nodes.warped))
    assert np.allclose(voxels, sitk.GetArrayFromImage(images[0]), atol=1e-5)

    # Frames of one time would overwrite each other.
    table = tmp_path / "breath" / "frames.csv"
    table.write_text(table.read_text().replace("\n2,1,", "\n2,0.5,"))
    again = loadSeries(tmp_path / "breath")
    assert again.warped.GetNumberOfDataNodes() == 3 and "same time" in again.note and nodes.note == ""

    before = scene.GetNumberOfNodes()
    (tmp_path / "breath" / "inverse" / "001.h5").unlink()
    with pytest.raises(RegistrationError, match="whole result of a series"):
        loadSeries(tmp_path / "breath")
    assert scene.GetNumberOfNodes() == before


@pytest.fixture
def section(host, panel):
    panel.series.ui.seriesCollapsibleButton.collapsed = False
    host.process_events(0.1)
    yield panel.series
    panel.series.ui.seriesCollapsibleButton.collapsed = True


def sequence(scene, count=3):
    """Frames that a proxy under a shift shows; their voxels and the 4 x 4 of their indices to RAS mm."""
    import slicer
    from CARLRegistrationLib.mrml.geometry import matrixFrom

    made = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "dynamic")
    made.SetIndexType(made.NumericIndex)
    grid = matrix(np.eye(3), (2.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    voxels = np.random.default_rng(1).integers(0, 900, (count, 8, 9, 10)).astype(np.int16)
    for n, one in enumerate(voxels):
        frame = slicer.vtkMRMLScalarVolumeNode()
        slicer.util.updateVolumeFromArray(frame, one)
        frame.SetIJKToRASMatrix(matrixFrom(grid))
        made.SetDataNodeAtValue(frame, str(0.25 * n))
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "player")
    browser.SetAndObserveMasterSequenceNodeID(made.GetID())
    placed = np.eye(4)
    placed[:3, 3] = (10.0, 20.0, -30.0)
    browser.GetProxyNode(made).SetAndObserveTransformNodeID(addLinear(placed).GetID())
    return made, voxels, placed @ grid


def test_the_section_says_what_is_missing_and_writes_what_the_engine_reads(section, scene, tmp_path, monkeypatch):
    import slicer
    from CARLRegistrationLib.engine import dependencies
    from CARLRegistrationLib.engine.process import Report
    from CARLRegistrationLib.series import run
    from CARLRegistrationLib.series.frames import framesOf

    ui, p = section.ui, section.parameters
    why = lambda: ui.seriesWhyLabel.text.replace("\u200b", "")  # noqa: E731
    assert why() == "Choose a sequence of volumes." and not ui.seriesRunButton.enabled
    made, voxels, toRas = sequence(scene)
    ui.seriesSequenceSelector.setCurrentNode(made)
    assert why() == "" and ui.seriesRunButton.enabled and not isShown(ui.seriesFrameSpinBox)
    choose(ui.seriesReferenceComboBox, "Frame number")
    ui.seriesFrameSpinBox.value = 3
    assert "the frames 0 to 2" in why()
    ui.seriesFrameSpinBox.value = 1
    ui.seriesSmoothnessSpinBox.value = 0.5
    p.transformKind = type(p.transformKind).RIGID
    assert why().startswith("Smooth in time needs a deformable transform")
    p.transformKind = type(p.transformKind).DEFORMABLE
    choose(ui.seriesChainComboBox, "Each to the one before")
    choose(ui.seriesReferenceComboBox, "Mean of all frames")
    assert why().startswith("Each frame to the one before needs a frame")
    choose(ui.seriesReferenceComboBox, "Frame number")
    ui.seriesCyclicCheckBox.checked = True

    segments = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "segments")
    ui.seriesSegmentationSelector.setCurrentNode(segments)
    assert "has no segments" in why()
    labels = slicer.util.addVolumeFromArray(
        (voxels[0] > 700).astype(np.uint8), toRas, "labels", "vtkMRMLLabelMapVolumeNode"
    )
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labels, segments)
    segments.GetSegmentation().GetNthSegment(0).SetName("lung")
    points = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "points")
    points.AddControlPoint(1.5, -2.5, 3.5, "top, left")
    ui.seriesLandmarksSelector.setCurrentNode(points)
    p.seriesFolder = str(tmp_path)
    assert why().startswith("The folder to keep is not empty")
    p.seriesFolder = str(tmp_path / "kept")
    assert why() == ""

    held, started = Held(), []
    monkeypatch.setattr(dependencies, "ensure", lambda *more: None)
    monkeypatch.setattr(run.SeriesTask, "start", lambda task, *given: started.append((task, given[0])))
    monkeypatch.setattr(section, "_runTask", lambda task, *rest: held.keep(task, rest))
    ui.seriesRunButton.click()
    assert ui.seriesInfoLabel.text == ""
    task, arguments = started[0]
    try:
        assert " ".join(arguments) == (
            f"series frames.seq.nrrd --out {tmp_path / 'kept'} --reference 1 --chain frames --cyclic "
            "--temporal-smoothness 0.5 --settings settings.json --labels labels.seg.nrrd --landmarks landmarks.csv"
        )
        read = written(task.folder)
    finally:
        task.close()
    assert read["times"] == (0.0, 0.25, 0.5) and read["names"] == ["top, left"]
    assert all(map(np.array_equal, read["arrays"], voxels))
    assert read["place"] == pytest.approx((toRas @ [3, 5, 7, 1])[:3] * FLIP)
    assert read["points"] == pytest.approx(np.array([[1.5, -2.5, 3.5]]) * FLIP)
    assert np.array_equal(read["labels"], voxels[0] > 700) and read["segments"] == {1: "lung"}

    # Frames are counted as they are begun; of files their number is told.
    section._begun, section._count = {}, 0
    lines = []
    for stage, text in (("read", "3 frames"), ("frames", "frame 2: a"), ("frames", "frame 0: b"), ("write", "frame 0")):
        section._onReport(Report(True, None, [{"stage": stage, "message": text, "fraction": 0.25}]))
        lines.append(ui.seriesBusyLabel.text)
    assert lines[1:] == ["1 of 3: frame 2: a", "2 of 3: frame 0: b", "writing frame 0"]
    assert ui.seriesProgressBar.value == 250

    # Files: in the order of their numbers; folders; one that is not there.
    for name in ("p10.nii.gz", "p9.nii.gz", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.rsplit("/", 1)[1] for path in framesOf(str(tmp_path))] == ["p9.nii.gz", "p10.nii.gz"]
    choose(ui.seriesSourceComboBox, "File or folder")
    assert isShown(ui.seriesFileLineEdit) and not isShown(ui.seriesSequenceSelector)
    p.seriesFile = str(tmp_path / "none.nii.gz")
    assert why().endswith("none.nii.gz is not there. Choose another.")


class Held:
    def keep(self, task, callbacks):
        self.task, self.callbacks = task, callbacks


def written(folder):
    """As the engine reads it."""
    from carlreg.io.points import read_point_list
    from carlreg.quality.segments import label_names
    from carlreg.series import read_series
    from carlreg.volumes import read_labels

    series = read_series([folder / "frames.seq.nrrd"])
    labels = read_labels(folder / "labels.seg.nrrd", series.frames[1])
    points, names = read_point_list(folder / "landmarks.csv", "landmarks")
    return {
        "times": series.times,
        "arrays": [frame.array for frame in series.frames],
        "place": series.frames[0].image.TransformIndexToPhysicalPoint((3, 5, 7)),
        "labels": sitk.GetArrayFromImage(labels) == 1,
        "segments": label_names(labels),
        "points": points,
        "names": names,
    }


def test_a_result_is_shown_and_taken_back(host, section, scene, breath, monkeypatch):
    import slicer

    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    nodes = lambda: {scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())}  # noqa: E731
    before = nodes()
    monkeypatch.setattr("qt.QFileDialog.getExistingDirectory", lambda *given: str(breath[0]))
    ui = section.ui
    ui.seriesLoadButton.click()
    assert ui.seriesInfoLabel.text == "3 frames; frame 2 moves most, by 6.4 mm on average."
    made = section.result
    ui.seriesShownSlider.value = 2
    shown = made.shown(made.landmarks)
    places = [shown.GetNthControlPointPositionWorld(n) for n in range(2)]
    assert np.allclose(places * FLIP, POINTS + SHIFTS[2], atol=1e-4)
    assert [shown.GetNthControlPointLabel(n) for n in range(2)] == ["a", "2"]
    # The segment in frame 2, where it was shifted to by whole voxels.
    segments = made.shown(made.segmentation)
    segment = segments.GetSegmentation().GetNthSegment(0)
    assert segment.GetName() == "cyst"
    extent = segments.GetBinaryLabelmapInternalRepresentation(segments.GetSegmentation().GetNthSegmentID(0)).GetExtent()
    assert extent == (9, 9, 3, 5, 0, 0)
    assert np.allclose(slicer.util.arrayFromVolume(made.maps["max"]), np.linalg.norm(SHIFTS, axis=1).max(), atol=1e-3)
    chart, table = made.charts["Landmarks"]
    columns = {table.GetColumnName(n): n for n in range(table.GetNumberOfColumns())}
    assert list(columns) == ["time", "a", "point 1"] and chart.GetNumberOfPlotSeriesNodes() == 2
    lengths = [table.GetTable().GetValue(n, columns["a"]).ToDouble() for n in range(3)]
    assert lengths == pytest.approx(np.linalg.norm(SHIFTS, axis=1), abs=1e-4)
    assert ui.seriesChartComboBox.count == 4
    choose(ui.seriesOverlayComboBox, "Maximum displacement")
    assert composite.GetForegroundVolumeID() == made.maps["max"].GetID()
    assert composite.GetBackgroundVolumeID() == made.shown(made.nodes.warped).GetID()
    ui.seriesChartButton.click()
    assert slicer.app.applicationLogic().GetSelectionNode().GetActivePlotChartID()
    ui.seriesRemoveButton.click()
    host.process_events(0.1)
    assert section.result is None and not isShown(ui.seriesResultWidget)
    assert not slicer.util.getNodesByClass("vtkMRMLSequenceNode")
    left = nodes() - before
    assert left == set()
