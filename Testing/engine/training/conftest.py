"""What the training's tests share: one thread, small configurations, narrow networks, networks with a known answer."""

from __future__ import annotations

import contextlib

import pytest
import torch
from carlreg.maps import Affine
from carlreg.models import registry
from carlreg.models.compact_encoder import CompactEncoderSettings
from carlreg.models.compositions import Attention, Local, Refinement, Still, Two, gradicon
from carlreg.models.local_attention import LocalAttentionSettings
from carlreg.models.operators import Prediction, RegistrationNetwork
from carlreg.models.unet import UNetSettings
from carlreg.training.settings import config_from_table

# The same structure with few channels and layers: the loop, the losses and the files do not know the difference.
_ENCODER = CompactEncoderSettings(stem_channels=8, channels=16, groups=2, dilations=(1, 2), token_channels=16)
_LOCAL_4 = LocalAttentionSettings(
    stride=4, radius=2, stem_channels=8, channels=16, groups=2, token_channels=8, dilations=(1,), rounds=2
)
_LOCAL_2 = LocalAttentionSettings(stride=2, radius=1, channels=8, token_channels=8, dilations=(1,), rounds=2)
NARROW_COMPACT = Two(
    Two(Attention(_ENCODER), Local(_LOCAL_4), relax_voxels=4.0), Local(_LOCAL_2), repeats=2, relax_voxels=2.0
)
NARROW_REFINEMENT = Refinement(UNetSettings(down_channels=(2, 4, 4, 4, 8, 8), up_channels=(4, 4, 4, 4, 4)))
NARROW_UNET = Two(Still(), gradicon(NARROW_REFINEMENT))


@contextlib.contextmanager
def narrow_networks():
    """Inside, `carl-compact` and `gradicon-compact` are narrow; weights that are shipped do not fit them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.COMPOSITIONS, "carl-compact", (NARROW_COMPACT,))
        patch.setitem(registry.COMPOSITIONS, "gradicon-compact", (NARROW_UNET,))
        yield


@pytest.fixture(params=["narrow", pytest.param("full", marks=pytest.mark.slow)])
def width(request) -> str:
    """Narrow networks, and in the slow tier those of the product."""
    with narrow_networks() if request.param == "narrow" else contextlib.nullcontext():
        yield request.param


@pytest.fixture
def narrow(request):
    """Narrow networks for all tests that do not ask for a `width`."""
    with contextlib.nullcontext() if "width" in request.fixturenames else narrow_networks():
        yield


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Known(RegistrationNetwork):
    """Answers with given 4 x 4 matrices (normalized coordinates), whatever it sees; remembers what it saw."""

    def __init__(self, forward: torch.Tensor, backward: torch.Tensor) -> None:
        super().__init__()
        self.matrices = forward, backward
        self.seen: list = []
        self.factor = torch.nn.Parameter(torch.ones(()))

    def predict(self, moving_b1dhw, fixed_b1dhw) -> Prediction:
        return Prediction(Affine(self.matrices[0] * self.factor))

    def predict_both(self, moving_b1dhw, fixed_b1dhw):
        self.seen.append((moving_b1dhw, fixed_b1dhw))
        return Prediction(Affine(self.matrices[0] * self.factor)), Prediction(Affine(self.matrices[1] * self.factor))


@pytest.fixture
def known():
    return Known


def translation(*unit: float) -> torch.Tensor:
    matrix = torch.eye(4)
    matrix[:3, 3] = torch.tensor(unit)
    return matrix


def small_config(kind="attention", steps=4, model="carl-compact", **sections):
    """A run of a second or two. Keyword arguments: further values per section, e.g. optimizer={...}."""
    table = {
        "run": {"steps": steps, "log_every": 1, "device": "cpu"},
        "model": {"name": model},
        "stage": {"kind": kind},
        "data": {"workers": 0, "synthetic": {"size": 24, "views": 2, "rotation_degrees": 5.0, "shift": 0.1}},
        "optimizer": {"warmup_steps": 2, "rate": 1e-3, "final_rate": 1e-4},
        "validation": {"every_steps": 0, "pairs": 1},
    }
    if kind == "attention":
        table["stage"]["queries"] = 64
    for name, values in sections.items():
        table[name] = {**table[name], **values}
    return config_from_table(table)
