import numpy as np
import pytest
import SimpleITK as sitk
import torch
from carlreg.maps import Affine, CompositeMap, DisplacementMap, identity_map
from scipy.ndimage import map_coordinates
from support.geometry import assert_close


def random_field(shape, seed=0, size=0.1):
    return torch.randn(1, 3, *shape, generator=torch.Generator().manual_seed(seed)) * size


def points(seed=0, low=0.0, high=1.0):
    return torch.rand(1, 3, 4, 5, 6, generator=torch.Generator().manual_seed(seed)) * (high - low) + low


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("shape", [(5, 6, 7), (8, 8, 8), (3, 9, 4)])
def test_displaced_is_linear_interpolation_between_centers_and_constant_beyond(shape, align_corners):
    field = random_field(shape)
    at = points(1, -0.2, 1.2)
    found = DisplacementMap(field, align_corners=align_corners)(at)
    count = np.array(shape).reshape(3, 1)
    unit = at[0].reshape(3, -1).double().numpy()
    index = unit * (count - 1) if align_corners else unit * count - 0.5
    for axis in range(3):
        expected = unit[axis] + map_coordinates(field[0, axis].double().numpy(), index, order=1, mode="nearest")
        assert np.abs(found[0, axis].reshape(-1).numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("align_corners", [False, True])
def test_on_grid_equals_calling_at_the_centers(align_corners):
    field = DisplacementMap(random_field((5, 6, 7)), align_corners=align_corners, scale=(0.5, 1.0, 2.0))
    for shape in ((5, 6, 7), (10, 4, 7)):
        called = field(identity_map(shape, align_corners=align_corners))
        assert_close(field.on_grid(shape), called)


def test_composed_applies_the_inner_map_first():
    scaling = Affine(torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0])))
    shift = Affine(torch.tensor([[1.0, 0, 0, 0.1], [0, 1, 0, 0.2], [0, 0, 1, 0.3], [0, 0, 0, 1]]))
    at = points()
    offset = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1, 1)
    assert_close(CompositeMap(outer=scaling, inner=shift)(at), 2 * (at + offset))
    assert_close(CompositeMap(outer=shift, inner=scaling)(at), 2 * at + offset)
    shape = (4, 5, 6)
    both = CompositeMap(outer=shift, inner=scaling)
    assert_close(both.on_grid(shape), both(identity_map(shape)))


def test_composed_equals_simpleitk_on_two_lattices():
    """Voxel-centered normalized coordinates on different shapes, against ITK's displacement fields in voxels."""
    outer_shape, inner_shape = (9, 8, 7), (6, 10, 8)
    outer, inner = random_field(outer_shape, 1, 0.02), random_field(inner_shape, 2, 0.02)
    maps = CompositeMap(outer=DisplacementMap(outer), inner=DisplacementMap(inner))
    transforms = []
    for field in (outer, inner):
        image = sitk.GetImageFromArray(field[0].flip(0).permute(1, 2, 3, 0).double().numpy(), isVector=True)
        spacing = [1.0 / n for n in image.GetSize()]
        image.SetSpacing(spacing)
        image.SetOrigin([s / 2 for s in spacing])
        transforms.append(sitk.DisplacementFieldTransform(image))
    composite = sitk.CompositeTransform(transforms)  # the last one acts first
    at = points(3, 0.25, 0.75)
    found = maps(at)
    for d, h, w in at[0].reshape(3, -1).T[::7].tolist():
        expected = composite.TransformPoint((w, h, d))[::-1]
        here = maps(torch.tensor([d, h, w]).view(1, 3, 1, 1, 1)).flatten().tolist()
        assert here == pytest.approx(expected, abs=1e-5)
    assert found.shape == at.shape


@pytest.mark.parametrize("align_corners", [False, True])
def test_extrapolation_continues_a_rotation(align_corners):
    turn = torch.tensor([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    shape = (6, 7, 8)
    identity = identity_map(shape, align_corners=align_corners)
    field = torch.einsum("ij,bjdhw->bidhw", turn - torch.eye(3), identity)
    at = points(4, -0.3, 1.3)
    expected = torch.einsum("ij,bjdhw->bidhw", turn, at)
    assert (
        float((DisplacementMap(field, extrapolate=True, align_corners=align_corners)(at) - expected).abs().max()) < 1e-5
    )
    assert float((DisplacementMap(field, align_corners=align_corners)(at) - expected).abs().max()) > 0.05


def test_gradient_reaches_the_displacement_and_the_points():
    field = random_field((4, 4, 4)).double().requires_grad_()
    at = points().double()[:, :, :2, :2, :2].requires_grad_()
    assert torch.autograd.gradcheck(lambda f, p: DisplacementMap(f)(p), (field, at), atol=1e-4)
