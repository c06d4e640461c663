"""CARLRegistration: equivariant deformable registration of two volumes, for 3D Slicer.

This file holds what Slicer looks for by name: module, widget, logic and self-test. The panel and a run are in
CARLRegistrationLib, the engine is in carlreg and runs in a process of its own.
"""

import logging
import os
import sys

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

HOMEPAGE = "https://github.com/CARLRegistration/SlicerCARLRegistration"
POLL_INTERVAL_MS = 100
MOST_UNDONE = 5  # each keeps what it overwrote


class CARLRegistration(ScriptedLoadableModule):
    """Metadata of the module."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("CARL Registration")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Registration")]
        parent.dependencies = []
        parent.contributors = ["CARLRegistration contributors"]
        parent.helpText = _(
            "Aligns a moving volume with a fixed one by a smooth map, even when the two show different parts of the "
            "body or lie in different poses. Choose both volumes, press Apply, and look at the result; a transform, "
            "its inverse, the warped volume and the Jacobian are made. Computing goes on in a process of its own and "
            "can be cancelled at any time; nothing leaves the computer. Not for diagnostic use."
        )
        parent.helpText += f'<p><a href="{HOMEPAGE}/blob/main/docs/slicer.md">{_("Documentation of the panel")}</a>, '
        parent.helpText += f'<a href="{HOMEPAGE}/blob/main/README.md#in-3d-slicer">{_("first registration")}</a>, '
        parent.helpText += f'<a href="{HOMEPAGE}/issues">{_("report a problem")}</a> ({_("with the log, please")}).</p>'
        parent.acknowledgementText = _(
            "The method is CARL: H. Greer, L. Tian, F.-X. Vialard, R. Kwitt, R. San Jose Estepar, M. Niethammer, "
            "CARL: A Framework for Equivariant Image Registration, CVPR 2025. GradICON and uniGradICON networks: "
            "L. Tian et al., GradICON, CVPR 2023, and uniGradICON, MICCAI 2024. Please cite them where they were used."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)
        slicer.app.connect("startupCompleted()", observeScenes)


def registerSampleData():
    """Offer the generated pair in the Sample Data module; it is painted when it is asked for, without a download."""
    import SampleData

    iconsPath = os.path.join(os.path.dirname(__file__), "Resources", "Icons")
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="CARLRegistration",
        sampleName="CARLRegistrationPair",
        uris=[],  # nothing to download: the function below makes the nodes
        fileNames=[],
        thumbnailFileName=os.path.join(iconsPath, "CARLRegistrationPair.png"),
        customDownloader=downloadSamplePair,
    )


def observeScenes():
    """A scene that was saved while the Inspect section used the views is loaded with the views of before."""
    if slicer.mrmlScene is not None:
        slicer.mrmlScene.AddObserver(slicer.mrmlScene.EndImportEvent, onSceneImported)
        onSceneImported()


def onSceneImported(caller=None, event=None):
    """Looks at one node; nothing more is imported for other scenes."""
    node = slicer.mrmlScene.GetSingletonNode("CARLRegistration", "vtkMRMLScriptedModuleNode")
    if node is not None and node.GetParameter("inspectFormerViews"):
        from CARLRegistrationLib.inspect.snapshot import restoreKept

        restoreKept()


def downloadSamplePair(source=None):
    """What the Sample Data module calls; returns the two nodes."""
    from CARLRegistrationLib.register.sample_data import loadSamplePair

    return list(loadSamplePair())


class CARLRegistrationWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The shell of the panel; what it does is in CARLRegistrationLib.register.panel."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.panel = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        from CARLRegistrationLib.register.panel import Panel

        uiWidget = slicer.util.loadUI(self.resourcePath("UI/CARLRegistration.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = CARLRegistrationLogic()
        self.panel = Panel(self.ui, self.logic)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)
        self.initializeParameterNode()

    def cleanup(self):
        """Slicer is quitting, or the module is reloaded: the engine must not outlive the panel."""
        if self.panel is not None:
            self.panel.cleanup()
        if self.logic is not None:
            self.logic.cleanup()
        self.removeObservers()

    def enter(self):
        self.initializeParameterNode()
        if self.panel is not None:
            self.panel.enter()

    def exit(self):
        """A run goes on while another module is shown; the panel follows it when it is entered again."""
        if self.panel is not None:
            self.panel.leave()

    def onReload(self):
        """Forget the helpers, which are then imported anew: Slicer itself reloads this file alone."""
        for name in [name for name in sys.modules if name.split(".")[0] == "CARLRegistrationLib"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def initializeParameterNode(self):
        """Follow the scene's parameter node; take the first two volumes as a start."""
        if self.panel is None or (self.panel.parameters is not None and self._parameterNodeIsCurrent()):
            return
        parameters = self.logic.getParameterNode()
        if parameters.fixedVolume is None and parameters.movingVolume is None:
            from CARLRegistrationLib.register.inputs import chooseInputs

            chooseInputs(parameters)
        self.panel.setParameterNode(parameters)

    def _parameterNodeIsCurrent(self):
        node = self.panel.parameters.parameterNode
        return slicer.mrmlScene.GetNodeByID(node.GetID() or "") is node

    def onSceneStartClose(self, caller, event):
        self.logic.abort()
        self.panel.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        self.panel.forgetResult()
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onSceneEndImport(self, caller, event):
        """A scene was loaded: its settings are shown. Until now its nodes were not all there."""
        if self.panel.parameters is not None or self.parent.isEntered:
            self.panel.setParameterNode(None)
            self.initializeParameterNode()


