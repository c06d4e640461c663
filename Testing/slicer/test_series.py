"""A series' result folder in the scene: sequences that a browser plays together."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

SHIFTS = np.array([[0.0, 0.0, 0.0], [3.0, -2.0, 1.0], [5.0, 0.0, -4.0]])


def series_folder(folder):
    # Here: whoever starts the host imports this file, too (slicer/__init__.py), and must not load PyTorch.
    from carlreg import RegistrationSettings
    from carlreg.physical import PhysicalTransform
    from carlreg.series import SeriesSettings, series_of, write_series
    from carlreg.series.register import FrameResult, SeriesResult

    random = np.random.default_rng(0)
    images = []
    for _ in SHIFTS:
        image = sitk.GetImageFromArray(random.normal(size=(8, 9, 10)).astype(np.float32))
        image.SetOrigin((5.0, -7.0, 11.0))
        images.append(image)
    frames = []
    for shift in SHIFTS:
        matrix = np.eye(4)
        matrix[:3, 3] = shift
        one = PhysicalTransform.from_affine(matrix)
        frames.append(FrameResult(one, one.linear_inverse(), "searched"))
    series = series_of(images, [0.0, 0.5, 1.0])
    result = SeriesResult(series, series.frames[0], tuple(frames), RegistrationSettings(), SeriesSettings())
    write_series(result, str(folder))
    return images


def test_a_series_is_played(scene, tmp_path):
    import slicer
    import vtk
    from CARLRegistrationLib.common.errors import RegistrationError
    from CARLRegistrationLib.mrml.series import loadSeries

    images = series_folder(tmp_path / "breath")
    nodes = loadSeries(tmp_path / "breath")
    assert [float(nodes.transforms.GetNthIndexValue(n)) for n in range(3)] == [0.0, 0.5, 1.0]
    browser = nodes.browser
    for sequence in (nodes.transforms, nodes.inverses, nodes.warped, nodes.ventilation):
        assert browser.IsSynchronizedSequenceNode(sequence, True) and sequence.GetNumberOfDataNodes() == 3
    for n in (1, 2, 0):
        browser.SetSelectedItemNumber(n)
        shown = browser.GetProxyNode(nodes.transforms)
        matrix = vtk.vtkMatrix4x4()
        shown.GetMatrixTransformFromParent(matrix)
        moved = [matrix.GetElement(row, 3) for row in range(3)]
        assert np.allclose(moved, SHIFTS[n] * [-1, -1, 1], atol=1e-5)
    voxels = slicer.util.arrayFromVolume(browser.GetProxyNode(nodes.warped))
    assert np.allclose(voxels, sitk.GetArrayFromImage(images[0]), atol=1e-5)

    before = scene.GetNumberOfNodes()
    (tmp_path / "breath" / "inverse" / "001.h5").unlink()
    with pytest.raises(RegistrationError, match="whole result of a series"):
        loadSeries(tmp_path / "breath")
    assert scene.GetNumberOfNodes() == before
