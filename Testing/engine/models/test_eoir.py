"""EOIR: equal to the public code, and our form of it, which moves with its images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from carlreg.errors import CheckpointError, InputError
from carlreg.maps import identity_map
from carlreg.models.checkpoints import save_weights
from carlreg.models.compositions import EOIR_PAPER, EOIR_STEP, assemble, in_dimension
from carlreg.models.eoir import Eoir, EoirSettings, RunningNorm, Unmoved
from carlreg.models.eoir_files import eoir_file
from carlreg.models.operators import TwoStep
from carlreg.models.registry import build, load

from .eoir_case import CHANNELS, SHAPE_XYZ, images_xyz, public_weights
from .test_equivariance import content, error


def lattices(shape_xyz, whole_z=False):
    """The coordinates that the public code's files hold."""
    found = {}
    for level in range(5):
        shape = [n if whole_z and axis == 2 else n // 2**level for axis, n in enumerate(shape_xyz)]
        found[f"transformers.{level}.grid"] = torch.zeros(1, 3, *shape)
        found[f"integrates.{level}.transformer.grid"] = torch.zeros(1, 3, *shape)
    return found


def save(path, tensors):
    torch.save({"model_state_dict": tensors, "optimizer_state_dict": {"state": {}, "param_groups": []}}, path)
    return path


@pytest.mark.parametrize(("channels", "expected"), [(8, 111_208), (16, 294_272), (32, 909_232)])
def test_parameters_as_published(channels, expected):
    with torch.device("meta"):
        network = assemble(EOIR_PAPER[channels], align_corners=True)
    assert sum(p.numel() for p in network.parameters()) == expected
    assert sum(t.numel() for t in public_weights(channels).values()) == expected


def test_equals_the_public_code(tmp_path):
    """Their answers are in eoir_reference.npz, made by Testing/parity/eoir_reference.py."""
    expected_xyz = torch.from_numpy(np.load(Path(__file__).with_name("eoir_reference.npz"))["flows"])
    file = save(tmp_path / "net_latest.pth", public_weights(CHANNELS) | lattices(SHAPE_XYZ))
    loaded = load("eoir", file)
    assert loaded.name == "eoir-paper" and loaded.info.trained_shape_dhw == SHAPE_XYZ[::-1]
    moving, fixed = (image.permute(0, 1, 4, 3, 2).contiguous() for image in images_xyz())
    shape = fixed.shape[2:]
    intervals = torch.tensor(shape).view(1, 3, 1, 1, 1) - 1
    with torch.no_grad():
        for found, theirs in zip(loaded.network.predict_both(moving, fixed), expected_xyz, strict=True):
            voxels = (found.map.on_grid(shape) - identity_map(shape, align_corners=True)) * intervals
            theirs = theirs.permute(0, 3, 2, 1).flip(0)
            assert float(theirs.norm(dim=0).mean()) > 5 and float(theirs.std(dim=(1, 2, 3)).min()) > 2
            assert float((voxels[0, :, ::4, ::4, ::4] - theirs).abs().max()) < 1e-3


def test_thick_slices_stay_whole_on_all_levels():
    found = eoir_file(public_weights(8) | lattices((128, 128, 16), whole_z=True))
    assert found is not None and found.shape_dhw == (16, 128, 128)
    network = assemble(found.composition, align_corners=True)
    assert isinstance(network, Eoir) and network.settings.whole_axes == (0,)
    network.load_state_dict(found.tensors)
    images = torch.rand(2, 1, 2, 32, 32, generator=torch.Generator().manual_seed(0)).split(1)
    with torch.no_grad():
        moved = network.predict(*images).map.on_grid((2, 32, 32)) - identity_map((2, 32, 32), align_corners=True)
    assert bool(torch.isfinite(moved).all()) and float(moved.abs().mean()) > 0.01


def test_weights_of_another_system_are_named(tmp_path):
    eoir = save(tmp_path / "eoir.pth", {f"module.{name}": t for name, t in public_weights(16).items()})
    assert sum(p.numel() for p in load("eoir-paper", eoir).network.parameters()) == 294_272
    for name in ("unigradicon", "carl-compact"):
        with pytest.raises(CheckpointError, match="looks like weights of EOIR with 16 channels"):
            load(name, eoir)
    large_kernels = {name.replace("fea.0", "fea.0.layer.regular.0"): t for name, t in public_weights(8).items()}
    with pytest.raises(CheckpointError, match="EOIR with 8 channels, but in another form"):
        load("eoir", save(tmp_path / "oasis.pth", large_kernels))
    with pytest.raises(CheckpointError, match=r"disp_warp|last\.convolution\.bias.*instead of"):
        load("eoir", save(tmp_path / "cut.pth", public_weights(8) | {"disp_warp_2.get_flow.bias": torch.zeros(2)}))


def live(settings):
    torch.manual_seed(0)
    network = Eoir(settings).eval()
    generator = torch.Generator().manual_seed(1)
    gain = 0.2 * 3 ** (3 - settings.dimension)  # the fewer are summed
    with torch.no_grad():
        for estimator in network.estimators:
            for parameter in estimator.last.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * gain)
    return network


