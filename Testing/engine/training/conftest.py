"""What the training's tests share: one thread, small configurations, networks whose answer is known."""

from __future__ import annotations

import pytest
import torch
from carlreg.maps import Affine
from carlreg.models.operators import Prediction, RegistrationNetwork
from carlreg.training.settings import config_from_table


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
        "data": {"workers": 0, "synthetic": {"size": 32, "views": 2, "rotation_degrees": 5.0, "shift": 0.1}},
        "optimizer": {"warmup_steps": 2, "rate": 1e-3, "final_rate": 1e-4},
        "validation": {"every_steps": 0, "pairs": 1},
    }
    if kind == "attention":
        table["stage"]["queries"] = 64
    for name, values in sections.items():
        table[name] = {**table[name], **values}
    return config_from_table(table)
