"""What the panel asks, kept in the scene, and the job that it describes."""

from __future__ import annotations

import enum
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import slicer
from carlreg.models.catalog import MODELS, model_info
from carlreg.settings import RegistrationSettings
from slicer import (
    vtkMRMLDisplayableNode,
    vtkMRMLMarkupsFiducialNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLSequenceNode,
    vtkMRMLTransformNode,
)
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

from ..apply.choices import ApplyDirection, ApplyGrid, ApplyInterpolation, ApplyMethod
from ..cohort.choices import CohortSource
from ..common.choices import Choice
from ..series.choices import SeriesChain, SeriesReference, SeriesSource
from ..transforms.choices import Convention, Direction, ExportFormat, LinearKind, Precision, Which
from .job import Job, checkWeights, withWholePaths


class Preset(Choice):
    GENERAL = "general"
    CT = "ct"
    MR = "mr"
    CT_TO_MR = "ct-mr"
    MR_CONTRASTS = "mr-contrasts"
    LUNG_CT = "lung-ct"
    BRAIN_MR = "brain-mr"

    def label(self) -> str:
        return {
            Preset.GENERAL: _("General"),
            Preset.CT: _("CT"),
            Preset.MR: _("MR"),
            Preset.CT_TO_MR: _("CT to MR (or MR to CT)"),
            Preset.MR_CONTRASTS: _("MR to MR, different contrast"),
            Preset.LUNG_CT: _("Lung CT"),
            Preset.BRAIN_MR: _("Brain MR"),
        }[self]


class TransformKind(Choice):
    DEFORMABLE = "deformable"
    AFFINE = "affine"
    SIMILARITY = "similarity"
    RIGID = "rigid"

    def label(self) -> str:
        return {
            TransformKind.DEFORMABLE: _("Deformable"),
            TransformKind.AFFINE: _("Affine (12 numbers)"),
            TransformKind.SIMILARITY: _("Similarity (rigid and one scale)"),
            TransformKind.RIGID: _("Rigid (turn and shift)"),
        }[self]

    @property
    def linear(self) -> bool:
        return self is not TransformKind.DEFORMABLE


class Robustness(Choice):
    TRANSLATION = "translation"
    ROTATION = "rotation"

    def label(self) -> str:
        return {
            Robustness.TRANSLATION: _("Similar pose, any shift"),
            Robustness.ROTATION: _("Any rotation (slower)"),
        }[self]


class Effort(Choice):
    BEST = "best"
    FAST = "fast"

    def label(self) -> str:
        return {
            Effort.BEST: _("Best (down to the voxels)"),
            Effort.FAST: _("Fast"),
        }[self]


class OptimizationMethod(Choice):
    FIELD = "field"
    NETWORK = "network"
    FUNCTIONAL = "functional"

    def label(self) -> str:
        return {
            OptimizationMethod.FIELD: _("Displacement field"),
            OptimizationMethod.NETWORK: _("Network weights (as published, slow)"),
            OptimizationMethod.FUNCTIONAL: _("Function of points (little memory)"),
        }[self]


class Similarity(Choice):
    LNCC2 = "lncc2"
    LNCC = "lncc"
    MIND = "mind"

    def label(self) -> str:
        return {
            Similarity.LNCC2: _("LNCC squared (default)"),
            Similarity.LNCC: _("LNCC (same contrast)"),
            Similarity.MIND: _("MIND (different contrasts)"),
        }[self]


class Modality(Choice):
    AUTO = "auto"
    CT = "ct"
    MR = "mr"

    def label(self) -> str:
        return {Modality.AUTO: _("Automatic"), Modality.CT: _("CT"), Modality.MR: _("MR")}[self]


class Model(Choice):
    """The networks of the engine's catalog."""

    _ignore_ = ["_name"]  # noqa: RUF012 - of the class, not a member
    for _name in MODELS:
        vars()[_name.upper().replace("-", "_")] = _name

    def label(self) -> str:
        info = model_info(self.value)
        text = _("{title} (shipped)") if info.shipped else _("{title} (your weights file)")
        return text.format(title=info.title)


