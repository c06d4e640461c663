"""``slicer.app``: the application, its module manager, its input and output, and its layout.

The scene, the application logic and the slice views are real (slicer-core and trame-slicer).
"""

import sys
import tempfile
import types
from pathlib import Path

import slicer
from PySide6 import QtCore, QtWidgets

from .pythonqt import PythonQtObject
from .signals import HostSignal, SignalOwner, emit
from .strict import Strict


class CommandOptions(Strict):
    """Base/QTCore/qSlicerCoreCommandOptions.h, as far as modules read it."""

    def __init__(self, application):
        self._application = application

    @property
    def testingEnabled(self):
        return self._application.testingEnabled()

    noMainWindow = True
    runPythonAndExit = False
    developerModeEnabled = False


class ModuleManager(Strict, SignalOwner):
    """Base/QTCore/qSlicerModuleManager.h, with the module factory behind it."""

    moduleLoaded = HostSignal("moduleLoaded(QString)")
    moduleAboutToBeUnloaded = HostSignal("moduleAboutToBeUnloaded(QString)")
    moduleUnloaded = HostSignal("moduleUnloaded(QString)")
    modulesLoaded = HostSignal("modulesLoaded(QStringList)")

    def __init__(self):
        self._modules = {}

    def module(self, name):
        return self._modules.get(name)

    def modulesNames(self):
        return tuple(self._modules)

    def isLoaded(self, name):
        return name in self._modules

    def factoryManager(self):
        return types.SimpleNamespace(loadedModuleNames=self.modulesNames, isLoaded=self.isLoaded)

    def add(self, module):
        """For the host: a module is loaded and becomes an attribute of slicer.modules under its lower-case name."""
        self._modules[module.name] = module
        setattr(slicer.modules, module.name.lower(), module)
        emit(self, "moduleLoaded(QString)", module.name)

    def remove(self, name):
        """For the host: qSlicerModuleFactoryManager::unloadModule."""
        emit(self, "moduleAboutToBeUnloaded(QString)", name)
        del self._modules[name]
        delattr(slicer.modules, name.lower())
        emit(self, "moduleUnloaded(QString)", name)


class BuiltInModule(Strict):
    """A module of Slicer that is here for its logic alone."""

    def __init__(self, name, logic):
        self._name, self._logic = name, logic

    @property
    def name(self):
        return self._name

    def logic(self):
        return self._logic

    def widgetRepresentation(self):
        raise NotImplementedError(f"this host has no user interface of the module {self._name}")


class Application(PythonQtObject, QtWidgets.QApplication):
    """qSlicerApplication (Base/QTGUI/qSlicerApplication.h, Base/QTCore/qSlicerCoreApplication.h)."""

    startupCompleted = HostSignal("startupCompleted()")

    def __init__(self, arguments):
        QtWidgets.QApplication.__init__(self, arguments)
        self._temporary_folder = tempfile.TemporaryDirectory(prefix="slicer-host-")
        self._temporary_path = str(Path(self._temporary_folder.name) / "temporary")
        Path(self._temporary_path).mkdir()
        settings_folder = str(Path(self._temporary_folder.name) / "settings")
        QtCore.QSettings.setDefaultFormat(QtCore.QSettings.Format.IniFormat)
        for scope in (QtCore.QSettings.Scope.UserScope, QtCore.QSettings.Scope.SystemScope):
            QtCore.QSettings.setPath(QtCore.QSettings.Format.IniFormat, scope, settings_folder)
        self.organizationName = "NA-MIC"
        self.applicationName = "Slicer"
        self._settings = QtCore.QSettings()
        self._testing_enabled = False
        self._module_manager = ModuleManager()
        self._restarts = 0
        self._render_pauses = 0
        self._parts = {}

    def __setattr__(self, name, value):
        if not name.startswith("_") and not hasattr(type(self), name):
            raise AttributeError(f"Attribute '{name}' of qSlicerApplication does not exist")
        super().__setattr__(name, value)

    def set_parts(self, **parts):
        """For the host: the scene, logics and managers."""
        self._parts = parts

    def parts(self):
        """For the host: what set_parts was given."""
        return dict(self._parts)

    def set_testing_enabled(self, enabled):
        """For the host: the --testing mode."""
        self._testing_enabled = enabled

    def translate(self, context, text):
        return QtCore.QCoreApplication.translate(context, text)

    def testingEnabled(self):
        return self._testing_enabled

    def commandOptions(self):
        return CommandOptions(self)

    def moduleManager(self):
        return self._module_manager

    def layoutManager(self):
        """None without a main window (see Host.no_layout_manager)."""
        return self._parts["layout_manager"]

    def coreIOManager(self):
        return self._parts["io_manager"]

    def ioManager(self):
        return self._parts["io_manager"]

    def mrmlScene(self):
        return self._parts["scene"]

    def applicationLogic(self):
        return self._parts["application_logic"]

    def settings(self):
        return self._settings

    def userSettings(self):
        return self._settings

    def revisionUserSettings(self):
        return self._settings

    def mainWindow(self):
        return None

    def moduleDocumentationUrl(self, name):
        return f"{self.documentationBaseUrl}user_guide/modules/{name.lower()}.html"

    def pauseRender(self):
        self._render_pauses += 1

    def resumeRender(self):
        self._render_pauses = max(0, self._render_pauses - 1)

    def restart(self):
        """Counted in ``restarts``; the process goes on."""
        self._restarts += 1

    restarts = property(lambda self: self._restarts)

    def _get_temporary_path(self):
        return self._temporary_path

    def _set_temporary_path(self, path):
        self._temporary_path = str(path)

    temporaryPath = property(_get_temporary_path, _set_temporary_path)
    cachePath = property(_get_temporary_path)
    slicerHome = property(lambda self: self._temporary_folder.name)
    documentationBaseUrl = property(lambda self: "https://slicer.readthedocs.io/en/latest/")
    applicationVersion = property(lambda self: f"{self.majorVersion}.{self.minorVersion}.0")
    majorVersion = property(lambda self: slicer_core_version()[0])
    minorVersion = property(lambda self: slicer_core_version()[1])
    os = property(lambda self: {"darwin": "macosx", "win32": "win"}.get(sys.platform, "linux"))


def slicer_core_version():
    """The Slicer version that slicer-core was built from: (major, minor)."""
    from importlib.metadata import version

    major, minor = version("slicer-core").split(".")[:2]
    return int(major), int(minor)


def set_directories(application_logic, home):
    """A home without color files, where vtkSlicerColorLogic looks for them (FindDefaultColorFiles)."""
    (Path(home) / "share" / "ColorFiles").mkdir(parents=True)
    application_logic.SetHomeDirectory(home)
    application_logic.SetShareDirectory("share")
