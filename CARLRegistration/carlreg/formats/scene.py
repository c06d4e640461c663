"""A 3D Slicer scene (.mrb): a zip archive with one folder that holds the .mrml file and Data/.

Source: Slicer's user guide ("MRB file format": a zip file with the scene and all data).
"""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Sequence
from pathlib import Path

_VERSION = "Slicer4.4.0"


def write_scene(
    path: Path, name: str, transform_file: Path, transform_name: str, volumes: Sequence[tuple[str, Path, bool]] = ()
) -> None:
    """Write a scene with a transform node and, if given, volumes.

    transform_file: .h5 to be put in. volumes: (node name, file, placed under the transform?).
    """
    root = ElementTree.Element("MRML", version=_VERSION, userTags="")
    data = f"{transform_name}.h5"
    ElementTree.SubElement(
        root,
        "TransformStorage",
        id="vtkMRMLTransformStorageNode1",
        name="TransformStorage",
        hideFromEditors="true",
        fileName=f"Data/{data}",
        useCompression="1",
    )
    ElementTree.SubElement(
        root,
        "Transform",
        id="vtkMRMLTransformNode1",
        name=transform_name,
        references="storage:vtkMRMLTransformStorageNode1;",
    )
    files = [(transform_file, data)]
    for number, (title, file, placed) in enumerate(volumes, start=1):
        inside = (
            f"{title}{''.join(file.suffixes[-2:] if file.name.lower().endswith('.nii.gz') else file.suffixes[-1:])}"
        )
        files.append((file, inside))
        storage, node = f"vtkMRMLVolumeArchetypeStorageNode{number}", f"vtkMRMLScalarVolumeNode{number}"
        ElementTree.SubElement(
            root,
            "VolumeArchetypeStorage",
            id=storage,
            name="VolumeArchetypeStorage",
            hideFromEditors="true",
            fileName=f"Data/{inside}",
            useCompression="1",
            centerImage="0",
            singleFile="0",
            UseOrientationFromFile="1",
        )
        references = f"storage:{storage};" + ("transform:vtkMRMLTransformNode1;" if placed else "")
        ElementTree.SubElement(root, "Volume", id=node, name=title, references=references)
    ElementTree.indent(root)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(f"{name}/{name}.mrml", ElementTree.tostring(root, encoding="unicode", xml_declaration=True))
        for file, inside in files:
            packed = file.name.lower().endswith(".gz")
            entry = zipfile.ZipInfo(f"{name}/Data/{inside}")
            entry.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
            with file.open("rb") as source, archive.open(entry, "w", force_zip64=True) as sink:
                shutil.copyfileobj(source, sink, 2**22)
