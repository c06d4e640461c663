"""Own images: found, named when unreadable, put on the grid that prediction uses, paired as asked, and learned from."""

import gzip

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from carlreg.errors import CarlError, InputError
from carlreg.models import registry
from carlreg.models.predict import network_images
from carlreg.preprocess import field_of_view, network_spacing, prepare
from carlreg.training import networks
from carlreg.training.data_settings import ImageSettings
from carlreg.training.images import Pairs, list_images, load_images
from carlreg.training.loop import train
from carlreg.training.parallel import Ranks
from carlreg.training.run import Run
from carlreg.training.saving import read_checkpoint
from carlreg.volumes import read_volume

from .conftest import small_config

CPU = Ranks(0, 1, torch.device("cpu"))


def write_blob(path, center=(0.5, 0.5, 0.5), shape=(28, 30, 32), spacing=(3.0, 3.0, 4.0), radius=0.3):
    axes = [(np.arange(n) + 0.5) / n - c for n, c in zip(shape, center, strict=True)]
    k, j, i = np.meshgrid(*axes, indexing="ij")
    distance = np.sqrt(k**2 + j**2 + i**2) / radius
    inner = np.sqrt((k + 0.08) ** 2 + j**2 + i**2) / (0.4 * radius)
    values = 500 * (distance < 1) + 400 * (inner < 1) + np.random.default_rng(0).uniform(0, 30, shape)
    image = sitk.GetImageFromArray(values.astype(np.float32))
    image.SetSpacing(spacing)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


@pytest.fixture
def folder(tmp_path):
    write_blob(tmp_path / "a.nii.gz", (0.45, 0.5, 0.5))
    write_blob(tmp_path / "b.mha", (0.55, 0.5, 0.45), shape=(30, 26, 40), radius=0.35)
    write_blob(tmp_path / "deeper" / "c.nii.gz")
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def names(entries):
    return [entry.image.name for entry in entries]


def test_a_folder_is_listed_in_order(folder):
    assert names(list_images(ImageSettings(source=str(folder)))) == ["a.nii.gz", "b.mha"]
    assert names(list_images(ImageSettings(source=str(folder), recursive=True))) == ["a.nii.gz", "b.mha", "c.nii.gz"]
    for source, words in ((str(folder / "x"), "does not exist"), ("", "nothing was given")):
        with pytest.raises(InputError, match=words):
            list_images(ImageSettings(source=source))
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match=r"expected volumes.*recursive = true"):
        list_images(ImageSettings(source=str(folder / "empty")))


def test_a_list_is_read_with_masks_and_groups(folder):
    file = folder / "list.csv"
    file.write_text("image, group, mask\na.nii.gz, one, b.mha\ndeeper/c.nii.gz, two,\n")
    first, second = list_images(ImageSettings(source=str(file)))
    assert (first.image, first.mask, first.group) == (folder / "a.nii.gz", folder / "b.mha", "one")
    assert (second.image, second.mask, second.group) == (folder / "deeper" / "c.nii.gz", None, "two")
    for text, words in (
        ("file\na.nii.gz\n", "has the columns file; expected image and, if wanted, mask, group"),
        ("image\n", "no line below"),
        ("image,group\n,one\n", "line 2: expected a file"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=words):
            list_images(ImageSettings(source=str(file)))


def test_volumes_that_cannot_be_read_stop_the_run_or_are_named_and_skipped(folder, caplog):
    network = networks.build("carl-compact")
    (folder / "aa_damaged.nii.gz").write_bytes(gzip.compress(b"no NIfTI"))
    settings = ImageSettings(source=str(folder), edge=32)
    with pytest.raises(CarlError, match="aa_damaged"):
        load_images(settings, network, None)
    skipping = ImageSettings(source=str(folder), edge=32, on_unreadable="skip")
    assert [image.name for image in load_images(skipping, network, None)] == ["a.nii.gz", "b.mha"]
    assert "Skipped" in caplog.text and "aa_damaged" in caplog.text
    (folder / "b.mha").unlink()
    with pytest.raises(InputError, match=r"at least two volumes to pair, got 1 \(1 could not be read: aa_damaged"):
        load_images(skipping, network, None)


def test_images_are_what_prediction_gives_the_network(folder):
    loaded = registry.load("carl-compact")
    info = registry.MODELS["carl-compact"]
    fixed, moving = load_images(ImageSettings(source=str(folder), edge=48), loaded.network, info)
    prepared = [prepare(field_of_view(read_volume(folder / name))[0]) for name in ("a.nii.gz", "b.mha")]
    expected = network_images(loaded, *prepared, 48, "cpu")
    assert expected.fixed_grid.spacing[0] == pytest.approx(network_spacing(*prepared, 48))
    assert torch.equal(fixed.image_b1dhw, expected.fixed_b1dhw) and torch.equal(
        moving.image_b1dhw, expected.moving_b1dhw
    )
    coarse, _ = load_images(ImageSettings(source=str(folder), spacing_mm=6.0), loaded.network, info)
    assert max(coarse.image_b1dhw.shape) < max(fixed.image_b1dhw.shape)


def test_masks_lie_on_the_grid_of_their_image(folder):
    image = sitk.ReadImage(str(folder / "a.nii.gz"))
    sitk.WriteImage(sitk.Cast(image > 700, sitk.sitkUInt8), str(folder / "mask.nii.gz"))
    (folder / "list.csv").write_text("image,mask\na.nii.gz,mask.nii.gz\nb.mha,\n")
    settings = ImageSettings(source=str(folder / "list.csv"), edge=32)
    first, second = load_images(settings, networks.build("carl-compact"), None)
    assert second.mask_b1dhw is None and first.mask_b1dhw.shape == first.image_b1dhw.shape
    assert set(first.mask_b1dhw.unique().tolist()) == {0.0, 1.0}
    bright = first.image_b1dhw[first.mask_b1dhw > 0].mean() - first.image_b1dhw[first.mask_b1dhw == 0].mean()
    assert bright > 0.5


@pytest.mark.parametrize("model", ["carl-compact", "unigradicon"])
def test_images_and_masks_stored_along_other_axes_are_seen_alike(folder, model):
    """As in a folder whose scans come from several scanners; so does prediction see them."""
    info = registry.MODELS[model]
    network = registry.load(model, allow_untrained=True).network
    image = sitk.ReadImage(str(folder / "a.nii.gz"))
    sitk.WriteImage(sitk.DICOMOrient(image, "SAR"), str(folder / "other.nii.gz"))
    for name in ("a", "other"):
        mask = sitk.Cast(sitk.ReadImage(str(folder / f"{name}.nii.gz")) > 700, sitk.sitkUInt8)
        sitk.WriteImage(mask, str(folder / f"{name}_mask.nii.gz"))
    (folder / "list.csv").write_text("image,mask\na.nii.gz,a_mask.nii.gz\nother.nii.gz,other_mask.nii.gz\n")
    first, second = load_images(ImageSettings(source=str(folder / "list.csv"), edge=32), network, info)
    assert first.image_b1dhw.shape == second.image_b1dhw.shape
    assert float((first.image_b1dhw - second.image_b1dhw).abs().max()) < 0.02
    assert first.mask_b1dhw.sum() > 0 and torch.equal(first.mask_b1dhw, second.mask_b1dhw)
    prepared = [prepare(field_of_view(read_volume(folder / name))[0]) for name in ("a.nii.gz", "other.nii.gz")]
    seen = network_images(registry.load(model, allow_untrained=True), *prepared, 32, "cpu")
    assert seen.fixed_b1dhw.shape == seen.moving_b1dhw.shape
    assert float((seen.fixed_b1dhw - seen.moving_b1dhw).abs().max()) < 0.02
    assert seen.moving_grid.same_as(seen.fixed_grid, 0.01)


def test_published_networks_get_their_own_shape_and_normalization(folder):
    network = networks.assemble(registry.COMPOSITIONS["unigradicon"][1], align_corners=True)
    info = registry.MODELS["unigradicon"]
    first, _ = load_images(ImageSettings(source=str(folder)), network, info)
    assert first.image_b1dhw.shape[2:] == info.trained_shape_dhw


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        ("any", lambda a, b: True),
        ("within", lambda a, b: a == b),
        ("across", lambda a, b: a != b),
    ],
)
def test_pairs_keep_to_the_rule_and_reach_every_pair(rule, allowed):
    groups = ["x", "x", "y", "y", "y", "z"]
    generator = torch.Generator().manual_seed(0)
    pairs = Pairs(groups, rule)
    drawn = {pairs.draw(generator) for _ in range(2000)}
    assert drawn == {(i, j) for i in range(6) for j in range(6) if i != j and allowed(groups[i], groups[j])}


