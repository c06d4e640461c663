"""The loop: a resumed run continues as if never stopped, schedules are their formulas, wrong things are refused."""

import csv
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from carlreg.errors import CheckpointError, InputError, OptimizationDiverged
from carlreg.models.checkpoints import save_weights
from carlreg.training import networks
from carlreg.training.loop import train
from carlreg.training.parallel import Ranks, convolutions_in
from carlreg.training.run import MovingAverage, Run, learning_rate, set_training
from carlreg.training.saving import read_checkpoint

from .conftest import small_config

CPU = Ranks(0, 1, torch.device("cpu"))

pytestmark = pytest.mark.usefixtures("narrow")


def rows(folder):
    with open(folder / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    "config", [small_config(), small_config("joint", steps=3, model="gradicon-compact")], ids=lambda c: c.stage.kind
)
def test_a_resumed_run_continues_bit_for_bit(tmp_path, config, width):
    """Also with BatchNorm, several samples per step, and data drawn by another process."""
    config = replace(config, optimizer=replace(config.optimizer, batch=2))
    losses = {"whole": [], "cut": []}
    steps = config.run.steps
    train(config, tmp_path / "whole", CPU, on_step=lambda run, n: losses["whole"].append(n["loss"]))
    taken = []
    stopped = train(
        config, tmp_path / "cut", CPU, stop=lambda: len(taken) == 2, on_step=lambda run, n: taken.append(n["loss"])
    )
    assert (stopped.reason, stopped.step) == ("stopped", 2)
    other = replace(config, data=replace(config.data, workers=1))
    finished = train(other, tmp_path / "cut", CPU, on_step=lambda run, n: losses["cut"].append(n["loss"]))
    assert (finished.reason, finished.step) == ("finished", steps)
    assert taken + losses["cut"] == losses["whole"] and len(set(losses["whole"])) == steps
    one, two = (read_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("whole", "cut"))
    for group in ("network", "average"):
        for name, value in one[group].items():
            assert torch.equal(value, two[group][name]), (group, name)
    assert [row["step"] for row in rows(tmp_path / "cut")] == [str(n) for n in range(1, steps + 1)]
    assert [row["loss"] for row in rows(tmp_path / "cut")] == [row["loss"] for row in rows(tmp_path / "whole")]


def test_lines_logged_after_the_checkpoint_are_replaced(tmp_path):
    config = small_config(steps=2)
    train(config, tmp_path, CPU)
    text = (tmp_path / "log.csv").read_text()
    last = text.splitlines()[-1]
    (tmp_path / "log.csv").write_text(text + last.replace("2,", "3,", 1) + "\n" + "4,7.1")
    train(small_config(steps=4), tmp_path, CPU)
    assert [row["step"] for row in rows(tmp_path)] == ["1", "2", "3", "4"]
    assert (tmp_path / "log.csv").read_text().count("step,") == 1


def test_learning_rate_is_the_formula():
    for step, fraction in ((0, 0.0), (4, 0.04), (50, 0.5), (99, 0.99), (100, 1.0)):
        expected = (1e-4 + (1e-3 - 1e-4) * (1 + np.cos(np.pi * fraction)) / 2) * min(1, (step + 1) / 10)
        assert learning_rate(step, fraction, 1e-3, 1e-4, 10) == pytest.approx(expected, rel=1e-12)
    assert learning_rate(0, 0.0, 1e-3, 1e-4, 0) == pytest.approx(1e-3)
    run = Run(small_config(steps=10, optimizer={"warmup_steps": 0}), CPU)
    run.step = 5
    assert run.learning_rate() == pytest.approx(0.5 * (1e-3 + 1e-4))


def test_length_in_minutes_follows_the_clock():
    config = small_config()
    run = Run(replace(config, run=replace(config.run, steps=None, minutes=2.0)), CPU)
    run.seconds = 60.0
    assert run.fraction == pytest.approx(0.5)
    run.seconds = 500.0
    assert run.fraction == 1.0


def test_moving_average_is_the_formula_and_counts_are_copied():
    module = torch.nn.BatchNorm1d(2)
    average = MovingAverage(module, decay=0.9)
    with torch.no_grad():
        module.weight.fill_(2.0)
    module.num_batches_tracked += 3
    average.update(module, step=1)  # warm-up: decay 2/11
    assert average.average["weight"][0].item() == pytest.approx(2 - 2 / 11)
    assert average.average["num_batches_tracked"].item() == 3
    average.update(module, step=10_000)
    assert average.average["weight"][0].item() == pytest.approx(2 - 0.9 * 2 / 11)


