"""What the shipped attention reaches on real scans, by landmarks: its affine beats centered volumes, shifted or not."""

import numpy as np
import pytest
from benchmarks.attention import attention_affine, centered, landmark_error_mm
from benchmarks.cases import load_case
from carlreg.models import registry


@pytest.fixture(scope="module")
def shipped() -> registry.LoadedModel:
    if registry.MODELS["carl-compact"].shipped_file is None:
        pytest.skip("carl-compact ships no weights in this checkout")
    return registry.load("carl-compact")


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "at_most"), [("lung", 7.0), ("eth19_1_6", 3.6)])
def test_shipped_attention_beats_centered_volumes_on_real_scans(shipped, data_folder, name, at_most):
    case = load_case(name)
    matrix, agreement = attention_affine(shipped, case, 96)
    error = landmark_error_mm(case, matrix)
    assert error < landmark_error_mm(case, centered(case))
    assert error <= at_most
    assert agreement > 0.8


@pytest.mark.realdata
def test_a_shift_of_the_content_changes_nothing(shipped, data_folder):
    errors = []
    for name in ("eth19_1_6", "eth19_1_6+15"):
        case = load_case(name)
        matrix, _ = attention_affine(shipped, case, 96)
        errors.append(landmark_error_mm(case, matrix))
    assert errors[1] == pytest.approx(errors[0], abs=0.2)


def test_the_error_is_the_mean_distance_and_centers_meet(data_folder):
    case = load_case("eth19_1_6")
    unregistered = np.linalg.norm(case.landmarks_fixed_lps - case.landmarks_moving_lps, axis=1).mean()
    assert landmark_error_mm(case, np.eye(4)) == pytest.approx(unregistered)
    sides = [
        np.array(image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()]))
        for image in (case.fixed, case.moving)
    ]
    np.testing.assert_allclose(centered(case) @ [*sides[0], 1], [*sides[1], 1], atol=1e-9)
