"""Adam against the recursion of its paper, in NumPy's float64."""

import numpy as np
import torch
from carlreg.optimize.adam import Adam


def test_steps_are_those_of_the_paper():
    random = np.random.default_rng(0)
    theta, rates = random.normal(size=(5, 3)), (0.1, 0.1, 0.03, 0.02, 0.01, 0.2)
    ours, without = (torch.tensor(theta, requires_grad=True) for _ in range(2))
    optimizer = Adam([ours, without], 1.0, betas=(0.8, 0.95), eps=1e-3)
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for t, rate in enumerate(rates, 1):
        optimizer.rate = rate
        optimizer.forget_gradients()
        assert ours.grad is None
        (ours**3 + torch.sin(ours)).sum().backward()
        optimizer.step()
        gradient = 3 * theta**2 + np.cos(theta)
        m, v = 0.8 * m + 0.2 * gradient, 0.95 * v + 0.05 * gradient**2
        theta = theta - rate * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-3)
        np.testing.assert_allclose(ours.detach().numpy(), theta, rtol=1e-12)
    np.testing.assert_array_equal(without.detach().numpy(), np.random.default_rng(0).normal(size=(5, 3)))
