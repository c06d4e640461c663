"""The benchmark's registration cases.

`load_case(name)` gives a pair with whatever truth belongs to it (landmarks, labels or the exact map), by which
`judging.evaluate` judges a map from fixed to moving points. All points are LPS mm. The volumes come from the
evaluation folder (see `data_folder.py`); harder cases are made from them here, always the same way.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

TESTING = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTING), str(TESTING.parent / "CARLRegistration")]

from benchmarks.geometry import (  # noqa: E402
    apply_matrix,
    body_threshold,
    center_lps,
    crop,
    gather,
    inside,
    lps_from_ijk,
    pad,
    plain_grid,
    resample,
    rigid_matrix,
    turn,
    voxel_centers_lps,
)
from carlreg.phantom import PosedDeformation  # noqa: E402
from data_folder import MISSING, find_data_folder  # noqa: E402

PointMap = Callable[[np.ndarray], np.ndarray]

LUNG_CASES = ("lung", "lung_40", "lung_shifted", "lung_rot30", "lung_rot90", "lung_rot180")
LIVER_CASES = ("eth18_1_10", "eth18_3_10", "eth19_1_6", "eth19_1_9")
CASES = (*LUNG_CASES, "brain", *LIVER_CASES, "abdomen_40", "abdomen_repainted")
EXTRA_CASES = ("large",)
SHIFT_VOXELS = (0, 15, 30, 45)
CUT_CASES = ("lung", "brain", "eth19_1_6", "abdomen_40")
# An axis that is none of the images' own, for the turned cases.
OBLIQUE_AXIS = np.array([2.0, 3.0, 6.0]) / 7.0


@dataclass(frozen=True)
class Case:
    """A pair of volumes and its truth.

    fixed_mask, moving_mask: organ masks where the source has them; not given to the methods.
    landmarks_*_lps: N x 3 matching points, or None. *_labels: label maps on the images' grids, or None.
    truth: the exact map of N x 3 fixed points to moving points, or None.
    robustness: what our method is told about the poses. options: what else it is told, as command line options.
    background: what lies beyond the moving content.
    judged_in: the known map is judged where it leads into this image's box; None = the moving image's.
    judged_every: the known map is judged at every nth voxel along each axis (a large volume's takes 12 GB at all).
    """

    name: str
    fixed: sitk.Image
    moving: sitk.Image
    background: float
    fixed_mask: sitk.Image | None = None
    moving_mask: sitk.Image | None = None
    landmarks_fixed_lps: np.ndarray | None = None
    landmarks_moving_lps: np.ndarray | None = None
    fixed_labels: sitk.Image | None = None
    moving_labels: sitk.Image | None = None
    truth: PointMap | None = None
    robustness: str = "translation"
    options: tuple[str, ...] = ()
    judged_in: sitk.Image | None = None
    judged_every: int = 1


def load_case(name: str) -> Case:
    """The case of that name (see CASES, EXTRA_CASES).

    `NAME+15` is its `shift_variant` by 15 voxels, `NAME%60` its `cut_variant` to 60 %, and `NAME%60u` the uncut pair
    judged where that one is.

    Raises FileNotFoundError when the evaluation volumes are missing, KeyError for an unknown name.
    """
    name, _, percent = name.partition("%")
    if percent:
        return cut_variant(load_case(name), int(percent.removesuffix("u")), uncut=percent.endswith("u"))
    name, _, voxels = name.partition("+")
    if name not in CASES + EXTRA_CASES:
        raise KeyError(f"unknown case {name!r}; known are {', '.join(CASES + EXTRA_CASES)}")
    if find_data_folder() is None:
        raise FileNotFoundError(MISSING)
    if name in LUNG_CASES:
        case = _LUNG_VARIANTS[name](_lung())
    elif name in LIVER_CASES:
        case = _liver(name)
    elif name == "brain":
        case = _brain()
    elif name == "abdomen_40":
        case = _abdomen_40()
    elif name == "abdomen_repainted":
        case = _abdomen_repainted()
    else:
        case = _large()
    return shift_variant(case, int(voxels)) if voxels else case


def _with_landmarks_inside(case: Case) -> Case:
    """The case with only the landmarks that both fields of view contain."""
    keep = inside(case.fixed, case.landmarks_fixed_lps) & inside(case.moving, case.landmarks_moving_lps)
    return replace(
        case,
        landmarks_fixed_lps=case.landmarks_fixed_lps[keep],
        landmarks_moving_lps=case.landmarks_moving_lps[keep],
    )


def _read(file: str) -> sitk.Image:
    return sitk.ReadImage(str(find_data_folder() / f"{file}.nii.gz"))


def _read_landmarks(file: str) -> tuple[np.ndarray, np.ndarray]:
    with (find_data_folder() / f"{file}.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return tuple(np.array([[float(r[f"{side}_{a}"]) for a in "xyz"] for r in rows]) for side in ("fixed", "moving"))


def _lung() -> Case:
    fixed_points, moving_points = _read_landmarks("lung_ct_landmarks_lps")
    return Case(
        name="lung",
        fixed=_read("lung_ct_baseline_fixed"),
        moving=_read("lung_ct_followup_moving"),
        background=-1024.0,
        fixed_mask=_read("lung_ct_baseline_fixed_mask"),
        moving_mask=_read("lung_ct_followup_moving_mask"),
        landmarks_fixed_lps=fixed_points,
        landmarks_moving_lps=moving_points,
    )


def _lung_40(case: Case) -> Case:
    """Fixed keeps the upper 70 % of its length, moving the lower 70 %: 40 % in common."""
    nx, ny, nz = case.fixed.GetSize()
    fixed_box = ((0, 0, round(0.3 * nz)), (nx, ny, nz))
    mx, my, mz = case.moving.GetSize()
    moving_box = ((0, 0, 0), (mx, my, round(0.7 * mz)))
    cut = replace(
        case,
        name="lung_40",
        fixed=crop(case.fixed, *fixed_box),
        moving=crop(case.moving, *moving_box),
        fixed_mask=crop(case.fixed_mask, *fixed_box),
        moving_mask=crop(case.moving_mask, *moving_box),
    )
    return _with_landmarks_inside(cut)


def _lung_shifted(case: Case) -> Case:
    """Moving's field of view lies (15, 20, 26) voxels = (20, 27, 65) mm further left, posterior and superior."""
    shift = np.array([15, 20, 26])
    stop = np.asarray(case.moving.GetSize())

    def shifted(image, value):
        return pad(crop(image, shift, stop), (0, 0, 0), shift, value)

    moved = replace(
        case,
        name="lung_shifted",
        moving=shifted(case.moving, case.background),
        moving_mask=shifted(case.moving_mask, 0),
    )
    return _with_landmarks_inside(moved)


def _lung_turned(case: Case, degrees: float) -> Case:
    """Moving turned about an oblique axis through its middle; nothing is lost, the header stays plain."""
    center = center_lps(case.moving)
    turned_from_moving = turn(OBLIQUE_AXIS, degrees, center)
    size = np.asarray(case.moving.GetSize())
    corners = np.array([[(c >> a) & 1 for a in range(3)] for c in range(8)]) * (size - 1)
    matrix = rigid_matrix(turned_from_moving)
    reached = apply_matrix(matrix, apply_matrix(lps_from_ijk(case.moving), corners))
    grid = plain_grid(center, 2 * np.abs(reached - center).max(axis=0) + 4.0, (1.75, 1.75, 1.75))
    moving_from_turned = turned_from_moving.GetInverse()
    return replace(
        case,
        name=f"lung_rot{degrees:g}",
        moving=resample(case.moving, grid, moving_from_turned, background=case.background),
        moving_mask=resample(case.moving_mask, grid, moving_from_turned, nearest=True),
        landmarks_moving_lps=apply_matrix(matrix, case.landmarks_moving_lps),
        robustness="rotation",
    )


_LUNG_VARIANTS: dict[str, Callable[[Case], Case]] = {
    "lung": lambda case: case,
    "lung_40": _lung_40,
    "lung_shifted": _lung_shifted,
    "lung_rot30": lambda case: _lung_turned(case, 30),
    "lung_rot90": lambda case: _lung_turned(case, 90),
    "lung_rot180": lambda case: _lung_turned(case, 180),
}


def _brain() -> Case:
    return Case(
        name="brain",
        fixed=_read("brain_vxm_fixed"),
        moving=_read("brain_l2rtut_moving"),
        background=0.0,
        fixed_labels=_read("brain_vxm_fixed_seg"),
        moving_labels=_read("brain_l2rtut_moving_seg"),
    )


def _liver(name: str) -> Case:
    subject, _, cycle = name.partition("_")
    fixed_points, moving_points = _read_landmarks(f"liver_mr_{subject}_cyc_{cycle}_landmarks_lps")
    return Case(
        name=name,
        fixed=_read(f"liver_mr_{subject}_exh_fixed"),
        moving=_read(f"liver_mr_{subject}_cyc_{cycle}_moving"),
        background=0.0,
        landmarks_fixed_lps=fixed_points,
        landmarks_moving_lps=moving_points,
    )


def _known_map(center: np.ndarray, extent_mm: np.ndarray) -> PosedDeformation:
    """The pose and deformation of the abdomen cases: 12 degrees, a shift of (14, -9, 22) mm, pushes up to 14 mm."""
    random = np.random.default_rng(7)
    count = 10
    centers = center + (random.random((count, 3)) - 0.5) * extent_mm * 0.7
    pushes = random.normal(size=(count, 3))
    pushes *= random.uniform(5.0, 11.0, size=(count, 1)) / np.linalg.norm(pushes, axis=1, keepdims=True)
    widths = random.uniform(32.0, 60.0, size=count)
    rigid = rigid_matrix(turn(OBLIQUE_AXIS, 12.0, center, (14.0, -9.0, 22.0)))
    return PosedDeformation(rigid, centers, pushes, widths)


def _abdomen_40() -> Case:
    """One abdomen CT seen twice: the upper 70 % as it is; the lower 70 % posed and deformed, on another grid."""
    whole, labels = _read("abdomen_ct_ts"), _read("abdomen_ct_ts_seg")
    extent = np.asarray(whole.GetSize()) * np.asarray(whole.GetSpacing())
    center = center_lps(whole)
    truth = _known_map(center, extent)
    nx, ny, nz = whole.GetSize()
    fixed_box = ((0, 0, round(0.3 * nz)), (nx, ny, nz))
    # The moving field of view is the lower 70 % around where the pose puts the body; its axes are plain.
    middle = apply_matrix(truth.pose, center[None])[0] - np.array([0.0, 0.0, 0.15 * extent[2]])
    grid = plain_grid(middle, extent * np.array([1.05, 1.05, 0.7]), (2.7, 2.7, 3.3))
    sources = truth.inverse(voxel_centers_lps(grid))
    return Case(
        name="abdomen_40",
        fixed=crop(whole, *fixed_box),
        moving=gather(whole, grid, sources, background=-1024.0),
        background=-1024.0,
        fixed_labels=crop(labels, *fixed_box),
        moving_labels=gather(labels, grid, sources, nearest=True),
        truth=truth,
    )


# CT numbers of air, lung, fat, water, soft tissue, vessels with contrast agent, bone; and how bright an invented MR
# sequence shows them: neither more nor less than with CT, but in another order.
_REPAINT_HU = (-1000.0, -800.0, -100.0, 0.0, 60.0, 160.0, 350.0, 1500.0)
_REPAINT_MR = (0.0, 25.0, 230.0, 50.0, 120.0, 190.0, 35.0, 10.0)


def _abdomen_repainted() -> Case:
    """The abdomen pair with moving painted like an MR image: the contrast of two modalities, with the map known."""
    case = _abdomen_40()
    array = sitk.GetArrayFromImage(case.moving).astype(np.float64)
    painted = np.interp(array, _REPAINT_HU, _REPAINT_MR)
    painted = np.abs(painted + np.random.default_rng(11).normal(0.0, 4.0, painted.shape) * (array > -990))
    moving = sitk.GetImageFromArray(painted.astype(np.float32))
    moving.CopyInformation(case.moving)
    return replace(case, name="abdomen_repainted", moving=moving, background=0.0, options=("--similarity", "mind"))


def _large() -> Case:
    """A pair of 512 x 512 x 400 voxels, for memory: the abdomen CT on a fine grid, and posed and deformed."""
    whole = _read("abdomen_ct_ts")
    extent = np.asarray(whole.GetSize()) * np.asarray(whole.GetSpacing())
    center = center_lps(whole)
    truth = _known_map(center, extent)
    coarse = plain_grid(apply_matrix(truth.pose, center[None])[0], extent * 1.05, (3.0, 3.0, 3.0))
    moving = gather(whole, coarse, truth.inverse(voxel_centers_lps(coarse)), background=-1024.0)

    def refined(image):
        spacing = np.asarray(image.GetSize()) * np.asarray(image.GetSpacing()) / np.array([512, 512, 400])
        grid = plain_grid(center_lps(image), spacing * np.array([511.5, 511.5, 399.5]), spacing)
        return resample(image, grid, background=-1024.0)

    return Case(
        name="large", fixed=refined(whole), moving=refined(moving), background=-1024.0, truth=truth, judged_every=2
    )


def shift_variant(case: Case, voxels: int) -> Case:
    """The case with moving's content `voxels` further along each axis longer than 100 voxels, and the origin kept.

    Background is added before the content, and cut away after it as far as the body does not reach: no body is lost,
    and no header tells of the shift. Landmarks, labels, masks and the known map follow.
    """
    array = sitk.GetArrayViewFromImage(case.moving)
    threshold = body_threshold(array)
    size = np.asarray(case.moving.GetSize())
    shift = np.where(size > 100, voxels, 0)
    # Of the background behind the body, up to `shift` slices can go; two are kept.
    spare = np.zeros(3, dtype=int)
    for axis in range(3):
        others = tuple(a for a in range(3) if a != 2 - axis)
        occupied = np.flatnonzero((array > threshold).any(axis=others))
        spare[axis] = max(0, size[axis] - 1 - occupied[-1] - 2)
    stop = size - np.minimum(shift, spare)
    origin = case.moving.GetOrigin()

    def moved(image, value):
        if image is None:
            return None
        result = pad(crop(image, (0, 0, 0), stop), shift, (0, 0, 0), value)
        result.SetOrigin(origin)
        return result

    offset = lps_from_ijk(case.moving)[:3, :3] @ shift
    truth = case.truth
    return replace(
        case,
        name=f"{case.name}+{voxels}",
        moving=moved(case.moving, case.background),
        moving_mask=moved(case.moving_mask, 0),
        moving_labels=moved(case.moving_labels, 0),
        landmarks_moving_lps=None if case.landmarks_moving_lps is None else case.landmarks_moving_lps + offset,
        truth=None if truth is None else lambda points: truth(points) + offset,
    )


def cut_variant(case: Case, percent: int, *, uncut: bool = False) -> Case:
    """Moving keeps so many percent of its longest axis, at the far end.

    Judged by the landmarks that remain inside, the labels that lie wholly inside, or the known map where it leads
    inside. uncut: the whole moving image, judged by exactly the same.
    """
    size = np.asarray(case.moving.GetSize())
    axis = int(np.argmax(size * np.asarray(case.moving.GetSpacing())))
    start = np.zeros(3, dtype=int)
    start[axis] = round(size[axis] * (1 - percent / 100))
    cut = replace(
        case,
        name=f"{case.name}%{percent}",
        moving=crop(case.moving, start, size),
        moving_mask=crop(case.moving_mask, start, size),
        moving_labels=crop(case.moving_labels, start, size),
    )
    if case.landmarks_fixed_lps is not None:
        cut = _with_landmarks_inside(cut)
    if case.moving_labels is not None:
        gone = np.unique(
            sitk.GetArrayViewFromImage(crop(case.moving_labels, np.zeros(3), np.where(start, start, size)))
        )
        cut = replace(cut, **{k: _without_labels(getattr(cut, k), gone) for k in ("fixed_labels", "moving_labels")})
    if not uncut:
        return cut
    whole = {"moving": case.moving, "moving_mask": case.moving_mask}
    if case.moving_labels is not None:
        whole["moving_labels"] = _without_labels(case.moving_labels, gone)
    return replace(cut, name=f"{cut.name}u", **whole, judged_in=cut.moving)


def _without_labels(labels: sitk.Image, gone: np.ndarray) -> sitk.Image:
    """A label map with some labels made background."""
    array = sitk.GetArrayFromImage(labels)
    array[np.isin(array, gone)] = 0
    result = sitk.GetImageFromArray(array)
    result.CopyInformation(labels)
    return result
