"""The verdict on a registration in one word, with its reasons: `good`, `check` (look before you trust) or `poor`.

Each figure is held against two limits, see `limits.LIMITS`; the worst figure decides. What was not measured does not
count. The limits say what deserves a look, not what is right: figures can be good where the map is wrong, so look at
the pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..text_files import cut
from .limits import ENOUGH_LNCC, LOW_NCC, WORDS, limits_for, shown, word_of

_UNDECIDED = (
    "The images do not tell left from right: mirrored they would be as alike (local correlation {mirrored:.2f}) as "
    "they are ({as_given:.2f}). If an orientation may have been lost on the way here, check both."
)
_LEANING = (
    "The images do not tell left from right for certain, and mirrored they would be slightly more alike (local "
    "correlation {mirrored:.3f}) than they are ({as_given:.3f}): one of them may be mirrored left to right. Check both "
    "orientations."
)


_NAMED = 6  # pairs of landmarks, at most


class _Number(float):
    """A figure whose digits behind the point, where that many are asked for, are as many as it needs."""

    def __format__(self, spec: str) -> str:
        return (
            shown(float(self), int(spec[1:-1])) if spec.endswith("f") and spec != ".0f" else format(float(self), spec)
        )


@dataclass(frozen=True)
class _Check:
    """One figure: how to find it (None: not measured) and how to say it, by word."""

    name: str
    value: Callable[[dict], float | None]
    bad: str
    fine: str


def verdict(quality: dict) -> dict:
    """The verdict on the figures of `quality.json`.

    Args: quality: its blocks similarity, jacobian, overlap_percent, inverse_error_mm, labels, landmarks, uncertainty,
        orientation, pose, guidance, likeness (of a start; beside a similarity, of the start of what was measured, and
        at worst `check`); each may be None or absent. notes.moving_voxel_mm gives the inverse's error a scale,
        notes.fixed_body_mm and notes.fixed_voxel_mm the limits in mm theirs.
    Returns: word, reasons (sentences; what decides first), checks (name, word, value, text of each figure), thresholds.
    """
    table = limits_for(_block(quality, "notes", "fixed_body_mm"), _block(quality, "notes", "fixed_voxel_mm"))
    checks = []
    for check in _CHECKS:
        value = check.value(quality)
        if value is None:
            continue
        word = word_of(check.name, value, table)
        text = (check.fine if word == "good" else check.bad).format(value=_Number(value), **_words(quality))
        checks.append({"name": check.name, "word": word, "value": value, "text": text})
    if (quality.get("similarity") or {}).get("after", {}).get("ncc", 0.0) is None:
        text = "The volumes share no space after registration, or one of them is constant where they do."
        checks.insert(0, {"name": "no_common_space", "word": "poor", "value": None, "text": text})
    reached = _block(quality, "similarity", "after", "lncc") or 0.0
    if reached >= ENOUGH_LNCC:  # where no gain is asked for, what was reached is said instead
        text = f"The volumes are alike: {_SIMILARITY}.".format(**_words(quality))
        checks.insert(0, {"name": "high_similarity", "word": "good", "value": reached, "text": text})
    word = max((check["word"] for check in checks), key=WORDS.index, default="check")
    # A change for the better goes without saying: the figure itself tells before and after.
    deciding = [check for check in checks if check["word"] != "good"]
    deciding = deciding or [check for check in checks if not check["name"].endswith("_change")]
    deciding = sorted(deciding, key=lambda check: -WORDS.index(check["word"]))
    reasons = [check["text"] for check in deciding] or ["Nothing was measured."]
    return {"word": word, "reasons": reasons, "checks": checks, "thresholds": table}


def _block(quality: dict, *keys: str) -> Any:
    """What lies at a path of keys; None where a part of it is missing."""
    found: Any = quality
    for key in keys:
        found = (found or {}).get(key)
    return found


def _similarity_gain(quality: dict) -> float | None:
    before, after = (_block(quality, "similarity", when) or {} for when in ("before", "after"))
    gains = [after[k] - before[k] for k in ("lncc", "mi") if None not in (before.get(k), after.get(k))]
    if not gains or (after.get("lncc") or 0.0) >= ENOUGH_LNCC:
        return None
    return max(gains)


def _doubtful_start(quality: dict) -> float | None:
    return _beyond(quality, "doubtful_start", "likeness", "score") if quality.get("similarity") else None


def _weak_similarity(quality: dict) -> float | None:
    after = _block(quality, "similarity", "after") or {}
    if after.get("mi") is None or after.get("ncc") is None:
        return None
    return after["mi"] if abs(after["ncc"]) < LOW_NCC else None


def _inverse_voxels(quality: dict) -> float | None:
    mean, voxel = _block(quality, "inverse_error_mm", "mean"), _block(quality, "notes", "moving_voxel_mm")
    # There and back is told in fixed space, where voxels of a larger image are as much smaller.
    return None if mean is None else mean * (_block(quality, "size", "mean") or 1.0) / (voxel or 1.0)


def _factor(quality: dict, key: str) -> float | None:
    """A ratio of sizes, or its inverse where that is the larger one."""
    ratio = _block(quality, "size", key)
    return max(ratio, 1 / ratio) if ratio else None


def _change(quality: dict, block: str, key: str) -> float | None:
    before, after = (_block(quality, block, when, key) for when in ("before", "after"))
    return None if None in (before, after) else after - before


def _beyond(quality: dict, name: str, *place: str) -> float | None:
    """A figure that is said only where it is a fault."""
    value = _block(quality, *place)
    return None if value is None or word_of(name, value) == "good" else value


def _undecided(quality: dict) -> float | None:
    """How many times as alike the volumes are mirrored, where that leaves undecided which way is right."""
    found = quality.get("orientation") or {}
    if not found.get("undecided"):
        return None
    return _beyond({"ratio": found["mirrored"] / max(found["as_given"], 1e-6)}, "undecided_likeness", "ratio")


def _contradicting(quality: dict) -> list:
    return _block(quality, "guidance", "landmarks", "contradicting") or []


def _unseen_folds(quality: dict) -> float | None:
    """Folded nodes of the field, where no voxel's Jacobian tells of them."""
    seen = [_block(quality, "jacobian", key) for key in ("fold_percent", "fold_voxels_outside")]
    return None if any(seen) else _beyond(quality, "folded_nodes_percent", "notes", "folded_nodes_percent")


