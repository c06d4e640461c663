"""``slicer.app``: the application, its module manager, its input and output, and its layout.

The scene, the application logic and the slice views are real (slicer-core and trame-slicer).
"""

import sys
import tempfile
import types
from pathlib import Path

import slicer
from PySide6 import QtCore, QtWidgets

from .pythonqt import HostSignal, PythonQtObject, SignalOwner, emit


class _Strict:
    """An object of the application: new attributes are refused, as PythonQt refuses them on C++ objects."""

    def __setattr__(self, name, value):
        if not name.startswith("_") and not hasattr(type(self), name):
            raise AttributeError(f"Attribute '{name}' of {type(self).__name__} does not exist")
        super().__setattr__(name, value)


class CommandOptions(_Strict):
    """Base/QTCore/qSlicerCoreCommandOptions.h, as far as modules read it."""

    def __init__(self, application):
        self._application = application

    @property
    def testingEnabled(self):
        return self._application.testingEnabled()

    noMainWindow = True
    runPythonAndExit = False
    developerModeEnabled = False


class ModuleManager(_Strict, SignalOwner):
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


class BuiltInModule(_Strict):
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


class IOManager(_Strict):
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
        # Assumed of Slicer's own saving: the scene says that it is being saved (vtkMRMLScene::StartSaveEvent).
        slicer.mrmlScene.StartState(slicer.vtkMRMLScene.SaveState)
        try:
            return self._write_scene(filename, messages)
        finally:
            slicer.mrmlScene.EndState(slicer.vtkMRMLScene.SaveState)

    def _write_scene(self, filename, messages):
        messages = messages or slicer.vtkMRMLMessageCollection()
        if filename.endswith(".mrb"):
            return slicer.mrmlScene.WriteToMRB(filename, None, messages)
        if filename.endswith(".mrml"):
            slicer.mrmlScene.SetURL(filename)
            return bool(slicer.mrmlScene.Commit(None, messages))
        Path(filename).mkdir(parents=True, exist_ok=True)
        return slicer.mrmlScene.SaveSceneToSlicerDataBundleDirectory(filename, None, messages)


class SliceView(_Strict):
    """A slice view of the layout: qMRMLSliceView and qMRMLSliceWidget (Libs/MRML/Widgets)."""

    def __init__(self, view):
        self._view = view

    def mrmlSliceNode(self):
        return self._view.get_view_node()

    def renderWindow(self):
        return self._view.render_window()

    def forceRender(self):
        self._view.render()

    def scheduleRender(self):
        self._view.schedule_render()


class SliceController(_Strict):
    """qMRMLSliceControllerWidget (Libs/MRML/Widgets/qMRMLSliceControllerWidget.h)."""

    def __init__(self, view):
        self._view = view

    def fitSliceToBackground(self):
        self._view.fit_view_to_content()

    def setSliceOffsetValue(self, offset):
        self._view.set_slice_value(offset)

    def mrmlSliceNode(self):
        return self._view.get_view_node()


class SliceWidget(_Strict):
    """qMRMLSliceWidget (Libs/MRML/Widgets/qMRMLSliceWidget.h)."""

    def __init__(self, view):
        self._view = view

    def sliceLogic(self):
        return self._view._logic

    def mrmlSliceNode(self):
        return self._view.get_view_node()

    def mrmlSliceCompositeNode(self):
        return self._view._logic.GetSliceCompositeNode()

    def sliceView(self):
        return SliceView(self._view)

    def sliceController(self):
        return SliceController(self._view)

    def fitSliceToBackground(self):
        self._view.fit_view_to_content()


class LayoutManager(_Strict, SignalOwner):
    """qSlicerLayoutManager (Base/QTGUI/qSlicerLayoutManager.h, Libs/MRML/Widgets/qMRMLLayoutManager.h).

    It shows the slice views Red, Yellow and Green; there is no 3D view. The slice nodes and their composite nodes are
    in the scene from the start, as in Slicer; the views that render them are made when first asked for.
    """

    layoutChanged = HostSignal("layoutChanged(int)")

    def __init__(self, slicer_app):
        self._slicer_app = slicer_app
        self._views = {}
        node_class = slicer.vtkMRMLLayoutNode
        self._known_layouts = {
            node_class.SlicerLayoutConventionalView,
            node_class.SlicerLayoutFourUpView,
            node_class.SlicerLayoutOneUpRedSliceView,
            node_class.SlicerLayoutOneUpYellowSliceView,
            node_class.SlicerLayoutOneUpGreenSliceView,
            node_class.SlicerLayoutSideBySideView,  # Red and Yellow
            node_class.SlicerLayoutFourUpPlotTableView,  # with a plot and a table view, which this host does not draw
        }
        self._layout = node_class.SlicerLayoutFourUpView
        self._slice_nodes = {}
        for name, orientation in zip(self.sliceViewNames(), ("Axial", "Sagittal", "Coronal"), strict=True):
            logic = slicer.vtkMRMLSliceLogic()
            logic.SetMRMLScene(slicer_app.scene)
            self._slice_nodes[name] = logic.AddSliceNode(name)
            self._slice_nodes[name].SetOrientation(orientation)
            logic.SetMRMLScene(None)

    @property
    def layout(self):
        return self._layout

    def setLayout(self, layout):
        if layout not in self._known_layouts:
            raise NotImplementedError(f"this host does not have the layout {layout}")
        if layout != self._layout:
            self._layout = layout
            emit(self, "layoutChanged(int)", layout)

    threeDViewCount = property(lambda self: 0)
    tableViewCount = property(lambda self: 0)
    plotViewCount = property(lambda self: 0)

    def sliceViewNames(self):
        return ("Red", "Yellow", "Green")

    def sliceWidget(self, name):
        """None for an unknown name, as in Slicer."""
        return SliceWidget(self.view(name)) if name in self.sliceViewNames() else None

    def mrmlSliceLogics(self):
        self.view("Red")
        return self._slicer_app.app_logic.GetSliceLogics()

    def resetSliceViews(self):
        for name in self.sliceViewNames():
            self.view(name).fit_view_to_content()

    def view(self, name):
        """For the host: the trame-slicer view of that name; all three are made together, as in Slicer."""
        if not self._views:
            from trame_slicer.views import ViewLayoutDefinition

            manager = self._slicer_app.view_manager
            manager.register_factory(_view_factory(self._slice_nodes))
            for make in ("axial_view", "sagittal_view", "coronal_view"):
                definition = getattr(ViewLayoutDefinition, make)()
                self._views[definition.singleton_tag] = manager.create_view(definition)
            manager.set_current_view_ids(list(self._views))
            for view in self._views.values():
                view.set_render_blocked(True)  # rendered when a picture is asked for
        return self._views[name]


def _view_factory(slice_nodes):
    """Offscreen slice views for slice nodes that are in the scene already."""
    from trame_slicer.views import DirectViewFactory, SliceView
    from trame_slicer.views.abstract_view import AbstractView

    class HostSliceView(SliceView):
        def set_scene(self, scene):
            AbstractView.set_scene(self, scene)
            self._logic.SetMRMLScene(scene)
            self._logic.SetSliceNode(slice_nodes[self.name])
            self.set_view_node(slice_nodes[self.name])

    class HostViewFactory(DirectViewFactory):
        def _create_slice_view(self, app_logic, scene, view):
            made = HostSliceView(scene, app_logic, view.singleton_tag)
            made.render_window().SetSize(512, 512)
            made.set_render_blocked(True)
            return self._update_view_properties(made, view)

    return HostViewFactory(do_render_offscreen=True)


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
