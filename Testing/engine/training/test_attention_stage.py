"""Stage A: the loss equals the plain formula, runs resume exactly, averages average, and training learns."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from carlreg.errors import CheckpointError, InputError, OptimizationDiverged
from carlreg.models.compact_encoder import CompactEncoderSettings
from carlreg.training.attention_stage import (
    AttentionStage,
    AttentionStageSettings,
    MovingAverage,
    Rows,
    _Steps,
    attention_loss,
    choose_rows,
    main,
    train,
)
from carlreg.training.synthetic import SyntheticSettings, make_views

TINY = AttentionStageSettings(
    steps=6,
    workers=0,
    warmup_steps=2,
    queries=64,
    synthetic=SyntheticSettings(size=32, views=2, rotation_degrees=5.0, shift=0.1),
    encoder=CompactEncoderSettings(
        stem_channels=16, channels=32, groups=2, dilations=(1, 2), token_channels=32, padding_cells=1
    ),
)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _log(folder):
    with open(folder / "log.csv", newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def test_loss_equals_the_plain_formula():
    torch.manual_seed(0)
    tokens = torch.randn(2, 6, 6, 6, 6)
    rows = [Rows(0, 1, torch.tensor([0, 5, 37]), torch.tensor([[0.0, 1.0, 2.0], [1.25, 2.5, 0.5], [-0.5, 3.4, 1.0]]))]
    found = attention_loss(tokens, rows, padding_cells=1)
    keys = tokens[1].double().numpy()
    cross_entropy, end_point = [], []
    for query, position in zip(rows[0].query_n, rows[0].key_cells_n3.double().numpy(), strict=True):
        d, h, w = np.unravel_index(int(query), (4, 4, 4))
        logits = np.einsum("c,cdhw->dhw", tokens[0, :, d + 1, h + 1, w + 1].double().numpy(), keys)
        weights = np.exp(logits) / np.exp(logits).sum()
        target = np.zeros((6, 6, 6))
        for index in np.ndindex(6, 6, 6):
            target[index] = np.prod(np.clip(1 - np.abs(position + 1 - index), 0, None))
        assert target.sum() == pytest.approx(1)
        cross_entropy.append(-(target * np.log(weights)).sum())
        mean = [(weights * (g - 1)).sum() for g in np.meshgrid(*[np.arange(6)] * 3, indexing="ij")]
        end_point.append(np.linalg.norm(np.array(mean) - position))
    assert found["cross_entropy"].item() == pytest.approx(np.mean(cross_entropy), rel=1e-4)
    assert found["end_point"].item() == pytest.approx(np.mean(end_point), rel=1e-4)


def test_rows_have_structure_and_true_matches_inside_the_moving_view():
    views = make_views(1, TINY.synthetic)
    rows = choose_rows(views, TINY, 1)
    assert {(r.fixed, r.moving) for r in rows} == {(0, 1), (1, 0)}
    for row in rows:
        assert len(row.query_n) <= TINY.queries
        assert row.key_cells_n3.min() >= -0.5 and row.key_cells_n3.max() <= 7.5
        assert (views.structure_k1dhw[row.fixed].flatten()[row.query_n] > TINY.minimum_structure).all()
        centers = torch.stack(torch.unravel_index(row.query_n, (8, 8, 8)), 1)
        points = ((centers + 0.5) / 8).T.reshape(1, 3, -1, 1, 1)
        truth = views.moving_from_fixed(row.moving, row.fixed, points).reshape(3, -1).T * 8 - 0.5
        torch.testing.assert_close(row.key_cells_n3, truth, atol=1e-4, rtol=0)


def test_a_resumed_run_continues_as_if_it_had_not_stopped(tmp_path):
    whole = train(TINY, tmp_path / "whole")
    cut = AttentionStage(TINY)
    data = _Steps(TINY, 0)
    for index in range(3):
        cut.train_step(*data[index][1:])
    (tmp_path / "cut").mkdir()
    cut.save(tmp_path / "cut" / "checkpoint.pt")
    resumed = train(TINY, tmp_path / "cut")
    assert _log(tmp_path / "cut") == _log(tmp_path / "whole")[3:]
    assert resumed.step == whole.step == 6
    for name, value in whole.encoder.state_dict().items():
        assert torch.equal(value, resumed.encoder.state_dict()[name]), name
        assert torch.equal(whole.average.average[name], resumed.average.average[name]), name


def test_training_lowers_the_loss_on_views_not_seen():
    settings = replace(TINY, steps=30, learning_rate=3e-3, warmup_steps=5)
    stage = AttentionStage(settings)
    data = _Steps(settings, 0)

    @torch.no_grad()
    def unseen() -> float:
        losses = []
        for index in range(1000, 1006):
            _, images, rows = data[index]
            tokens = stage.encoder.encode_pooled(images, 1)
            losses.append(attention_loss(tokens, rows, 1)["cross_entropy"].item())
        return float(np.mean(losses))

    before = unseen()
    for index in range(settings.steps):
        stage.train_step(*data[index][1:])
    assert unseen() < before - 0.5


def test_moving_average_is_the_formula():
    module = torch.nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(0.0)
    average = MovingAverage(module, decay=0.9)
    with torch.no_grad():
        module.weight.fill_(1.0)
    average.update(module, step=1)  # warm-up: decay 2/11
    assert average.average["weight"][0, 0].item() == pytest.approx(9 / 11)
    average.update(module, step=10_000)
    assert average.average["weight"][0, 0].item() == pytest.approx(1 - 0.9 * 2 / 11)


def test_learning_rate_warms_up_and_ends_at_its_final_value():
    stage = AttentionStage(replace(TINY, steps=100, warmup_steps=10))
    assert stage.learning_rate() == pytest.approx(1e-4, rel=0.01)
    stage.step = 50
    assert stage.learning_rate() == pytest.approx(0.5 * (1e-3 + 1e-4))
    stage.step = 100
    assert stage.learning_rate() == pytest.approx(1e-4)


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    AttentionStage(TINY).save(tmp_path / "checkpoint.pt")
    other = replace(TINY, encoder=replace(TINY.encoder, channels=64))
    with pytest.raises(CheckpointError, match="expected encoder"):
        AttentionStage(other).load(tmp_path / "checkpoint.pt")


def test_a_diverged_loss_is_an_error():
    stage = AttentionStage(TINY)
    _, images, rows = _Steps(TINY, 0)[0]
    with pytest.raises(OptimizationDiverged, match="step 0"):
        stage.train_step(images * float("nan"), rows)


def test_steps_or_minutes_exactly_one():
    with pytest.raises(InputError, match="exactly one"):
        AttentionStageSettings()
    with pytest.raises(InputError, match="exactly one"):
        AttentionStageSettings(steps=1, minutes=1.0)


def test_command_writes_checkpoint_and_log(tmp_path):
    out = tmp_path / "run"
    assert main(["--out", str(out), "--steps", "2", "--size", "32", "--views", "2", "--workers", "0"]) == 0
    assert (out / "checkpoint.pt").is_file()
    assert len(_log(out)) == 2
