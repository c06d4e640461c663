"""Small files that are right, which the fuzz targets then damage. Each function returns {file name: content}."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk

Files = dict[str, bytes]
SIZE = (6, 7, 8)


def scan(kind=np.int16) -> sitk.Image:
    """A small volume of noise, oblique to the axes."""
    array = np.random.default_rng(0).uniform(0, 900, SIZE[::-1]).astype(kind)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.5, 2.0, 3.0))
    image.SetOrigin((-10.0, 20.0, 30.0))
    image.SetDirection((0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0))
    return image


def written(names, save: Callable[[Path], object]) -> Files:
    """What `save` writes into an empty folder, for one name or several."""
    names = [names] if isinstance(names, str) else names
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            save(Path(folder) / name)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def volume_files(name: str, kind=np.int16, compress: bool = False) -> Files:
    return written(name, lambda path: sitk.WriteImage(scan(kind), str(path), useCompression=compress))


def nifti_big_endian() -> Files:
    import nibabel

    array = sitk.GetArrayFromImage(scan()).T
    return written(
        "v.nii",
        lambda path: nibabel.Nifti1Image(array.astype(">i2"), np.diag([2, 2, 3, 1]), _swapped()).to_filename(path),
    )


def _swapped():
    import nibabel

    return nibabel.Nifti1Header(endianness=">")


def sequence_file(name: str) -> Files:
    image = sitk.JoinSeries([scan(), scan() + 5])
    return written(name, lambda path: sitk.WriteImage(image, str(path)))


def labels_file(name: str) -> Files:
    image = sitk.Cast(scan() > 400, sitk.sitkUInt8)
    return written(name, lambda path: sitk.WriteImage(image, str(path)))


def dicom_series() -> Files:
    image = scan()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    with tempfile.TemporaryDirectory() as folder:
        for k in range(SIZE[2]):
            piece = image[:, :, k]
            position = image.TransformIndexToPhysicalPoint((0, 0, k))
            tags = {
                "0008|0016": "1.2.840.10008.5.1.4.1.1.4",
                "0008|0018": f"1.2.3.4.5.{k + 1}",
                "0008|0060": "MR",
                "0020|000d": "1.2.3.4",
                "0020|000e": "1.2.3.4.5",
                "0020|0013": str(k + 1),
                "0020|0032": "\\".join(f"{x:g}" for x in position),
                "0020|0037": "0.8\\0.6\\0\\-0.6\\0.8\\0",
                "0028|1052": "-5",
                "0028|1053": "1",
            }
            for tag, value in tags.items():
                piece.SetMetaData(tag, value)
            writer.SetFileName(f"{folder}/{k}.dcm")
            writer.Execute(piece)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def dicom_frames() -> Files:
    """A multi-frame CT with per-frame positions, as pydicom writes it."""
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset

    image = scan()
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3.9"
    data.Modality, data.SeriesInstanceUID, data.StudyInstanceUID = "CT", "1.2.3", "1.2"
    data.Columns, data.Rows, data.NumberOfFrames = SIZE
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1

    def one(**values) -> Dataset:
        item = Dataset()
        for name, value in values.items():
            setattr(item, name, value)
        return item

    data.SharedFunctionalGroupsSequence = [
        one(
            PixelMeasuresSequence=[one(PixelSpacing=[2.0, 1.5], SliceThickness=3.0)],
            PlaneOrientationSequence=[one(ImageOrientationPatient=[0.8, 0.6, 0.0, -0.6, 0.8, 0.0])],
        )
    ]
    data.PerFrameFunctionalGroupsSequence = [
        one(
            PlanePositionSequence=[
                one(ImagePositionPatient=[f"{x:g}" for x in image.TransformIndexToPhysicalPoint((0, 0, k))])
            ],
            PixelValueTransformationSequence=[one(RescaleIntercept=-5, RescaleSlope=2, RescaleType="HU")],
        )
        for k in range(SIZE[2])
    ]
    data.PixelData = sitk.GetArrayFromImage(image).tobytes()
    return written("frames.dcm", lambda path: data.save_as(path, enforce_file_format=True))


def nifti_field() -> Files:
    from carlreg.io.nifti_field import DISPLACEMENT, write_field
    from carlreg.spaces import VolumeGrid

    image = displacements()
    grid = VolumeGrid(image.GetSize(), image.GetSpacing(), image.GetOrigin(), np.eye(3))
    array = sitk.GetArrayFromImage(image)
    return written("f.nii.gz", lambda path: write_field(path, array, grid, DISPLACEMENT))


def _affine() -> sitk.AffineTransform:
    transform = sitk.AffineTransform(3)
    transform.SetMatrix((1.1, 0.1, 0.0, -0.1, 0.9, 0.0, 0.0, 0.05, 1.0))
    transform.SetTranslation((3.0, -2.0, 5.0))
    return transform


def displacements() -> sitk.Image:
    array = np.random.default_rng(1).normal(0, 2, (4, 5, 6, 3))
    image = sitk.GetImageFromArray(array, isVector=True)
    image.SetSpacing((4.0, 4.0, 6.0))
    image.SetOrigin((-25.0, 10.0, 25.0))  # around the scan
    return image


def linear_transforms() -> list[Files]:
    kinds = [_affine(), sitk.Euler3DTransform(), sitk.VersorRigid3DTransform(), sitk.Similarity3DTransform()]
    kinds += [sitk.TranslationTransform(3, (1, 2, 3)), sitk.ScaleTransform(3, (1.1, 0.9, 1.0))]
    return [written("t.tfm", lambda path, kind=kind: sitk.WriteTransform(kind, str(path))) for kind in kinds]


def transform_hdf5() -> list[Files]:
    field = sitk.DisplacementFieldTransform(sitk.Cast(displacements(), sitk.sitkVectorFloat64))
    both = sitk.CompositeTransform([sitk.Transform(_affine()), sitk.Transform(field)])
    return [written("t.h5", lambda path, kind=kind: sitk.WriteTransform(kind, str(path))) for kind in (_affine(), both)]


def transform_text_field() -> Files:
    field = sitk.DisplacementFieldTransform(sitk.Cast(displacements(), sitk.sitkVectorFloat64))
    spline = sitk.BSplineTransformInitializer(scan(), [2, 2, 2])
    both = sitk.CompositeTransform([sitk.Transform(_affine()), sitk.Transform(spline), sitk.Transform(field)])
    return written("t.tfm", lambda path: sitk.WriteTransform(both, str(path)))


def matlab_transform() -> Files:
    return written("t.mat", lambda path: sitk.WriteTransform(_affine(), str(path)))


def field_file(name: str) -> Files:
    return written(name, lambda path: sitk.WriteImage(displacements(), str(path)))


AFFINE_PARAMETERS = (
    '(Transform "AffineTransform")\n(NumberOfParameters 12)\n'
    "(TransformParameters 1.1 0.1 0 -0.1 0.9 0 0 0.05 1 3 -2 5)\n"
    '(InitialTransformParameterFileName "NoInitialTransform")\n(HowToCombineTransforms "Compose")\n'
    "(FixedImageDimension 3)\n(MovingImageDimension 3)\n(CenterOfRotationPoint 1 2 3)\n"
)
SPLINE_PARAMETERS = (
    '(Transform "BSplineTransform")\n(NumberOfParameters 375)\n(TransformParameters '
    + " ".join(["0.5"] * 375)
    + ')\n(InitialTransformParameterFileName "first.txt")\n(HowToCombineTransforms "Compose")\n'
    "(FixedImageDimension 3)\n(MovingImageDimension 3)\n(GridSize 5 5 5)\n(GridIndex 0 0 0)\n"
    "(GridSpacing 60 60 40)\n(GridOrigin -60 -60 -40)\n(GridDirection 1 0 0 0 1 0 0 0 1)\n"
    '(BSplineTransformSplineOrder 3)\n(UseCyclicTransform "false")\n'
)
FLIRT = "1.1 0.1 0 3\n-0.1 0.9 0 -2\n0 0.05 1 5\n0 0 0 1\n"
LTA = (
    "type      = 1\nnxforms   = 1\nmean      = 0.0000 0.0000 0.0000\nsigma     = 1.0000\n1 4 4\n"
    + FLIRT
    + "src volume info\nvalid = 1\nfilename = a.nii\nvolume = 6 7 8\nvoxelsize = 1.5 2 3\n"
    "xras   = -1 0 0\nyras   = 0 0 -1\n"
    "zras   = 0 1 0\ncras   = 1 2 3\ndst volume info\nvalid = 1\nfilename = b.nii\n"
    "volume = 6 7 8\nvoxelsize = 1.5 2 3\n"
    "xras   = -1 0 0\nyras   = 0 0 -1\nzras   = 0 1 0\ncras   = 1 2 3\nsubject x\nfscale 0.1\n"
)
MARKUPS = json.dumps(
    {
        "@schema": "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
        "markups-schema-v1.0.3.json#",
        "markups": [
            {
                "type": "Fiducial",
                "coordinateSystem": "LPS",
                "coordinateUnits": "mm",
                "controlPoints": [
                    {"id": "1", "label": "a", "position": [1.5, 2.5, -3.0], "positionStatus": "defined"},
                    {"id": "2", "label": "b", "position": [4.0, 5.0, 6.0], "positionStatus": "defined"},
                ],
            }
        ],
    },
    indent=1,
)
FIDUCIALS = (
    "# Markups fiducial file version = 4.11\n# CoordinateSystem = LPS\n"
    "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
    "1,1.5,2.5,-3,0,0,0,1,1,1,0,a,,\n2,4,5,6,0,0,0,1,1,1,0,b,,\n"
)
POINTS = "x,y,z,name\n1,2,3,a\n4.5,5,-6,b\n"
LANDMARKS = "fixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z\n1,2,3,4,5,6\n7,8,9,10,11,12.5\n"
LABEL_NAMES = '{"1": "liver", "2": "spleen"}'


def surface_files(name: str) -> Files:
    from vtkmodules.vtkFiltersSources import vtkSphereSource

    module, writer_name = {
        ".vtk": ("vtkIOLegacy", "vtkPolyDataWriter"),
        ".vtp": ("vtkIOXML", "vtkXMLPolyDataWriter"),
        ".stl": ("vtkIOGeometry", "vtkSTLWriter"),
        ".ply": ("vtkIOPLY", "vtkPLYWriter"),
    }[Path(name).suffix]
    source = vtkSphereSource()
    source.SetThetaResolution(5)
    source.SetPhiResolution(4)
    source.Update()

    def save(path: Path) -> None:
        from importlib import import_module

        writer = getattr(import_module(f"vtkmodules.{module}"), writer_name)()
        writer.SetFileName(str(path))
        writer.SetInputData(source.GetOutput())
        if hasattr(writer, "SetFileTypeToASCII") and path.suffix != ".stl":
            writer.SetFileTypeToASCII()
        writer.Write()

    return written(name, save)


def result_folder() -> Files:
    """What a registration of a scan to itself writes, as far as the report reads it."""
    image = scan(np.float32)
    side = {
        "file": "scan.nii.gz",
        "size": list(image.GetSize()),
        "spacing": list(image.GetSpacing()),
        "origin": list(image.GetOrigin()),
        "direction": list(np.reshape(image.GetDirection(), (3, 3)).tolist()),
    }
    files = written(["scan.nii.gz", "warped.nii.gz"], lambda path: sitk.WriteImage(image, str(path)))
    files |= written("jacobian.nii.gz", lambda path: sitk.WriteImage(image * 0 + 1, str(path)))
    files |= written("transform.h5", lambda path: sitk.WriteTransform(sitk.AffineTransform(3), str(path)))
    files["settings.json"] = json.dumps({"settings": {}, "inputs": {"fixed": side, "moving": side}}, indent=1).encode()
    quality = {
        "similarity": {"before": {"ncc": 1.0}, "after": {"ncc": 1.0}},
        "jacobian": {"fold_percent": 0.0, "min": 1.0, "max": 1.0},
        "verdict": {"word": "good", "reasons": [], "thresholds": {}},
    }
    files["quality.json"] = json.dumps(quality, indent=1).encode()
    return files


def small_weights() -> Files:
    import torch
    from safetensors.torch import save_file

    tensors = {"a.weight": torch.ones(2, 3, dtype=torch.float16), "b.running_mean": torch.zeros(4)}
    metadata = {"carlreg_model": json.dumps("carl-compact"), "trained_parts": json.dumps(["attention"])}
    return written("w.safetensors", lambda path: save_file(tensors, path, metadata=metadata))


def state_dict() -> Files:
    import torch

    return written("w.pt", lambda path: torch.save({"a.weight": torch.ones(2, 3), "b": torch.zeros(4)}, path))
