"""Whole networks give the maps of the authors' code, for the same weights, through a file.

Width proves nothing about how the parts are joined: by default both sides are a quarter as wide, ours by their
settings, the authors' by what their constructors take. The published width is in the slow tier.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from functools import partial
from itertools import pairwise

import icon_registration as icon
import icon_registration.carl as authors
import icon_registration.constricon as constricon
import pytest
import torch
from carlreg.errors import CheckpointError
from carlreg.maps import identity_map
from carlreg.models.checkpoints import AuthorsNames
from carlreg.models.compositions import FINAL_FINAL, assemble, in_dimension
from carlreg.models.matrix_net import MatrixNetSettings
from carlreg.models.paper_encoder import PaperEncoderSettings
from carlreg.models.registry import COMPOSITIONS, MODELS, load
from carlreg.models.unet import UNet, UNetSettings

from .conftest import make_live, sharpen, smooth_image

SHARPER = 16.0
TOLERANCE = 1e-4  # normalized coordinates
# Of one place in a hundred, one in twenty where maps are read outside as well: resampling, three times in a row,
# magnifies what single precision rounds, which depends on the processor (at most 2e-4 on an AMD EPYC, below 1e-4 on
# others); 4e-4 are 0.02 voxels.
TOLERANCE_MOST = 4e-4
WIDTHS = pytest.mark.parametrize("width", ["narrow", pytest.param("wide", marks=pytest.mark.slow)], indirect=True)

AUTHORS = {
    "carl-paper-abdomen": authors.make_network_final_final,
    "carl-paper-brain": authors.make_network_final,
    "carl-paper-rotation": authors.make_network_final_rotation,
}


NARROW_UNET = UNetSettings(down_channels=(2, 4, 8, 16, 64, 128), up_channels=(4, 8, 16, 32, 64))
NARROW_CHANNELS = 32
NARROW_MATRIX_NET = (2, 4, 8, 16, 32, 64, 128)


def narrow(composition):
    """Ours with a quarter of the channels."""
    match composition:
        case PaperEncoderSettings():
            return replace(composition, channels=NARROW_CHANNELS)
        case UNetSettings():
            return NARROW_UNET
        case MatrixNetSettings():
            return MatrixNetSettings(channels=NARROW_MATRIX_NET, hidden=30)
    if not is_dataclass(composition):
        return composition
    return replace(composition, **{f.name: narrow(getattr(composition, f.name)) for f in fields(composition)})


@pytest.fixture
def width(request, monkeypatch):
    """ "narrow": both sides are built with a quarter of the channels in this test. "wide": as published."""
    if request.param == "narrow":
        channels = [list(NARROW_UNET.down_channels), list(NARROW_UNET.up_channels)]
        monkeypatch.setattr(icon.networks, "tallUNet2", lambda dimension: icon.networks.UNet2(5, channels, dimension))
        for name in ("NoDownsampleNet", "NoDownsampleNetBroad"):
            monkeypatch.setattr(authors, name, partial(getattr(authors, name), output_dim=NARROW_CHANNELS))
        plain = authors.AttentionRegistration.__init__

        def attention_of_narrow_tokens(self, *args, **kwargs):
            plain(self, *args, **kwargs)
            self.dim = NARROW_CHANNELS

        monkeypatch.setattr(authors.AttentionRegistration, "__init__", attention_of_narrow_tokens)
        for name, compositions in COMPOSITIONS.items():
            monkeypatch.setitem(COMPOSITIONS, name, tuple(narrow(composition) for composition in compositions))
    return request.param


def parameters_of(network) -> int:
    return sum(p.numel() for p in network.parameters())


def with_psi3(net, shape):
    last = icon.FunctionFromVectorField(icon.networks.tallUNet2(dimension=3))
    net = icon.TwoStepRegistration(net, last)
    net.assign_identity_map(shape)
    return net


def gradicon(shape, last_step):
    unigradicon = pytest.importorskip("unigradicon", reason="needs the unigradicon package")
    return unigradicon.make_network(shape, include_last_step=last_step).regis_net


def assert_maps_equal(theirs, network, shape, directions=2):
    """Compare maps on the grid and at scattered points, also outside; every step must move points."""
    moving, fixed = smooth_image(shape, 1), smooth_image(shape, 2)
    n = len(shape)
    voxels = torch.tensor(shape, dtype=torch.float32).view(1, n, *[1] * n) - 1
    moved = []
    for module in network.modules():
        if isinstance(module, UNet):
            module.register_forward_hook(lambda _module, _inputs, out: moved.append(out / 10))
    points = torch.rand(1, n, *(6, 7, 8)[:n], generator=torch.Generator().manual_seed(3)) * 1.3 - 0.15
    with torch.no_grad():
        ours = network.predict_both(moving, fixed) if directions == 2 else (network.predict(moving, fixed),)
        pairs = [(moving, fixed), (fixed, moving)][:directions]
        for prediction, pair in zip(ours, pairs, strict=True):
            phi = theirs(*pair)
            expected = phi(theirs.identity_map)
            found = prediction.map.on_grid(shape)
            for one, other, share in ((found, expected, 0.99), (prediction.map(points), phi(points), 0.95)):
                apart = (one - other).abs()
                assert float(apart.flatten().kthvalue(int(share * apart.numel())).values) < TOLERANCE
                assert float(apart.max()) < TOLERANCE_MOST
            assert float(((found - theirs.identity_map) * voxels).abs().mean()) > 1
    steps = [float((field * voxels).norm(dim=1).mean()) for field in moved]
    assert steps and min(steps) > 1, f"a refinement moves by {steps} voxels only"
    attention = ours[0].attention_map_bndhw
    if attention is not None:
        displacement = attention - identity_map(attention.shape[2:], align_corners=True)
        assert float((displacement * voxels).norm(dim=1).mean()) > 1


@WIDTHS
@pytest.mark.parametrize(
    ("name", "directions"), [("carl-paper-abdomen", 2), ("carl-paper-brain", 1), ("carl-paper-rotation", 1)]
)
def test_carl_equals_the_authors(name, directions, width, tmp_path):
    # Odd sizes: pooling in the align_corners convention rounds up. Rotations cost several times as much for each voxel.
    shape = (40, 42, 45) if "rotation" in name else (48, 50, 53)
    theirs = with_psi3(AUTHORS[name]([1, 1, *shape], dimension=3).regis_net, [1, 1, *shape])
    make_live(theirs)
    sharpen(theirs, SHARPER)
    file = tmp_path / "Final weights.trch"
    torch.save(theirs.state_dict(), file)

    loaded = load(name, file)

    assert loaded.network.align_corners and loaded.trained == {"attention": True, "refinement": True}
    assert parameters_of(loaded.network) == parameters_of(theirs)
    assert width == "narrow" or parameters_of(theirs) == MODELS[name].parameters
    for module in loaded.network.modules():
        if hasattr(module, "encoder"):
            settings = module.encoder.settings
            module.encoder.settings = replace(settings, norm=settings.norm * SHARPER**0.5)
    assert_maps_equal(theirs, loaded.network, shape, directions)


def test_carl_in_the_plane_equals_the_authors():
    """The same settings with `dimension` 2; theirs has no rotations there."""
    shape = (48, 53)
    theirs = authors.make_network_final_final([1, 1, *shape], dimension=2).regis_net
    make_live(theirs)
    sharpen(theirs, SHARPER)
    network = assemble(in_dimension(FINAL_FINAL, 2), align_corners=True).eval()
    network.load_state_dict(AuthorsNames.renamed(network, theirs.state_dict()))
    encoder = network.first.net.first.net.encoder
    encoder.settings = replace(encoder.settings, norm=encoder.settings.norm * SHARPER**0.5)
    assert_maps_equal(theirs, network, shape)


@WIDTHS
@pytest.mark.parametrize("name", AUTHORS)
def test_weights_without_the_last_refinement_are_recognized(name, width, tmp_path):
    theirs = AUTHORS[name]([1, 1, 48, 48, 48], dimension=3).regis_net
    state = theirs.state_dict()
    torch.save(state, tmp_path / "weights.trch")
    network = load(name, tmp_path / "weights.trch").network
    assert parameters_of(network) == parameters_of(theirs)
    assert width == "narrow" or parameters_of(network) == MODELS[name].parameters - 17_670_229
    ours = network.state_dict()
    assert len(ours) == len(state)
    assert sum(float(v.double().sum()) for v in ours.values()) == pytest.approx(
        sum(float(v.double().sum()) for v in state.values()), rel=1e-9
    )


@WIDTHS
@pytest.mark.parametrize("name", ["unigradicon", "multigradicon"])
def test_gradicon_equals_the_package(name, width, tmp_path):
    last_step = name == "unigradicon"  # the other composition must be recognized by its names
    shape = (65, 66, 68)  # the smallest that their U-Net takes at a quarter of the resolution
    theirs = gradicon([1, 1, *shape], last_step)
    make_live(theirs)
    file = tmp_path / "Step_2_final.trch"
    torch.save(theirs.state_dict(), file)

    loaded = load(name, file)

    assert loaded.trained == {"refinement": True}
    assert parameters_of(loaded.network) == parameters_of(theirs)
    assert width == "narrow" or not last_step or parameters_of(theirs) == MODELS[name].parameters
    assert_maps_equal(theirs, loaded.network, shape)


def their_constricon(shape, narrow=True):
    """The authors' composition: two affine steps, two velocity fields."""

    def matrix_net():
        net = icon.networks.ConvolutionalMatrixNet(dimension=3)
        if narrow:
            net.convs = torch.nn.ModuleList(torch.nn.Conv3d(a, b, 3, padding=1) for a, b in pairwise(NARROW_MATRIX_NET))
            net.dense2, net.dense3 = torch.nn.Linear(128, 30), torch.nn.Linear(30, 12)
        return constricon.ConsistentFromMatrix(net)

    def flow():
        return constricon.ICONSquaringVelocityField(icon.networks.tallUNet2(dimension=3))

    flows = constricon.TwoStepInverseConsistent(flow(), flow())
    whole = constricon.TwoStepInverseConsistent(matrix_net(), constricon.TwoStepInverseConsistent(matrix_net(), flows))
    net = constricon.FirstTransform(whole)
    net.assign_identity_map([1, 1, *shape])
    return net