class CARLRegistrationLogic(ScriptedLoadableModuleLogic, VTKObservationMixin):
    """Registrations from the panel, from scripts and from tests; one at a time."""

    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)
        VTKObservationMixin.__init__(self)
        from CARLRegistrationLib.common.polling import Poller

        self._registration = None
        self._undos = []  # of the last registrations, the latest last
        self._onFailed = None
        self._log = ""
        self._poller = Poller(POLL_INTERVAL_MS)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self._onSceneClose)
        slicer.app.connect("aboutToQuit()", self.abort)

    def cleanup(self):
        """End what runs and let go of the scene and the application."""
        self.abort()
        self.removeObservers()
        slicer.app.disconnect("aboutToQuit()", self.abort)

    def getParameterNode(self):
        """The scene's, without what this version of the module cannot read."""
        from CARLRegistrationLib.register.parameters import CARLRegistrationParameterNode, dropUnknown

        node = super().getParameterNode()
        dropped = dropUnknown(node)
        if dropped:
            logging.warning("CARLRegistration: set back, as this version does not know them: %s", ", ".join(dropped))
        return CARLRegistrationParameterNode(node)

    @property
    def isRunning(self):
        return self._registration is not None

    @property
    def canUndo(self):
        return bool(self._undos)

    def register(self, fixedVolume, movingVolume, wait=True, onStatus=None, onDone=None, onFailed=None, **options):
        """Register two volumes.

        :param fixedVolume: scalar volume node that stays.
        :param movingVolume: scalar volume node that is aligned with it.
        :param wait: True returns the result when it is there (Slicer's events go on meanwhile); False returns at once
          and calls back.
        :param onStatus: called with a Status (stage, fraction, elapsed, seconds_left).
        :param onDone: called with the Result (nodes, quality, warnings). :param onFailed: called with the error.
        :param options: further fields of CARLRegistrationLib.register.job.Job, among them the outputs, masks and
          `settings` (carlreg.settings.RegistrationSettings).
        :return: the Result, or None when not waiting.
        :raises RegistrationError: when it cannot be done (only when waiting, or at once).
        """
        from CARLRegistrationLib.common.polling import waitFor
        from CARLRegistrationLib.register.job import Job

        job = Job(fixedVolume=fixedVolume, movingVolume=movingVolume, **options)
        if not wait:
            self.startRegistration(job, onStatus, onDone, onFailed)
            return None
        registration = self._start(job, onStatus)
        try:
            result = waitFor(registration)
        finally:
            self._end(registration)
        self._keepUndo(registration.undo)
        if onDone is not None:
            onDone(result)
        return result

    def startRegistration(self, job, onStatus=None, onDone=None, onFailed=None):
        """Start a Job and return; the callbacks tell. Raises RegistrationError when it cannot be started."""
        registration = self._start(job, onStatus)
        self._onFailed = onFailed

        def done(result):
            self._end(registration)
            self._keepUndo(registration.undo)
            if onDone is not None:
                onDone(result)

        def failed(error):
            self._end(registration)
            if onFailed is not None:
                onFailed(error)

        self._poller.follow(registration, done, failed)

    def log(self):
        """What the engine wrote in the present or the last run."""
        return self._registration.log() if self._registration is not None else self._log

    def cancel(self):
        """Ask the present run to stop; onFailed is called with RegistrationCancelled when it has."""
        if self._registration is not None:
            self._registration.cancel()

    def stopHere(self):
        """Ask the present run to keep the map that it has, and to finish with it."""
        if self._registration is not None:
            self._registration.stopHere()

    def abort(self):
        """End the present run now, without calling back; nothing of it is left."""
        self._poller.forget()
        registration, onFailed = self._registration, self._onFailed
        if registration is not None:
            registration.abort()
            self._end(registration)
            if onFailed is not None:
                from CARLRegistrationLib.common.errors import RegistrationCancelled

                onFailed(RegistrationCancelled(_("The registration was ended with the scene; nothing was changed.")))

    def undo(self, result=None):
        """Take back what a run did to the scene: the one that made the Result, or the last that was not taken back."""
        undo = result.undo if result is not None else self._undos[-1] if self._undos else None
        if undo is not None:
            undo.apply()
        self._undos = [one for one in self._undos if one is not undo]

    def _keepUndo(self, undo):
        self._undos = [*self._undos, undo][-MOST_UNDONE:]

    def _start(self, job, onStatus):
        from CARLRegistrationLib.common.errors import RegistrationError
        from CARLRegistrationLib.register.run import RegistrationRun

        if self._registration is not None:
            raise RegistrationError(_("A registration is running. Cancel it or wait for it."))
        registration = RegistrationRun(job, onStatus)
        registration.start()
        self._registration = registration
        return registration

    def _end(self, registration):
        self._log = registration.log()
        self._registration = self._onFailed = None

    def _onSceneClose(self, caller, event):
        self.abort()
        self._undos = []


