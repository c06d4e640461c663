"""Teaching the refinement steps: the known answers are right, the losses are what they say, and they fall."""

import numpy as np
import pytest
import torch
from carlreg.errors import InputError
from carlreg.maps import CompositeMap, DisplacementMap, identity_map
from carlreg.models.local_attention import LocalAttention, LocalAttentionSettings
from carlreg.training import networks
from carlreg.training.refinement_stage import (
    RefinementStage,
    _cross_entropy,
    _gradient,
    disturbance,
    make_task,
    point_sent_to,
    refinement_losses,
)
from carlreg.training.settings import config_from_table
from carlreg.training.synthetic import SyntheticSettings, make_views
from scipy.special import log_softmax

SMALL = SyntheticSettings(size=32, views=2, rotation_degrees=20.0)

pytestmark = pytest.mark.usefixtures("narrow")


def stage(**values):
    table = {"kind": "refinement", **values}
    data = {"synthetic": {"size": 24, "views": 2}}
    config = config_from_table({"run": {"steps": 1}, "stage": table, "data": data})
    return RefinementStage(config.stage, config.data)


def task(seed=5, largest=6.0, settings=SMALL):
    return make_task(make_views(seed, settings), 1, 0, largest, torch.Generator().manual_seed(seed))


def test_disturbances_are_smooth_and_as_large_as_said():
    lengths, slopes = [], []
    for seed in range(40):
        field = disturbance((24, 24, 24), 10.0, torch.Generator().manual_seed(seed))
        lengths.append(float(field.norm(dim=1).max()))
        slopes.append(float(field.diff(dim=2).abs().max()))
    assert 4 < np.mean(lengths) < 12 and np.max(lengths) < 40
    assert np.mean(slopes) < 2.5
    assert float(disturbance((8, 8, 8), 0.0, torch.Generator().manual_seed(0)).abs().max()) == 0


def test_point_sent_to_inverts_a_map():
    lattice = identity_map((16, 16, 16))
    bend = 0.03 * torch.sin(2 * torch.pi * lattice.flip(1))
    matrix = torch.tensor([[1.05, 0.1, 0.0], [-0.1, 0.95, 0.05], [0.0, -0.05, 1.1]])
    linear = torch.einsum("xy,bydhw->bxdhw", matrix, lattice - 0.5) + 0.5
    found = DisplacementMap(linear + bend - lattice)
    asked = 0.25 + 0.5 * identity_map((7, 7, 7))  # inside, where the field is not continued by its edge
    point = point_sent_to(found, found(asked), matrix, iterations=12)
    # starts at other places than the answer, so that nothing is right by chance
    assert float((point - asked).abs().max()) < 1e-4
    assert float((identity_map((7, 7, 7)) - asked).abs().max()) > 0.1


def test_an_undisturbed_start_is_the_true_map_and_a_disturbed_one_is_off_by_the_disturbance():
    exact = task(largest=0.0)
    net = networks.build("carl-compact")
    with torch.no_grad():
        assert float(refinement_losses(net, exact)["start"]) < 1e-3
        off = task(largest=6.0)
        found = float(refinement_losses(net, off)["start"])
    error = disturbance((16, 16, 16), 6.0, torch.Generator().manual_seed(5))
    at = off.valid_b1dhw > 0
    expected = float(error.norm(dim=1, keepdim=True)[at].mean())
    assert found == pytest.approx(expected, rel=0.25)  # zoom between the views


def test_what_a_step_should_answer_leads_to_the_true_map():
    """outer(x + offset) is the true match: the answer that is taught, composed as the network composes."""
    t = task(largest=6.0)
    lattice = identity_map((16, 16, 16))
    point = point_sent_to(t.start, t.true_b3dhw, t.linear_33)
    found = CompositeMap(outer=t.start, inner=DisplacementMap(point - lattice)).on_grid((16, 16, 16))
    apart = ((found - t.true_b3dhw) * 32).norm(dim=1, keepdim=True)[t.valid_b1dhw > 0]
    assert float(apart.mean()) < 0.02
    assert float(apart.quantile(0.99)) < 0.3


def test_cross_entropy_equals_numpy():
    step = LocalAttention(LocalAttentionSettings())
    rng = np.random.default_rng(0)
    logits, offset = rng.standard_normal((1, 125, 2, 3, 2)), rng.uniform(-1.9, 1.9, (1, 3, 2, 3, 2))
    where = np.zeros((1, 1, 2, 3, 2), bool)
    where[0, 0, 0, 1:, :] = True
    found = _cross_entropy(step, torch.tensor(logits), torch.tensor(offset), torch.tensor(where)).item()
    values = []
    for d, h, w in np.argwhere(where[0, 0]):
        log_weights = log_softmax(logits[0, :, d, h, w]).reshape(5, 5, 5)
        target = np.zeros((5, 5, 5))
        at = offset[0, :, d, h, w] + 2
        low = np.floor(at).astype(int)
        for i in (0, 1):
            for j in (0, 1):
                for k in (0, 1):
                    share = [(1 - f) if b == 0 else f for b, f in zip((i, j, k), at - low, strict=True)]
                    target[low[0] + i, low[1] + j, low[2] + k] += np.prod(share)
        values.append(-(target * log_weights).sum())
    assert found == pytest.approx(np.mean(values), abs=1e-6)


def test_gradient_of_the_error_counts_valid_neighbors_only():
    error = torch.zeros(1, 3, 4, 4, 4)
    error[:, 0] = torch.arange(4.0)[:, None, None] * 0.5  # slope 0.5 along the first axis
    valid = torch.ones(1, 1, 4, 4, 4, dtype=torch.bool)
    assert _gradient(error, valid).item() == pytest.approx(0.25)
    error[0, 0, 3] = 100.0
    valid[0, 0, 3] = False
    assert _gradient(error, valid).item() == pytest.approx(0.25)


def test_a_few_steps_on_one_pair_lower_its_loss(width):
    torch.manual_seed(0)
    net = networks.build("carl-compact")
    s = stage()
    draw = s.draw(11, torch.device("cpu"))
    optimizer = torch.optim.Adam(s.parameters(net), lr=3e-3)
    losses = []
    for _ in range(12):
        terms = s.losses(net, draw, torch.Generator())
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        losses.append(terms["loss"].item())
    assert losses[-1] < 0.8 * losses[0]
    attention = [p for name, p in net.named_parameters() if name.startswith("first.first.")]
    assert attention and all(p.grad is None for p in attention)


def test_same_seed_same_sample():
    s = stage()
    a, b, c = (s.draw(seed, torch.device("cpu")) for seed in (3, 3, 4))
    assert torch.equal(a.fixed_b1dhw, b.fixed_b1dhw) and torch.equal(a.true_b3dhw, b.true_b3dhw)
    assert torch.equal(a.start.displacement_bndhw, b.start.displacement_bndhw)
    assert not torch.equal(a.fixed_b1dhw, c.fixed_b1dhw)


def test_a_network_that_refines_otherwise_is_refused():
    with pytest.raises(InputError, match="local attention"):
        stage().prepare(networks.build("gradicon-compact"), "gradicon-compact")
