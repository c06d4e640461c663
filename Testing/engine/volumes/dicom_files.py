"""DICOM files with known values, written by pydicom."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

CT, MR, PET = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.128"
NM, DOSE, SEGMENTATION = (
    "1.2.840.10008.5.1.4.1.1.20",
    "1.2.840.10008.5.1.4.1.1.481.2",
    "1.2.840.10008.5.1.4.1.1.66.4",
)
ENHANCED_CT, ENHANCED_MR, ENHANCED_PET = (
    "1.2.840.10008.5.1.4.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.4.1",
    "1.2.840.10008.5.1.4.1.1.130",
)
SPACING = (2.0, 2.5, 3.0)  # along columns, rows, slices: i, j, k
ORIGIN = np.array([-50.0, -60.0, 100.0])
AXES = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def item(**elements) -> Dataset:
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def sequence(**elements) -> Sequence:
    return Sequence([item(**elements)])


def moved(x=0.0, y=0.0, z=0.0, start=ORIGIN) -> np.ndarray:
    return np.asarray(start) + np.array([x, y, z])


def positions(count: int) -> list[np.ndarray]:
    return [moved(0, 0, SPACING[2] * k) for k in range(count)]


def image(stored, kind=CT, *, signed=True, bits=16, used=None, number=1, syntax=ExplicitVRLittleEndian, **elements):
    """A file of the frames `stored` (rows, columns) or (frames, rows, columns); None as an element takes it out."""
    stored = np.asarray(stored)
    used, order = used or bits, ">" if syntax == ExplicitVRBigEndian else "<"
    uid = f"1.2.9.{number}"
    made = item(
        SOPClassUID=kind,
        SOPInstanceUID=uid,
        Modality="OT",
        StudyInstanceUID="1.2.3",
        SeriesInstanceUID="1.2.3.4",
        FrameOfReferenceUID="1.2.3.5",
        InstanceNumber=number,
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        Rows=stored.shape[-2],
        Columns=stored.shape[-1],
        BitsAllocated=bits,
        BitsStored=used,
        HighBit=used - 1,
        PixelRepresentation=int(signed),
    )
    if stored.ndim == 3:
        made.NumberOfFrames = len(stored)
    if bits == 1:
        made.PixelData = np.packbits(stored.astype(np.uint8).ravel(), bitorder="little").tobytes()
        made.PixelData += b"\0" * (len(made.PixelData) % 2)
    else:
        made.PixelData = stored.astype(f"{order}{'i' if signed else 'u'}{bits // 8}").tobytes()
    made["PixelData"].VR = "OW" if bits > 8 else "OB"
    for keyword, value in elements.items():
        if value is None:
            if keyword in made:
                delattr(made, keyword)
        else:
            setattr(made, keyword, value)
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.file_meta.MediaStorageSOPClassUID, made.file_meta.MediaStorageSOPInstanceUID = kind, uid
    return made


def slice_of(stored, position, number=1, *, axes=AXES, kind=CT, **elements):
    """A file of one slice."""
    places = {
        "ImagePositionPatient": [float(f"{x:.6f}") for x in position],
        "ImageOrientationPatient": [float(f"{x:.6f}") for x in axes],
        "PixelSpacing": [SPACING[1], SPACING[0]],
    }
    return image(stored, kind, number=number, **{**places, **elements})


def enhanced(stored, places, *, kind=ENHANCED_CT, axes=AXES, rescales=None, groups=None, **elements):
    """A file of many frames with functional groups. groups: frame number -> further groups of the frame."""
    each = []
    for number, place in enumerate(places):
        own = item(PlanePositionSequence=sequence(ImagePositionPatient=[float(x) for x in place]))
        if rescales is not None:
            slope, intercept = rescales[number]
            own.PixelValueTransformationSequence = sequence(
                RescaleIntercept=intercept, RescaleSlope=slope, RescaleType="US"
            )
        for keyword, value in (groups(number) if groups else {}).items():
            setattr(own, keyword, value)
        each.append(own)
    shared = item(
        PixelMeasuresSequence=sequence(PixelSpacing=[SPACING[1], SPACING[0]], SliceThickness=SPACING[2]),
        PlaneOrientationSequence=sequence(ImageOrientationPatient=list(axes)),
    )
    return image(
        stored,
        kind,
        SharedFunctionalGroupsSequence=Sequence([shared]),
        PerFrameFunctionalGroupsSequence=Sequence(each),
        **elements,
    )


def save(made: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numbers that are wrong on purpose
        made.save_as(path, enforce_file_format=True)
    return path


def save_series(folder: Path, stored, places=None, change=None, **elements) -> Path:
    """One file for each slice of `stored`. change: slice number -> elements that are its own."""
    places = positions(len(stored)) if places is None else places
    for k, plane in enumerate(stored):
        own = change(k) if change else {}
        save(slice_of(plane, places[k], k + 1, **{**elements, **own}), folder / f"{k:03d}.dcm")
    return folder


def values(count=6, low=-1000, high=1000, seed=0):
    """Slices of 7 rows and 5 columns."""
    return np.random.default_rng(seed).integers(low, high, (count, 7, 5))
