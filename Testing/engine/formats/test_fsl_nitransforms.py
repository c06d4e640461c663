"""Our files in FSL's own Python library and in nitransforms, and FSL's files read here."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from carlreg import formats
from carlreg.errors import GeometryError, InputError
from carlreg.io.itk_transform import affine_to_sitk
from support.geometry import points_at

from .geometry_cases import DIRECTIONS, GeometryCase, geometry_case

POINT_MM = 0.01
FLIP = np.array([-1.0, -1.0, 1.0])


@pytest.fixture(params=list(DIRECTIONS))
def case(request) -> GeometryCase:
    return geometry_case(request.param)


def sides(case) -> formats.Sides:
    return formats.Sides(grids=(case.fixed_grid, case.moving_grid))


def node_points(case, count=50) -> np.ndarray:
    """LPS positions of voxels of the fixed volume, where an FSL warp is exact."""
    index = np.random.default_rng(2).integers(2, np.array(case.fixed_grid.size_ijk) - 2, (count, 3))
    return points_at(case.fixed_grid, index)


def test_fsl_maps_points_as_we_do(case, tmp_path):
    fnirt = pytest.importorskip("fsl.transform.fnirt", reason="needs fslpy (pip install fslpy)")
    from fsl.data.image import Image

    for name in ("fixed", "moving"):
        sitk.WriteImage(getattr(case, name), str(tmp_path / f"{name}.nii.gz"))
    formats.write(case.transform.to_sitk(), tmp_path / "warp.nii.gz", to="fsl", sides=sides(case))
    fixed, moving = (Image(str(tmp_path / f"{name}.nii.gz")) for name in ("fixed", "moving"))
    warp = fnirt.readFnirt(str(tmp_path / "warp.nii.gz"), src=moving, ref=fixed)
    world = fnirt.fromFnirt(warp, "world", "world")
    points = node_points(case)
    found = world.transform(points * FLIP, "world", "world") * FLIP
    assert np.linalg.norm(found - case.transform.apply(points), axis=1).max() <= POINT_MM
    # And the other way round: a warp that FSL's library made.
    fnirt.toFnirt(world).save(str(tmp_path / "theirs.nii.gz"))
    theirs = formats.read(tmp_path / "theirs.nii.gz", fixed=case.fixed_grid, moving=case.moving_grid).transform
    assert np.linalg.norm(formats.map_points(theirs, points) - case.transform.apply(points), axis=1).max() <= POINT_MM


def test_flirt_matrices(case, tmp_path):
    flirt = pytest.importorskip("fsl.transform.flirt", reason="needs fslpy (pip install fslpy)")
    from fsl.data.image import Image

    for name in ("fixed", "moving"):
        sitk.WriteImage(getattr(case, name), str(tmp_path / f"{name}.nii.gz"))
    fixed, moving = (Image(str(tmp_path / f"{name}.nii.gz")) for name in ("fixed", "moving"))
    linear = affine_to_sitk(case.transform.affine_lps)
    formats.write(linear, tmp_path / "linear.mat", to="flirt", sides=sides(case))
    moving_to_fixed = flirt.fromFlirt(flirt.readFlirt(str(tmp_path / "linear.mat")), moving, fixed, "world", "world")
    expected = formats.map_points(linear, case.points)
    backward = (np.c_[expected * FLIP, np.ones(len(expected))] @ moving_to_fixed.T)[:, :3] * FLIP
    assert np.linalg.norm(backward - case.points, axis=1).max() <= POINT_MM
    with pytest.raises(InputError, match="--convention"):
        formats.read(tmp_path / "linear.mat", fixed=case.fixed_grid, moving=case.moving_grid)
    with pytest.raises(InputError, match="--moving"):
        formats.read(tmp_path / "linear.mat", convention="fsl", fixed=case.fixed_grid)
    found = formats.read(tmp_path / "linear.mat", convention="fsl", fixed=case.fixed_grid, moving=case.moving_grid)
    assert np.linalg.norm(formats.map_points(found.transform, case.points) - expected, axis=1).max() <= 1e-4


def test_absolute_warps_are_not_taken_for_relative_ones(tmp_path):
    case = geometry_case("RAS")
    formats.write(case.transform.to_sitk(), tmp_path / "warp.nii.gz", to="fsl", sides=sides(case))
    image = nibabel.load(tmp_path / "warp.nii.gz")
    index = np.moveaxis(np.indices(image.shape[:3]), 0, -1)
    from carlreg.formats.fsl import fsl_from_ijk

    matrix = fsl_from_ijk(case.fixed_grid)
    absolute = image.get_fdata() + index @ matrix[:3, :3].T + matrix[:3, 3]
    nibabel.save(nibabel.Nifti1Image(absolute.astype("f4"), image.affine, image.header), tmp_path / "absolute.nii.gz")
    both = {"fixed": case.fixed_grid, "moving": case.moving_grid}
    with pytest.raises(GeometryError, match="fsl-absolute"):
        formats.read(tmp_path / "absolute.nii.gz", **both)
    found = formats.read(tmp_path / "absolute.nii.gz", convention="fsl-absolute", **both).transform
    points = node_points(case)
    assert np.linalg.norm(formats.map_points(found, points) - case.transform.apply(points), axis=1).max() <= POINT_MM


def test_nitransforms_maps_points_and_images_as_we_do(case, tmp_path):
    nonlinear = pytest.importorskip("nitransforms.nonlinear", reason="needs nitransforms (pip install nitransforms)")
    from nitransforms.resampling import apply

    # Its reader takes every field for ITK's kind (intent 1007, LPS), whatever the intent says: so ANTs' file.
    formats.write(
        case.transform.to_sitk(), tmp_path / "whole.nii.gz", to="ants", sides=sides(case), like=case.fixed_grid,
        flatten_it=True, precision="float64",
    )  # fmt: skip
    theirs = nonlinear.DenseFieldTransform.from_filename(str(tmp_path / "whole1Warp.nii.gz"), fmt="itk")
    points = node_points(case)
    found = theirs.map(points * FLIP) * FLIP
    assert np.linalg.norm(found - case.transform.apply(points), axis=1).max() <= POINT_MM
    for side in ("fixed", "moving"):
        sitk.WriteImage(getattr(case, side), str(tmp_path / f"{side}.nii.gz"))
    files = [str(tmp_path / f"{side}.nii.gz") for side in ("moving", "fixed")]
    warped = apply(theirs, *files, order=1, mode="constant", cval=0.0)
    ours = sitk.Resample(case.moving, case.fixed, case.transform.to_sitk(), sitk.sitkLinear, 0.0)
    a, b = np.asanyarray(warped.dataobj).ravel(), sitk.GetArrayFromImage(ours).transpose(2, 1, 0).ravel()
    assert np.corrcoef(a, b)[0, 1] >= 0.9999


def test_freesurfers_linear_file(case, tmp_path):
    lta = pytest.importorskip("nitransforms.io.lta", reason="needs nitransforms (pip install nitransforms)")
    linear = affine_to_sitk(case.transform.affine_lps)
    formats.write(linear, tmp_path / "linear.lta", sides=sides(case))
    struct = lta.FSLinearTransform.from_string((tmp_path / "linear.lta").read_text())
    ras = np.asarray(struct.to_ras()).reshape(4, 4)
    expected = formats.map_points(linear, case.points)
    found = (np.c_[case.points * FLIP, np.ones(len(case.points))] @ ras.T)[:, :3] * FLIP
    assert np.linalg.norm(found - expected, axis=1).max() <= POINT_MM
    # FreeSurfer leads from src to dst by the matrix as it stands: src is the moving volume.
    flip4 = np.diag([-1.0, -1.0, 1.0, 1.0])
    source, target = (np.asarray(struct[side].as_affine()) for side in ("src", "dst"))
    assert np.allclose(source, flip4 @ case.moving_grid.lps_from_ijk, atol=1e-3)
    assert np.allclose(target, flip4 @ case.fixed_grid.lps_from_ijk, atol=1e-3)
    assert (
        np.linalg.norm(
            formats.map_points(formats.read(tmp_path / "linear.lta").transform, case.points) - expected, axis=1
        ).max()
        <= POINT_MM
    )
