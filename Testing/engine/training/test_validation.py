"""Figures of validation: landmark errors and Dice against SimpleITK, on pairs whose map is known."""

import csv

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from carlreg.errors import InputError
from carlreg.training.run import SEEDS_PER_RUN
from carlreg.training.stages import STAGES
from carlreg.training.validation import FIRST_SEED, Validation, mean_dice, read_real_pairs

from .conftest import small_config, translation

OBLIQUE = np.linalg.qr(np.array([[1.0, 0.2, 0.1], [-0.2, 1.0, 0.3], [0.0, -0.3, 1.0]]))[0]


def labels_image(seed, size, spacing, origin, direction=None):
    coarse = np.random.default_rng(seed).integers(0, 4, (5, 5, 5)).astype(np.uint8)
    image = sitk.GetImageFromArray(coarse.repeat(4, 0).repeat(4, 1).repeat(4, 2)[: size[2], : size[1], : size[0]])
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    if direction is not None:
        image.SetDirection(direction.flatten().tolist())
    return image


def test_mean_dice_equals_simpleitk_through_an_oblique_pair():
    fixed = labels_image(1, (20, 18, 16), (2.0, 2.5, 3.0), (1.0, 2.0, 3.0))
    moving = labels_image(2, (18, 20, 20), (2.2, 2.0, 2.8), (5.0, -3.0, 0.0), OBLIQUE)
    transform = sitk.AffineTransform(3)
    transform.SetMatrix((0.95 * OBLIQUE).flatten().tolist())
    transform.SetTranslation((4.0, -2.0, 3.0))

    def mapped(points):
        return points @ np.array(transform.GetMatrix()).reshape(3, 3).T + np.array(transform.GetTranslation())

    warped = sitk.Resample(moving, fixed, transform, sitk.sitkNearestNeighbor, 0)
    measure = sitk.LabelOverlapMeasuresImageFilter()
    measure.Execute(fixed, warped)
    expected = np.mean([measure.GetDiceCoefficient(label) for label in (1, 2, 3)])
    assert mean_dice(fixed, moving, mapped) == pytest.approx(expected, abs=2e-3)  # rounding at half voxels
    assert mean_dice(fixed, fixed, lambda points: points) == 1.0


def body(path, center_mm, shape=(24, 24, 24), spacing=4.0):
    axes = [np.arange(n) * spacing - c for n, c in zip(shape, center_mm, strict=True)]
    k, j, i = np.meshgrid(*axes, indexing="ij")
    radius = np.sqrt((k / 30) ** 2 + (j / 26) ** 2 + (i / 34) ** 2)
    values = 600 * (radius < 1) + 300 * (radius < 0.5)
    image = sitk.GetImageFromArray(values.astype(np.float32))
    image.SetSpacing((spacing,) * 3)
    sitk.WriteImage(image, str(path))
    labels = sitk.GetImageFromArray(((radius < 1).astype(np.uint8) + (radius < 0.5)).astype(np.uint8))
    labels.CopyInformation(image)
    sitk.WriteImage(labels, str(path.with_name(path.name.replace(".", "_seg.", 1))))


@pytest.fixture
def pairs(tmp_path):
    """A body and the same one moved by 8 mm along x; both contents give the same network image."""
    body(tmp_path / "f.nii.gz", (48.0, 48.0, 44.0))
    body(tmp_path / "m.nii.gz", (48.0, 48.0, 52.0))
    points = np.random.default_rng(0).uniform(30, 60, (10, 3))
    with open(tmp_path / "points.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([f"{side}_{axis}" for side in ("fixed", "moving") for axis in "xyz"])
        writer.writerows(np.hstack([points, points + np.array([8.0, 0.0, 0.0])]).tolist())
    list_file = tmp_path / "pairs.csv"
    list_file.write_text(
        "fixed,moving,landmarks,fixed_labels,moving_labels\nf.nii.gz,m.nii.gz,points.csv,f_seg.nii.gz,m_seg.nii.gz\n"
    )
    return list_file


def validation(kind="joint", images=None, **more):
    config = small_config(kind, validation={"every_steps": 1, "pairs": 2, "edge": 24, "images": images, **more})
    return Validation(config, STAGES[kind](config.stage, config.data))


def test_real_pairs_are_judged_in_millimeters(pairs, known):
    judge = validation(images=str(pairs), pairs=0)
    identity = known(torch.eye(4), torch.eye(4))
    metrics = judge(identity, ["attention", "refinement"])
    # The contents' grids put one body onto the other: the identity between them is the right answer.
    assert metrics["landmarks_mm"] == pytest.approx(0.0, abs=0.01)
    assert metrics["dice"] == 1.0 and metrics["score"] == metrics["landmarks_mm"]
    assert metrics["landmarks_mm_f-m"] == metrics["landmarks_mm"]
    pair = judge.real[0]
    size = pair.images(_loaded(identity), 24, "cpu").moving_grid.size_ijk
    spacing = pair.images(_loaded(identity), 24, "cpu").moving_grid.spacing[0]
    off = known(translation(0.0, 2 / size[1], 0.0), torch.eye(4))  # two voxels along y
    metrics = judge(off, ["attention", "refinement"])
    assert metrics["landmarks_mm"] == pytest.approx(2 * spacing, rel=1e-3)
    assert 0.5 < metrics["dice"] < 0.99


def _loaded(network):
    from carlreg.models.registry import LoadedModel

    return LoadedModel(network, "gradicon-compact", None, {}, None)


def test_generated_pairs_have_seeds_of_their_own_and_figures_by_bin(known):
    judge = validation()
    seeds = []
    draw = judge.stage.draw
    judge.stage.draw = lambda seed, device: seeds.append(seed) or draw(seed, device)
    metrics = judge(known(torch.eye(4), torch.eye(4)), ["refinement"])
    assert seeds == [FIRST_SEED, FIRST_SEED + 1]
    assert metrics["score"] == metrics["end_point_voxels"] > 0
    binned = [value for name, value in metrics.items() if name.startswith("end_point_voxels_turn")]
    assert min(binned) <= metrics["end_point_voxels"] <= max(binned)
    # the same error as the stage's own, which looks in both directions
    assert metrics["end_point"] == pytest.approx(metrics["end_point_voxels"], rel=0.2)
    largest_training_seed = (2**31 - 1) * SEEDS_PER_RUN + 10**12
    assert largest_training_seed < FIRST_SEED < 2**63 - 10_000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fixed,moving\nf.nii.gz,m.nii.gz\n", "line 2: expected landmarks, or fixed_labels"),
        ("fixed,moving,landmarks\nf.nii.gz,x.nii.gz,points.csv\n", r"line 2: .*x\.nii\.gz"),
        ("fixed,moving,fixed_labels\nf.nii.gz,m.nii.gz,f_seg.nii.gz\n", "expected both fixed_labels and moving_labels"),
        ("fixed,moving,landmarks\nf.nii.gz,,points.csv\n", "expected a fixed and a moving volume"),
        ("fixed,movin\nf.nii.gz,m.nii.gz\n", "expected fixed, moving"),
        ("fixed,moving,landmarks\nf.nii.gz,m.nii.gz,f.nii.gz\n", "line 2: landmarks"),
    ],
)
def test_lists_that_cannot_be_used_name_the_line(pairs, text, words):
    pairs.write_text(text)
    with pytest.raises(InputError, match=words):
        read_real_pairs(pairs)
