"""What the network says of a pair, in patient space, also where it does not look."""

import carlreg
import numpy as np
import pytest
import torch
from carlreg.models import registry
from carlreg.registration.pair import as_volume, prepare_pair
from carlreg.registration.predict import predict
from carlreg.spaces import apply_affine, fit_linear

from .test_rotation import turned


@pytest.fixture(scope="module")
def prediction(pair):
    moving, turn, center = turned(pair, 12.0, 120, (2, -1, 2))
    settings = carlreg.RegistrationSettings()
    volumes = as_volume(pair.fixed, "fixed"), as_volume(moving, "moving")
    prepared = prepare_pair(*volumes, None, None, settings)
    loaded = registry.load(settings.model, settings.weights, False, torch.device("cpu"))
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = center - turn @ center
    return predict(loaded, prepared, 32, torch.device("cpu")), prepared.fixed.content, matrix


def test_beyond_its_grid_a_refined_map_is_as_far_from_the_affine_as_at_the_edge(prediction):
    found, content, matrix = prediction
    refined = found.refine(matrix)

    def displacement(normalized):
        points = apply_affine(content.lps_from_normalized, normalized)
        return refined(points) - apply_affine(matrix, points)

    def at(share):  # on a face and its continuation; the grid reaches a little farther than the content
        return displacement(np.array([[1 + share, 0.3, 0.6], [0.4, -share, 0.5], [0.6, 0.4, 1 + share]]))

    edge = at(0.6)
    assert np.linalg.norm(at(0.1), axis=1).max() < 60  # mm; the network is within its reach of the affine
    np.testing.assert_allclose(at(0.9), edge, atol=1e-3)
    np.testing.assert_allclose(at(2.0), edge, atol=1e-3)


def test_beyond_its_grid_the_networks_own_map_goes_on_turned_as_it_is(prediction):
    found, content, _ = prediction
    far = apply_affine(content.lps_from_normalized, np.array([[4.0, 0.5, 0.5], [3.0, 0.5, 0.5], [3.0, 1.5, 0.5]]))
    weights = found.points.weights
    turn = fit_linear(found.points.fixed_lps, found.map_lps(found.points.fixed_lps), weights, kind="rigid")
    step = found.map_lps(far[:1]) - found.map_lps(far[1:2])
    np.testing.assert_allclose(step, (far[:1] - far[1:2]) @ turn[:3, :3].T, atol=1e-3)
