"""Quality metrics from arrays: similarity, overlap of labels, landmark errors. Data in, numbers out."""

from __future__ import annotations

import math

import numpy as np
import SimpleITK as sitk
import torch

from ..maps.exchange import array_from_tensor, tensor_from_array
from ..maps.separable import along_axes
from ..spaces import VolumeGrid

LNCC_WINDOW = 7
LNCC_STRIDE = 3
MI_BINS = 32
LOG2_LIMIT, LOG2_BINS = 3.0, 120  # the histogram of the determinant: an eighth to eight times, 0.05 wide
PERCENTS = (1, 5, 50, 95, 99)
MOST_FOLDS = 100
_PERCENTILE_VALUES = 4_000_000
_FLAT = 1e-4  # windows whose fixed variance is below this share of the whole one have nothing to correlate


def body_of(fixed: np.ndarray) -> np.ndarray:
    """Bool: above the 1st percentile plus 5 % of the 1-99 % range."""
    low, high = percentiles(fixed)
    body = fixed > low + 0.05 * (high - low)
    return body if body.any() else np.ones(fixed.shape, dtype=bool)


def size_mm(body: np.ndarray, grid: VolumeGrid) -> float:
    """Diagonal of the box around a body, mm; planes with less than a thousandth of it are left out."""
    total = np.count_nonzero(body)
    lengths = []
    for axis, spacing in enumerate(grid.spacing[::-1]):
        others = tuple(other for other in range(3) if other != axis)
        planes = np.flatnonzero(np.count_nonzero(body, axis=others) > 1e-3 * total)
        lengths.append((planes[-1] - planes[0] + 1 if len(planes) else body.shape[axis]) * spacing)
    return float(np.linalg.norm(lengths))


def size_change(affine_lps: np.ndarray) -> dict[str, float]:
    """`mean`: how many times as large the moving image is; `stretched`: how much more so along one direction."""
    longest, middle, shortest = np.linalg.svd(affine_lps[:3, :3], compute_uv=False)
    alone = longest / middle if longest * shortest > middle**2 else shortest / middle
    return {"mean": float(np.cbrt(longest * middle * shortest)), "stretched": float(alone)}


def percentiles(array: np.ndarray, percents=(1.0, 99.0)) -> tuple[float, float]:
    """From a regular sample of about a million voxels."""
    step = max(1, round((array.size / 1e6) ** (1 / 3)))
    low, high = np.percentile(array[::step, ::step, ::step], percents)
    return float(low), float(high)


def ncc(fixed: np.ndarray, moving: np.ndarray) -> float | None:
    """Correlation coefficient of two lists of values; None where one of them is constant."""
    if fixed.size < 2:
        return None
    a = fixed - fixed.mean(dtype=np.float64).astype(np.float32)
    b = moving - moving.mean(dtype=np.float64).astype(np.float32)
    power = float(np.dot(a, a)) * float(np.dot(b, b))
    return float(np.dot(a, b)) / math.sqrt(power) if power > 0 else None


def mutual_information(
    fixed: np.ndarray, moving: np.ndarray, fixed_range: tuple[float, float], moving_range: tuple[float, float]
) -> float | None:
    """Mutual information in nats from a joint histogram of 32 x 32 bins; values beyond the ranges are clipped."""
    if fixed.size < 2:
        return None
    joint = np.bincount(
        _bins(fixed, fixed_range) * MI_BINS + _bins(moving, moving_range), minlength=MI_BINS * MI_BINS
    ).reshape(MI_BINS, MI_BINS)
    p = joint / joint.sum()
    independent = p.sum(axis=1, keepdims=True) * p.sum(axis=0, keepdims=True)
    filled = p > 0
    return float((p[filled] * np.log(p[filled] / independent[filled])).sum())