@pytest.mark.parametrize("margin", [8, 0])
def test_our_form_moves_with_its_images_by_its_stride(margin):
    """Less exactly where content touches the border: what is known around an image is two coarse cells wide.

    The published form does not: it divides by what the whole image shows.
    """
    (moving, _), (fixed, inside) = content((32, 32, 32), 1), content((32, 32, 32), 2)

    def apart(network, steps):
        at = tuple(margin + network.coarsest * step for step in steps)
        here, there = ((32 + 2 * margin,) * 3, (margin,) * 3), ((64, 64, 64), at)
        return float(error(network, moving, fixed, inside, here * 2, there * 2).max())

    ours = live(EOIR_STEP.settings)
    assert ours.stride == 8
    assert apart(ours, (1, 0, 2)) < (0.001 if margin else 0.03)
    assert margin or apart(live(EoirSettings(levels=3)), (2, 0, 2)) > 0.1


@pytest.mark.parametrize("dimension", [1, 2])
def test_lines_and_planes_move_with_their_images(dimension):
    network = live(in_dimension(EOIR_STEP, dimension).settings)
    noise = torch.rand(2, 1, *(40,) * dimension, generator=torch.Generator().manual_seed(0))

    def displacement(before, after):
        images = torch.nn.functional.pad(noise, (before, after) * dimension).split(1)
        shape = images[0].shape[2:]
        with torch.no_grad():
            moved = (network.predict(*images).map.on_grid(shape) - identity_map(shape)) * shape[0]
        return moved[(..., *(slice(before, before + 40),) * dimension)]

    here = displacement(8, 8)
    assert float(here.norm(dim=1).mean()) > 0.5
    assert float((displacement(24, 16) - here).abs().max()) < 0.001


def test_background_does_not_move():
    network = live(EOIR_STEP.settings)
    empty = torch.zeros(1, 1, 16, 16, 24)
    (moving, _), (fixed, _) = content((32, 32, 32), 1), content((32, 32, 32), 2)
    with torch.no_grad():
        found = network.predict(empty, empty).map
        assert torch.equal(found.on_grid((16, 16, 24)), identity_map((16, 16, 24)))
        wide = [torch.nn.functional.pad(image[None, None], (8, 56, 8, 8, 8, 8)) for image in (moving, fixed)]
        moved = network.predict(*wide).map.on_grid((48, 48, 96)) - identity_map((48, 48, 96))
    assert float(moved[..., :32].abs().max()) > 0.02 and float(moved[..., 88:].abs().max()) == 0


def test_flow_of_a_turning_velocity_is_the_turn():
    """Scaling and squaring of the velocity of a rotation by 0.3 rad: the matrix exponential, away from the border."""
    network, edge = Eoir(EoirSettings(local=True)), 24
    turn = torch.zeros(3, 3)
    turn[0, 1], turn[1, 0] = -0.3, 0.3
    points = identity_map((edge, edge, edge)) * edge - edge / 2

    def applied(matrix):
        return torch.einsum("xy,bydhw->bxdhw", matrix, points)

    found = network._integrated(applied(turn))
    expected = applied(torch.linalg.matrix_exp(turn)) - points
    assert float((found - expected)[:, :, 6:-6, 6:-6, 6:-6].abs().max()) < 0.01
    assert float(expected.abs().max()) > 3


