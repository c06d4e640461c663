"""What the command line prints: errors, progress, and the quality table."""

from __future__ import annotations

import json
import shutil
import sys
import time
from contextlib import suppress

from ..errors import CarlError
from ..progress import ProgressRecord
from ..quality.limits import shown
from ..quality.warnings import beyond_verdict

_JSON_INTERVAL = 0.1


def say(text: str) -> None:
    """One message for people, on stderr; nobody hears it where that is closed or full."""
    with suppress(OSError, ValueError, AttributeError):
        print(text, file=sys.stderr, flush=True)


def say_error(error: CarlError) -> None:
    say(f"Error: {error}")


class Display:
    """Shows progress records: `bar` on stderr, `json` lines on stdout, `none`.

    broken: why standard output takes nothing any more, or None.
    """

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self._bar = None
        self._stage = ""
        self._shown_at = 0.0
        self.broken: str | None = None

    def show(self, record: ProgressRecord) -> None:
        if record.warning and self.mode != "json":
            self.close()  # a bar goes on below it
            say(f"Warning: {record.warning}")
            return
        if self.mode == "json":
            self._show_json(record)
        elif self.mode == "bar":
            with suppress(OSError, ValueError):  # a bar that cannot be shown does not end the run
                self._show_bar(record)

    def close(self) -> None:
        if self._bar is not None:
            with suppress(OSError, ValueError):
                self._bar.close()
            self._bar = None

    def result(self, text: str) -> None:
        """Print a result for people on stdout; not in JSON mode, where stdout belongs to the records."""
        self.close()
        if self.mode != "json":
            self._print(text)

    def details(self, values: dict) -> None:
        """What a result is for programs: one line {"figures": values}, in JSON mode only."""
        if self.mode == "json":
            self._print(json.dumps({"figures": values}))

    def _print(self, text: str) -> None:
        """To stdout. What happens there does not end the run, which is wanted for its files: see `broken`."""
        if self.broken is not None:
            return
        try:
            print(text, flush=True)
        except (OSError, ValueError, AttributeError) as error:  # its reader left, it is full, or was never there
            self.broken = getattr(error, "strerror", None) or "closed"

    def _show_json(self, record: ProgressRecord) -> None:
        now, what = time.monotonic(), f"{record.stage}\n{record.message}"
        too_soon = what == self._stage and now - self._shown_at < _JSON_INTERVAL and record.fraction < 1.0
        if too_soon and not record.warning:
            return
        self._stage, self._shown_at = what, now
        self._print(json.dumps(record.as_dict()))

    def _show_bar(self, record: ProgressRecord) -> None:
        if sys.stderr is None or not sys.stderr.isatty():
            if record.stage != self._stage:
                self._stage = record.stage
                say(f"{record.fraction:4.0%}  {': '.join(filter(None, (record.stage, record.message)))}")
            return
        if self._bar is None:
            from tqdm import tqdm

            layout = "{desc:<28} {percentage:3.0f}% |{bar}| {elapsed}{postfix}"
            columns = min(shutil.get_terminal_size().columns, 110)
            self._bar = tqdm(total=1.0, bar_format=layout, file=sys.stderr, leave=True, ncols=columns, nrows=20)
        self._bar.n = max(self._bar.n, min(record.fraction, 1.0))
        self._bar.set_description_str(record.stage, refresh=False)
        left = "" if record.seconds_left is None else f"about {record.seconds_left:.0f} s left"
        self._bar.set_postfix_str(left, refresh=False)
        self._bar.refresh()


def quality_table(quality: dict) -> str:
    """The figures of `quality.json` as text, before and after side by side; what is absent is left out."""
    rows: list[tuple[str, str, str]] = []

    def pair(label: str, block: dict | None, key: str, unit: str = "", digits: int = 3) -> None:
        before, after = ((block or {}).get(when) or {} for when in ("before", "after"))
        if key in after:
            rows.append((label, _figure(before.get(key), digits, unit), _figure(after[key], digits, unit)))

    def single(label: str, block: dict | None, key: str, unit: str = "", digits: int = 3) -> None:
        if block and block.get(key) is not None:
            rows.append((label, "", _figure(block[key], digits, unit)))

    pair("correlation (NCC)", quality.get("similarity"), "ncc")
    pair("local correlation (LNCC)", quality.get("similarity"), "lncc")
    pair("mutual information", quality.get("similarity"), "mi")
    pair("labels, mean Dice", quality.get("labels"), "mean")
    _surfaces(quality, rows)
    pair("landmarks, mean error", quality.get("landmarks"), "mean_mm", " mm", 2)
    pair("landmarks, largest error", quality.get("landmarks"), "max_mm", " mm", 2)
    pair("true map, mean error", quality.get("true_map"), "mean_mm", " mm", 2)
    pair("true map, 95 % of errors below", quality.get("true_map"), "p95_mm", " mm", 2)
    single("overlap of the volumes", quality, "overlap_percent", " %", 1)
    single("folded voxels", quality.get("jacobian"), "fold_percent", " %", 4)
    single("smallest Jacobian", quality.get("jacobian"), "min")
    single("largest Jacobian", quality.get("jacobian"), "max")
    single("error of the inverse, mean", quality.get("inverse_error_mm"), "mean", " mm", 4)
    uncertainty = quality.get("uncertainty")
    single("uncertainty, median", uncertainty, "median_mm", " mm", 2)
    single("uncertainty, 90 % below", uncertainty, "p90_mm", " mm", 2)
    lines = [f"{'':32}{'before':>12}{'after':>12}"]
    lines += [f"{label:32}{before:>12}{after:>12}" for label, before, after in rows]
    if quality.get("verdict"):
        first, *more = quality["verdict"]["reasons"]
        lines.append(f"verdict: {quality['verdict']['word']}. {first}")
        lines += [f"{'':9}{reason}" for reason in more]
    if quality.get("start"):
        lines.append(f"started from: {quality['start']}")
    seconds = sum(stage.get("seconds", 0.0) for stage in quality.get("stages", []))
    if seconds:
        peak = max(stage.get("peak_mb", 0.0) for stage in quality["stages"]) / 1024
        lines.append(f"time: {seconds:.1f} s" + (f", peak memory {peak:.1f} GB" if peak else ""))
    lines += [f"Warning: {warning}" for warning in beyond_verdict(quality)]
    return "\n".join(lines)


def _surfaces(quality: dict, rows: list[tuple[str, str, str]]) -> None:
    """The labels' mean surface distances, averaged over the labels that are left."""
    means = []
    for when in ("before", "after"):
        each = ((quality.get("labels") or {}).get(when) or {}).get("surface_mm") or {}
        known = [figures["mean"] for figures in each.values() if figures]
        means.append(sum(known) / len(known) if known else None)
    if any(mean is not None for mean in means):
        before, after = (_figure(mean, 2, " mm") for mean in means)
        rows.append(("labels, mean surface distance", before, after))


def _figure(value: float | None, digits: int, unit: str) -> str:
    return "-" if value is None else f"{shown(value, digits)}{unit}"
