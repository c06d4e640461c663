"""Adam, written out: PyTorch's optimizers import its compiler, which takes seconds and is never used here."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor


class Adam:
    """Steps along gradients of running means, as `torch.optim.Adam` takes them; rate may be changed between steps.

    Source: Kingma and Ba, ICLR 2015.
    """

    def __init__(
        self, parameters: Iterable[Tensor], rate: float, *, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        self.rate, self.betas, self.eps = rate, betas, eps
        self._state = [(one, torch.zeros_like(one), torch.zeros_like(one)) for one in parameters]
        self._steps = 0

    def forget_gradients(self) -> None:
        """Before the backward pass of the next step."""
        for parameter, _, _ in self._state:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Change the parameters by their gradients; those without one stay."""
        self._steps += 1
        to_mean, to_square = self.betas
        rate = self.rate / (1 - to_mean**self._steps)
        root = math.sqrt(1 - to_square**self._steps)
        for parameter, mean, square in self._state:
            gradient = parameter.grad
            if gradient is None:
                continue
            mean.lerp_(gradient, 1 - to_mean)
            square.mul_(to_square).addcmul_(gradient, gradient, value=1 - to_square)
            parameter.addcdiv_(mean, square.sqrt().div_(root).add_(self.eps), value=-rate)
