"""Checkpoints of the public code of EOIR: recognized by their names, and turned into tensors of our network.

Their images lie in memory as a NIfTI reader gives them, axes x, y, z; ours as z, y, x. So kernels are transposed, and
the channels of flows reversed. The files also hold the lattices of coordinates, which tell the images' shape.
Source: layout of the published state dicts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..errors import CheckpointError
from .compositions import Eoir
from .eoir import EoirSettings

_FIRST = "simple_encoder.0.layer.0.weight"
_LATTICES = ("transformers.0.grid", "transformers.1.grid")
_NAMES = (
    (r"simple_encoder\.(\d+)\.layer\.0\.", r"encoder.convolutions.\1.convolution."),
    (r"simple_encoder\.(\d+)\.layer\.2\.", r"encoder.activations.\1."),
    (r"disp_warp_(\d+)\.disp_field_fea\.0\.", r"estimators.\1.first.convolution."),
    (r"disp_warp_(\d+)\.disp_field_fea\.2\.", r"estimators.\1.second.convolution."),
    (r"disp_warp_(\d+)\.get_flow\.", r"estimators.\1.last.convolution."),
)


@dataclass(frozen=True)
class EoirFile:
    """shape_dhw: of the network's images; None when the file does not tell. tensors: by our names."""

    composition: Eoir
    shape_dhw: tuple[int, ...] | None
    tensors: dict[str, Tensor]

    @property
    def title(self) -> str:
        return f"EOIR with {self.composition.settings.channels} channels"


def eoir_file(tensors: dict[str, Tensor]) -> EoirFile | None:
    """What a state dict of the public code holds; None for anything else."""
    # A network trained on several devices at once.
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    first = tensors.get(_FIRST)
    levels = {match[1] for name in tensors if (match := re.match(r"disp_warp_(\d+)\.", name))}
    if first is None or first.ndim < 1 or not len(first) or not levels:
        return None
    lattices = [tuple(tensors[name].shape[2:]) for name in _LATTICES if name in tensors and tensors[name].ndim == 5]
    shape = whole = None
    if len(lattices) == len(_LATTICES):
        fine, coarse = (lattice[::-1] for lattice in lattices)
        shape = fine
        whole = tuple(axis for axis in range(3) if fine[axis] == coarse[axis] > 1)
    settings = EoirSettings(channels=len(first), levels=len(levels), whole_axes=whole or ())
    ours = {}
    for name, value in tensors.items():
        if not name.endswith(".grid"):
            ours[_our_name(name)] = _turned(name, value)
    return EoirFile(Eoir(settings), shape, ours)


def _our_name(theirs: str) -> str:
    for pattern, ours in _NAMES:
        if re.match(pattern, theirs):
            return re.sub(pattern, ours, theirs, count=1)
    return theirs


def _turned(name: str, value: Tensor) -> Tensor:
    if value.ndim == 5:
        value = value.permute(0, 1, 4, 3, 2)
    return (value.flip(0) if ".get_flow." in name else value).contiguous()


def check_form(file: EoirFile, names: set[str], path: Path) -> None:
    """Raise CheckpointError unless the tensors are those of our network, `names`: other forms have others."""
    if set(file.tensors) != names:
        others = sorted(set(file.tensors) ^ names)
        raise CheckpointError(
            f"Weights: {path} looks like weights of {file.title}, but in another form than those for LUMIR, the "
            f"abdomen and ACDC ({len(others)} tensors differ, such as {others[0][:100]}). Only these are read."
        )
