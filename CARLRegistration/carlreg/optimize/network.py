"""The paper's instance optimization: go on training the whole network, on one pair."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import OptimizationDiverged
from ..losses.paper import paper_loss
from ..losses.registry import similarity_named
from ..models.consistent import ConsistentNetwork
from ..models.operators import Prediction
from ..progress import Progress, Step
from .adam import Adam

if TYPE_CHECKING:
    from ..models.registry import LoadedModel

LEARNING_RATE = 2e-5


def optimize_network(
    loaded: LoadedModel,
    moving_b1dhw: Tensor,
    fixed_b1dhw: Tensor,
    *,
    steps: int = 50,
    lr: float = LEARNING_RATE,
    similarity: str = "lncc",
    progress: Progress | None = None,
    moving_mask_b1dhw: Tensor | None = None,
    fixed_mask_b1dhw: Tensor | None = None,
    seed: int = 0,
    watch: Callable[[Prediction], None] | None = None,
) -> tuple[Prediction, Prediction]:
    """Adam on all weights with the training loss, then predict both directions.

    The steps are taken by a copy, so the loaded network stays as it is, bit for bit, whatever happens here.

    Args:
        moving_b1dhw, fixed_b1dhw: values 0..1, as for `predict_both`, on the network's device.
        similarity: a name of `losses.registry`. masks: see `paper_loss`. seed: of the regularizer's noise.
        progress: told of every step; ends the optimization where it is asked to stop here. watch: called with the
            map (moving_from_fixed) before each step.
    Returns: (moving_from_fixed, fixed_from_moving), without gradients.
    Raises: OptimizationDiverged when the loss is no longer finite; Cancelled.
    Source: CARL and GradICON, 50 steps at 2e-5. (Their code leaves the weights changed for the next pair.)
    """
    progress = progress or Progress()
    network = copy.deepcopy(loaded.network).eval().requires_grad_(True)
    optimizer = Adam(network.parameters(), lr)
    generator = torch.Generator().manual_seed(seed)
    # GradICON says nothing where both maps are inverse to each other anyway.
    regularizer = "diffusion" if isinstance(network, ConsistentNetwork) else "gradicon"
    equal = 0.0 if similarity_named(similarity).descriptors else 1.0  # the similarity where the dissimilarity is 0
    for step in range(steps):
        if progress.stopping:
            break
        with torch.enable_grad():
            forward, backward = network.predict_both(moving_b1dhw, fixed_b1dhw)
            loss = paper_loss(
                forward.map,
                backward.map,
                moving_b1dhw,
                fixed_b1dhw,
                similarity=similarity,
                regularizer=regularizer,
                moving_mask_b1dhw=moving_mask_b1dhw,
                fixed_mask_b1dhw=fixed_mask_b1dhw,
                generator=generator,
            )
            if not bool(torch.isfinite(loss.total)):
                raise OptimizationDiverged(
                    f"Instance optimization: the loss became {loss.total.item()} at step {step + 1} of {steps}. "
                    "Use the field method, or no instance optimization."
                )
            optimizer.forget_gradients()
            loss.total.backward()
        optimizer.step()
        progress.stepped(Step(step + 1, steps, equal - float(loss.dissimilarity.detach()) / 2))
        if watch is not None:
            watch(forward)
    with torch.no_grad():
        return network.predict_both(moving_b1dhw, fixed_b1dhw)
