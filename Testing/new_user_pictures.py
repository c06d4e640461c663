"""A picture for the documents: an empty scene, a pair that is none, a second run into a node of the first.

`python Testing/new_user_pictures.py` writes first.png into Resources/Screenshots (or the folder that is named).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from PIL import Image
from studio import ROOT, Studio, beside, titled


def upper(studio: Studio) -> Image.Image:
    """The panel down to where its sections begin."""
    studio.host.process_events(0.3)
    shot = studio.shot(700)
    sections = studio.panel.ui.inspectWidget
    return shot.crop((0, 0, shot.width, sections.mapTo(sections.window(), sections.rect.topLeft()).y()))


def empty(studio: Studio) -> Image.Image:
    studio.host.close_scene()
    studio.widget.initializeParameterNode()
    return upper(studio)


def unlike(studio: Studio, spacing_mm: float) -> Image.Image:
    """The generated torso against a ball with grains in it, while the registration goes on."""
    import numpy as np
    import SimpleITK as sitk
    import slicer
    from CARLRegistrationLib.mrml.volumes import fillVolume
    from CARLRegistrationLib.register.sample_data import loadSamplePair

    fixed, unused = loadSamplePair(spacing_mm)
    slicer.mrmlScene.RemoveNode(unused)
    size = int(300 / spacing_mm)
    grains = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(size, size, size)).astype(np.float32))
    grains = sitk.SmoothingRecursiveGaussian(grains, 3.0)
    places = np.indices((size, size, size)) - (size - 1) / 2
    ball = np.sqrt((places**2).sum(axis=0)) < 0.4 * size
    values = np.where(ball, 40 + 2000 * sitk.GetArrayViewFromImage(grains), -1000).astype(np.int16)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing([spacing_mm] * 3)
    moving = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Another patient")
    fillVolume(image, moving)
    moving.CreateDefaultDisplayNodes()
    parameters, ui, logic = studio.panel.parameters, studio.panel.ui, studio.panel.logic
    parameters.fixedVolume, parameters.movingVolume = fixed, moving
    ui.applyButton.click()
    seen = lambda: ui.warningLabel.text and "step 4" in ui.progressLabel.text  # noqa: E731
    studio.host.process_events(until=lambda: seen() or not logic.isRunning, timeout=300)
    picture = upper(studio)
    if not logic.isRunning:
        raise SystemExit(f"The pair was not doubted: {ui.resultLabel.text} {ui.warningLabel.text}")
    ui.applyButton.click()
    studio.host.process_events(until=lambda: not logic.isRunning, timeout=60)
    return picture


def second(studio: Studio, spacing_mm: float) -> Image.Image:
    """After a first run, with one of its results chosen to be filled again."""
    studio.host.close_scene()
    studio.register(spacing_mm)
    ui = studio.panel.ui
    ui.outputWarpedSelector.setCurrentNode(studio.panel.results.result.nodes["warped"])
    ui.registrationCollapsibleButton.collapsed = True
    ui.outputsCollapsibleButton.collapsed = False
    return upper(studio)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "Resources" / "Screenshots")
    parser.add_argument("--spacing", type=float, default=6.0, help="of the generated volumes, mm (%(default)s)")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        studio = Studio(Path(folder))
        pictures = [
            titled(empty(studio), "An empty scene"),
            titled(unlike(studio, args.spacing), "Two volumes that do not belong together"),
            titled(second(studio, args.spacing), "A second run into a node of the first"),
        ]
        beside(pictures, 16).save(args.folder / "first.png", optimize=True)
        studio.host.quit()


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "Testing"))
    main()
