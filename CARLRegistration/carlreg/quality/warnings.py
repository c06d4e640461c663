"""Warnings about a result, as sentences: what the verdict finds fault with, in its words, and what no metric tells."""

from __future__ import annotations

from .limits import LIMITS, LITTLE_COVER_PERCENT, LOW_LNCC
from .verdict import orientation_note, verdict

# Faults that are warned of before all others.
_FIRST = (
    "mirrored_likeness",
    "rival_pose",
    "fold_percent",
    "fold_percent_outside",
    "folded_nodes_percent",
    "deformation_kept_percent",
    "overlap_percent",
)


def warnings_of(quality: dict, inverse_report: dict | None = None) -> list[str]:
    """What a user must not miss, as sentences.

    quality: the blocks of `quality.json`. inverse_report: what `physical.invert` says, when it was asked.
    """
    faults = {check["name"]: check["text"] for check in verdict(quality)["checks"] if check["word"] != "good"}
    found = [faults[name] for name in _FIRST if name in faults]
    found += orientation_note(quality.get("orientation"))
    found += [faults["doubtful_start"]] if "doubtful_start" in faults else []
    if "overlap_percent" in faults:
        found += _why_little(quality)
    found += [faults[name] for name in ("size_factor", "length_factor") if name in faults]
    covered = quality["notes"].get("field_covers_percent")
    if covered is not None and covered < LITTLE_COVER_PERCENT:
        found.append(
            f"The displacement field covers only {covered:.0f} % of the fixed body: the transform may belong to other "
            "volumes. Outside its field it is affine."
        )
    if "similarity_gain" in faults and _less_alike(quality["similarity"]):
        found.append(faults["similarity_gain"])
    elif "mutual_information" in faults:
        found.append(faults["mutual_information"])
    elif (lncc := quality["similarity"]["after"]["lncc"]) is not None and lncc < LOW_LNCC:
        found.append(
            f"The volumes agree little after registration (local correlation {lncc:.2f}): look at the result, or try "
            "the robustness Rotation (--robustness rotation)."
        )
    if "no_common_space" in faults:
        found.append(faults["no_common_space"])
    if inverse_report and inverse_report.get("without_inverse"):
        found.append(
            f"{inverse_report['without_inverse']} of {inverse_report['nodes']} nodes of the inverse field have no "
            "point that maps to them; the inverse is not valid there."
        )
    found += _label_notes(quality)
    found += _not_measured(quality)
    if "inverse_error_voxels" in faults:
        found.append(faults["inverse_error_voxels"])
    return found


def beyond_verdict(quality: dict) -> list[str]:
    """The warnings that the verdict's reasons do not say already: what stands below them."""
    reasons = (quality.get("verdict") or {}).get("reasons") or []
    return [warning for warning in quality.get("warnings") or [] if warning not in reasons]


def _less_alike(similarity: dict) -> bool:
    """By no measure more alike than before, and by one less."""
    pairs = [(similarity["before"][key], after) for key, after in similarity["after"].items()]
    known = [(before, after) for before, after in pairs if before is not None and after is not None]
    return all(after <= before for before, after in known) and any(after < before for before, after in known)


def _why_little(quality: dict) -> list[str]:
    inverse = quality["notes"].get("overlap_percent_of_inverse")
    if inverse is None:
        return []
    if inverse > LIMITS["overlap_percent"]["check"]:
        return [
            f"With the inverse of the transform {inverse:.0f} % of the fixed body lies there: fixed and moving are "
            "exchanged, or this is the inverse transform."
        ]
    return ["The transform does not belong to these volumes, or they share no field of view."]


def _not_measured(quality: dict) -> list[str]:
    """What was left out, and why."""
    found = [f"Not measured: {name} ({reason})." for name, reason in quality["notes"].get("not_measured", {}).items()]
    errors = ((quality.get("landmarks") or {}).get("after") or {}).get("errors_mm") or []
    absurd = [str(number) for number, error in enumerate(errors, start=1) if error is None]
    if absurd:
        found.append(
            f"Landmarks left out, since they lie too far away to be measured: number {', '.join(absurd[:20])}. Check "
            "the file."
        )
    return found


def _label_notes(quality: dict) -> list[str]:
    """What is odd about the label maps."""
    alone = quality["notes"].get("labels_without_counterpart")
    if alone is None:
        return []
    fixed, moving = (f"{', '.join(map(str, alone[side][:20])) or 'none'}" for side in ("fixed", "moving"))
    if quality["labels"] is None:
        return [
            f"The label maps have no label in common (fixed only: {fixed}; moving only: {moving}): give both maps the "
            "same number for the same structure."
        ]
    notes = []
    if alone["fixed"] or alone["moving"]:
        notes.append(f"Labels that only one label map has are left out (fixed only: {fixed}; moving only: {moving}).")
    gone = [label for label, dice in quality["labels"]["after"]["per_label"].items() if dice == 0.0]
    if gone:
        notes.append(f"Labels that do not overlap at all after registration: {', '.join(gone[:20])}.")
    return notes