@WIDTHS
def test_constricon_equals_the_authors(width, tmp_path, monkeypatch):
    shape = (48, 50, 53)
    if width == "narrow":  # what their forward pass takes from its constructor
        monkeypatch.setattr(torch, "reshape", lambda x, to: x.reshape(-1, 128) if to == (-1, 512) else x.reshape(to))
    theirs = their_constricon(shape, width == "narrow")
    make_live(theirs)
    # Unlike images: what a step answers is a difference, and rounding is a share of what is subtracted.
    moving, fixed = smooth_image(shape, 1), 0.3 * smooth_image(shape, 2)
    for module in theirs.modules():  # affine steps that turn by degrees
        if isinstance(module, icon.networks.ConvolutionalMatrixNet):
            with torch.no_grad():
                torch.nn.init.normal_(module.dense3.weight)
                said = module(moving, fixed) - module(fixed, moving)
                module.dense3.weight.mul_(0.1 / said.abs().max())
    torch.save(theirs.state_dict(), tmp_path / "weights.trch")

    loaded = load("constricon-paper", tmp_path / "weights.trch")

    assert loaded.network.align_corners and loaded.trained == {"refinement": True}
    assert parameters_of(loaded.network) == parameters_of(theirs)
    assert width == "narrow" or parameters_of(theirs) == MODELS["constricon-paper"].parameters == 45_087_194
    with torch.no_grad():
        expected, ours = theirs.net(moving, fixed), loaded.network.predict_both(moving, fixed)
        affine = theirs.net.netPhi(moving, fixed)[0](theirs.identity_map)
        for phi, prediction in zip(expected, ours, strict=True):
            assert float((prediction.map.on_grid(shape) - phi(theirs.identity_map)).abs().max()) < TOLERANCE
            assert float((phi(theirs.identity_map) - theirs.identity_map).abs().mean()) > 0.01
        assert float((affine - theirs.identity_map).abs().mean()) > 0.01


