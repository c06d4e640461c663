"""A done pair of a study in the scene: its files as nodes, each once, in a folder of the study's name."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import slicer
from carlreg.cohort import PlannedPair, Study
from carlreg.errors import CarlError
from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from ..inspect.case import Case
from ..mrml import colors, hierarchy
from ..mrml.display import copyDisplay
from ..mrml.geometry import rasFromIjk
from ..mrml.transforms import addTransform, setOutputs
from ..mrml.undo import Undo
from ..mrml.volumes import SETTINGS, fillVolume, inputVolumes, readVolumeInto
from ..transforms.texts import placeOf

FILE = "CARLRegistration.File"  # attribute: what a node was made of, and when that was written


@dataclass
class WrittenNodes:
    """Nodes that were written to files of a study: they stand for these as long as they are as they were then."""

    _known: dict[str, tuple[Any, tuple]] = field(default_factory=dict)

    def add(self, nodes: dict[Path, Any]) -> None:
        self._known |= {os.path.realpath(path): (node, _content(node)) for path, node in nodes.items()}

    def nodeOf(self, path: Path):
        """The node, or None."""
        node, content = self._known.get(os.path.realpath(path), (None, ()))
        there = node is not None and slicer.mrmlScene.IsNodePresent(node)
        return node if there and _content(node) == content else None


def _content(node) -> tuple:
    """What changes when a volume's voxels or its place do."""
    image = node.GetImageData()
    return (image.GetMTime() if image is not None else 0, rasFromIjk(node).tobytes(), placeOf(node))


def openPair(study: Study, pair: PlannedPair, written: WrittenNodes) -> Case:
    """The nodes of a done pair, new where they are not in the scene. Raises RegistrationError; then none was added."""
    result = study.result(pair.name)
    there = set(slicer.util.getNodesByClass("vtkMRMLStorableNode"))
    undo = Undo()
    undo.begin()
    try:
        fixed, moving = (_input(Path(pair.files[side]), written) for side in ("fixed", "moving"))
        transform = _made(
            result / "transform.h5",
            "vtkMRMLTransformNode",
            lambda path: addTransform(path, _("Transform: {pair}").format(pair=pair.name), fixed, moving),
        )
        outputs = {
            "warped": _made(result / "warped.nii.gz", _VOLUME, lambda path: _warped(path, pair.name, moving)),
            "uncertainty": _made(result / "uncertainty.nii.gz", _VOLUME, lambda path: _uncertainty(path, pair.name)),
        }
        if transform is None:
            raise RegistrationError(  # noqa: TRY301
                _("{path} is not there any more. Press Resume to do again what is missing.").format(path=result)
            )
        outputs = {kind: node for kind, node in outputs.items() if node is not None}
        setOutputs(transform, outputs)
        nodes = (fixed, moving, transform, *outputs.values())
    except (RuntimeError, OSError, CarlError) as error:
        undo.apply()
        raise RegistrationError(_("{name} could not be loaded: {error}").format(name=pair.name, error=error)) from error
    except BaseException:
        undo.apply()
        raise
    hierarchy.placeInFolder([node for node in nodes if node not in there], study.folder.name)
    undo.end()
    return Case(fixed, moving, transform, outputs.get("uncertainty"))


_VOLUME = "vtkMRMLScalarVolumeNode"


def _input(path: Path, written: WrittenNodes):
    """The node of an image: written to this file, loaded from it, or loaded now."""
    node = written.nodeOf(path)
    if node is not None:
        return node
    node = next((one for one in inputVolumes() if _isOf(one, path)), None)
    if node is not None:
        return node
    if not path.exists():
        raise RegistrationError(
            _("{path} is not there any more. Put it back: the pair is shown with its own images.").format(path=path)
        )
    if path.is_dir():
        return _fromFolder(path)
    return _marked(slicer.util.loadVolume(str(path), {"show": False, "singleFile": True}), path)


def _fromFolder(path: Path):
    """A DICOM series, as the engine reads it: Slicer would want it in its database."""
    from carlreg.volumes import read_volume

    image = read_volume(path, path.name).image
    node = slicer.mrmlScene.AddNewNodeByClass(_VOLUME, slicer.mrmlScene.GenerateUniqueName(path.name))
    fillVolume(image, node)
    node.CreateDefaultDisplayNodes()
    return _marked(node, path)


def _made(path: Path, className: str, make):
    """The node of a file of the result, made by `make` where the scene has none; None without the file."""
    if not path.is_file():
        return None
    for node in slicer.util.getNodesByClass(className):
        if _isOf(node, path):
            return node
    node = _marked(make(path), path)
    node.SetAttribute(SETTINGS, (path.parent / "settings.json").read_text(encoding="utf-8"))
    return node


def _warped(path: Path, name: str, moving):
    node = slicer.util.loadVolume(
        str(path), {"show": False, "singleFile": True, "name": _("Warped: {pair}").format(pair=name)}
    )
    copyDisplay(moving, node)
    return node


def _uncertainty(path: Path, name: str):
    node = slicer.mrmlScene.AddNewNodeByClass(_VOLUME, _("Uncertainty: {pair}").format(pair=name))
    readVolumeInto(path, node)
    node.CreateDefaultDisplayNodes()
    colors.showUncertainty(node, path)
    return node


def _marked(node, path: Path):
    node.SetAttribute(FILE, _stamp(path))
    return node


def _stamp(path: Path) -> str:
    return f"{os.path.realpath(path)} {path.stat().st_mtime_ns}"


def _isOf(node, path: Path) -> bool:
    """True for a node of this very file that was neither moved nor changed since."""
    if node.GetParentTransformNode() is not None:
        return False
    stamp = node.GetAttribute(FILE)
    if stamp:
        return path.exists() and stamp == _stamp(path)
    storage = node.GetStorageNode() if node.IsA(_VOLUME) else None
    name = storage.GetFileName() if storage is not None else None
    return bool(name) and os.path.realpath(name) == os.path.realpath(path) and not node.GetModifiedSinceRead()


__all__ = ["WrittenNodes", "openPair"]