def test_pairs_that_cannot_be_are_refused():
    with pytest.raises(InputError, match=r"within groups.*column group"):
        Pairs(["x", "y"], "within")
    with pytest.raises(InputError, match=r"across groups"):
        Pairs(["", ""], "across")


def images_config(folder, steps, **stage):
    return small_config(
        "images",
        steps=steps,
        stage={"kind": "images", "diffusion_steps": 1, **stage},
        data={"workers": 0, "images": {"source": str(folder), "edge": 32}},
    )


def test_diffusion_first_then_gradicon(folder, tmp_path, width):
    seen = []
    train(images_config(folder, 2), tmp_path / "run", CPU, on_step=lambda run, numbers: seen.append(set(numbers)))
    assert "diffusion" in seen[0] and "gradicon" not in seen[0]
    assert "gradicon" in seen[1] and "diffusion" not in seen[1]
    state = read_checkpoint(tmp_path / "run" / "checkpoint.pt")
    assert state["stage"] == "images" and state["trained_parts"] == ["attention", "refinement"]


def test_rotations_are_drawn_anew_for_each_seed_and_the_same_for_the_same(folder, width):
    run = Run(images_config(folder, 2, rotation=True, rotation_degrees=30.0), CPU)
    one, again, other = (run.stage.draw(seed, CPU.device) for seed in (1, 1, 2))
    assert torch.equal(one.turns[0], again.turns[0]) and not torch.equal(one.turns[0], other.turns[0])
    assert not torch.equal(one.turns[0], one.turns[1])
    numbers = run.train_step([[(1, one)]])
    assert numbers["loss"] > 0 and np.isfinite(numbers["gradient"])


@pytest.mark.realdata
def test_training_on_real_volumes_lowers_the_loss(data_folder, tmp_path, width):
    """Two liver scans, the same person breathing: the loss on the pair falls within a few steps."""
    for name in ("exh_fixed", "cyc_1_6_moving"):
        (tmp_path / f"{name}.nii.gz").symlink_to(data_folder / f"liver_mr_eth19_{name}.nii.gz")
    config = small_config(
        "images",
        steps=8,
        model="carl-compact",
        stage={"kind": "images", "diffusion_steps": 0, "weight": 0.5},
        data={"workers": 0, "images": {"source": str(tmp_path), "edge": 32}},
        optimizer={"rate": 1e-3, "final_rate": 1e-3, "warmup_steps": 0, "ema": 0.5},
    )
    run = Run(config, CPU)
    pair = run.stage.draw(0, CPU.device)
    losses = [run.train_step([[(0, pair)]])["loss"] for _ in range(8)]
    assert np.mean(losses[-2:]) < losses[0] - 0.05, losses