@pytest.mark.parametrize("width", ["narrow"], indirect=True)
def test_weights_of_another_system_are_named_as_what_they_are(width, tmp_path):
    torch.save(their_constricon((48, 48, 48)).state_dict(), tmp_path / "constricon.trch")
    torch.save(AUTHORS["carl-paper-brain"]([1, 1, 48, 48, 48], dimension=3).regis_net.state_dict(), tmp_path / "c.trch")
    with pytest.raises(CheckpointError, match=r"c\.trch looks like weights of carl-paper-brain"):
        load("constricon-paper", tmp_path / "c.trch")
    with pytest.raises(CheckpointError, match=r"of unigradicon; .* looks like weights of constricon-paper"):
        load("unigradicon", tmp_path / "constricon.trch")
    with pytest.raises(CheckpointError, match=r"made by carlreg for constricon, .* weights of constricon-paper"):
        load("constricon", tmp_path / "constricon.trch")


@pytest.mark.parametrize("width", ["narrow"], indirect=True)
def test_weights_of_the_whole_loss_module_and_of_augmented_training_load(width, tmp_path):
    shape = [1, 1, 48, 48, 48]
    whole = authors.make_network_final(shape, dimension=3)
    make_live(whole)
    torch.save(whole.state_dict(), tmp_path / "whole.trch")
    found = load("carl-paper-brain", tmp_path / "whole.trch").network.state_dict()
    expected = whole.regis_net.netPhi.net.net.net.net.convs[4].weight
    assert torch.equal(found["first.net.net.encoder.blocks.0.1.weight"], expected)

    rotation = authors.make_network_final_rotation(shape, dimension=3)
    authors.augmentify(rotation)
    state = rotation.regis_net.state_dict()
    assert all(name.startswith("netPsi.netPsi.") for name in state)
    torch.save(state, tmp_path / "augmented.trch")
    found = load("carl-paper-rotation", tmp_path / "augmented.trch").network.state_dict()
    expected = state["netPsi.netPsi.netPhi.net.net.net.net.net.convs.12.bias"]
    assert torch.equal(found["first.net.net.encoder.blocks.2.3.bias"], expected)
