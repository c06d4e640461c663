"""Weights and images of the comparison with EOIR's public code: made of seeds, the same for both sides."""

import torch
import torch.nn.functional as F
from torch import Tensor

CHANNELS = 8
SHAPE_XYZ = (32, 48, 64)


def public_weights(channels: int, levels: int = 5) -> dict[str, Tensor]:
    """Random tensors by the public code's names; flows of about half a cell per level."""
    generator = torch.Generator().manual_seed(channels)
    tensors: dict[str, Tensor] = {}

    def convolution(name: str, inputs: int, outputs: int, gain: float = 1.0) -> None:
        scale = gain / (27 * inputs) ** 0.5
        tensors[f"{name}.weight"] = torch.randn((outputs, inputs, 3, 3, 3), generator=generator) * scale
        tensors[f"{name}.bias"] = torch.randn((outputs,), generator=generator) * 0.1 * gain

    widths = (1, channels, 2 * channels, channels)
    for block in range(3):
        convolution(f"simple_encoder.{block}.layer.0", widths[block], widths[block + 1])
        tensors[f"simple_encoder.{block}.layer.2.weight"] = torch.full((1,), 0.1 + 0.1 * block)
    for level in range(levels):
        convolution(f"disp_warp_{level}.disp_field_fea.0", 2 * channels, 2 * channels)
        convolution(f"disp_warp_{level}.disp_field_fea.2", 2 * channels, 27)
        convolution(f"disp_warp_{level}.get_flow", 27, 3, gain=2.0)
    return tensors


def images_xyz() -> tuple[Tensor, Tensor]:
    """Two smooth random images, 1 1 X Y Z."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand((2, 1, *(n // 4 for n in SHAPE_XYZ)), generator=generator)
    moving, fixed = F.interpolate(coarse, size=SHAPE_XYZ, mode="trilinear", align_corners=False).split(1)
    return moving, fixed
