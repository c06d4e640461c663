"""Warnings about a result, as sentences; by the same limits as the verdict."""

from __future__ import annotations

from .limits import LIMITS, LITTLE_COVER_PERCENT, LOW_NCC


def warnings_of(quality: dict, inverse_report: dict | None = None) -> list[str]:
    """What a user must not miss, as sentences.

    quality: the blocks of `quality.json`. inverse_report: what `physical.invert` says, when it was asked.
    """
    notes = []
    folds = quality["jacobian"]["fold_percent"]
    if folds > LIMITS["fold_percent"]["check"]:
        notes.append(f"The map folds: {folds:.4g} % of the body's voxels have a determinant of 0 or less.")
    if quality["overlap_percent"] < LIMITS["overlap_percent"]["check"]:
        little = f"Only {quality['overlap_percent']:.1f} % of the fixed body lies in the moving volume."
        notes.append(little + _why_little(quality))
    covered = quality["notes"].get("field_covers_percent")
    if covered is not None and covered < LITTLE_COVER_PERCENT:
        notes.append(
            f"The displacement field covers only {covered:.0f} % of the fixed body: the transform may belong to other "
            "volumes. Outside its field it is affine."
        )
    before, after = quality["similarity"]["before"], quality["similarity"]["after"]
    known = [key for key in after if before[key] is not None and after[key] is not None]
    if known and all(after[key] <= before[key] for key in known) and any(after[key] < before[key] for key in known):
        notes.append("The volumes are less alike after registration than before, by all figures.")
    elif _little_in_common(after):
        notes.append(f"Low similarity after registration: NCC {after['ncc'] or 0.0:.2f}, MI {after['mi']:.2f} nats.")
    if after["ncc"] is None:
        notes.append("The volumes do not overlap after registration, or one of them is constant where they do.")
    if inverse_report and inverse_report.get("without_inverse"):
        notes.append(
            f"{inverse_report['without_inverse']} of {inverse_report['nodes']} nodes of the inverse field have no "
            "point that maps to them; the inverse is not valid there."
        )
    notes += _label_notes(quality)
    error = quality.get("inverse_error_mm")
    largest = LIMITS["inverse_error_voxels"]["check"] * quality["notes"]["moving_voxel_mm"]
    if error and error["mean"] > largest:
        notes.append(f"The inverse is inexact: {error['mean']:.2f} mm on average; choose a smaller field spacing.")
    return notes


def _little_in_common(similarity: dict) -> bool:
    mutual = similarity["mi"]
    weak = mutual is not None and mutual < LIMITS["mutual_information"]["check"]
    return weak and abs(similarity["ncc"] or 0.0) < LOW_NCC


def _why_little(quality: dict) -> str:
    backward = quality["notes"].get("overlap_percent_of_inverse")
    if backward is None:
        return ""
    if backward > LIMITS["overlap_percent"]["check"]:
        return (
            f" With the inverse of the transform it is {backward:.0f} %: fixed and moving are exchanged, or this is "
            "the inverse transform."
        )
    return " The transform does not belong to these volumes, or they share no field of view."


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
