"""Arrays between NumPy and PyTorch through plain buffers.

Neither side calls into the other, so a PyTorch that was built against another NumPy still works.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_TORCH_FROM_NUMPY = {
    "bool": torch.bool,
    "uint8": torch.uint8,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "float32": torch.float32,
    "float64": torch.float64,
}
_NUMPY_FROM_TORCH = {value: np.dtype(key) for key, value in _TORCH_FROM_NUMPY.items()}
_WIDER = {"uint16": np.int32, "uint32": np.int64, "uint64": np.int64, "float16": np.float32}


def tensor_from_array(array: np.ndarray) -> Tensor:
    """CPU tensor of a NumPy array: shares memory when the array is contiguous, native and writable, else a copy.

    Unsigned 16 to 64 bit integers and float16 come as the next wider type that PyTorch computes with.
    """
    array = np.asarray(array)
    if array.dtype.name in _WIDER:
        array = array.astype(_WIDER[array.dtype.name])
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    array = np.require(array, requirements=["C", "W"])
    dtype = _TORCH_FROM_NUMPY[array.dtype.name]
    if array.size == 0:
        return torch.empty(array.shape, dtype=dtype)
    return torch.frombuffer(array, dtype=dtype).reshape(array.shape)


def array_from_tensor(tensor: Tensor) -> np.ndarray:
    """NumPy copy of a tensor on any device."""
    tensor = tensor.detach().cpu()
    array = np.empty(tuple(tensor.shape), dtype=_NUMPY_FROM_TORCH[tensor.dtype])
    if array.size:
        torch.frombuffer(array, dtype=tensor.dtype).reshape(array.shape).copy_(tensor)
    return array
