"""What is to be ignored is neither compared nor stretched into: a cavity that only one of two scans shows."""

import dataclasses

import carlreg
import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.errors import InputError
from carlreg.physical import jacobian_determinant
from carlreg.spaces import VolumeGrid
from carlreg.volumes import read_mask, volume_from_image, without_ignored

from .conftest import QUICK


@pytest.fixture(scope="module")
def with_cavity(pair):
    """The fixed scan with a ball of air in the liver, and the ball as a mask."""
    array, grid = sitk.GetArrayFromImage(pair.fixed), VolumeGrid.of(pair.fixed)
    center = grid.centers()[sitk.GetArrayFromImage(pair.fixed_labels) == 4].mean(0)
    ball = np.linalg.norm(grid.centers() - center, axis=-1) < 30.0
    array[ball] = -1000
    return volume_from_image(grid.image(array), "fixed image"), grid.image(ball.astype(np.uint8)), ball


@pytest.mark.usefixtures("right_way_round")
@pytest.mark.whole
@pytest.mark.parametrize("symmetric", [False, True])
def test_the_map_stays_as_its_surroundings(pair, with_cavity, symmetric):
    fixed, mask, ball = with_cavity
    moving = volume_from_image(pair.moving, "moving image")
    settings = dataclasses.replace(QUICK, symmetric=symmetric)
    plain = carlreg.register_pair(fixed, moving, settings)
    ignoring = carlreg.register_pair(fixed, moving, settings, fixed_ignore=read_mask(mask, fixed))
    true = pair.moving_from_fixed
    at = fixed.grid.centers()[ball]
    spreads, errors = [], []
    for result in (plain, ignoring):
        spreads.append(np.log(jacobian_determinant(result.transform, fixed.grid)[ball]).std())
        errors.append(np.linalg.norm(result.transform.apply(at) - true(at), axis=1).mean())
    assert spreads[1] < 0.7 * spreads[0] and errors[1] < errors[0]


def test_masks_and_what_to_ignore_go_together(pair, with_cavity):
    fixed, mask, ball = with_cavity
    ignored = read_mask(mask, fixed, "fixed ignore")
    body = read_mask(pair.fixed_body, fixed)
    assert without_ignored(fixed, body, None) is body
    both = without_ignored(fixed, body, ignored).array
    np.testing.assert_array_equal(both > 0, (body.array > 0) & ~ball)
    np.testing.assert_array_equal(without_ignored(fixed, None, ignored).array > 0, ~ball)
    with pytest.raises(InputError, match=r"fixed ignore: expected to leave something.*all of its mask"):
        without_ignored(fixed, ignored, ignored)
