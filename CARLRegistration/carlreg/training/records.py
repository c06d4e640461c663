"""What a run writes about itself: log.csv, and events for TensorBoard where that is installed."""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import os
import sys
from pathlib import Path

import torch

from ..errors import ResourceError
from ..progress import peak_memory_mb
from .saving import write_atomically

log = logging.getLogger(__name__)


class Records:
    """Numbers of a run by step; one line of `log.csv` per call of `write`, also sent to TensorBoard.

    A resumed run appends. Lines beyond its step, written after the checkpoint that it goes on from, are dropped.
    Columns are what the numbers are called; a new one is added to the whole file.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.path = folder / "log.csv"
        self._columns: list[str] = []
        self._failed = False
        if self.path.is_file():
            rows = read_log(self.path)
            self._columns = list(rows[0]) if rows else []
            kept = [row for row in rows if int(row["step"]) <= step]
            if len(kept) < len(rows):
                self._rewrite(kept, self._columns)
        self._board = _board(folder / "tensorboard", step)

    def write(self, step: int, numbers: dict[str, float]) -> None:
        row = {"step": str(step)} | {name: f"{value:.7g}" for name, value in numbers.items()}
        try:
            self._append(row)
            if self._board is not None:
                for name, value in numbers.items():
                    self._board.add_scalar(name, value, step)
            self._failed = False
        except (OSError, ResourceError) as error:  # a full disk must not end the run: the numbers are not the weights
            if not self._failed:
                log.warning("%s: could not be written (%s); the run goes on.", self.path, error)
            self._failed = True

    def close(self) -> None:
        if self._board is not None:
            with contextlib.suppress(OSError):  # a full disk, which has been said
                self._board.close()

    def _append(self, row: dict[str, str]) -> None:
        new = [name for name in row if name not in self._columns]
        if new:
            rows = read_log(self.path) if self.path.is_file() else []
            self._rewrite(rows, [*self._columns, *new])
        before = self.path.stat().st_size
        try:
            with open(self.path, "a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns).writerow(row)
        except OSError:
            with contextlib.suppress(OSError):  # half a line would spoil the next one
                os.truncate(self.path, before)
            raise

    def _rewrite(self, rows: list[dict[str, str]], columns: list[str]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path, text.getvalue().encode())
        self._columns = columns  # not before: the file has the old ones when it could not be written


def read_log(path: Path) -> list[dict[str, str]]:
    """Whole lines of a log, values as text; a last line that was cut off is left out."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if (row.get("step") or "").isdigit() and None not in row.values()]


def _board(folder: Path, step: int):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.info("TensorBoard is not installed (pip install tensorboard): the run is logged to log.csv only.")
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)


def memory_gb(device: torch.device) -> float:
    """Memory in use: on a GPU the most that was allocated there, on a CPU this process's resident memory now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**30
    except (OSError, ValueError, AttributeError):  # not Linux
        return peak_memory_mb() / 2**10


def hardware(device: torch.device, count: int) -> str:
    """One line for the model card: what the run computes on."""
    many = f"{count} x " if count > 1 else ""
    if device.type == "cuda":
        return f"{many}{torch.cuda.get_device_name(device)}, PyTorch {torch.__version__}"
    name = "CPU"
    if sys.platform == "linux":
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        models = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
        name = models[0] if models else name
    return f"{many}{torch.get_num_threads()} threads of {name}, PyTorch {torch.__version__}"
