"""What kind of map the report is about, if it has no deformation, and what guided it."""

from __future__ import annotations

from .case import ReportCase
from .tables import MOST_ROWS, esc, first_rows, number

_OF_POINTS = (("Landmark", ""), ("Before, mm", "n"), ("After, mm", "n"))
_OF_SEGMENTS = (("Segment", ""), ("Weight", "n"), ("Dice before", "n"), ("Dice after", "n"))


def guidance(case: ReportCase) -> str:
    """The section; empty for a deformable map that nothing guided."""
    info = case.settings.get("info") or {}
    found = case.quality.get("guidance") or {}
    parts = [
        _linear(info.get("linear") or {}),
        _landmarks(found.get("landmarks"), info),
        _segments(found.get("segments"), info),
        _ignored(found.get("ignored_ml") or {}),
    ]
    return "".join(part for part in parts if part)


def _linear(linear: dict) -> str:
    """A linear map in numbers."""
    shown = {
        "turn_degrees": ("Turn", lambda degrees: f"{degrees:.2f}°"),
        "turn_axis_lps": ("Axis of the turn (L, P, S)", lambda axis: ", ".join(f"{part:.3f}" for part in axis)),
        "shift_of_center_mm": (
            "Shift of the content's center (L, P, S)",
            lambda shift: ", ".join(f"{part:.2f}" for part in shift) + " mm",
        ),
        "stretches": ("Stretches", lambda stretches: ", ".join(f"{part:.4f}" for part in stretches)),
    }
    rows = [(name, text(linear[key])) for key, (name, text) in shown.items() if linear.get(key) is not None]
    if not rows:
        return ""
    kind = linear.get("kind") or "linear"
    table = "".join(f"<tr><td>{esc(name)}</td><td>{esc(value)}</td></tr>" for name, value in rows)
    return f"<h3>{esc(kind.capitalize())} map: no deformation</h3><table>{table}</table>"


def _landmarks(landmarks: dict | None, info: dict) -> str:
    older = info.get("landmarks_guide")
    if landmarks is None:
        if older is None:
            return ""
        return (
            f"<h3>{_count(older['count'], 'landmark')}</h3><p>{_accuracy(older['accuracy_mm'])} Missed by "
            f"{number(older['rms_mm'], 2)} mm (root mean square), {number(older['max_mm'], 2)} mm at most.</p>"
        )
    # Before mending, where that was done, and not as aligned before any registration.
    mended = {point["name"]: point["before_mm"] for point in (info.get("mended") or {}).get("points") or []}
    points = sorted(landmarks["points"], key=lambda point: -(point["after_mm"] or 0.0))
    if not points:
        return ""
    rows = [
        (esc(point["name"]), *(number(point[when], 2) for when in ("before_mm", "after_mm")))
        + ((number(mended.get(point["name"]), 2),) if mended else ())
        for point in points
    ]
    columns = [*_OF_POINTS, *([("Before mending, mm", "n")] if mended else [])]
    worst = points[0]
    said = f"Farthest off: {esc(worst['name'])}, {number(worst['after_mm'], 2)} mm." if len(points) > 1 else ""
    return f"""<h3>{_count(len(points), "landmark")}</h3>
<p>{_accuracy(landmarks["accuracy_mm"])} {said}</p>{_table(columns, rows)}"""


def _accuracy(mm: float) -> str:
    if mm == 0:
        return "To be met exactly."
    return f"To be met within an accuracy of {number(mm, 2)} mm (standard deviation)."


def _segments(segments: list | None, info: dict) -> str:
    given = segments or info.get("segments_guide") or []
    if not given:
        return ""
    rows = [
        (esc(each["name"]), f"{each['weight']:g}", number(each.get("dice_before")), number(each.get("dice_after")))
        for each in given
    ]
    return f"<h3>{_count(len(given), 'segment')}</h3>{_table(_OF_SEGMENTS, rows)}"


def _ignored(volumes_ml: dict) -> str:
    parts = [
        f"{number(volumes_ml[side], 1)} mL of the {side} image" for side in ("fixed", "moving") if side in volumes_ml
    ]
    return f"<h3>Ignored</h3><p>{' and '.join(parts)}: not compared, and not stretched into.</p>" if parts else ""


def _count(count: int, name: str) -> str:
    return f"{count} {name} that guided it" if count == 1 else f"{count} {name}s that guided it"


def _table(columns, rows: list[tuple]) -> str:
    def cells(tag: str, row) -> str:
        return "".join(
            f"<{tag}{' class=' + chr(34) + kind + chr(34) if kind else ''}>{cell}</{tag}>"
            for (_, kind), cell in zip(columns, row, strict=True)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows[:MOST_ROWS])
    return f"<table><tr>{cells('th', [name for name, _ in columns])}</tr>{body}</table>{first_rows(len(rows))}"