@parameterNodeWrapper
class CARLRegistrationParameterNode:
    """Everything the user chooses; saved with the scene.

    *Mask, *Ignore: a segmentation or a label map; *Segment: one segment's ID, empty for all. *Landmarks,
    *Segmentation: guide the registration; landmarksAccuracy: mm, below 0 = automatic. create*: make this output;
    output*: the node that receives it, None for a new one. ioSteps: 0 = no instance optimization. fieldSpacing: mm,
    0 = automatic. smoothness: a factor. device: auto, cpu, cuda:N. enginePython: empty for Slicer's own.
    inspect*: what the Inspect section compares. transforms*, export*, import*: of the Transforms section;
    exportSpacing, toolSpacing: mm, 0 = the field's own. apply*, cohort*, series*: of the Apply, Cohort and Series
    sections; the nodes that are checked there are references of the node. seriesFrame: from 0; seriesSmoothness: weight
    of second differences in time.
    """

    fixedVolume: vtkMRMLScalarVolumeNode
    movingVolume: vtkMRMLScalarVolumeNode

    transformKind: TransformKind = TransformKind.DEFORMABLE
    preset: Preset = Preset.GENERAL
    robustness: Robustness = Robustness.TRANSLATION
    effort: Effort = Effort.BEST
    ioSteps: Annotated[int, WithinRange(0, 500)] = 100
    ioMethod: OptimizationMethod = OptimizationMethod.FIELD
    similarity: Similarity = Similarity.LNCC2
    fixedModality: Modality = Modality.AUTO
    movingModality: Modality = Modality.AUTO

    createTransform: bool = True
    createInverse: bool = True
    createWarped: bool = True
    createJacobian: bool = True
    createUncertainty: bool = True
    outputTransform: vtkMRMLTransformNode
    outputInverse: vtkMRMLTransformNode
    outputWarped: vtkMRMLScalarVolumeNode
    outputJacobian: vtkMRMLScalarVolumeNode
    outputUncertainty: vtkMRMLScalarVolumeNode
    placeMoving: bool = False

    fixedMask: vtkMRMLDisplayableNode
    fixedMaskSegment: str = ""
    movingMask: vtkMRMLDisplayableNode
    movingMaskSegment: str = ""
    initialTransform: vtkMRMLTransformNode
    continueTransform: vtkMRMLTransformNode
    fixedLandmarks: vtkMRMLMarkupsFiducialNode
    movingLandmarks: vtkMRMLMarkupsFiducialNode
    landmarksAccuracy: Annotated[float, WithinRange(-0.5, 50)] = -0.5
    fixedSegmentation: vtkMRMLSegmentationNode
    movingSegmentation: vtkMRMLSegmentationNode
    rigidSegmentation: vtkMRMLSegmentationNode
    rigidSegmentationSegment: str = ""
    stiffSegmentation: vtkMRMLSegmentationNode
    fixedIgnore: vtkMRMLDisplayableNode
    fixedIgnoreSegment: str = ""
    movingIgnore: vtkMRMLDisplayableNode
    movingIgnoreSegment: str = ""
    model: Model = Model(RegistrationSettings().model)
    weightsFile: str = ""
    device: str = "auto"
    fieldSpacing: Annotated[float, WithinRange(0, 50)] = 0.0
    smoothness: Annotated[float, WithinRange(0.1, 10)] = 1.0
    symmetric: bool = False
    grid: Annotated[int, WithinRange(64, 256)] = 128
    enginePython: str = ""
    keepJobFolder: bool = False
    showProgress: bool = True

    showJacobian: bool = False

    inspectFixed: vtkMRMLScalarVolumeNode
    inspectMoving: vtkMRMLScalarVolumeNode
    inspectTransform: vtkMRMLTransformNode
    inspectUncertainty: vtkMRMLScalarVolumeNode
    inspectFixedSegmentation: vtkMRMLSegmentationNode
    inspectMovingSegmentation: vtkMRMLSegmentationNode
    inspectFixedPoints: vtkMRMLMarkupsFiducialNode
    inspectMovingPoints: vtkMRMLMarkupsFiducialNode

    transformsFixed: vtkMRMLScalarVolumeNode
    transformsMoving: vtkMRMLScalarVolumeNode
    transformsTransform: vtkMRMLTransformNode
    transformsInitial: vtkMRMLTransformNode
    exportWhich: Which = Which.FORWARD
    exportFormat: ExportFormat = ExportFormat.ITK
    exportSpacing: Annotated[float, WithinRange(0, 50)] = 0.0
    exportPrecision: Precision = Precision.AUTO
    exportFlatten: bool = False
    importConvention: Convention = Convention.FILE
    importDirection: Direction = Direction.FILE
    linearKind: LinearKind = LinearKind.RIGID
    toolSpacing: Annotated[float, WithinRange(0, 50)] = 0.0

    applyTransform: vtkMRMLTransformNode
    applyDirection: ApplyDirection = ApplyDirection.TO_FIXED
    applyMethod: ApplyMethod = ApplyMethod.RESAMPLE
    applyGrid: ApplyGrid = ApplyGrid.TARGET
    applyReference: vtkMRMLScalarVolumeNode
    applyInterpolation: ApplyInterpolation = ApplyInterpolation.LINEAR
    applyMassPreserving: bool = False
    applyInPlace: bool = False

    cohortSource: CohortSource = CohortSource.PLAN
    cohortPlan: str = ""
    cohortFolder: str = ""
    cohortRetryFailed: bool = False

    seriesSource: SeriesSource = SeriesSource.SEQUENCE
    seriesSequence: vtkMRMLSequenceNode
    seriesFile: str = ""
    seriesReference: SeriesReference = SeriesReference.FIRST
    seriesFrame: Annotated[int, WithinRange(0, 9999)] = 0
    seriesChain: SeriesChain = SeriesChain.REFERENCE
    seriesCyclic: bool = False
    seriesSmoothness: Annotated[float, WithinRange(0, 100)] = 0.0
    seriesSegmentation: vtkMRMLSegmentationNode
    seriesLandmarks: vtkMRMLMarkupsFiducialNode
    seriesFolder: str = ""