class CARLRegistrationTest(ScriptedLoadableModuleTest):
    """Self-test: registers the generated pair, whose true map is known, and checks numbers."""

    def setUp(self):
        slicer.mrmlScene.Clear(0)

    def runTest(self):
        """Asked before the scene is cleared: what is missing would otherwise be shown as a failed test."""
        from CARLRegistrationLib.engine.dependencies import missing

        lacking = missing()
        if lacking:
            self.delayDisplay(
                _("Not tested: {names} missing. Press Apply once to install what the engine needs.").format(
                    names=", ".join(lacking)
                )
            )
            return
        self.setUp()
        self.test_CARLRegistrationGeneratedPair()

    def test_CARLRegistrationGeneratedPair(self):
        import numpy as np
        from carlreg.phantom import make_pair
        from CARLRegistrationLib.mrml.transforms import lpsPointsThrough
        from CARLRegistrationLib.register.sample_data import loadSamplePair

        self.delayDisplay("Painting the pair")
        spacing = 6.0
        fixed, moving = loadSamplePair(spacing)
        truth = make_pair(seed=0, spacing_mm=spacing)
        self.delayDisplay("Registering")
        result = CARLRegistrationLogic().register(fixed, moving)
        self.assertLessEqual({"inverse_transform", "jacobian", "transform", "warped"}, set(result.nodes))
        fixedPoints, movingPoints = truth.landmarks
        before = np.linalg.norm(fixedPoints - movingPoints, axis=1).mean()
        found = lpsPointsThrough(result.nodes["transform"], fixedPoints)
        after = np.linalg.norm(found - movingPoints, axis=1).mean()
        self.assertGreater(before, 50.0)
        self.assertLess(after, 4.0)
        back = lpsPointsThrough(result.nodes["inverse_transform"], found)
        self.assertLess(np.linalg.norm(back - fixedPoints, axis=1).mean(), 1.0)
        jacobian = slicer.util.arrayFromVolume(result.nodes["jacobian"])
        self.assertEqual(result.quality["jacobian"]["fold_percent"], 0.0)
        self.assertGreater(float(jacobian.min()), 0.0)
        self.assertEqual(result.nodes["warped"].GetImageData().GetDimensions(), fixed.GetImageData().GetDimensions())
        self.delayDisplay("Test passed")
