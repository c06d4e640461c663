"""``slicer.app.ioManager()``: loading and saving nodes and scenes."""

import types
from pathlib import Path

import slicer

from .strict import Strict


class IOManager(Strict):
    """Base/QTCore/qSlicerCoreIOManager.h for scenes, volumes, transforms and segmentations."""

    _VOLUME_OPTIONS = frozenset({"fileName", "name", "labelmap", "center", "singleFile", "show"})
    _EXTENSIONS = types.MappingProxyType(
        {
            ".mrml": "SceneFile",
            ".mrb": "SceneFile",
            ".nrrd": "VolumeFile",
            ".nhdr": "VolumeFile",
            ".nii": "VolumeFile",
            ".nii.gz": "VolumeFile",
            ".mha": "VolumeFile",
            ".h5": "TransformFile",
            ".tfm": "TransformFile",
        }
    )
    _STORAGE = types.MappingProxyType(
        {
            "TransformFile": ("vtkMRMLTransformStorageNode", None),
            "SegmentationFile": ("vtkMRMLSegmentationStorageNode", ""),
        }
    )

    def __init__(self, volumes_logic, application_logic):
        self._volumes_logic, self._application_logic = volumes_logic, application_logic

    def fileType(self, filename):
        name = Path(filename).name.lower()
        for extension in (".nii.gz", ".seg.nrrd", Path(name).suffix):
            if name.endswith(extension) and extension == ".seg.nrrd":
                return "SegmentationFile"
            if name.endswith(extension) and extension in self._EXTENSIONS:
                return self._EXTENSIONS[extension]
        raise NotImplementedError(f"this host does not know the type of {filename}")

    def fileWriterFileType(self, node):
        for node_type, file_type in (
            ("vtkMRMLSegmentationNode", "SegmentationFile"),
            ("vtkMRMLVolumeNode", "VolumeFile"),
            ("vtkMRMLTransformNode", "TransformFile"),
        ):
            if node.IsA(node_type):
                return file_type
        raise NotImplementedError(f"this host writes no {node.GetClassName()}")

    def loadNodes(self, file_type, properties, loaded_nodes=None, messages=None):
        filename = properties["fileName"]
        if file_type == "SceneFile":
            return self._load_scene(filename, properties.get("clear", False), messages)
        if file_type == "VolumeFile":
            node = self._load_volume(filename, properties)
        elif file_type == "TransformFile":
            node = self._load_transform(filename, properties)
        elif file_type == "SegmentationFile":
            node = self._read(slicer.vtkMRMLSegmentationNode(), filename, properties)
        else:
            raise NotImplementedError(f"this host does not load {file_type}")
        if node is None:
            return False
        if loaded_nodes is not None:
            loaded_nodes.AddItem(node)
        return True

    def _load_scene(self, filename, clear, messages):
        if str(filename).endswith(".mrb"):
            return slicer.mrmlScene.ReadFromMRB(
                str(filename), bool(clear), messages or slicer.vtkMRMLMessageCollection()
            )
        slicer.mrmlScene.SetURL(str(filename))
        return bool(slicer.mrmlScene.Connect(messages) if clear else slicer.mrmlScene.Import(messages))

    def _load_volume(self, filename, properties):
        unknown = set(properties) - self._VOLUME_OPTIONS
        if unknown:
            raise NotImplementedError(f"this host loads volumes without the options {sorted(unknown)}")
        options = (0x1 if properties.get("labelmap") else 0) | (0x2 if properties.get("center") else 0)
        options |= 0x4 if properties.get("singleFile") else 0
        name = properties.get("name") or Path(filename).name.partition(".")[0]
        node = self._volumes_logic.AddArchetypeVolume(str(filename), name, options)
        if node is not None and properties.get("show", True):
            selection = self._application_logic.GetSelectionNode()
            if properties.get("labelmap"):
                selection.SetActiveLabelVolumeID(node.GetID())
            else:
                selection.SetActiveVolumeID(node.GetID())
            self._application_logic.PropagateVolumeSelection()
        return node

    def _load_transform(self, filename, properties):
        storage = slicer.vtkMRMLTransformStorageNode()
        storage.SetScene(slicer.mrmlScene)
        for class_name in ("vtkMRMLLinearTransformNode", "vtkMRMLGridTransformNode", "vtkMRMLTransformNode"):
            node = getattr(slicer, class_name)()
            storage.SetFileName(str(filename))
            if storage.SupportedFileType(str(filename)) and storage.ReadData(node):
                return self._add(node, filename, properties)
        return None

    def _read(self, node, filename, properties):
        storage = node.CreateDefaultStorageNode()
        storage.UnRegister(None)
        storage.SetScene(slicer.mrmlScene)
        storage.SetFileName(str(filename))
        return self._add(node, filename, properties) if storage.ReadData(node) else None

    def _add(self, node, filename, properties):
        name = properties.get("name") or Path(filename).name.partition(".")[0]
        node.SetName(slicer.mrmlScene.GenerateUniqueName(name))
        slicer.mrmlScene.AddNode(node)
        node.CreateDefaultDisplayNodes()
        return node

    def saveNodes(self, file_type, properties, messages=None):
        filename = str(properties["fileName"])
        if file_type == "SceneFile":
            return self._save_scene(filename, messages)
        node = slicer.mrmlScene.GetNodeByID(properties["nodeID"])
        if file_type != self.fileWriterFileType(node):
            raise NotImplementedError(f"this host does not write a {node.GetClassName()} as {file_type}")
        if node.GetStorageNode() is None and not node.AddDefaultStorageNode(filename):
            return False
        storage = node.GetStorageNode()
        storage.SetFileName(filename)
        if "useCompression" in properties:
            storage.SetUseCompression(bool(properties["useCompression"]))
        return bool(storage.WriteData(node))

    def _save_scene(self, filename, messages):
        """No event of the scene tells of it: vtkMRMLScene::StartSaveEvent is declared and invoked nowhere."""
        messages = messages or slicer.vtkMRMLMessageCollection()
        if filename.endswith(".mrb"):
            return slicer.mrmlScene.WriteToMRB(filename, None, messages)
        if filename.endswith(".mrml"):
            slicer.mrmlScene.SetURL(filename)
            return bool(slicer.mrmlScene.Commit(None, messages))
        Path(filename).mkdir(parents=True, exist_ok=True)
        return slicer.mrmlScene.SaveSceneToSlicerDataBundleDirectory(filename, None, messages)