def _bins(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    low, high = limits
    scaled = (values - np.float32(low)) * np.float32(MI_BINS / max(high - low, 1e-12))
    return np.clip(scaled, 0, MI_BINS - 1).astype(np.int32)


def lncc(fixed: np.ndarray, moving: np.ndarray, valid: np.ndarray, centers: np.ndarray) -> float | None:
    """Mean correlation coefficient in windows of 7 x 7 x 7 voxels, one at every third voxel.

    Args: (D, H, W) arrays; valid: voxels that count (both have data); centers: where windows may be centered.
    Windows with less than half of their voxels valid, or with a flat fixed image, are left out; None without any.
    """
    weight = tensor_from_array(valid).float()
    count = float(weight.sum())
    if count < 2:
        return None
    f, m = (_standardized(tensor_from_array(array), weight, count) for array in (fixed, moving))
    windows = [_windows(length) for length in fixed.shape]
    moments = (weight, f, m, f * f, m * m, f * m)
    n, sf, sm, sff, smm, sfm = (along_axes(moment[None, None], *windows)[0, 0] for moment in moments)
    at = tuple(slice(0, None, LNCC_STRIDE) for _ in range(3))
    whole = math.prod(min(LNCC_WINDOW, length) for length in fixed.shape)
    n = n.clamp(min=1.0)
    cov, vf, vm = sfm / n - sf * sm / n**2, sff / n - (sf / n) ** 2, smm / n - (sm / n) ** 2
    use = tensor_from_array(np.ascontiguousarray(centers[at])) & (n >= 0.5 * whole) & (vf > _FLAT)
    if not use.any():
        return None
    correlation = cov / torch.sqrt(vf.clamp(min=_FLAT) * vm.clamp(min=1e-3 * _FLAT))
    return float(correlation[use].clamp(-1, 1).mean())


def _windows(length: int) -> torch.Tensor:
    """Windows x nodes of one axis, 1 where a node lies in a window; products with it are quicker than pooling."""
    nodes, middles = torch.arange(length), torch.arange(0, length, LNCC_STRIDE)
    return ((nodes - middles[:, None]).abs() <= LNCC_WINDOW // 2).float()


def _standardized(array: torch.Tensor, weight: torch.Tensor, count: float) -> torch.Tensor:
    array = array.float()
    mean = float((array * weight).sum()) / count  # about, for the correlations are the same of any
    centered = (array - mean).mul_(weight)
    deviation = max(float(centered.norm()) / math.sqrt(count), 1e-15)
    return centered.div_(deviation)


def dice_per_label(fixed: np.ndarray, moving: np.ndarray, labels) -> dict[int, float]:
    """Dice of each label between two label arrays of one shape; both empty counts as 0."""
    labels = np.asarray(sorted(labels))
    if not len(labels):
        return {}
    place = np.full(int(max(fixed.max(), moving.max(), labels.max())) + 1, len(labels), dtype=np.int64)
    place[labels] = np.arange(len(labels))
    fixed, moving = fixed.ravel(), moving.ravel()
    if labels[0] > 0:  # background, most of a volume, need not be counted
        some = np.flatnonzero((fixed != 0) | (moving != 0))
        fixed, moving = fixed[some], moving[some]
    a, b = place[fixed], place[moving]
    both = np.bincount(a[a == b], minlength=len(labels) + 1)
    sizes = np.bincount(a, minlength=len(labels) + 1) + np.bincount(b, minlength=len(labels) + 1)
    return {int(label): float(2 * both[n] / sizes[n]) if sizes[n] else 0.0 for n, label in enumerate(labels)}


def jacobian_metrics(jacobian: np.ndarray, body: np.ndarray) -> dict:
    """How the map changes volume in the body.

    fold_percent, fold_voxels, fold_voxels_outside and fold_percent_outside (of what is not body), min, max, sd_log (of
    the natural logarithm, over determinants above 0), mean, sd, p1 to p99, and a histogram of the base-2 logarithm: 0
    keeps volume, 1 doubles it; values beyond the edges count in the outermost bins, folds (determinants of 0 or less)
    in none.
    """
    values = jacobian[body]
    everywhere, outside = int(np.count_nonzero(jacobian <= 0)), jacobian.size - values.size
    positive = values[values > 0]
    logarithm = array_from_tensor(tensor_from_array(positive).log()) if positive.size else positive
    some = values[:: max(1, values.size // _PERCENTILE_VALUES)]
    percents = dict(zip(PERCENTS, np.percentile(some, PERCENTS).tolist(), strict=True))
    return {
        "fold_percent": 100.0 * (1.0 - positive.size / values.size),
        "fold_voxels": values.size - positive.size,
        "fold_voxels_outside": everywhere - (values.size - positive.size),
        "fold_percent_outside": 100.0 * (everywhere - (values.size - positive.size)) / max(outside, 1),
        "min": float(values.min()),
        "max": float(values.max()),
        "sd_log": float(logarithm.std(dtype=np.float64)) if positive.size else None,
        "mean": float(values.mean(dtype=np.float64)),
        "sd": float(values.std(dtype=np.float64)),
        **{f"p{percent}": value for percent, value in percents.items()},
        "histogram": _log2_histogram(logarithm),
    }


def _log2_histogram(natural_logarithm: np.ndarray) -> dict[str, list]:
    edges = np.round(np.linspace(-LOG2_LIMIT, LOG2_LIMIT, LOG2_BINS + 1), 6)
    scale = LOG2_BINS / (2 * LOG2_LIMIT)
    # Counting whole bin numbers: several times as fast as comparing with edges.
    place = np.floor(natural_logarithm * np.float32(scale / math.log(2.0)) + np.float32(LOG2_BINS / 2))
    place = np.clip(place, 0, LOG2_BINS - 1).astype(np.uint8)
    return {"log2_edges": edges.tolist(), "counts": np.bincount(place, minlength=LOG2_BINS).tolist()}


def fold_regions(jacobian: np.ndarray, body: np.ndarray, grid: VolumeGrid) -> dict:
    """`folds`: connected regions of the body with determinants of 0 or less, largest first; `fold_regions`: how many.

    Each region: voxels, volume_mm3 and center_lps; at most 100 are listed. Voxels that touch at a corner connect.
    """
    folded = (jacobian <= 0) & body
    if not folded.any():
        return {"folds": [], "fold_regions": 0}
    image = grid.image(folded.view(np.uint8))
    regions = sitk.RelabelComponent(sitk.ConnectedComponent(image, True), sortByObjectSize=True)
    shapes = sitk.LabelShapeStatisticsImageFilter()
    shapes.ComputePerimeterOff()
    shapes.Execute(regions)
    found = shapes.GetLabels()
    listed = [
        {
            "voxels": int(shapes.GetNumberOfPixels(label)),
            "volume_mm3": float(shapes.GetPhysicalSize(label)),
            "center_lps": [float(x) for x in shapes.GetCentroid(label)],
        }
        for label in found[:MOST_FOLDS]
    ]
    return {"folds": listed, "fold_regions": len(found)}


def error_metrics(errors_mm: np.ndarray) -> dict:
    """mean_mm, max_mm and n of those that are finite, and all of them, errors_mm (None where not finite)."""
    known = errors_mm[np.isfinite(errors_mm)]
    return {
        "mean_mm": float(known.mean()) if known.size else None,
        "max_mm": float(known.max()) if known.size else None,
        "n": len(known),
        "errors_mm": [value if np.isfinite(value) else None for value in errors_mm.tolist()],
    }


def uncertainty_metrics(uncertainty_mm: np.ndarray, body: np.ndarray) -> dict | None:
    """mean_mm, median_mm, p90_mm of what is known in the body, and unknown_percent (NaN); None where nothing is."""
    values = uncertainty_mm[body]
    known = values[np.isfinite(values)]
    if not known.size:
        return None
    median, p90 = np.percentile(known[:: max(1, known.size // _PERCENTILE_VALUES)], (50, 90))
    return {
        "mean_mm": float(known.mean(dtype=np.float64)),
        "median_mm": float(median),
        "p90_mm": float(p90),
        "unknown_percent": 100.0 * (1.0 - known.size / values.size),
    }
