"""What `settings.json` keeps of DICOM series, for spatial registration objects."""

from __future__ import annotations

from types import SimpleNamespace

import SimpleITK as sitk
from carlreg import outputs, registration
from carlreg.cli.register import register_and_write
from carlreg.progress import Progress
from carlreg.volumes import Volume


def test_identifiers_reach_the_result_and_names_do_not(monkeypatch):
    seen = {}
    monkeypatch.setattr(
        registration, "register_pair", lambda *_, **__: SimpleNamespace(info={"model": "m"}, warnings=[])
    )
    monkeypatch.setattr(outputs, "write_result", lambda result, *_, **__: seen.update(result.info))
    image = sitk.GaussianSource(size=[8, 8, 8])
    dicom = {
        "Modality": "CT",
        "FrameOfReferenceUID": "1.2.3",
        "StudyInstanceUID": "1.2",
        "SeriesInstanceUID": "1.2.4",
        "SeriesDescription": "Somebody",
        "SOPInstanceUIDs": "1.2.4.1\\1.2.4.2",
    }
    inputs = {"fixed": Volume(image, dicom=dicom), "moving": Volume(image + 1)}
    register_and_write(inputs, None, "out", False, Progress())
    assert seen["model"] == "m" and seen["dicom"]["moving"] == {}
    assert seen["dicom"]["fixed"]["FrameOfReferenceUID"] == "1.2.3"
    assert seen["dicom"]["fixed"]["SOPInstanceUIDs"] == ["1.2.4.1", "1.2.4.2"]
    assert "Somebody" not in str(seen)
