"""The curves of a run as a picture, and its last numbers as text."""

from __future__ import annotations

import math
from pathlib import Path

from ..atomic import staged_file
from ..errors import InputError
from .records import read_log

# Panels in order: title and how the names of its curves begin; what fits none is left to TensorBoard.
_PANELS = (
    ("loss", ("loss", "val_loss")),
    ("terms of the loss", ("cross_entropy", "dissimilarity", "dice_loss", "diffusion", "gradicon", "floor")),
    ("end-point error (voxels or cells)", ("end_point", "val_end_point_voxels")),
    ("on real pairs", ("val_landmarks_mm", "val_dice")),
    ("gradient norm", ("gradient",)),
    ("learning rate", ("rate",)),
    ("steps per second", ("steps_per_second",)),
    ("memory (GB)", ("memory_gb",)),
)


def curves(folder: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Steps and values of every number in a run's log. Raises InputError when there is no log, or nothing in it."""
    path = folder / "log.csv"
    try:
        rows = read_log(path)
    except OSError as error:
        raise InputError(
            f"{path}: expected the log of a run ({error.strerror}). Give the folder of `train run`."
        ) from error
    if not rows:
        raise InputError(f"{path}: nothing is logged yet. Wait for the first lines (run.log_every).")
    found: dict[str, tuple[list[int], list[float]]] = {}
    for row in rows:
        for name, text in row.items():
            if name != "step" and text:
                steps, values = found.setdefault(name, ([], []))
                steps.append(int(row["step"]))
                values.append(float(text))
    return found


def last_numbers(folder: Path) -> str:
    """The last value of every number, one line each."""
    lines = [f"{name:40s} {values[-1]:12.6g}   (step {steps[-1]})" for name, (steps, values) in curves(folder).items()]
    return "\n".join(lines)


def draw_report(folder: Path, out: str | Path) -> None:
    """Draw the curves to a PNG file. Raises InputError when matplotlib is missing."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("The report needs matplotlib: pip install 'carlreg[report]'.") from error
    found = curves(folder)
    panels = [(title, _matching(found, starts)) for title, starts in _PANELS]
    panels = [(title, names) for title, names in panels if names]
    columns = 2
    figure = Figure(figsize=(12, 3.2 * math.ceil(len(panels) / columns)), layout="constrained")
    FigureCanvasAgg(figure)
    for number, (title, names) in enumerate(panels, 1):
        axes = figure.add_subplot(math.ceil(len(panels) / columns), columns, number)
        for name in names:
            steps, values = found[name]
            few = len(steps) < 30
            axes.plot(steps, values, marker="." if few else None, linewidth=1, label=name)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        shown = [value for name in names for value in found[name][1]]
        if min(shown) > 0 and max(shown) > 10 * min(shown):
            axes.set_yscale("log")
        axes.legend(fontsize=6, ncols=2)
    with staged_file(Path(out)) as part:
        figure.savefig(part, dpi=110, format="png")


def _matching(found: dict, starts: tuple[str, ...]) -> list[str]:
    """Names equal to, or a bin or pair of, one of the starts."""
    return [name for name in found if any(name == start or name.startswith(start + "_") for start in starts)]