def test_one_step_is_clipped_adamw():
    """Against PyTorch's own pieces, with a batch and accumulation: the gradient is the mean over all samples."""
    config = small_config(optimizer={"batch": 2, "accumulation": 2, "clip": 0.01, "weight_decay": 0.1})
    run, plain = Run(config, CPU), Run(config, CPU)
    batches = run.batches()
    step = [next(batches) for _ in range(2)]
    numbers = run.train_step(step)
    draws = [sample for batch in step for sample in batch]
    parameters = [p for p in plain.network.parameters() if p.requires_grad]
    losses = [
        plain.stage.losses(plain.network, draw, torch.Generator().manual_seed(seed))["loss"] for seed, draw in draws
    ]
    torch.stack(losses).mean().backward()
    norm = torch.nn.utils.clip_grad_norm_(parameters, 0.01)
    decayed = [p for p in parameters if p.ndim >= 2]
    others = [p for p in parameters if p.ndim < 2]
    rate = numbers["rate"]
    torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], lr=rate
    ).step()
    assert numbers["gradient"] == pytest.approx(norm.item(), rel=1e-4) and norm.item() > 0.01
    assert numbers["loss"] == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)
    for (name, a), b in zip(run.network.named_parameters(), plain.network.parameters(), strict=True):
        # Adam's first step is the rate times a sign, wherever the gradient is not tiny.
        assert (a - b).abs().max() <= 2.1 * rate, name
        assert ((a - b).abs() > 0.1 * rate).float().mean() < 0.02, name


def test_samples_are_numbered_alike_for_any_number_of_processes():
    seeds = []
    for rank, count, batch in ((0, 1, 4), (0, 2, 2), (1, 2, 2)):
        config = small_config(optimizer={"batch": batch})
        run = Run(config, Ranks(rank, count, torch.device("cpu")) if count == 1 else CPU)
        run.ranks = Ranks(rank, count, torch.device("cpu"))
        run.stage.draw = lambda seed, device: seed
        run.step = 3
        source = run.batches()
        seeds.append([seed for _ in range(2) for seed, _ in next(source)])
    whole, first, second = seeds
    assert whole == [12, 13, 14, 15, 16, 17, 18, 19]
    assert sorted(first + second) == whole and not set(first) & set(second)


def test_a_diverged_loss_ends_the_run_with_its_terms_and_leaves_the_weights():
    run = Run(small_config(), CPU)
    batches = run.batches()
    seed, draw = next(batches)[0]
    before = {name: value.clone() for name, value in run.network.state_dict().items()}
    with pytest.raises(OptimizationDiverged, match=r"step 0 .*cross_entropy"):
        run.train_step([[(seed, type(draw)(draw.images_k1dhw * float("nan"), draw.rows))]])
    assert all(torch.equal(value, before[name]) for name, value in run.network.state_dict().items())


def test_frozen_parts_keep_weights_and_statistics():
    config = small_config("joint", model="gradicon-compact")
    run = Run(config, CPU)
    norms = [m for m in run.network.modules() if isinstance(m, torch.nn.BatchNorm3d)]
    for parameter in norms[0].parameters():
        parameter.requires_grad_(False)
    set_training(run.network)
    assert not norms[0].training and all(m.training for m in norms[1:])
    with pytest.raises(InputError, match=r"stage\.parts.*refinement"):
        Run(small_config("joint", model="gradicon-compact", stage={"parts": "attention"}), CPU)
    refined = Run(small_config("joint", stage={"parts": "refinement"}), CPU)
    trained = {name for name, p in refined.network.named_parameters() if p.requires_grad}
    attention = {n for n, part in networks.part_of_names(refined.network).items() if part == "attention"}
    assert trained and not trained & attention and refined.trained_parts == ["refinement"]


def test_the_time_limit_ends_a_sitting_with_a_checkpoint(tmp_path):
    outcome = train(small_config(steps=1000), tmp_path, CPU, time_limit_seconds=0.5)
    assert outcome.reason == "time limit" and outcome.step >= 1
    assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] == outcome.step
    assert {path.name for path in tmp_path.iterdir()} >= {"checkpoint.pt", "config.toml", "log.csv"}


