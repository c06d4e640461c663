"""What a good registration looks like in numbers: the one table of limits, for verdicts and warnings. Plain data."""

from __future__ import annotations

WORDS = ("good", "check", "poor")

#: What limits in mm are written for; see `limits_for`.
TYPICAL_BODY_MM, TYPICAL_VOXEL_MM = 400.0, 2.0

#: Beyond the first limit the word is `check`, beyond the second `poor` (None: never); "below" says in which direction.
#: Those in mm are for a body of `TYPICAL_BODY_MM`.
LIMITS: dict[str, dict] = {
    "fold_percent": {
        "check": 0.0,
        "poor": 0.5,
        "unit": "% of the body",
        "meaning": "voxels whose Jacobian determinant is 0 or less",
    },
    "fold_percent_outside": {
        "check": 0.0,
        "poor": 5.0,
        "unit": "% of what is outside the body",
        "meaning": "the same for the fixed volume's other voxels",
    },
    "folded_nodes_percent": {
        "check": 0.0,
        "poor": 5.0,
        "unit": "% of the field's nodes",
        "meaning": "nodes of the displacement field next to which the map folds, where no voxel shows it",
    },
    "deformation_kept_percent": {
        "check": 100.0,
        "poor": 50.0,
        "below": True,
        "unit": "%",
        "meaning": "what is left of the deformation after it was damped because it folded beyond repair",
    },
    "mirrored_likeness": {
        "check": 1.1,
        "poor": 2.0,
        "unit": "times",
        "meaning": "how much more alike the volumes are (local correlation, affine) when the moving one is mirrored",
    },
    "undecided_likeness": {
        "check": 0.95,
        "poor": None,
        "unit": "times",
        "meaning": "the same where it leaves undecided which way round is right: nearly as alike mirrored",
    },
    "rival_pose": {
        "check": 0.85,
        "poor": None,
        "unit": "times",
        "meaning": "how alike another pose makes the volumes (affine), as a share of the one that was taken; asked for "
        "where rotations were searched",
    },
    "contradicting_landmarks": {
        "check": 0,
        "poor": None,
        "unit": "pairs",
        "meaning": "landmarks that guide the map and that no map without folds can both reach",
    },
    "start_likeness": {
        "check": 0.37,
        "poor": 0.25,
        "below": True,
        "unit": "",
        "meaning": "squared local correlation at the best start, on coarse images, less for a smaller overlap; asked "
        "for before a registration (pairs that do not belong together reach 0.08 to 0.35, others 0.39 and more)",
    },
    "doubtful_start": {
        "check": 0.37,
        "poor": None,
        "below": True,
        "unit": "",
        "meaning": "the same of a registration that went on from there: its own figures say what became of it",
    },
    "overlap_percent": {
        "check": 30.0,
        "poor": 5.0,
        "below": True,
        "unit": "% of the body",
        "meaning": "part of the fixed body that lies in the moving volume",
    },
    "similarity_gain": {
        "check": 0.005,
        "poor": -0.02,
        "below": True,
        "unit": "",
        "meaning": "largest gain of local correlation (LNCC) and mutual information (nats); not asked for where LNCC "
        "reaches 0.8",
    },
    "mutual_information": {
        "check": 0.1,
        "poor": 0.02,
        "below": True,
        "unit": "nats",
        "meaning": "mutual information after registration, where the correlation (NCC) is below 0.2 as well",
    },
    "inverse_error_voxels": {
        "check": 0.5,
        "poor": 3.0,
        "unit": "voxels",
        "meaning": "mean distance after there and back, in the moving volume's smallest voxel edge",
    },
    "dice_mean": {
        "check": 0.6,
        "poor": 0.3,
        "below": True,
        "unit": "",
        "meaning": "mean Dice of the labels that both label maps have",
    },
    "dice_change": {
        "check": -0.005,
        "poor": -0.05,
        "below": True,
        "unit": "",
        "meaning": "mean Dice after minus before",
    },
    "landmarks_mean_mm": {
        "check": 3.0,
        "poor": 10.0,
        "unit": "mm",
        "meaning": "mean landmark error",
    },
    "landmarks_mm_change": {
        "check": 0.2,
        "poor": 2.0,
        "unit": "mm",
        "meaning": "mean landmark error after minus before",
    },
    "uncertainty_median_mm": {
        "check": 5.0,
        "poor": 15.0,
        "unit": "mm",
        "meaning": "half of the body, where it is known, is less uncertain than this",
    },
    "uncertainty_p90_mm": {
        "check": 12.0,
        "poor": 40.0,
        "unit": "mm",
        "meaning": "90 % of the body, where it is known, is less uncertain than this",
    },
    "size_factor": {
        "check": 1.3,
        "poor": None,
        "unit": "times",
        "meaning": "how much larger or smaller the moving image is than the fixed one",
    },
    "length_factor": {
        "check": 1.4,
        "poor": None,
        "unit": "times",
        "meaning": "how much more so along one direction than along the others",
    },
    "unknown_percent": {
        "check": 70.0,
        "poor": 97.0,
        "unit": "% of the body",
        "meaning": "part of the body whose uncertainty is unknown because the moving image does not show it",
    },
}
ENOUGH_LNCC = 0.8  # from which on no gain of similarity is asked for
LOW_LNCC = 0.1  # an unrelated pair ends near 0.05, a good one well above 0.2
LOW_NCC = 0.2  # below which mutual information has to tell whether the volumes have anything in common
LITTLE_COVER_PERCENT = 50.0  # of the body: a displacement field that covers less may belong to other volumes
NO_OVERLAP_PERCENT = 5.0  # of the body: below it the transform may be one of other volumes, or the inverse one
UNLIKE_BEFORE_PERCENT = 5.0  # of the body: headers with less overlap say nothing about the alignment before


def limits_for(body_mm: float | None, voxel_mm: float | None) -> dict[str, dict]:
    """LIMITS for a body of another size: those in mm grow and shrink with it.

    A mouse is registered as well as a man when the errors are the same share of both; but nothing can be asked for
    that is much smaller than a voxel.

    Args: body_mm: diagonal of the fixed body's box. voxel_mm: the fixed voxel's mean edge. None: LIMITS as they are.
    """
    if not body_mm or not voxel_mm:
        return LIMITS
    times = max(body_mm / TYPICAL_BODY_MM, voxel_mm / TYPICAL_VOXEL_MM)
    return {
        name: limits | {word: limits[word] * times for word in ("check", "poor")} if limits["unit"] == "mm" else limits
        for name, limits in LIMITS.items()
    }


def shown(value: float, digits: int) -> str:
    """A figure with so many digits behind the point, of a small one as many that count."""
    return f"{value:.{digits}f}" if value == 0 or abs(value) >= 10.0**-digits else f"{value:.{digits}g}"


def word_of(name: str, value: float, table: dict[str, dict] = LIMITS) -> str:
    """The word for a metric of LIMITS, or of a table like it."""
    limits = table[name]

    def beyond(limit: float | None) -> bool:
        return limit is not None and (value < limit if limits.get("below") else value > limit)

    return "poor" if beyond(limits["poor"]) else "check" if beyond(limits["check"]) else "good"
