"""Training in the plane: its images are what they are said to be, its figures right, its runs resumable."""

import numpy as np
import pytest
import torch
from carlreg.errors import CheckpointError, InputError
from carlreg.maps import Affine, DisplacementMap, identity_map, sample
from carlreg.models import registry
from carlreg.models.checkpoints import save_weights
from carlreg.training import networks
from carlreg.training.loop import train
from carlreg.training.parallel import Ranks
from carlreg.training.planar.preview import preview
from carlreg.training.planar.retina import draw_retina
from carlreg.training.planar.shapes import draw_shapes
from carlreg.training.planar.stage import PlanarStage, folds_percent, inverse_error
from carlreg.training.run import Run
from carlreg.training.saving import read_checkpoint
from carlreg.training.settings import config_from_table
from carlreg.training.validation import FIRST_SEED

CPU = Ranks(0, 1, torch.device("cpu"))


def config(steps=3, model="planar-unet", stage=None, planar=None, optimizer=None, **run):
    return config_from_table(
        {
            "run": {"steps": steps, "log_every": 1, "device": "cpu", **run},
            "model": {"name": model},
            "stage": {"kind": "planar", **(stage or {})},
            "data": {"workers": 0, "planar": {"size": 32, "warp_pixels": 1.5, **(planar or {})}},
            "optimizer": {"warmup_steps": 2, "rate": 1e-3, "batch": 2, **(optimizer or {})},
            "validation": {"every_steps": 0, "pairs": 1},
        }
    )


def random(seed=0):
    return torch.Generator().manual_seed(seed)


def test_shapes_are_circles_or_triangles_of_one_kind():
    """All points of a circle's outline are equally far from its middle; of a triangle's, up to twice as far."""
    kinds = set()
    for seed in range(12):
        ratios = []
        for image in draw_shapes(random(seed), 96, hollow=True):
            assert float(image.min()) >= 0 and 0.95 < float(image.max()) <= 1
            at = np.argwhere(image[0, 0].numpy() > 0.8)
            away = np.linalg.norm(at - (at.max(0) + at.min(0)) / 2, axis=1)
            ratios.append(away.max() / away.min())
        assert (max(ratios) < 1.2) or (min(ratios) > 1.5)
        kinds.add(ratios[0] < 1.2)
    assert kinds == {True, False}
    hollow, filled = (draw_shapes(random(3), 64, hollow=hollow)[0] for hollow in (True, False))
    middle = tuple(np.argwhere(filled[0, 0].numpy() > 0.5).mean(0).round().astype(int))
    assert float(filled[0, 0][middle]) > 0.95 and float(hollow[0, 0][middle]) < 0.05
    one, other = draw_shapes(random(3), 64, hollow=True)
    assert torch.equal(one, hollow) and float((one - other).abs().max()) > 0.5


def test_a_retinas_true_map_is_true_smooth_and_inverse():
    pair = draw_retina(random(1), 96, warp_pixels=5.0, shift_pixels=0)
    points = identity_map((96, 96))
    true = pair.moving_from_fixed(points)
    apart = (sample(pair.moving, true) - pair.fixed).abs().mean()
    assert float(apart) < 0.25 * float((pair.moving - pair.fixed).abs().mean())
    assert 2 < 96 * float((true - points).norm(dim=1).max()) < 20
    back = pair.tree_from_fixed.inverted()(pair.tree_from_moving(true))
    assert 96 * float((back - points).norm(dim=1).max()) < 0.01
    found = DisplacementMap(true - points)
    assert float(folds_percent(found, (96, 96))) == 0
    vessels = float((pair.fixed > 0.7).float().mean())
    assert 0.02 < vessels < 0.25 and float(pair.fixed[..., 0, 0]) < 0.01


def test_shifts_of_a_retina_are_whole_pixels_of_either_image():
    pair = draw_retina(random(5), 64, warp_pixels=0, shift_pixels=6)
    shifts = [-(f.shift_2 * 64).round().int() for f in (pair.tree_from_moving, pair.tree_from_fixed)]
    assert not torch.equal(*shifts) and max(int(s.abs().max()) for s in shifts) <= 6
    plain = [image.roll((-s).tolist(), (2, 3)) for image, s in zip((pair.moving, pair.fixed), shifts, strict=True)]
    assert float((plain[0] - plain[1]).abs().max()) < 1e-4
    other = draw_retina(random(6), 64, warp_pixels=0, shift_pixels=6)
    assert float((other.fixed - pair.fixed).abs().max()) > 0.5


def test_figures_of_known_maps():
    shift = torch.eye(3)
    shift[0, 2] = 3 / 32
    identity, mirror = torch.eye(3), torch.tensor([[1.0, 0, 0], [0, -1, 1], [0, 0, 1]])
    assert float(inverse_error(Affine(shift), Affine(identity), (32, 32))) == pytest.approx(3, rel=1e-5)
    assert float(inverse_error(Affine(mirror), Affine(mirror), (32, 32))) < 1e-5
    assert float(folds_percent(Affine(mirror), (32, 32))) == 100
    bent = torch.zeros(1, 2, 32, 32)
    bent[0, 1, :, 16] = 2 / 32  # one column moves beyond its neighbor
    assert float(folds_percent(DisplacementMap(bent), (32, 32))) == pytest.approx(100 / 31, rel=1e-3)