def test_a_checkpoint_of_another_architecture_stage_or_parts_is_refused(tmp_path):
    config = small_config(steps=1)
    train(config, tmp_path, CPU)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(CheckpointError, match="stage joint, got one of stage attention"):
        train(small_config("joint"), tmp_path, CPU)
    with pytest.raises(CheckpointError, match="model gradicon-compact"):
        train(small_config("joint", model="gradicon-compact"), tmp_path, CPU)
    state = read_checkpoint(tmp_path / "checkpoint.pt")
    name, value = next((n, v) for n, v in state["network"].items() if v.ndim == 5)
    state["network"][name] = value[:, :2]
    state["network"]["extra.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(
        CheckpointError, match=rf"another architecture: with extra\.weight; where {name} is \({len(value)}, 2, 3"
    ):
        train(config, tmp_path, CPU)
    (tmp_path / "checkpoint.pt").write_bytes(before[:1000])
    with pytest.raises(CheckpointError, match=r"cannot be read"):
        train(config, tmp_path, CPU)


def test_a_run_starts_from_a_weights_file_a_checkpoint_or_the_encoder_of_another_model(tmp_path):
    config = small_config(steps=1)
    train(config, tmp_path / "first", CPU)
    average = read_checkpoint(tmp_path / "first" / "checkpoint.pt")["average"]
    network = networks.build("carl-compact")
    network.load_state_dict(average)
    file = tmp_path / "a.safetensors"
    save_weights(network, file, {"carlreg_model": "carl-compact", "trained_parts": ["attention"], "steps": 1})
    parts = networks.part_of_names(network)
    for source, tolerance in ((tmp_path / "first" / "checkpoint.pt", 0.0), (file, 1e-3)):
        run = Run(small_config("joint", model="carl-compact"), CPU)
        run.config = replace(run.config, model=replace(run.config.model, weights=str(source)))
        run.start()
        for name, value in run.network.state_dict().items():
            if parts[name] == "attention":
                torch.testing.assert_close(value, average[name], rtol=tolerance, atol=tolerance)
                assert torch.equal(value, run.average.average[name])
        assert run.trained_parts == ["attention", "refinement"]
        assert run.history[-1]["steps"] == 1
    with pytest.raises(CheckpointError, match="nothing for this network"):
        networks.put_start(networks.build("gradicon-compact"), "gradicon-compact", str(file))
    with pytest.raises(CheckpointError, match="nothing for this network"):
        networks.put_start(networks.build("constricon"), "constricon", str(file))
    with pytest.raises(CheckpointError, match="found none"):
        networks.put_start(network, "carl-compact", str(tmp_path / "missing.safetensors"))
    with pytest.raises(InputError, match="nothing is shipped for planar-unet"):
        networks.put_start(networks.build("planar-unet"), "planar-unet", "shipped")


def test_networks_by_name():
    assert {"carl-compact", "gradicon-compact", "planar-unet"} < set(networks.names())
    with pytest.raises(InputError, match=r"model\.name.*carl-compact.*planar-unet.*'resnet'"):
        networks.build("resnet")
    one, two, other = (networks.build("gradicon-compact", seed) for seed in (1, 1, 2))
    first = next(iter(one.state_dict()))
    assert torch.equal(one.state_dict()[first], two.state_dict()[first])
    assert not torch.equal(one.state_dict()[first], other.state_dict()[first])
    assert set(networks.part_of_names(one).values()) == {"refinement"}


def test_bfloat16_is_for_convolutions_only():
    network = networks.build("carl-compact").eval()
    images = torch.rand((2, 1, 1, 32, 32, 32), generator=torch.Generator().manual_seed(0))
    seen = []
    hooks = [
        m.register_forward_hook(lambda m, i, o: seen.append(o.dtype))
        for m in network.modules()
        if isinstance(m, torch.nn.LayerNorm)
    ]
    plain = network.predict(*images).map.on_grid((32,) * 3)
    with convolutions_in(network, "bfloat16"):
        half = network.predict(*images).map.on_grid((32,) * 3)
    for hook in hooks:
        hook.remove()
    after = network.predict(*images).map.on_grid((32,) * 3)
    assert half.dtype == torch.float32 and set(seen) == {torch.float32}
    assert torch.equal(plain, after) and not torch.equal(plain, half)
    assert (half - plain).abs().max() * 32 < 0.5


def test_validation_keeps_the_best_and_figures(tmp_path):
    config = small_config(steps=4, validation={"every_steps": 2, "pairs": 2})
    train(config, tmp_path, CPU)
    best, last = (read_checkpoint(tmp_path / name) for name in ("best.pt", "checkpoint.pt"))
    scores = [float(row["val_score"]) for row in rows(tmp_path) if row.get("val_score")]
    assert len(scores) == 2 and best["best"] == pytest.approx(min(scores), rel=1e-5)
    assert best["step"] == (2, 4)[int(np.argmin(scores))]
    assert last["figures"]["score"] == pytest.approx(scores[-1], rel=1e-5)
    assert last["figures"]["score"] == last["figures"]["end_point_voxels"] and math.isfinite(scores[0])
