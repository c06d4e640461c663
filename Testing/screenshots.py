"""Pictures for the documents: registers the generated pair in the panel, looks at it. `python Testing/screenshots.py`.

Writes panel.png, views.png, inspect.png, transforms.png, apply.png, mend.png, cohort.png and series_section.png into
Resources/Screenshots (or the folder that is named); `--only` makes one of the last three alone, without the
registration.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from PIL import Image
from studio import ROOT, VIEW, Studio, below, beside, titled


def views_picture(studio: Studio) -> Image.Image:
    from CARLRegistrationLib.mrml import views

    fixed, moving = studio.panel.parameters.fixedVolume, studio.panel.parameters.movingVolume
    former, tiles = views.remember(), []
    for node, title in ((fixed, "fixed"), (moving, "moving (800 mm away)")):
        views.showLayers(node, None)
        views.fitTo(views.commonBox(node, node))
        tiles.append(titled(studio.view(), title))
    views.restore(former)
    tiles.append(titled(studio.view(), "after Apply: warped over fixed"))
    studio.panel.ui.showJacobianCheckBox.click()
    tiles.append(titled(studio.view(), "Jacobian"))
    studio.panel.ui.showJacobianCheckBox.click()
    return beside(tiles)


def inspect_picture(studio: Studio) -> Image.Image:
    section = studio.panel.inspect
    ui, main = section.ui, studio.panel.ui
    for button in (main.inputsCollapsibleButton, main.registrationCollapsibleButton, main.outputsCollapsibleButton):
        button.collapsed = True
    ui.inspectCollapsibleButton.collapsed = False
    tiles = []

    def take(title: str) -> None:
        if ui.inspectWhyLabel.text:
            raise SystemExit(f"{title}: {ui.inspectWhyLabel.text}")
        tiles.append(titled(studio.view(), title))

    ui.mixingComboBox.currentIndex = 1
    ui.overlayModeButton.click()
    take("Overlay: fixed red, warped cyan")
    ui.checkerboardModeButton.click()
    take("Checkerboard")
    ui.differenceModeButton.click()
    studio.host.process_events(1.0)
    take("Difference: warped minus fixed")
    ui.jacobianModeButton.click()
    take("Jacobian")
    if ui.uncertaintyModeButton.enabled:
        ui.uncertaintyModeButton.click()
        take("Uncertainty")
    ui.mixingComboBox.currentIndex = 0
    ui.overlayModeButton.click()
    ui.deformationComboBox.currentIndex = 1
    take("Deformation")
    picture = studio.shot(1620)
    section.leave()
    rows = [beside(tiles[n : n + 2]) for n in range(0, len(tiles), 2)]
    return beside([picture, below(rows)], 16)


def transforms_picture(studio: Studio) -> Image.Image:
    """The section after a preview, after an import of what was saved, and after inverting."""
    from CARLRegistrationLib.transforms.choices import ExportFormat

    section, main = studio.panel.transforms, studio.panel.ui
    ui, host = section.ui, studio.host
    for button in (main.inputsCollapsibleButton, main.registrationCollapsibleButton, main.outputsCollapsibleButton):
        button.collapsed = True
    studio.panel.inspect.ui.inspectCollapsibleButton.collapsed = True
    ui.transformsCollapsibleButton.collapsed = False
    parts = (ui.exportCollapsibleButton, ui.importCollapsibleButton, ui.derivedCollapsibleButton)

    def take(part) -> Image.Image:
        for one in parts:
            one.collapsed = one is not part
        host.process_events(until=lambda: section.task is None, timeout=300)
        if ui.transformsWhyLabel.text:
            raise SystemExit(ui.transformsWhyLabel.text)
        return studio.shot()

    parameters = studio.panel.parameters
    parameters.exportFormat, parameters.exportSpacing = ExportFormat.ANTS, 8.0
    with tempfile.TemporaryDirectory() as folder:
        ui.previewButton.click()
        pictures = [take(ui.exportCollapsibleButton)]
        host.answers[:] = [str(Path(folder) / "lung.nii.gz"), True]
        ui.saveButton.click()
        take(ui.exportCollapsibleButton)
        ui.importFileLineEdit.text = str(Path(folder) / "lung1Warp.nii.gz")
        ui.importButton.click()
        pictures.append(take(ui.importCollapsibleButton))
        ui.transformsLastResultButton.click()
        ui.invertButton.click()
        pictures.append(take(ui.derivedCollapsibleButton))
    return beside(pictures, 16)


def apply_picture(studio: Studio, spacing_mm: float) -> Image.Image:
    """Segments, landmarks, a model and a label map of the moving scan, before and after they were brought along."""
    import slicer
    from carlreg.phantom import make_pair
    from CARLRegistrationLib.mrml import views
    from CARLRegistrationLib.mrml.volumes import fillVolume

    panel, host = studio.panel, studio.host
    ui, main = panel.apply.ui, panel.ui
    panel.inspect.leave()
    for button in (main.inputsCollapsibleButton, main.registrationCollapsibleButton, main.outputsCollapsibleButton):
        button.collapsed = True
    panel.inspect.ui.inspectCollapsibleButton.collapsed = True
    panel.transforms.ui.transformsCollapsibleButton.collapsed = True
    ui.applyCollapsibleButton.collapsed = False
    fixed, moving = panel.parameters.fixedVolume, panel.parameters.movingVolume
    truth = make_pair(seed=0, spacing_mm=spacing_mm)
    labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Organ labels")
    fillVolume(truth.moving_labels, labels)
    organs = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Organs")
    organs.CreateDefaultDisplayNodes()
    slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(labels, organs)
    landmarks = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Landmarks")
    for x, y, z in truth.landmarks[1].tolist():
        landmarks.AddControlPoint(-x, -y, z)
    landmarks.GetDisplayNode().SetVisibility(False)
    tiles = []

    def take(volume, segments, title: str) -> None:
        views.showLayers(volume, None)
        views.fitTo(views.commonBox(volume, volume))
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
            node.GetDisplayNode().SetVisibility(node is segments)
        tiles.append(titled(studio.view(), title))

    take(moving, organs, "moving scan with its segments")
    panel.apply.chooseResult()
    panel.apply.setChecked([organs, labels, landmarks])
    host.process_events(0.3)
    ui.applyRunButton.click()
    host.process_events(until=lambda: panel.apply.task is None, timeout=300)
    host.process_events(0.3)
    brought = slicer.mrmlScene.GetFirstNodeByName(f"Organs in {fixed.GetName()}")
    if brought is None:
        raise SystemExit(ui.applyInfoLabel.text)
    take(fixed, brought, "fixed scan with the same segments")
    return beside([studio.shot(), below(tiles)], 16)


def mend_picture(studio: Studio, spacing_mm: float) -> Image.Image:
    """The planted error of docs/tutorials/mend.py, mended by a pair of points: views before and after, the panel."""
    import numpy as np
    import SimpleITK as sitk
    from carlreg.phantom import make_pair
    from carlreg.volumes import volume_from_image
    from CARLRegistrationLib.inspect.snapshot import jumpTo
    from CARLRegistrationLib.mrml.transforms import addTransform
    from CARLRegistrationLib.register.sample_data import loadSamplePair

    sys.path.insert(0, str(ROOT / "docs" / "tutorials"))
    from mend import planted

    studio.host.close_scene()
    section, main, host = studio.panel.inspect, studio.panel.ui, studio.host
    ui, ras = section.ui, np.array([-1.0, -1.0, 1.0])
    studio.panel.apply.ui.applyCollapsibleButton.collapsed = True
    made = make_pair(seed=0, spacing_mm=spacing_mm)
    wrong, center = planted(made, volume_from_image(made.fixed, "fixed").grid)
    fixed, moving = loadSamplePair(spacing_mm)
    sitk.WriteTransform(wrong.to_sitk(), str(studio.folder / "wrong.h5"))
    transform = addTransform(studio.folder / "wrong.h5", "Planted error", fixed, moving)
    studio.widget.initializeParameterNode()
    studio.panel.parameters.fixedVolume, studio.panel.parameters.movingVolume = fixed, moving
    for button in (main.inputsCollapsibleButton, main.registrationCollapsibleButton, main.outputsCollapsibleButton):
        button.collapsed = True
    ui.inspectCollapsibleButton.collapsed = ui.figuresCollapsibleButton.collapsed = False
    for side, node in (("Fixed", fixed), ("Moving", moving), ("Transform", transform)):
        getattr(ui, f"inspect{side}Selector").setCurrentNode(node)
    tiles = []

    def take(title: str, view: str = VIEW) -> None:
        host.process_events(0.3)
        if ui.inspectWhyLabel.text:
            raise SystemExit(f"{title}: {ui.inspectWhyLabel.text}")
        tiles.append(titled(studio.view(view), title))

    def overlay(title: str) -> None:
        ui.mixingComboBox.currentIndex = 1
        ui.overlayModeButton.click()
        jumpTo(center * ras)
        take(title)

    overlay("Before: fixed red, warped cyan")
    ui.planeComboBox.currentIndex = 2
    ui.wrongHereButton.click()
    host.process_events(0.2)
    points = section.mending._points
    points.node("fixed").AddControlPoint(*(center * ras))
    host.process_events(0.2)
    take("1. The place in the fixed volume", "Red")
    points.node("moving").AddControlPoint(*(made.moving_from_fixed(center[None])[0] * ras))
    host.process_events(until=lambda: not section.mending.running, timeout=300)
    if not section.mending._steps:
        raise SystemExit(ui.mendInfoLabel.text)
    take("2. Where it belongs; mended", "Yellow")
    overlay("After: mended by one point")
    picture = studio.shot(1300)
    section.leave()
    return beside([picture, below([beside(tiles[n : n + 2]) for n in (0, 2)])], 16)


def cohort_picture(studio: Studio) -> Image.Image:
    """Three scans of the scene brought onto another, and one of them opened in Inspect."""
    import SimpleITK as sitk
    import slicer
    from carlreg.phantom import make_pair
    from CARLRegistrationLib.cohort.choices import CohortSource
    from CARLRegistrationLib.mrml.volumes import fillVolume
    from CARLRegistrationLib.register.parameters import Effort

    studio.host.close_scene()
    section, main, host = studio.panel.cohort, studio.panel.ui, studio.host
    ui = section.ui
    pairs = [make_pair(seed=seed, spacing_mm=6.0) for seed in range(3)]
    empty = sitk.Image(pairs[0].moving) * 0 + 5  # what fails is told, and the others go on
    scans = {"Atlas": pairs[0].fixed, **{f"Scan {n + 1}": pair.moving for n, pair in enumerate(pairs)}, "Scan 4": empty}
    nodes = []
    for name, image in scans.items():
        nodes.append(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name))
        fillVolume(image, nodes[-1])
        nodes[-1].CreateDefaultDisplayNodes()
    studio.widget.initializeParameterNode()
    for button in (main.inputsCollapsibleButton, main.registrationCollapsibleButton, main.outputsCollapsibleButton):
        button.collapsed = True
    studio.panel.inspect.ui.inspectCollapsibleButton.collapsed = True
    parameters = studio.panel.parameters
    parameters.fixedVolume, parameters.effort = nodes[0], Effort.FAST
    parameters.cohortSource = CohortSource.VOLUMES
    ui.cohortCollapsibleButton.collapsed = False

    def parted() -> Image.Image:
        """The section without those above it."""
        shot = studio.shot(760)
        top = ui.cohortCollapsibleButton.y + section.widget.y + section.widget.parentWidget().y
        return shot.crop((0, top - 2, shot.width, top + ui.cohortCollapsibleButton.height + 16))

    with tempfile.TemporaryDirectory() as folder:
        parameters.cohortFolder = str(Path(folder) / "study")
        host.process_events(0.3)
        ui.cohortAllButton.click()
        ui.cohortRunButton.click()
        table = ui.cohortPairsTable
        done = lambda: table.rowCount > 1 and table.item(1, 1).text() == "done"  # noqa: E731
        host.process_events(until=lambda: section.task is None or done(), timeout=600)
        running = parted()
        host.process_events(until=lambda: section.task is None, timeout=600)
        ended = parted()
        section.onPair(0)
        if studio.panel.inspect.ui.inspectWhyLabel.text:
            raise SystemExit(studio.panel.inspect.ui.inspectWhyLabel.text)
        tile = titled(studio.view(), "Scan 1 over Atlas, after a double click")
        studio.panel.inspect.leave()
    return beside([running, ended, tile], 16)


def series_picture(studio: Studio) -> Image.Image:
    """A breath of six phases in the scene: while it is registered, at its end, and how much air comes in."""
    import slicer
    from carlreg.phantom import LABELS, make_breathing
    from CARLRegistrationLib.mrml.volumes import fillVolume
    from CARLRegistrationLib.register.parameters import Effort

    studio.host.close_scene()
    section, main, host = studio.panel.series, studio.panel.ui, studio.host
    ui = section.ui
    breath = make_breathing(spacing_mm=6.0, phases=6)
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "Breath")
    sequence.SetIndexType(sequence.NumericIndex)
    for number, image in enumerate(breath.frames):
        frame = slicer.vtkMRMLScalarVolumeNode()
        fillVolume(image, frame)
        sequence.SetDataNodeAtValue(frame, f"{0.7 * number:.1f}")
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "Breath browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    fillVolume((breath.labels[0] == LABELS["right lung"]) + 2 * (breath.labels[0] == LABELS["liver"]), labels)
    segments = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Organs")
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labels, segments)
    slicer.mrmlScene.RemoveNode(labels)
    for number, name in enumerate(("right lung", "liver")):
        segments.GetSegmentation().GetNthSegment(number).SetName(name)
    points = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Points")
    for number, (x, y, z) in enumerate(breath.landmarks[:3]):
        points.AddControlPoint(-x, -y, z, f"P{number + 1}")
    studio.widget.initializeParameterNode()
    closed = (main.inputsCollapsibleButton, main.registrationCollapsibleButton, main.outputsCollapsibleButton)
    for button in (*closed, studio.panel.cohort.ui.cohortCollapsibleButton):
        button.collapsed = True
    studio.panel.inspect.ui.inspectCollapsibleButton.collapsed = True
    parameters = studio.panel.parameters
    parameters.effort = Effort.FAST
    parameters.seriesSequence, parameters.seriesCyclic, parameters.seriesSmoothness = sequence, True, 0.1
    parameters.seriesSegmentation, parameters.seriesLandmarks = segments, points
    ui.seriesCollapsibleButton.collapsed = False

    def parted() -> Image.Image:
        """The section without those above it."""
        shot = studio.shot(900)
        top = ui.seriesCollapsibleButton.y + section.widget.y + section.widget.parentWidget().y
        return shot.crop((0, top - 2, shot.width, top + ui.seriesCollapsibleButton.height + 16))

    host.process_events(0.3)
    ui.seriesRunButton.click()
    host.process_events(until=lambda: section.task is None or ui.seriesBusyLabel.text.startswith("3 of"), timeout=600)
    running = parted()
    host.process_events(until=lambda: section.task is None, timeout=600)
    made = section.result
    if made is None:
        raise SystemExit(ui.seriesInfoLabel.text)
    segments.SetDisplayVisibility(False)
    points.SetDisplayVisibility(False)
    ui.seriesShownSlider.value = 3
    ui.seriesOverlayComboBox.setCurrentText("Ventilation")
    ended = parted()
    tiles = []
    for node in filter(None, (made.shown(made.segmentation), made.shown(made.landmarks))):
        node.SetDisplayVisibility(False)
    slicer.util.resetSliceViews()
    host.process_events(0.3)
    tiles.append(titled(studio.view(), "Breathed in: ventilation on the reference"))
    made.shown(made.segmentation).SetDisplayVisibility(True)
    browser.SetSelectedItemNumber(3)
    slicer.util.setSliceViewerLayers(background=browser.GetProxyNode(sequence), foreground=None)
    host.process_events(0.3)
    tiles.append(titled(studio.view(), "The frame itself, with the carried segments"))
    return beside([running, ended, below(tiles)], 16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "Resources" / "Screenshots")
    parser.add_argument("--spacing", type=float, default=4.0, help="of the generated pair, mm (%(default)s)")
    parser.add_argument("--only", choices=("mend", "cohort", "series"), help="this picture alone")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        studio = Studio(Path(folder))
        if args.only is None:
            running = studio.register(args.spacing)
            beside([running, studio.shot()], 16).save(args.folder / "panel.png", optimize=True)
            views_picture(studio).save(args.folder / "views.png", optimize=True)
            inspect_picture(studio).save(args.folder / "inspect.png", optimize=True)
            transforms_picture(studio).save(args.folder / "transforms.png", optimize=True)
            apply_picture(studio, args.spacing).save(args.folder / "apply.png", optimize=True)
        if args.only in (None, "mend"):
            mend_picture(studio, args.spacing).save(args.folder / "mend.png", optimize=True)
        if args.only in (None, "cohort"):
            cohort_picture(studio).save(args.folder / "cohort.png", optimize=True)
        if args.only in (None, "series"):
            series_picture(studio).save(args.folder / "series_section.png", optimize=True)
        studio.host.quit()


if __name__ == "__main__":
    main()