def test_estimators_begin_with_what_an_optical_flow_is_made_of():
    """Shifted content: the start's products, summed, point along the shift on every level, and along no other axis."""
    torch.manual_seed(0)
    network = assemble(EOIR_STEP).eval()
    fixed, _ = content((32, 32, 32), 1)
    for axis in range(3):
        moving = fixed.roll(1, axis)  # where fixed shows a point, moving shows it one voxel further
        levels = zip(*network._pyramids([moving[None, None], fixed[None, None]]), network.estimators, strict=True)
        for moved, still, estimator in levels:
            seen = torch.cat([still + moved, still - moved], dim=1)
            hidden = estimator.second.convolution(estimator.first.convolution(seen).relu()).relu()
            flow = [float((hidden[:, 2 * a] - hidden[:, 2 * a + 1]).detach().sum()) for a in range(3)]
            assert flow[axis] > 3 * max(abs(flow[a]) for a in range(3) if a != axis) > 0


def test_statistics_follow_training_and_then_stay():
    norm = RunningNorm(2)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(4, 2, 8, 8, generator=generator) * 3 + torch.tensor([5.0, -1.0]).view(1, 2, 1, 1)
    for _ in range(3):
        found, background = norm(features, torch.zeros(1, 2, 1, 1))
    assert found.detach().mean((0, 2, 3)).tolist() == pytest.approx([0, 0], abs=1e-4)
    assert found.detach().std((0, 2, 3)).tolist() == pytest.approx([1, 1], abs=1e-3)
    expected = -features.mean((0, 2, 3)) / features.std((0, 2, 3))
    assert background.flatten().tolist() == pytest.approx(expected.tolist(), rel=1e-3)
    norm.eval()
    assert torch.equal(norm(features[..., :3, :3], background)[0], found[..., :3, :3])


def test_our_weights_and_statistics_keep_through_a_file(tmp_path):
    network = build("eoir")
    assert isinstance(network, TwoStep)
    network.second = live(EOIR_STEP.settings)
    network.train()
    images = torch.rand(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0)).split(1)
    with torch.no_grad():
        network.predict(*images)  # the statistics begin
    save_weights(network.eval(), tmp_path / "eoir.safetensors", {"carlreg_model": "eoir"})
    loaded = load("eoir", tmp_path / "eoir.safetensors")
    assert loaded.name == "eoir" and loaded.trained == {"refinement": True}
    with torch.no_grad():
        found, expected = (net.predict(*images).map.on_grid((16, 16, 16)) for net in (loaded.network, network))
    assert (
        float((found - expected).abs().max()) * 16
        < 0.05
        < float((expected - identity_map((16, 16, 16))).abs().max()) * 16
    )


def test_several_pairs_at_once_are_each_as_alone():
    network = live(EOIR_STEP.settings)
    first, second, third = torch.rand(3, 1, 16, 16, 24, generator=torch.Generator().manual_seed(0)).split(1)
    other = torch.rand(1, 1, 24, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for pairs in ([(first, second), (second, first), (third, first)], [(first, second), (other, other)]):
            for prediction, (moving, fixed) in zip(network.predict_each(pairs), pairs, strict=True):
                shape = fixed.shape[2:]
                alone = network.predict(moving, fixed).map.on_grid(shape)
                assert float((prediction.map.on_grid(shape) - alone).abs().max()) < 1e-5
        backward, alone = network.predict_both(first, second)[1], network.predict(second, first)
        shape = first.shape[2:]
        assert float((backward.map.on_grid(shape) - alone.map.on_grid(shape)).abs().max()) < 1e-5
    for bad in ((first, other), (first[..., :20], first[..., :20])):
        with pytest.raises(InputError, match="multiples of 8"):
            network.predict(*bad)


def test_a_network_that_only_refines_begins_with_the_middles_on_each_other():
    with torch.no_grad():
        found = Unmoved().predict(torch.zeros(1, 1, 16, 24, 8), torch.zeros(1, 1, 32, 24, 16)).map
    middle, corner = torch.full((1, 3, 1, 1, 1), 0.5), torch.zeros(1, 3, 1, 1, 1)
    assert found(middle).flatten().tolist() == pytest.approx([0.5, 0.5, 0.5])
    assert found(corner).flatten().tolist() == pytest.approx([-0.5, 0, -0.5])  # 8, 0 and 4 voxels before the moving one
    network = build("eoir")
    assert network.stride == 8
    (moving, _), (fixed, _) = content((16, 16, 16), 1), content((16, 16, 16), 2)
    with torch.no_grad():
        first = network.predict(moving[None, None], fixed[None, None]).map.on_grid((16, 16, 16))
    assert float((first - identity_map((16, 16, 16))).abs().max()) < 1e-6  # untrained: nothing moves