@pytest.mark.parametrize("model", ["planar-unet", "planar-carl"])
@pytest.mark.parametrize("regularity", ["icon", "gradicon", "diffusion", "bending"])
def test_a_batch_is_the_mean_of_its_samples(model, regularity):
    settings = config(model=model, stage={"regularity": regularity}, planar={"source": "retina"})
    stage, network = PlanarStage(settings.stage, settings.data), networks.build(model).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("unet.last.weight"):
                parameter.normal_(0, 0.02, generator=random())
        draws = [stage.draw(seed, CPU.device) for seed in (1, 2)]
        batch = stage.batch_losses(network, draws, [1, 2])
        single = [stage.losses(network, d, random(seed)) for d, seed in zip(draws, (1, 2), strict=True)]
    assert batch.keys() == single[0].keys() and {regularity, "end_point", "inverse_pixels"} <= batch.keys()
    for name in ("loss", "dissimilarity", regularity, "inverse_pixels"):
        assert float(batch[name]) == pytest.approx(sum(float(s[name]) for s in single) / 2, rel=2e-3), name
    assert float(batch["inverse_pixels"]) > 0.01


def test_a_resumed_run_continues_bit_for_bit(tmp_path):
    losses = {"whole": [], "cut": []}
    settings = config(model="planar-carl", planar={"source": "retina"})
    train(settings, tmp_path / "whole", CPU, on_step=lambda run, n: losses["whole"].append(n["loss"]))

    def keep(run, numbers):
        losses["cut"].append(numbers["loss"])

    train(settings, tmp_path / "cut", CPU, stop=lambda: len(losses["cut"]) == 2, on_step=keep)
    train(settings, tmp_path / "cut", CPU, on_step=keep)
    assert losses["whole"] == losses["cut"] and len(set(losses["cut"])) == 3
    one, two = (read_checkpoint(tmp_path / name / "checkpoint.pt")["network"] for name in losses)
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_networks_stages_and_weights_of_another_dimension_are_refused(tmp_path):
    settings = config(model="gradicon-compact")
    with pytest.raises(
        InputError, match=r"stage planar, which have 2 axes \(planar-unet, .*planar-carl.*\); got gradicon"
    ):
        Run(settings, CPU)
    table = {"run": {"steps": 1, "device": "cpu"}, "stage": {"kind": "joint"}, "model": {"name": "planar-carl"}}
    with pytest.raises(InputError, match=r"stage joint, which have 3 axes .* got planar-carl"):
        Run(config_from_table(table), CPU)
    with pytest.raises(InputError, match=r"regularity: expected one of 'icon', 'gradicon', .* got 'smooth'"):
        config(stage={"regularity": "smooth"})
    with pytest.raises(InputError, match="at most 6 % of the size"):
        config(planar={"source": "retina", "warp_pixels": 9})
    file = tmp_path / "plane.safetensors"
    save_weights(networks.build("planar-carl"), file, {"carlreg_model": "planar-carl", "dimension": 2})
    with pytest.raises(
        CheckpointError, match=r"those of planar-carl .* images of the plane, which registers no volumes"
    ):
        registry.load("carl-compact", file)


@pytest.mark.parametrize("source", ["shapes", "retina"])
def test_the_preview_shows_the_pairs(tmp_path, source):
    image = pytest.importorskip("PIL.Image")
    data = config(planar={"source": source}).data
    preview(tmp_path / "sheet.png", data, seed=4, pairs=2)
    sheet = np.asarray(image.open(tmp_path / "sheet.png"))
    rows = sheet[4:196], sheet[200:392]
    assert all(row.std() > 10 for row in rows) and (rows[0] != rows[1]).any()


def figures(network, settings, pairs):
    stage = PlanarStage(settings.stage, settings.data)
    with torch.no_grad():
        draws = [stage.draw(seed, CPU.device) for seed in range(FIRST_SEED, FIRST_SEED + pairs)]
        return {name: float(v) for name, v in stage.batch_losses(network.eval(), draws, list(range(pairs))).items()}


def trained(steps, weight, batch, pairs):
    """Figures before and after so many steps, whose only difference is the weight of ICON's term."""
    settings = config(
        steps=steps,
        stage={"weight": weight},
        optimizer={"batch": batch, "warmup_steps": 5, "ema": 0.9, "final_rate": 1e-4},
    )
    run = Run(settings, CPU)
    before = figures(run.network, settings, pairs)
    batches = run.batches()
    while run.fraction < 1:
        run.train_step([next(batches)])
    return before, figures(run.averaged_network(), settings, pairs)


def test_inverse_consistency_alone_keeps_maps_inverse_and_unfolded():
    _, free = trained(18, weight=0.0, batch=4, pairs=16)
    before, after = trained(18, weight=1000.0, batch=4, pairs=16)
    assert free["inverse_pixels"] > 1  # similarity alone lets the two directions go their own ways
    assert after["inverse_pixels"] < 0.1 * free["inverse_pixels"] and after["folds_percent"] < 0.5
    assert after["dissimilarity"] < 0.99 * before["dissimilarity"]


@pytest.mark.slow
def test_hollow_shapes_are_registered_by_similarity_and_inverse_consistency():
    """ICON's first experiment, small: images become more alike, maps stay inverse to each other and unfolded."""
    before, after = trained(600, weight=1000.0, batch=8, pairs=64)
    assert after["dissimilarity"] < 0.75 * before["dissimilarity"]
    assert after["inverse_pixels"] < 0.15 and after["folds_percent"] < 0.5
