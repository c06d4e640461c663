"""The base classes of scripted modules: the contents of ``slicer.ScriptedLoadableModule``.

They behave as Base/Python/slicer/ScriptedLoadableModule.py does.
"""

import importlib
import logging
import os
import unittest

import slicer
import slicer.util
from slicer.i18n import tr as _

from . import ctk_widgets
from .pythonqt import qt

__all__ = [
    "ScriptedLoadableModule",
    "ScriptedLoadableModuleLogic",
    "ScriptedLoadableModuleTest",
    "ScriptedLoadableModuleWidget",
]

_DEFAULT_HELP = "This module was made from a template; its help is still to be written."


def _resource_path(module_path, filename):
    return os.path.join(os.path.dirname(module_path), "Resources", filename)


def _without_suffix(instance, suffix):
    return type(instance).__name__.removesuffix(suffix)


class ScriptedLoadableModule:
    """What a module is: its title, categories, help and icon, kept by ``parent``."""

    def __init__(self, parent):
        super().__init__()
        self.parent = parent
        self.moduleName = type(self).__name__
        parent.title = ""
        parent.categories = []
        parent.dependencies = []
        parent.contributors = []
        parent.helpText = _(_DEFAULT_HELP)
        parent.acknowledgementText = ""
        for extension in (".svg", ".png"):
            icon_path = self.resourcePath(os.path.join("Icons", self.moduleName + extension))
            if os.path.isfile(icon_path):
                parent.icon = qt.QIcon(icon_path)
                break
        if not hasattr(slicer, "selfTests"):
            slicer.selfTests = {}
        slicer.selfTests[self.moduleName] = self.runTest

    def resourcePath(self, filename):
        return _resource_path(self.parent.path, filename)

    def getDefaultModuleDocumentationLink(self, docPage=None):
        if docPage:
            url = slicer.app.documentationBaseUrl + docPage
        else:
            url = slicer.app.moduleDocumentationUrl(self.moduleName)
        text = _("See the {url_start}documentation{url_end}.")
        return "<p>" + text.format(url_start=f'<a href="{url}">', url_end="</a>") + "</p>"

    def runTest(self, msec=100, **kwargs):
        class_name = self.moduleName + "Test"
        test_class = getattr(importlib.import_module(self.__module__), class_name, None)
        if test_class is None:
            raise AssertionError(f"{self.__module__} has no class {class_name}")
        test_case = test_class()
        test_case.messageDelay = msec
        test_case.runTest(**kwargs)


