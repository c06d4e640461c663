"""The authors' code, made to run on a CPU, with weights that leave nothing untested."""

from __future__ import annotations

import contextlib
import sys
import types

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

sys.modules.setdefault("torchvision", types.ModuleType("torchvision"))  # imported by their constricon, never used
icon = pytest.importorskip("icon_registration", reason="parity needs icon_registration (pip install unigradicon)")


@pytest.fixture(autouse=True)
def authors_code_on_cpu(monkeypatch):
    """Their networks move themselves to CUDA and forbid the one attention kernel that a CPU has."""
    monkeypatch.setattr(torch.backends.cuda, "sdp_kernel", lambda **_: contextlib.nullcontext())
    monkeypatch.setattr(nn.Module, "cuda", lambda self, *_: self)
    torch.manual_seed(0)


def smooth_image(shape_dhw, seed: int, sigma: float = 2.5) -> torch.Tensor:
    """Smooth noise in 0..1, b1dhw."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(shape_dhw), sigma, mode="wrap")
    noise = (noise - noise.min()) / (noise.max() - noise.min())
    return torch.tensor(noise, dtype=torch.float32)[None, None]


def make_live(network: nn.Module, seed: int = 0) -> None:
    """Random BatchNorm statistics, and last convolutions (fresh ones are zero, a U-Net then does nothing)."""
    generator = torch.Generator().manual_seed(seed)

    def random(tensor, mean, sd):
        return torch.randn(tensor.shape, generator=generator) * sd + mean

    with torch.no_grad():
        for name, module in network.named_modules():
            if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
                module.weight.copy_(random(module.weight, 1, 0.1))
                module.bias.copy_(random(module.bias, 0, 0.1))
                module.running_mean.copy_(random(module.running_mean, 0, 0.1))
                module.running_var.copy_(random(module.running_var, 1, 0.1).clamp_min(0.5))
            elif name.endswith("lastConv"):
                module.weight.copy_(random(module.weight, 0, 0.03))
                module.bias.copy_(random(module.bias, 0, 0.3))
    network.eval()


def sharpen(network: nn.Module, factor: float) -> None:
    """Logits times `factor`: those of random weights differ so little that attention is an average."""
    for module in network.modules():
        if isinstance(module, icon.carl.AttentionRegistration):
            plain = module.featurize
            module.featurize = lambda values, recrop=True, plain=plain: plain(values, recrop) * factor**0.5
