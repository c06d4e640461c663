"""What is known of a pair before anything is computed."""

from __future__ import annotations

import SimpleITK as sitk
from carlreg.registration.pair import dicom_info
from carlreg.volumes import Volume


def test_identifiers_are_kept_and_names_are_not():
    image = sitk.GaussianSource(size=[8, 8, 8])
    dicom = {
        "Modality": "CT",
        "FrameOfReferenceUID": "1.2.3",
        "StudyInstanceUID": "1.2",
        "SeriesInstanceUID": "1.2.4",
        "SeriesDescription": "Somebody",
        "SOPInstanceUIDs": "1.2.4.1\\1.2.4.2",
    }
    info = dicom_info(Volume(image, dicom=dicom), Volume(image + 1))
    assert info["dicom"]["moving"] == {}
    assert info["dicom"]["fixed"]["FrameOfReferenceUID"] == "1.2.3"
    assert info["dicom"]["fixed"]["SOPInstanceUIDs"] == ["1.2.4.1", "1.2.4.2"]
    assert "Somebody" not in str(info)
    assert dicom_info(Volume(image), Volume(image + 1)) == {}
