"""What `quality.json` holds: the metrics of a result, judged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from ..progress import StageTiming
from .finite import finite
from .verdict import verdict
from .warnings import warnings_of


def judged(
    metrics: dict,
    *,
    start: str,
    timings: Iterable[StageTiming],
    warnings: Iterable[str] = (),
    inverse_report: dict | None = None,
    notes: dict | None = None,
) -> dict:
    """Metrics with their verdict, all warnings (each once), and how the result came about.

    Args:
        metrics: of `measure`. start: where the registration started. warnings: known before anything was measured.
        inverse_report: what `physical.invert` says. notes: further ones.
    """
    metrics, lost = finite(metrics)
    all_notes = dict(metrics["notes"])
    found = [*warnings, *warnings_of(metrics, inverse_report)]
    if lost:
        found.append(f"Not measured, since the numbers are not finite: {', '.join(lost)}.")
    if inverse_report:
        all_notes["inverse_nodes_without_inverse"] = inverse_report.get("without_inverse", 0)
        if "own_percent" in inverse_report:
            all_notes["inverse_own_percent"] = inverse_report["own_percent"]
    return {
        "verdict": verdict(metrics),
        **{key: value for key, value in metrics.items() if key != "notes"},
        "start": start,
        "stages": [asdict(timing) for timing in timings],
        "warnings": list(dict.fromkeys(found)),
        "notes": all_notes | (notes or {}),
    }
