"""Coordinate attention inverts a map.

Where an image has as many channels as dimensions and is a diffeomorphism A, the registration that is equivariant to
everything is known: Xi[A, B] = A^-1 o B. Attention computes it: each place of B asks where A has its value, and the
answer is the mean of the places that have it. For A(x) = cos(pi x / 2) and B(x) = x + 0.07 sin(3 pi x) the right answer
is 2 / pi arccos(x + 0.07 sin(3 pi x)).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from common import FIRST, SECOND, THIRD, TRUTH, main


def image_a(x):
    return np.cos(math.pi / 2 * x)


def image_b(x):
    return x + 0.07 * np.sin(3 * math.pi * x)


def inverse_of_a(value):
    return 2 / math.pi * np.arccos(value)


def warp(x):
    """A diffeomorphism of [0, 1], to turn an image into another one."""
    return x + 0.1 * np.sin(2 * math.pi * x) / 2


def attention(moving: np.ndarray, places: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """Xi: for each value of `fixed` the place where `moving`, known at `places`, has it.

    Tokens of values: the dot product of two is minus their squared difference, but for a part that all keys of a query
    share and softmax does not see. The sharpness grows with the number of keys: each query hears a few of them.
    """
    import torch
    from carlreg.models.attention import coordinate_attention

    sharpness = 0.25 * len(moving) ** 2
    root = math.sqrt(2 * sharpness)
    queries = np.stack([root * fixed, np.ones_like(fixed)], axis=-1)
    keys = np.stack([root * moving, -sharpness * moving**2], axis=-1)
    q, k, v = (torch.tensor(a, dtype=torch.float64)[None] for a in (queries, keys, places[:, None]))
    return coordinate_attention(q, k, v)[0, :, 0].numpy()


def compute(quick: bool) -> dict[str, Any]:
    counts = [64, 256] if quick else [32, 64, 128, 256, 512, 1024, 2048]
    # A is flat at 0 and has nothing beyond 1: near both ends the mean of places is pulled inward.
    x = np.linspace(0.05, 0.95, 400)
    truth = inverse_of_a(image_b(x))
    inner = (truth > 0.15) & (truth < 0.9)
    errors = []
    for count in counts:
        places = (np.arange(count) + 0.5) / count
        found = attention(image_a(places), places, image_b(x))
        errors.append(float(np.abs(found - truth)[inner].max()))
    # A o W instead of A: the answer is W^-1 o Xi, so W of it is Xi.
    warped = attention(image_a(warp(places)), places, image_b(x))
    return {
        "keys": counts[-1],
        "largest_error": errors[-1],
        "largest_error_of_the_warped": float(np.abs(warp(warped) - truth)[inner].max()),
        "order_of_convergence": math.log(errors[0] / errors[-1]) / math.log(counts[-1] / counts[0]),
        "x": x,
        "truth": truth,
        "found": found,
        "counts": counts,
        "errors": errors,
    }


def draw(found: dict[str, Any]):
    import matplotlib.pyplot as plt

    figure, (images, answer, error) = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    x = np.linspace(0, 1, 300)
    images.plot(x, image_a(x), color=FIRST, label="moving, A")
    images.plot(x, image_b(x), color=SECOND, label="fixed, B")
    images.set(title="Two images of one dimension", xlabel="place", ylabel="value")
    answer.plot(found["x"], found["truth"], color=TRUTH, linewidth=5, alpha=0.3, label="2/π arccos(B(x))")
    answer.plot(found["x"], found["found"], color=THIRD, label=f"attention, {found['keys']} keys")
    answer.set(title="Where A has the value of B", xlabel="place in B", ylabel="place in A")
    error.loglog(found["counts"], found["errors"], "o-", color=THIRD)
    error.set(title="Largest error away from the ends", xlabel="keys", ylabel="error (image = 1)")
    for axes in (images, answer):
        axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main(__file__, compute, draw)
