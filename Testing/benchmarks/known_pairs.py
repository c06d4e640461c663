"""Generated pairs of volumes whose true map is known, for the uncertainty's calibration and tests.

Two kinds: the demo's torso, and the training's generated anatomies (trunks, heads, limbs, abstract shapes; cut fields
of view, structures that only one view shows, other contrasts), which networks saw with other seeds only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from carlreg.maps import identity_map
from carlreg.maps.exchange import array_from_tensor
from carlreg.phantom import make_pair
from carlreg.spaces import VolumeGrid
from carlreg.training.known_pair import one_way
from carlreg.training.synthetic import SyntheticSettings, Views, make_views
from support.geometry import index_at, points_at

# Seeds of training stay below this, see carlreg.training.validation.
FIRST_SEED = 2**62 + 10_000
_MOST_POINTS = 4000


@dataclass(frozen=True)
class KnownPair:
    """fixed, moving: volumes. points_lps, true_lps: n x 3 points of the fixed body that the moving volume shows, and
    where they lie there."""

    name: str
    fixed: sitk.Image
    moving: sitk.Image
    points_lps: np.ndarray
    true_lps: np.ndarray

    def errors_mm(self, transform) -> np.ndarray:
        """n: how far a `PhysicalTransform` is off."""
        return np.linalg.norm(transform.apply(self.points_lps) - self.true_lps, axis=1)


def torso(seed: int, spacing_mm: float) -> KnownPair:
    """The demo's pair, see `carlreg.phantom`."""
    pair = make_pair(seed, spacing_mm)
    grid, moving = VolumeGrid.of(pair.fixed), VolumeGrid.of(pair.moving)
    kji = np.argwhere(sitk.GetArrayViewFromImage(pair.fixed_body) > 0)
    points = points_at(grid, kji[:, ::-1])
    true = pair.moving_from_fixed(points)
    index = index_at(moving, true)
    seen = ((index >= 0) & (index <= np.asarray(moving.size_ijk) - 1)).all(1)
    return KnownPair(f"torso {seed}", pair.fixed, pair.moving, *_some(points[seen], true[seen]))


def anatomy(seed: int, size: int = 64, voxel_mm: float = 2.5) -> KnownPair:
    """A pair of the training's generator, as volumes: Hounsfield units for views of the CT kind."""
    views = make_views(FIRST_SEED + seed, SyntheticSettings(size=size, views=2))
    grid = VolumeGrid((size,) * 3, np.full(3, voxel_mm), np.zeros(3), np.eye(3))
    way = one_way(views, moving=0, fixed=1)
    chosen = (way.seen_b1dhw * way.body_b1dhw)[0, 0].flatten() > 0
    points, true = (
        array_from_tensor(unit[0].flatten(1)[:, chosen].T).astype(np.float64) @ grid.lps_from_normalized[:3, :3].T
        + grid.lps_from_normalized[:3, 3]
        for unit in (identity_map(way.true_b3dhw.shape[2:]), way.true_b3dhw)
    )
    return KnownPair(
        f"{views.kind} {seed}", _volume(views, 1, voxel_mm), _volume(views, 0, voxel_mm), *_some(points, true)
    )


def _volume(views: Views, number: int, voxel_mm: float) -> sitk.Image:
    values = array_from_tensor(views.images_k1dhw[number, 0])
    values = 2000 * values - 1000 if views.modality[number] == "ct" else 1000 * values
    image = sitk.GetImageFromArray(np.rint(values).astype(np.int16))
    image.SetSpacing((voxel_mm,) * 3)
    return image


def _some(points: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    chosen = np.random.default_rng(0).permutation(len(points))[:_MOST_POINTS]
    return points[chosen], true[chosen]


def pair_of(seed: int) -> KnownPair:
    """The pair of a seed: three of four `anatomy`, larger for the first ten of each hundred; every fourth `torso`."""
    if seed % 4 == 3:
        return torso(seed, 6.0)
    return anatomy(seed, 48 if seed % 100 >= 10 else 80 if seed % 8 == 1 else 64)
