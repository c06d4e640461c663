"""One pair of a cohort, as `carlreg register` runs it: on a worker of the cluster, or by itself (`--pair`)."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..atomic import RUN_VARIABLE, claim_folder
from ..cohort.running import MEMORY, STOP, Outcome
from ..cohort.study import DONE, FAILED, PAIR, Study, fingerprint, inputs_of, remove_second, write_json
from ..errors import Cancelled, CarlError, NotEnoughMemory, ResourceError
from ..kept import Kept, keeping
from ..progress import Progress, forget_peak_memory, peak_memory_mb

# glibc's names of what it keeps, and the most that it takes for the first.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _KEPT_BYTES = -1, -3, 2**25
_KEPT = Kept()


def run_on_worker(folder: str, name: str) -> Outcome:
    """What the cluster calls: `run_pair` in a process that stays."""
    with in_a_worker():
        study = _study(folder, os.stat(Path(folder) / "study.json").st_mtime_ns)
        return run_pair(study, name, Progress())


@contextmanager
def in_a_worker() -> Iterator[None]:
    """One piece of work in a process that stays, which tidies up for itself and keeps what the next will need."""
    os.environ.pop(RUN_VARIABLE, None)
    _keep_freed_memory()
    forget_peak_memory()
    with keeping(_KEPT):
        yield


@functools.cache
def _keep_freed_memory() -> None:
    """Let a process keep what it frees, as any program's does by itself, for the next image.

    Dask's workers give all back at once (MALLOC_TRIM_THRESHOLD_): a registration then takes more than twice as long,
    most of it for getting the same pages again.
    """
    if not sys.platform.startswith("linux"):
        return
    with suppress(OSError, AttributeError):  # another C library
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, _KEPT_BYTES)
        library.mallopt(_TRIM_THRESHOLD, 2 * _KEPT_BYTES)


@functools.lru_cache(maxsize=1)
def _study(folder: str, changed: int) -> Study:
    """Read once per worker, as long as it is the same."""
    return Study.read(folder)


def run_pair(study: Study, name: str, progress: Progress) -> Outcome:
    """Register one pair into its folder; whatever goes wrong is in what is returned, but for a cancel, which is raised.

    An earlier result of other inputs or settings is replaced after success.
    """
    return outcome_of(lambda: {"figures": _registered(study, name, progress)})


def outcome_of(work: Callable[[], dict[str, Any]]) -> Outcome:
    """How a piece of work ends, whose values are what it returns; a cancel is raised."""
    from .worker import resource_error

    begin, cpu = time.monotonic(), time.process_time()
    found: dict[str, Any] = {}
    word, reason, details = DONE, "", ""
    try:
        found = work()
    except Cancelled:
        raise
    except ResourceError as error:
        word, reason = STOP, str(error)
    except NotEnoughMemory as error:
        word, reason = MEMORY, str(error)
    except CarlError as error:
        word, reason = FAILED, str(error)
    except Exception as error:
        known = resource_error(error)
        if known is None:
            word, reason, details = FAILED, f"an unexpected {type(error).__name__}: {error}", traceback.format_exc()
        else:
            word, reason = STOP if "disk" in str(known) else MEMORY, str(known)
    values = {
        "seconds": round(time.monotonic() - begin, 3),
        "cpu_seconds": round(time.process_time() - cpu, 3),
        "peak_mb": round(peak_memory_mb(), 1),
    }
    return Outcome(word, reason, values | found | ({"details": details} if details else {}))


def _registered(study: Study, name: str, progress: Progress) -> dict[str, Any]:
    """Read, register, write; returns the figures for the table."""
    from ..cohort.figures import figures_of
    from .main import build_parser
    from .register import read_inputs, register_and_write

    pair, settings = study.pair(name), study.settings[name]
    known = inputs_of(pair, None)
    record = {"fingerprint": fingerprint(settings, known), "inputs": known, "files": pair.files}
    files = {column: path for column, path in pair.files.items() if column not in ("fixed", "moving", "settings")}
    arguments = [pair.files["fixed"], pair.files["moving"], "--out", str(study.result(name))]
    options = [word for column, path in files.items() for word in (f"--{column.replace('_', '-')}", path)]
    args = build_parser(["register"]).parse_args(["register", *arguments, *options])
    inputs = read_inputs(args, progress)
    claim = claim_folder(study.result(name), overwrite=True)
    quality = register_and_write(
        inputs,
        settings,
        claim,
        progress,
        sheet=True,
        report=study.report,
        keep_transform=False,  # a pair is done or not; a part of it would take room from the others
        extra=lambda folder, _: write_json(folder / PAIR, record),
    )
    remove_second(claim)
    return figures_of(quality)
