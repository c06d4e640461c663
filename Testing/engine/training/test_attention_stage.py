"""Stage A: the loss equals the plain formula, rows are what they say, and training learns."""

import numpy as np
import pytest
import torch
from carlreg.errors import InputError
from carlreg.training import networks
from carlreg.training.attention_stage import AttentionSettings, AttentionStage, Rows, attention_loss, choose_rows
from carlreg.training.parallel import Ranks
from carlreg.training.run import Run
from carlreg.training.synthetic import make_views
from carlreg.training.validation import FIRST_SEED

from .conftest import small_config

CPU = Ranks(0, 1, torch.device("cpu"))

pytestmark = pytest.mark.usefixtures("narrow")


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
    config = small_config()
    views = make_views(1, config.data.synthetic)
    rows = choose_rows(views, config.stage, 1)
    assert {(r.fixed, r.moving) for r in rows} == {(0, 1), (1, 0)}
    for row in rows:
        assert len(row.query_n) <= config.stage.queries
        assert row.key_cells_n3.min() >= -0.5 and row.key_cells_n3.max() <= 5.5
        assert (views.structure_k1dhw[row.fixed].flatten()[row.query_n] > config.stage.minimum_structure).all()
        centers = torch.stack(torch.unravel_index(row.query_n, (6, 6, 6)), 1)
        points = ((centers + 0.5) / 6).T.reshape(1, 3, -1, 1, 1)
        truth = views.moving_from_fixed(row.moving, row.fixed, points).reshape(3, -1).T * 6 - 0.5
        torch.testing.assert_close(row.key_cells_n3, truth, atol=1e-4, rtol=0)
        assert 0 < row.overlap <= 1 and 0 <= row.degrees < 20


def test_all_samples_at_once_equal_one_after_the_other():
    config = small_config()
    stage = AttentionStage(config.stage, config.data)
    network = networks.build("carl-compact")
    stage.prepare(network, "carl-compact")
    draws = [stage.draw(seed, torch.device("cpu")) for seed in (3, 4)]
    together = stage.batch_losses(network, draws, [3, 4])
    single = [stage.losses(network, draw, torch.Generator()) for draw in draws]
    for name in ("loss", "cross_entropy", "end_point", "hits"):
        assert together[name].item() == pytest.approx(np.mean([s[name].item() for s in single]), rel=1e-4)


def test_views_that_share_nothing_give_a_loss_of_zero_with_a_gradient():
    config = small_config()
    stage = AttentionStage(config.stage, config.data)
    network = networks.build("carl-compact")
    draw = stage.draw(3, torch.device("cpu"))
    nothing = type(draw)(draw.images_k1dhw, [])
    loss = stage.losses(network, nothing, torch.Generator())["loss"]
    loss.backward()
    assert loss.item() == 0 and not any(p.grad is not None and p.grad.any() for p in network.parameters())


def test_training_lowers_the_loss_on_views_not_seen(width):
    config = small_config(steps=30, optimizer={"rate": 3e-3, "warmup_steps": 5})
    run = Run(config, CPU)
    source = run.batches()
    batches = [next(source) for _ in range(10)]
    draws = [run.stage.draw(FIRST_SEED + i, torch.device("cpu")) for i in range(6)]

    @torch.no_grad()
    def unseen() -> float:
        return float(np.mean([run.stage.losses(run.network, d, torch.Generator())["loss"].item() for d in draws]))

    before = unseen()
    frozen = {n: p.clone() for n, p in run.network.named_parameters() if not p.requires_grad}
    for step in range(30):
        run.train_step([batches[step % len(batches)]])
    assert unseen() < before - 0.5
    assert frozen and all(torch.equal(p, dict(run.network.named_parameters())[n]) for n, p in frozen.items())
    assert run.trained_parts == ["attention"]


def test_a_network_without_attention_is_refused():
    with pytest.raises(InputError, match="compact encoder"):
        Run(small_config(model="gradicon-compact"), CPU)
    assert AttentionSettings().parts == "attention"
