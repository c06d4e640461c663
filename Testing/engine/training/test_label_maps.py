"""Label maps of one's own as anatomies: shapes, directions and materials arrive, and what is wrong is said."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from carlreg.errors import InputError
from carlreg.training.anatomies.canvas import Canvas, Random
from carlreg.training.anatomies.label_map import LabelMap, paint_label_map
from carlreg.training.data_settings import SyntheticSettings
from carlreg.training.label_maps import list_label_maps, read_label_map
from carlreg.training.synthetic import make_views

SIDES = {"superior": 1, "anterior": 2, "inferior": 3}


def written(path, array_zyx, spacing=(1.0, 1.0, 2.0), orientation="LPS"):
    image = sitk.GetImageFromArray(array_zyx)
    image.SetSpacing(spacing)
    sitk.WriteImage(sitk.DICOMOrient(image, orientation), str(path))
    return path


@pytest.fixture
def blocks(tmp_path):
    """A body of 32 mm with a block near its top, one near its front and one, twice as long, near its bottom."""
    body = np.zeros((20, 40, 40), np.uint8)
    body[2:18, 4:36, 4:36] = 7
    body[15:17, 18:22, 18:22] = SIDES["superior"]
    body[9:11, 6:10, 18:22] = SIDES["anterior"]
    body[3:7, 18:22, 18:22] = SIDES["inferior"]
    return body, tmp_path


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "SRP"])
def test_axes_run_from_head_to_feet_and_from_front_to_back(blocks, orientation):
    body, folder = blocks
    found = read_label_map(written(folder / f"{orientation}.nii.gz", body, orientation=orientation))
    assert found.index_dhw.shape == (16, 32, 32) and found.spacing_mm == (2.0, 1.0, 1.0)
    assert found.codes == (0, 1, 2, 3, 7)
    center = {
        code: (found.index_dhw == place).nonzero().double().mean(0) for place, code in enumerate(found.codes[1:], 1)
    }
    torch.testing.assert_close(center[1], torch.tensor([1.5, 15.5, 15.5], dtype=torch.double))
    torch.testing.assert_close(center[2][:2], torch.tensor([7.5, 3.5], dtype=torch.double))
    torch.testing.assert_close(center[3], torch.tensor([12.5, 15.5, 15.5], dtype=torch.double))


def test_structures_keep_their_sizes_and_have_one_value_each(blocks):
    body, folder = blocks
    found = read_label_map(written(folder / "a.nii.gz", body))
    shares = []
    for seed in range(6):
        canvas = Canvas(Random(seed), 48, 1.5, ("mr", "ct"))
        paint_label_map(canvas, found, 1.0, 1.0)
        count = torch.bincount(canvas.labels_dhw.flatten().long(), minlength=6)
        assert (
            canvas.labels_dhw.max() == 5 and len(canvas.amplitudes) == 6
        )  # 0: outside, 1: label 0, which is not painted
        # Its 32 mm are one view edge, 32 voxels, give or take 10 % along each axis.
        assert float((canvas.labels_dhw > 0).sum()) == pytest.approx(32**3, rel=0.3)
        shares.append((count[4] / count[2]).item())  # the lower block, of twice the upper one's length
        for channel in range(2):
            inside = canvas.image_2dhw[channel][canvas.labels_dhw == 5]
            assert float((inside - inside.median()).abs().quantile(0.5)) < 1e-6  # but for edges
            assert canvas.image_2dhw[channel][canvas.labels_dhw == 0].mean() < 0.05
    assert np.mean(shares) == pytest.approx(2.0, rel=0.25)


def test_codes_of_freesurfer_get_their_materials_and_both_sides_the_same():
    index = torch.zeros(8, 40, 8, dtype=torch.uint8)
    codes = (0, 2, 3, 4, 41, 42, 43, 511)
    for place in range(1, len(codes)):
        index[:, 5 * place : 5 * place + 5] = place
    brains, t1 = set(), []
    for seed in range(12):
        canvas = Canvas(Random(seed), 48, 1.5, ("mr", "mr"))
        canvas.contrasts[0].family = "t1"
        paint_label_map(canvas, LabelMap(index, codes, (1.0, 1.0, 1.0)), 1.2, 1.2)
        value = [canvas.image_2dhw[0][canvas.labels_dhw == 1 + place].median() for place in range(len(codes))]
        assert value[1:4] == value[4:7]
        t1.append([float(value[place]) for place in (1, 2, 3)])
        brains.add(bool((canvas.labels_dhw == 8).any()))
    assert brains == {True, False}  # what lies around the brain is left out of some
    white, gray, fluid = np.mean(t1, axis=0)
    assert white > gray + 0.05 and gray > fluid + 0.05


def test_views_are_drawn_from_them(blocks):
    body, folder = blocks
    written(folder / "a.nii.gz", body)
    settings = SyntheticSettings(
        size=32, views=2, abstract=0, trunk=0, head=0, limb=0, labels=1, label_maps=str(folder), missing=0
    )
    views = make_views(3, settings)
    assert views.kind == "labels" and views.images_k1dhw.max() <= 1
    assert all(views.labels_k1dhw[k].unique().numel() >= 3 for k in range(2))
    assert torch.equal(make_views(3, settings).images_k1dhw, views.images_k1dhw)


def test_what_is_no_label_map_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"data.synthetic.label_maps: .* does not exist"):
        list_label_maps(str(tmp_path / "nothing"))
    with pytest.raises(InputError, match=r"expected label maps \(.*\) in .*, got none"):
        list_label_maps(str(tmp_path))
    rising = np.linspace(0, 1, 1000, dtype=np.float32).reshape(10, 10, 10)
    for name, array, words in (
        ("image", rising, "expected whole numbers"),
        ("empty", np.zeros((10, 10, 10), np.uint8), "all voxels have the value 0"),
        ("one", (rising > 0.5).astype(np.uint8), "expected two structures or more, got one"),
        ("many", np.arange(1000, dtype=np.int16).reshape(10, 10, 10), "expected at most 255 structures, got 1000"),
    ):
        with pytest.raises(InputError, match=words) as error:
            read_label_map(written(tmp_path / f"{name}.nii.gz", array))
        assert f"data.synthetic.label_maps ({name}.nii.gz): " in str(error.value)