def dropUnknown(node) -> list[str]:
    """Let go of values that a parameter node holds of another version and that this one cannot read.

    They get their defaults when the node is wrapped; otherwise one of them would leave the panel dead.
    Returns: names of the parameters.
    """
    dropped = []
    for name, annotated in get_type_hints(CARLRegistrationParameterNode, include_extras=True).items():
        if node.HasParameter(name) and not readable(annotated, node.GetParameter(name)):
            dropped.append(name)
    if dropped:
        with slicer.util.NodeModify(node):
            for name in dropped:
                node.UnsetParameter(name)
    return dropped


def readable(annotated, text: str) -> bool:
    """Whether a text is a value of a parameter's type, within its limits."""
    kind, *limits = get_args(annotated) if get_origin(annotated) is Annotated else (annotated,)
    if issubclass(kind, enum.Enum):
        return text in kind.__members__
    if kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            return False
        ranges: list[Any] = [limit for limit in limits if isinstance(limit, WithinRange)]
        return all(one.minimum <= value <= one.maximum for one in ranges)
    return True


def settingsFrom(parameters) -> RegistrationSettings:
    """The engine's settings of a parameter node. Raises carlreg's InputError for a value that is not allowed."""
    return RegistrationSettings(
        transform=parameters.transformKind.value,
        model=parameters.model.value,
        weights=parameters.weightsFile.strip() or None,
        robustness=parameters.robustness.value,
        fixed_modality=parameters.fixedModality.value,
        moving_modality=parameters.movingModality.value,
        effort=parameters.effort.value,
        io_method=parameters.ioMethod.value,
        io_steps=parameters.ioSteps,
        similarity=parameters.similarity.value,
        landmarks_accuracy_mm=None if parameters.landmarksAccuracy < 0 else parameters.landmarksAccuracy,
        smoothness=parameters.smoothness,
        symmetric=parameters.symmetric,
        field_spacing_mm=parameters.fieldSpacing or None,
        grid=parameters.grid,
        device=parameters.device or "auto",
    )


def checkedSettings(parameters) -> RegistrationSettings:
    """The same, with whole paths, for another computation than that of the panel's two volumes.

    Raises InputError, and RegistrationError where the network's weights are not there.
    """
    settings = withWholePaths(Job(None, None, settingsFrom(parameters))).settings
    checkWeights(settings)
    return settings


_OF_SIDES = ("Volume", "Mask", "MaskSegment", "Landmarks", "Segmentation", "Ignore", "IgnoreSegment", "Modality")


def exchangeSides(parameters) -> None:
    """What was chosen for the fixed volume is chosen for the moving one, and the other way round."""
    with slicer.util.NodeModify(parameters):
        for name in _OF_SIDES:
            fixed, moving = getattr(parameters, f"fixed{name}"), getattr(parameters, f"moving{name}")
            setattr(parameters, f"fixed{name}", moving)
            setattr(parameters, f"moving{name}", fixed)
        # Drawn in the volume that was the fixed one.
        parameters.rigidSegmentation = parameters.stiffSegmentation = None
        parameters.rigidSegmentationSegment = ""


def jobFrom(parameters) -> Job:
    """The job that the panel describes."""
    names = set(Job.__dataclass_fields__) - {"settings", "enginePython", "keepForReport", "replaceNotFinite"}
    values = {name: getattr(parameters, name) for name in names}
    return Job(settings=settingsFrom(parameters), enginePython=parameters.enginePython.strip() or None, **values)


__all__ = [
    "CARLRegistrationParameterNode",
    "Modality",
    "Model",
    "OptimizationMethod",
    "Preset",
    "Robustness",
    "Similarity",
    "TransformKind",
    "checkedSettings",
    "dropUnknown",
    "exchangeSides",
    "jobFrom",
    "readable",
    "settingsFrom",
]
