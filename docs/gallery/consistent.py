"""ConstrICON: inverse consistent by construction.

Other networks learn that their two directions undo each other. These cannot do otherwise: each step is the exponential
of something that changes its sign when the images are exchanged, and steps are joined symmetrically. So even random
weights give maps that undo each other, up to what sampling a field and single precision leave; U-Nets with random
weights of the same size do not.
"""

from __future__ import annotations

from typing import Any

from common import FIRST, SECOND, THIRD, main

SIZE = 64


def compute(quick: bool) -> dict[str, Any]:
    import torch
    from carlreg.maps import identity_map
    from carlreg.models.compositions import Consistent, Linear, Refinement, Two, Velocity, assemble, in_dimension
    from carlreg.models.matrix_net import MatrixNetSettings
    from carlreg.models.unet import UNet, UNetSettings
    from planar import images, retina

    unet = Refinement(UNetSettings(down_channels=(2, 16, 32, 64), up_channels=(16, 32, 32)))
    affine, velocity = Linear(MatrixNetSettings()), Velocity(unet, gain=4.0, smooth_voxels=3.0)
    compositions = {
        "U-Nets, two steps": Two(unet, unet),
        "affine": Consistent(affine, affine),
        "affine, velocity": Consistent(affine, velocity),
        "affine, velocity, velocity": Consistent(affine, Consistent(velocity, velocity)),
    }
    moving, fixed = images(retina(10**6, 1, SIZE, 4.0))
    points = identity_map((SIZE, SIZE))
    inside = ((points > 0.15) & (points < 0.85)).all(1)
    found: dict[str, Any] = {"errors": {}, "motion": {}}
    for name, composition in compositions.items():
        torch.manual_seed(0)
        network = assemble(in_dimension(composition, 2)).eval()
        with torch.no_grad():
            for module in network.modules():
                if isinstance(module, UNet):
                    module.last.weight.normal_(0, 0.05)
            _lively(network)
            forward, backward = (prediction.map for prediction in network(moving, fixed))
            error = ((forward(backward(points)) - points) * SIZE).norm(dim=1)[inside]
            motion = ((forward(points) - points) * SIZE).norm(dim=1)[inside]
        found["errors"][name] = error.numpy()
        found["motion"][name] = motion.numpy()
        found[f"{name}: largest inverse error in pixels"] = float(error.max())
        found[f"{name}: mean motion in pixels"] = float(motion.mean())
    return found


def _lively(network) -> None:
    """Give steps with matrices something to do, too: their last layers begin at zero."""
    import torch
    from carlreg.models.matrix_net import MatrixNet

    for module in network.modules():
        if isinstance(module, MatrixNet):
            last = [m for m in module.modules() if isinstance(m, torch.nn.Linear)][-1]
            last.weight.normal_(0, 60.0)


def draw(found: dict[str, Any]):
    import matplotlib.pyplot as plt
    import numpy as np

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    colors = (SECOND, FIRST, THIRD, "#cc79a7")
    for (name, error), color in zip(found["errors"].items(), colors, strict=True):
        values = np.sort(np.maximum(error, 1e-7))
        axes.plot(values, np.linspace(0, 100, len(values)), color=color, label=name)
    axes.set(
        xscale="log",
        xlabel="distance of a pixel to where both maps send it (pixels)",
        ylabel="pixels below it (%)",
        title="Random weights: do both directions undo each other?",
    )
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


if __name__ == "__main__":
    main(__file__, compute, draw)
