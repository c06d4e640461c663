"""EOIR: how deep must the encoder be?

Encoder-only registration holds that an encoder has little to do: it makes intensities change linearly in space and
evens contrast out; warps and a pyramid do the rest. So a few convolutions suffice, and more cost more than they give.
Here are encoders of one to four blocks, trained alike.
"""

from __future__ import annotations

from typing import Any

from common import FIRST, SECOND, main
from planar import end_point, retina, train, unmoved

SIZE, WARP = 64, 4.0  # pixels


def compute(quick: bool) -> dict[str, Any]:
    import numpy as np
    import torch
    from carlreg.models.eoir import Eoir, EoirSettings

    steps = 2 if quick else 200
    pool, held = retina(1, 4 if quick else 80, SIZE, WARP), retina(10**6, 1 if quick else 20, SIZE, WARP)
    depths, errors, parameters = ([3] if quick else [1, 2, 3, 4]), [], []
    for blocks in depths:
        torch.manual_seed(0)
        network = Eoir(EoirSettings(channels=8, blocks=blocks, levels=4, dimension=2, local=True))
        network, _ = train(network, pool, steps, similarity="lncc", regularity="diffusion", weight=0.5, rate=2e-3)
        errors.append(end_point(network, held))
        parameters.append(sum(p.numel() for p in network.encoder.parameters()))
    found: dict[str, Any] = {
        "depths": depths,
        "errors": errors,
        "encoder_parameters": parameters,
        "before": float(np.mean(unmoved(held))),
    }
    for blocks, error in zip(depths, errors, strict=True):
        found[f"{blocks} blocks: mean error in pixels"] = float(np.mean(error))
    return found


def draw(found: dict[str, Any]):
    import matplotlib.pyplot as plt
    import numpy as np

    figure, axes = plt.subplots(figsize=(6, 3.8), layout="constrained")
    means = [np.mean(error) for error in found["errors"]]
    spread = [np.std(error) / len(error) ** 0.5 for error in found["errors"]]
    axes.errorbar(found["depths"], means, spread, fmt="o-", color=FIRST, capsize=3, label="error")
    axes.axhline(found["before"], color="#999999", linestyle=":", label="not registered")
    axes.set(xlabel="blocks of the encoder", ylabel="mean error, held-out pairs (pixels)", ylim=(0, None))
    axes.set_xticks(found["depths"])
    axes.legend(frameon=False, loc="center left")
    other = axes.twinx()
    other.plot(found["depths"], found["encoder_parameters"], "s--", color=SECOND)
    other.set_ylabel("parameters of the encoder", color=SECOND)
    other.set_ylim(0, None)
    return figure


if __name__ == "__main__":
    main(__file__, compute, draw)