def orientation_note(orientation: dict | None) -> list[str]:
    """What to say, if anything, where images do not tell left from right; see `registration.mirrored`."""
    if not (orientation or {}).get("undecided"):
        return []
    found = {key: float(orientation[key]) for key in ("as_given", "mirrored")}  # type: ignore[index]
    return [(_LEANING if found["mirrored"] > found["as_given"] else _UNDECIDED).format(**found)]


def contradiction_note(pairs: Sequence[Sequence[str]]) -> list[str]:
    """What to say, if anything, of landmarks (pairs of names) that no map without folds can both reach."""
    if not pairs:
        return []
    more = f" and {len(pairs) - _NAMED} more" if len(pairs) > _NAMED else ""
    named = ", ".join(f"{cut(one, 60)} and {cut(other, 60)}" for one, other in pairs[:_NAMED]) + more
    return [
        f"Landmarks that guide the registration contradict each other: {named}. No map without folds reaches them all, "
        "and the result lies in between. Check where they are."
    ]


def _words(quality: dict) -> dict[str, str]:
    """Figures that sentences mention beside their own."""

    def figure(*keys: str, digits: int = 2) -> str:
        value = _block(quality, *keys)
        return "?" if value is None else shown(value, digits)

    voxels = _block(quality, "jacobian", "fold_voxels")
    return {
        "fold_voxels": "" if voxels is None else f" ({voxels} voxels)",
        "fold_voxels_outside": figure("jacobian", "fold_voxels_outside", digits=0),
        "folded_nodes": figure("notes", "folded_nodes", digits=0),
        "undecided": "".join(orientation_note(quality.get("orientation"))),
        "contradicting": "".join(contradiction_note(_contradicting(quality))),
        "as_given": figure("orientation", "as_given"),
        "mirrored": figure("orientation", "mirrored"),
        "turned": figure("pose", "turned_degrees", digits=0),
        "ncc": figure("similarity", "after", "ncc"),
        "lncc_before": figure("similarity", "before", "lncc"),
        "lncc_after": figure("similarity", "after", "lncc"),
        "mi_before": figure("similarity", "before", "mi"),
        "mi_after": figure("similarity", "after", "mi"),
        "inverse_mm": figure("inverse_error_mm", "mean"),
        "dice_before": figure("labels", "before", "mean"),
        "dice_after": figure("labels", "after", "mean"),
        "landmarks_before": figure("landmarks", "before", "mean_mm"),
        "landmarks_after": figure("landmarks", "after", "mean_mm"),
        "other_kind": "" if _block(quality, "likeness", "same_kind") in (None, True) else _OTHER_KIND,
        "size": figure("size", "mean", digits=1),
        "stretched": figure("size", "stretched", digits=1),
    }


