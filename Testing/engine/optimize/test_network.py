import numpy as np
import pytest
import torch
from carlreg.errors import Cancelled, OptimizationDiverged
from carlreg.losses.paper import dissimilarity, paper_loss
from carlreg.maps import identity_map, sample
from carlreg.models.compositions import Consistent, Half, Linear, Local, Refinement, Two, Velocity, assemble
from carlreg.models.local_attention import LocalAttentionSettings
from carlreg.models.registry import MODELS, LoadedModel, load
from carlreg.models.unet import UNetSettings
from carlreg.optimize.network import optimize_network
from carlreg.progress import Progress
from scipy.ndimage import gaussian_filter

SMALL = UNetSettings(down_channels=(2, 8, 16), up_channels=(8, 16))


def images(shape=(24, 24, 24)):
    """A textured ball, and the same one moved by two voxels."""
    noise = gaussian_filter(np.random.default_rng(0).standard_normal(shape), 2)
    noise = (noise - noise.min()) / (noise.max() - noise.min())
    radius = sum(a**2 for a in np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    fixed = torch.tensor(noise * gaussian_filter((radius < 0.5).astype(float), 1), dtype=torch.float32)[None, None]
    return fixed.roll(2, 2), fixed


def loaded_unets():
    torch.manual_seed(0)
    network = assemble(Two(Half(Refinement(SMALL)), Refinement(SMALL))).eval()
    return LoadedModel(network, "test", None, {"refinement": True}, MODELS["carl-compact"])


def snapshot(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def unchanged(network, before):
    after = network.state_dict()
    same = all(torch.equal(after[name], value) for name, value in before.items())
    return same and after.keys() == before.keys() and all(p.grad is None for p in network.parameters())


def loaded_consistent():
    """Of local attention: its maps are inverse to each other, and GradICON would ask for nothing."""
    torch.manual_seed(0)
    local = LocalAttentionSettings(stride=2, channels=8, token_channels=8)
    network = assemble(Consistent(Linear(Local(local), gain=0.5), Velocity(Local(local), gain=0.5))).eval()
    return LoadedModel(network, "test", None, {"refinement": True}, MODELS["constricon"])


def test_an_inverse_consistent_network_is_asked_for_a_smooth_map(monkeypatch):
    moving, fixed = images()
    asked = []

    def loss(*args, regularizer, **kwargs):
        asked.append(regularizer)
        return paper_loss(*args, regularizer=regularizer, **kwargs)

    monkeypatch.setattr("carlreg.optimize.network.paper_loss", loss)
    forward, backward = optimize_network(loaded_consistent(), moving, fixed, steps=2, lr=1e-3)
    assert asked == ["diffusion"] * 2
    lattice = identity_map((12, 12, 12))
    assert float((forward.map(backward.map(lattice)) - lattice).abs().max()) < 1e-3
    asked.clear()
    optimize_network(loaded_unets(), moving, fixed, steps=1)
    assert asked == ["gradicon"]


@pytest.mark.parametrize("similarity", ["lncc", "lncc2", "mind"])
def test_improves_similarity_and_leaves_weights_bit_equal(similarity):
    moving, fixed = images()
    loaded = loaded_unets()
    before = snapshot(loaded.network)

    forward, backward = optimize_network(loaded, moving, fixed, steps=10, lr=1e-3, similarity=similarity)

    assert unchanged(loaded.network, before)
    assert not any(m.training for m in loaded.network.modules())
    with torch.no_grad():
        plain = loaded.network.predict(moving, fixed)
        unlike = [
            float(dissimilarity(sample(moving, found.map.on_grid(fixed.shape[2:])), fixed, similarity))
            for found in (forward, plain)
        ]
    assert unlike[0] < 0.95 * unlike[1]
    assert not forward.map.on_grid((4, 4, 4)).requires_grad
    assert not backward.map.on_grid((4, 4, 4)).requires_grad


def test_attention_is_optimized_too():
    moving, fixed = images()
    loaded = load("carl-compact", allow_untrained=True)
    before = snapshot(loaded.network)
    forward, _ = optimize_network(loaded, moving, fixed, steps=1, lr=1e-3)
    assert unchanged(loaded.network, before)
    with torch.no_grad():
        plain, _ = loaded.network.predict_both(moving, fixed)
    assert float((plain.attention_map_bndhw - forward.attention_map_bndhw).abs().max()) > 1e-4


def test_same_seed_same_result():
    moving, fixed = images()
    loaded = loaded_unets()
    results = []
    for noise in (1, 2):
        torch.manual_seed(noise)  # the caller's random numbers must not matter
        results.append(optimize_network(loaded, moving, fixed, steps=3, lr=1e-3, seed=4)[0].map.on_grid((24, 24, 24)))
    assert torch.equal(*results)


def test_no_steps_is_the_plain_prediction():
    moving, fixed = images()
    loaded = loaded_unets()
    torch.nn.init.normal_(loaded.network.second.unet.last.weight, std=0.05)
    found, _ = optimize_network(loaded, moving, fixed, steps=0)
    with torch.no_grad():
        assert torch.equal(
            found.map.on_grid((24, 24, 24)), loaded.network.predict(moving, fixed).map.on_grid((24, 24, 24))
        )


def test_every_step_is_reported_and_a_cancel_leaves_the_weights():
    moving, fixed = images()
    loaded = loaded_unets()
    before = snapshot(loaded.network)
    records = []

    def on_record(record):
        records.append(record)
        if len(records) == 3:
            progress.cancel()

    progress = Progress(on_record=on_record)
    with pytest.raises(Cancelled):
        optimize_network(loaded, moving, fixed, steps=9, lr=1e-3, progress=progress)
    assert [record.message[:11] for record in records] == ["step 1 of 9", "step 2 of 9", "step 3 of 9"]
    assert unchanged(loaded.network, before)


def test_divergence_and_errors_leave_the_weights():
    moving, fixed = images()
    loaded = loaded_unets()
    before = snapshot(loaded.network)
    with pytest.raises(OptimizationDiverged, match="step 1 of 5"):
        optimize_network(loaded, moving, fixed * torch.nan, steps=5)
    with pytest.raises(RuntimeError):
        optimize_network(loaded, moving, fixed, steps=5, moving_mask_b1dhw=torch.ones(1, 2, 3, 4, 5))
    assert unchanged(loaded.network, before)