class ScriptedLoadableModuleWidget:
    """The user interface of a module, inside ``parent`` (or in a window of its own)."""

    def __init__(self, parent=None):
        super().__init__()
        self.moduleName = _without_suffix(self, "Widget")
        self.developerMode = slicer.util.settingsValue("Developer/DeveloperMode", False, converter=slicer.util.toBool)
        self.parent = parent
        if parent is None:
            self.parent = slicer.qMRMLWidget()
            self.parent.setLayout(qt.QVBoxLayout())
            self.parent.setMRMLScene(slicer.mrmlScene)
        self.layout = self.parent.layout()
        if parent is None:
            self.setup()
            self.parent.show()
        slicer.app.moduleManager().connect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def resourcePath(self, filename):
        return _resource_path(slicer.util.modulePath(self.moduleName), filename)

    def cleanup(self):
        """For the module to override: called just before it is unloaded."""

    def _onModuleAboutToBeUnloaded(self, moduleName):
        if moduleName != self.moduleName:
            return
        self.cleanup()
        slicer.app.moduleManager().disconnect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def setup(self):
        self.setupDeveloperSection()

    def setupDeveloperSection(self):
        """The Reload & Test section, in developer mode only."""
        if not self.developerMode:
            return
        self.reloadCollapsibleButton = ctk_widgets.ctkCollapsibleButton()
        self.reloadCollapsibleButton.text = "Reload && Test"
        self.layout.addWidget(self.reloadCollapsibleButton)
        form = qt.QFormLayout(self.reloadCollapsibleButton)
        self.reloadButton = qt.QPushButton("Reload")
        self.reloadButton.name = "ScriptedLoadableModuleTemplate Reload"
        self.reloadButton.connect("clicked()", self.onReload)
        self.reloadTestMenuButton = qt.QPushButton("Reload and Test")
        self.reloadTestMenuButton.name = "ScriptedLoadableModuleTemplate Testing"
        self.reloadTestMenuButton.connect("clicked()", self.onReloadAndTest)
        self.editSourceButton = qt.QPushButton("Edit")
        self.editSourceButton.connect("clicked()", self.onEditSource)
        self.restartButton = qt.QPushButton("Restart Slicer")
        self.restartButton.name = "ScriptedLoadableModuleTemplate Restart"
        self.restartButton.connect("clicked()", slicer.app.restart)
        row = qt.QHBoxLayout()
        for button in (self.reloadButton, self.reloadTestMenuButton, self.editSourceButton, self.restartButton):
            row.addWidget(button)
        form.addRow(row)

    def onReload(self):
        slicer.util.reloadScriptedModule(self.moduleName)

    def onTest(self, **kwargs):
        with slicer.util.tryWithErrorDisplay("Test failed."):
            self._run_self_test(**kwargs)

    def onReloadAndTest(self, **kwargs):
        with slicer.util.tryWithErrorDisplay("Reload and Test failed."):
            self.onReload()
            self._run_self_test(**kwargs)

    def _run_self_test(self, **kwargs):
        delay = int(slicer.app.userSettings().value("Developer/SelfTestDisplayMessageDelay", 100))
        slicer.selfTests[self.moduleName](msec=delay, **kwargs)

    def onEditSource(self):
        qt.QDesktopServices.openUrl(qt.QUrl("file:///" + slicer.util.modulePath(self.moduleName)))


class ScriptedLoadableModuleLogic:
    """The computation of a module, and the node that keeps its parameters."""

    def __init__(self, parent=None):
        super().__init__()
        self.moduleName = _without_suffix(self, "Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self):
        scene = slicer.mrmlScene
        if self.isSingletonParameterNode:
            node = scene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
            if node and node.GetAttribute("ModuleName") != self.moduleName:
                node.SetAttribute("ModuleName", self.moduleName)  # closing the scene may have taken it away
        else:
            node = next(iter(self.getAllParameterNodes()), None)
        return node or scene.AddNode(self.createParameterNode())

    def getAllParameterNodes(self):
        nodes = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")
        return [node for node in nodes if node.GetAttribute("ModuleName") == self.moduleName]

    def createParameterNode(self):
        if slicer.mrmlScene is None:
            return None
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        if self.isSingletonParameterNode:
            node.SetSingletonTag(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """A module's own test, run by ``slicer.selfTests``."""

    def __init__(self, *args, **kwargs):
        self.moduleTestNames = []
        super().__init__(*args, **kwargs)
        self.enableScreenshots = False
        self.screenshotScaleFactor = 1.0
        if not self.moduleTestNames:
            names = [name for name in dir(self) if "test" in name]
            self.moduleTestNames = [name for name in names if callable(getattr(self, name))]

    def delayDisplay(self, message, requestedDelay=None, msec=None):
        delays = (getattr(self, "messageDelay", None), msec, requestedDelay, 100)
        slicer.util.delayDisplay(message, next(delay for delay in delays if delay is not None))

    def takeScreenshot(self, name, description, type=-1):
        self.delayDisplay(description)
        if self.enableScreenshots:
            raise NotImplementedError("this host stores no screenshots of module tests")

    def runTest(self):
        if not self.moduleTestNames:
            logging.warning("%s has no tests", type(self).__name__)
            return
        self.setUpClass()
        for name in self.moduleTestNames:
            self.setUp()
            logging.info("Running %s", name)
            getattr(self, name)()
            self.tearDown()
        self.tearDownClass()