_SIMILARITY = (
    "local correlation {lncc_before} before and {lncc_after} after, mutual information {mi_before} and {mi_after}"
)
_AGAINST_FOLDS = (
    "Register with a larger smoothness (--smoothness 2) or a coarser field (--field-spacing), or from another start "
    "(--robustness rotation, --initial-transform)."
)
_UNLIKE = (
    "At their best start the volumes have little in common (likeness {value:.2f}; pairs that belong together reach "
    "0.4 and more): another patient, another part of the body, or another pose?{other_kind}"
)
_OTHER_KIND = " They look like different kinds of scans, which are less alike than others."
_CHECKS = (
    _Check(
        "similarity_gain",
        _similarity_gain,
        f"The volumes are no more alike than before: {_SIMILARITY}.",
        f"The volumes are more alike than before: {_SIMILARITY}.",
    ),
    _Check(
        "mutual_information",
        _weak_similarity,
        "The volumes have little in common after registration: correlation {ncc}, mutual information {mi_after} nats.",
        "Correlation is low ({ncc}), but the volumes share {mi_after} nats of information, as other kinds of scans do.",
    ),
    _Check(
        "fold_percent",
        lambda q: _block(q, "jacobian", "fold_percent"),
        f"The map folds in {{value:.3g}} % of the body{{fold_voxels}}; look where. {_AGAINST_FOLDS}",
        "The map folds nowhere in the body.",
    ),
    _Check(
        "fold_percent_outside",
        lambda q: _beyond(q, "fold_percent_outside", "jacobian", "fold_percent_outside"),
        f"The map folds at {{fold_voxels_outside}} voxels outside the body; look where. {_AGAINST_FOLDS}",
        "",
    ),
    _Check(
        "folded_nodes_percent",
        _unseen_folds,
        "The map folds next to {folded_nodes} nodes of its displacement field, between voxels or beyond the fixed "
        f"volume. {_AGAINST_FOLDS}",
        "",
    ),
    _Check(
        "deformation_kept_percent",
        lambda q: _beyond(q, "deformation_kept_percent", "notes", "deformation_kept_percent"),
        f"The deformation folded beyond repair and was scaled down to {{value:.0f}} % everywhere. {_AGAINST_FOLDS}",
        "",
    ),
    _Check(
        "mirrored_likeness",
        lambda q: _beyond(q, "mirrored_likeness", "orientation", "ratio"),
        "The volumes are more alike when the moving one is mirrored (local correlation {mirrored}) than as it is "
        "({as_given}): probably left and right are exchanged in one of them, by a lost or wrong orientation. Check "
        "both orientations; no map that is delivered mirrors.",
        "",
    ),
    _Check("undecided_likeness", _undecided, "{undecided}", ""),
    _Check("contradicting_landmarks", lambda q: len(_contradicting(q)) or None, "{contradicting}", ""),
    _Check(
        "rival_pose",
        lambda q: _beyond(q, "rival_pose", "pose", "likeness"),
        "Another pose, turned by {turned} degrees, makes the volumes nearly as alike ({value:.2f} times): the one that "
        "was taken may be wrong. Look at the pictures, or begin with a rough alignment (--initial-transform).",
        "",
    ),
    _Check(
        "start_likeness",
        lambda q: None if q.get("similarity") else _block(q, "likeness", "score"),
        _UNLIKE,
        "At their best start the volumes are alike (likeness {value:.2f}; pairs that do not belong together stay below "
        "0.35).",
    ),
    _Check("doubtful_start", _doubtful_start, _UNLIKE, ""),
    _Check(
        "overlap_percent",
        lambda q: _block(q, "overlap_percent"),
        "Only {value:.1f} % of the fixed body lies in the moving volume; the map is a guess elsewhere.",
        "{value:.0f} % of the fixed body lies in the moving volume.",
    ),
    _Check(
        "inverse_error_voxels",
        _inverse_voxels,
        "There and back misses by {inverse_mm} mm on average ({value:.1f} voxels): the inverse is not to be relied on; "
        "choose a smaller field spacing.",
        "There and back misses by {inverse_mm} mm on average ({value:.2f} voxels).",
    ),
    _Check(
        "dice_mean",
        lambda q: _block(q, "labels", "after", "mean"),
        "The labels overlap little after registration: mean Dice {dice_after} (before: {dice_before}).",
        "The labels overlap after registration: mean Dice {dice_after} (before: {dice_before}).",
    ),
    _Check(
        "dice_change",
        lambda q: _change(q, "labels", "mean"),
        "The labels overlap less than before: mean Dice {dice_before} before, {dice_after} after.",
        "The labels overlap no less than before.",
    ),
    _Check(
        "landmarks_mean_mm",
        lambda q: _block(q, "landmarks", "after", "mean_mm"),
        "The landmarks are {value:.1f} mm apart on average after registration (before: {landmarks_before} mm).",
        "The landmarks are {value:.2f} mm apart on average after registration (before: {landmarks_before} mm).",
    ),
    _Check(
        "landmarks_mm_change",
        lambda q: _change(q, "landmarks", "mean_mm"),
        "The landmarks are farther apart than before: {landmarks_before} mm before, {landmarks_after} mm after.",
        "The landmarks are no farther apart than before.",
    ),
    _Check(
        "uncertainty_median_mm",
        lambda q: _block(q, "uncertainty", "median_mm"),
        "Half of the body is uncertain by more than {value:.1f} mm.",
        "Half of the body where it is known is uncertain by less than {value:.1f} mm.",
    ),
    _Check(
        "uncertainty_p90_mm",
        lambda q: _block(q, "uncertainty", "p90_mm"),
        "A tenth of the body is uncertain by more than {value:.1f} mm.",
        "90 % of the body where it is known is uncertain by less than {value:.1f} mm.",
    ),
    _Check(
        "size_factor",
        lambda q: _factor(q, "mean"),
        "The moving image is {size} times as large as the fixed one: check its voxel size.",
        "Both images are of about the same size.",
    ),
    _Check(
        "length_factor",
        lambda q: _factor(q, "stretched"),
        "Along one direction the moving image is {stretched} times as long as along the others, compared with the "
        "fixed one: check its voxel size and the distance between its slices.",
        "Both images have about the same proportions.",
    ),
    _Check(
        "unknown_percent",
        lambda q: _block(q, "uncertainty", "unknown_percent"),
        "For {value:.0f} % of the body the uncertainty is unknown: the moving image does not show it.",
        "For {value:.0f} % of the body the uncertainty is unknown: the moving image does not show it.",
    ),
)
