"""Arrays between NumPy and PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from carlreg.maps.exchange import array_from_tensor, tensor_from_array


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int16", "int32", "int64", "float32", "float64"])
def test_there_and_back_keeps_type_and_values(dtype):
    array = np.random.default_rng(0).integers(0, 2, (3, 4, 5)).astype(dtype)
    tensor = tensor_from_array(array)
    assert str(tensor.dtype) == f"torch.{dtype}"
    again = array_from_tensor(tensor)
    assert again.dtype == array.dtype
    np.testing.assert_array_equal(again, array)


@pytest.mark.parametrize(
    ("dtype", "wider"), [("uint16", torch.int32), ("uint32", torch.int64), ("float16", torch.float32)]
)
def test_types_that_torch_lacks_are_widened(dtype, wider):
    array = np.array([0, 1, 60000 if dtype != "float16" else 6], dtype=dtype)
    tensor = tensor_from_array(array)
    assert tensor.dtype == wider
    assert tensor.tolist() == array.tolist()


def test_memory_is_shared_when_it_can_be_and_never_written_when_read_only():
    array = np.zeros(4, np.float32)
    tensor_from_array(array)[0] = 5
    assert array[0] == 5
    array.flags.writeable = False
    tensor_from_array(array)[1] = 7
    assert array[1] == 0


def test_strided_swapped_and_empty_arrays():
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.testing.assert_array_equal(array_from_tensor(tensor_from_array(array[:, ::-1, ::2])), array[:, ::-1, ::2])
    assert tensor_from_array(array.astype(">f4")).tolist() == array.tolist()
    assert tensor_from_array(np.zeros((0, 3), np.float32)).shape == (0, 3)
    assert array_from_tensor(torch.zeros(2, 0)).shape == (2, 0)
    np.testing.assert_array_equal(
        array_from_tensor(tensor_from_array(array).permute(2, 0, 1)), array.transpose(2, 0, 1)
    )
