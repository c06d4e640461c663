"""Files that a library wrote: whole, or an error, whatever the library says."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.errors import InputError
from carlreg.io.endings import IMAGE_ENDINGS
from carlreg.io.writing import write_image, write_picture, write_transform

RANDOM = np.random.default_rng(0)
IMAGES = {
    "int16": sitk.GetImageFromArray(RANDOM.integers(-999, 999, (9, 10, 11)).astype(np.int16)),
    "uint8": sitk.GetImageFromArray(RANDOM.integers(0, 9, (9, 10, 11)).astype(np.uint8)),
    "NaN": sitk.GetImageFromArray(np.where(RANDOM.random((9, 10, 11)) < 0.5, np.nan, 1.0).astype(np.float32)),
    "vectors": sitk.GetImageFromArray(RANDOM.normal(size=(9, 10, 11, 3)), isVector=True),
    "sequence": sitk.JoinSeries([sitk.Image([9, 10, 11], sitk.sitkFloat32)] * 3),
}


def named(image: sitk.Image) -> sitk.Image:
    """With a long text in its head, which pushes the values back."""
    image = sitk.Image(image)
    image.SetMetaData("comment", "x" * 9000)
    return image


@pytest.mark.parametrize("ending", IMAGE_ENDINGS)
@pytest.mark.parametrize("kind", IMAGES)
def test_what_is_written_is_read(tmp_path, ending, kind):
    file = tmp_path / f"a{ending}"
    for compress in (True, False):
        write_image(named(IMAGES[kind]), file, compress)
        found = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
        expected = sitk.GetArrayFromImage(IMAGES[kind])
        if "ni" in ending or ending in (".img", ".hdr"):
            expected = np.nan_to_num(expected)  # as ITK's reader takes them
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("ending", IMAGE_ENDINGS)
@pytest.mark.parametrize("compress", [True, False])
def test_a_file_that_is_cut_off_in_silence_is_an_error(tmp_path, monkeypatch, ending, compress):
    written = sitk.WriteImage

    def cut(image, path, *options):
        written(image, path, *options)
        largest = max(tmp_path.iterdir(), key=lambda file: file.stat().st_size)
        os.truncate(largest, largest.stat().st_size - 1)

    monkeypatch.setattr(sitk, "WriteImage", cut)
    with pytest.raises(OSError, match="incomplete"):
        write_image(IMAGES["int16"], tmp_path / f"a{ending}", compress)


def fields() -> dict[str, sitk.Transform]:
    field = sitk.DisplacementFieldTransform(sitk.GetImageFromArray(RANDOM.normal(size=(30, 9, 9, 3)), isVector=True))
    affine = sitk.AffineTransform(3)
    affine.SetTranslation((1.5, 2.5, 3.5))
    affine.SetMatrix((0, 1, 0, -1, 0, 0, 0, 0, 1))
    affine.SetCenter((7.5, 8.5, 9.5))
    return {"affine": affine, "composite": sitk.CompositeTransform([affine, field])}


@pytest.mark.parametrize(
    ("kind", "name"), [("affine", "a.h5"), ("affine", "a.tfm"), ("affine", "a.mat"), ("composite", "a.h5")]
)
def test_transforms(tmp_path, monkeypatch, kind, name):
    transform, file = fields()[kind], tmp_path / name
    write_transform(transform, file)
    point = (3.0, 4.0, 5.0)
    np.testing.assert_allclose(
        sitk.ReadTransform(str(file)).TransformPoint(point), transform.TransformPoint(point), atol=1e-6
    )
    written = sitk.WriteTransform

    def cut(given, path):
        written(given, path)
        os.truncate(path, Path(path).stat().st_size - 30)

    monkeypatch.setattr(sitk, "WriteTransform", cut)
    with pytest.raises(OSError, match="incomplete"):
        write_transform(transform, file)


def test_other_endings_and_folders_are_refused(tmp_path):
    for name in ("a.tif", "a.png", "a.dcm", "a"):
        with pytest.raises(InputError, match=r"ends in \.nii\.gz, \.nrrd or \.mha"):
            write_image(IMAGES["uint8"], tmp_path / name)
    with pytest.raises(InputError, match="folder does not exist"):
        write_image(IMAGES["uint8"], tmp_path / "there" / "a.nrrd")


_LIMITED = """
import os, resource, sys
from pathlib import Path
import numpy as np, SimpleITK as sitk
from carlreg.io.writing import write_image, write_picture, write_transform
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
values = np.random.default_rng(0).integers(0, 30_000, (40, 40, 40)).astype(np.int16)
field = sitk.GetImageFromArray(np.ones((20, 20, 20, 3)), isVector=True)
for name in sys.argv[2:]:
    path = Path(sys.argv[1]) / name
    try:
        if name.endswith(".h5"):
            write_transform(sitk.DisplacementFieldTransform(sitk.Image(field)), path)
        elif name.endswith(".png"):
            write_picture(np.random.default_rng(0).integers(0, 255, (200, 200, 3)).astype(np.uint8), path)
        else:
            write_image(sitk.GetImageFromArray(values), path)
        print(name, "written")
    except OSError as error:
        print(name, error.errno)
sys.stdout.flush()
os._exit(0)  # HDF5 crashes at the end of a process in which a file could not be closed
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits as on POSIX")
def test_a_full_disk_is_told_as_such(tmp_path):
    names = [f"a{ending}" for ending in IMAGE_ENDINGS] + ["a.h5", "a.png"]
    child = [sys.executable, "-c", _LIMITED, str(tmp_path), *names]
    done = subprocess.run(child, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{name} {errno.EFBIG}" for name in names], done.stderr


def test_pictures(tmp_path):
    pixels = RANDOM.integers(0, 255, (20, 30, 3)).astype(np.uint8)
    write_picture(pixels, tmp_path / "a.png")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.png"))), pixels)
