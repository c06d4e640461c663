"""A scripted module as small as Slicer's template, for the tests of the host."""

import enum
from pathlib import Path
from typing import Annotated

import qt
import slicer
import vtk
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLTransformNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import *  # noqa: F403
from slicer.ScriptedLoadableModule import *  # noqa: F403
from slicer.util import VTKObservationMixin


class Method(enum.Enum):
    FAST = 1
    EXACT = 2

    def label(self):
        return {"FAST": _("Fast"), "EXACT": _("Exact")}[self.name]


@parameterNodeWrapper  # noqa: F405
class HostExampleParameterNode:
    inputVolume: vtkMRMLScalarVolumeNode
    outputTransform: vtkMRMLTransformNode
    threshold: Annotated[float, WithinRange(-100, 200)] = 100  # noqa: F405
    steps: Annotated[int, WithinRange(1, 50), Default(7)]  # noqa: F405
    invert: bool = False
    method: Method = Method.EXACT
    modelFile: Path
    label: str = "plain"
    quality: Annotated[str, Choice(["low", "high"])] = "high"  # noqa: F405


class HostExample(ScriptedLoadableModule):  # noqa: F405
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)  # noqa: F405
        self.parent.title = _("Host Example")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Examples")]
        self.parent.dependencies = []
        self.parent.contributors = ["Nobody"]
        self.parent.helpText = _("Help of {name}.").format(name="the example")
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData():
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataCategory("HostExample", "Host example data")
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="HostExample",
        sampleName="HostExampleVolume",
        uris="host-example://volume",
        fileNames="volume.nrrd",
        nodeNames="Example volume",
        customDownloader=lambda source: slicer.mrmlScene.AddNewNodeByClass(
            "vtkMRMLScalarVolumeNode", source.nodeNames[0]
        ),
    )


class HostExampleWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):  # noqa: F405
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)  # noqa: F405
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._parameterNodeGuiTag = None
        self.calls = []

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)  # noqa: F405
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/HostExample.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = HostExampleLogic()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.ui.applyButton.connect("clicked(bool)", self.onApplyButton)
        self.statusLabel = qt.QLabel("ready")
        self.layout.addWidget(self.statusLabel)
        self.initializeParameterNode()

    def cleanup(self):
        self.calls.append("cleanup")
        self.removeObservers()

    def enter(self):
        self.calls.append("enter")
        self.initializeParameterNode()

    def exit(self):
        self.calls.append("exit")
        self.setParameterNode(None)

    def onSceneStartClose(self, caller, event):
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        self.initializeParameterNode()

    def initializeParameterNode(self):
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, parameterNode):
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._checkCanApply)
        self._parameterNode = parameterNode
        if self._parameterNode:
            self._parameterNodeGuiTag = self._parameterNode.connectGui(self.ui)
            self.addObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._checkCanApply)
            self._checkCanApply()

    def _checkCanApply(self, caller=None, event=None):
        self.ui.applyButton.enabled = bool(self._parameterNode and self._parameterNode.inputVolume)

    def onApplyButton(self):
        with slicer.util.tryWithErrorDisplay(_("Failed to compute results."), waitCursor=True):
            self.statusLabel.text = self.logic.process(self._parameterNode.inputVolume, self._parameterNode.steps)


class HostExampleLogic(ScriptedLoadableModuleLogic):  # noqa: F405
    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)  # noqa: F405

    def getParameterNode(self):
        return HostExampleParameterNode(super().getParameterNode())

    def process(self, volume, steps):
        if volume.GetImageData() is None:
            raise ValueError("The input volume has no image data.")
        return f"{steps} steps on {volume.GetName()}"


class HostExampleTest(ScriptedLoadableModuleTest):  # noqa: F405
    def runTest(self):
        self.delayDisplay("Testing the example")
        slicer.selfTestsRun = True
