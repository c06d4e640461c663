"""A folder with files named as in the documents, and commands run in it."""

from __future__ import annotations

import logging
import signal
from pathlib import Path

import pytest
from support.documents import README, ROOT, blocks
from support.mirrored import right_way_round

from .commands import Runner, command_lines

# What nearly every block needs; a block of the README.
FIRST = "carlreg register fixed.nii.gz moving.nii.gz --out result"
CONFIGS = ROOT / "CARLRegistration" / "carlreg" / "training" / "configs"
# What makes a documented training command take a second or two.
SMALL = {
    "run.steps": 1,
    "run.device": '"cpu"',
    "data.workers": 0,
    "data.synthetic.size": 24,
    "data.planar.size": 32,
    "data.planar.warp_pixels": 1,
    "data.images.edge": 24,
    "validation.every_steps": 1,
    "validation.pairs": 1,
    "validation.edge": 24,
}


def _blob(center_mm, shape=(20, 22, 24), spacing_mm=4.0):
    """A bright ball with a brighter core in noise."""
    import numpy as np
    import SimpleITK as sitk

    k, j, i = np.meshgrid(*(np.arange(n) * spacing_mm for n in shape), indexing="ij")
    squared = sum((axis - c) ** 2 for axis, c in zip((k, j, i), center_mm, strict=True))
    noise = np.random.default_rng(0).normal(0, 5, shape)
    image = sitk.GetImageFromArray((800 * np.exp(-squared / 400) + noise).astype(np.float32))
    image.SetSpacing((spacing_mm,) * 3)
    return image


def _write_inputs(folder: Path) -> None:
    """Images, labels, points and transforms under the names that the documents use."""
    import SimpleITK as sitk
    from carlreg.formats import write

    images = {"fixed": _blob((40, 44, 48)), "moving": _blob((44, 40, 50))}
    for name, image in images.items():
        labels = sitk.Cast(image > 300, sitk.sitkUInt8) + sitk.Cast(image > 600, sitk.sitkUInt8)
        sitk.WriteImage(image, str(folder / f"{name}.nii.gz"))
        sitk.WriteImage(labels, str(folder / f"{name}_labels.nii.gz"))
    sitk.WriteImage(images["moving"] * 2, str(folder / "pet.nii.gz"))
    sitk.WriteImage(images["fixed"] > 200, str(folder / "skull_base.nii.gz"))
    (folder / "points.csv").write_text(
        "fixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z\n48,44,40,50,40,44\n56,44,40,58,40,44\n"
    )
    (folder / "points.mrk.json").write_text(
        '{"markups": [{"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": '
        '[{"id": "1", "label": "tip", "position": [50.0, 40.0, 44.0], "positionStatus": "defined"}]}]}'
    )
    affine = sitk.AffineTransform(3)
    affine.SetTranslation((2.0, -4.0, 4.0))
    sitk.WriteTransform(affine, str(folder / "0GenericAffine.mat"))
    field = sitk.TransformToDisplacementField(
        affine, sitk.sitkVectorFloat64, images["fixed"].GetSize(), (0, 0, 0), images["fixed"].GetSpacing()
    )
    warp = sitk.DisplacementFieldTransform(field)
    for name in ("field.nii.gz", "b.nii.gz"):
        write(warp, folder / name)


def _write_training_inputs(folder: Path) -> None:
    """The example configurations as they are, but for sizes and lengths; folders with volumes and with label maps."""
    import SimpleITK as sitk
    from carlreg.training.schema import to_toml
    from carlreg.training.settings import read_config

    (folder / "configs").mkdir()
    (folder / "volumes").mkdir()
    (folder / "my-label-maps").mkdir()
    for file in sorted(CONFIGS.glob("*.toml")):
        config = read_config(file, [f"{key}={value}" for key, value in SMALL.items()])
        (folder / "configs" / file.name).write_text(to_toml(config), encoding="utf-8")
    for shift in range(2):
        image = _blob((40 + 4 * shift, 44, 48))
        sitk.WriteImage(image, str(folder / "volumes" / f"volume{shift}.nii.gz"))
        highest = float(sitk.GetArrayViewFromImage(image).max())
        labels = (image > 0.3 * highest) + (image > 0.7 * highest)
        sitk.WriteImage(labels, str(folder / "my-label-maps" / f"labels{shift}.nii.gz"))


@pytest.fixture(scope="session")
def workspace(tmp_path_factory) -> Runner:
    """The runner, with all inputs; nothing was run yet. Libraries are loaded, so that no test counts that."""
    import carlreg.outputs.report
    import carlreg.registration.run  # noqa: F401

    folder = tmp_path_factory.mktemp("documents")
    _write_inputs(folder)
    _write_training_inputs(folder)
    return Runner(folder, {"CONFIGS": str(folder / "configs")})


@pytest.fixture
def runner(workspace, monkeypatch) -> Runner:
    """The runner in its folder; what commands change in this process is put back."""
    monkeypatch.chdir(workspace.folder)
    loggers = [logging.getLogger(name) for name in (None, "carlreg")]
    before = [(logger, logger.level, logger.propagate, list(logger.handlers)) for logger in loggers]
    on_sigterm = signal.getsignal(signal.SIGTERM)
    with right_way_round():
        yield workspace
    signal.signal(signal.SIGTERM, on_sigterm)
    for logger, level, propagate, handlers in before:
        logger.setLevel(level)
        logger.propagate = propagate
        logger.handlers[:] = handlers


@pytest.fixture
def earlier(runner, request) -> None:
    """What the README's first steps and the blocks before this one make is there, whichever test runs first."""
    runner.run(FIRST.split())
    block = request.getfixturevalue("block")
    pages = [README] if block.page == README else [README, block.page]
    for before in (b for page in pages for b in blocks(page) if b.language == "bash"):
        if before.page == block.page and before.line >= block.line:
            break
        for words in command_lines(before):
            runner.run(words)
