"""The host: one application per process, which loads scripted modules as Slicer does."""

import atexit
import contextlib
import importlib.util
import os
import sys
import time
import types
from pathlib import Path

_host = None
_TURNS = 6
# That something takes which does happen, on a machine with much else to do: it only ends a test that hangs.
TIMEOUT_SECONDS = 600.0


def start():
    """The running host, started on the first call."""
    global _host
    if _host is None:
        _host = Host()
    return _host


class Host:
    """A small stand-in for a Slicer application.

    ``app``, ``scene``, ``layout``: the application, its MRML scene and its layout manager.
    ``dialogs`` (also ``messages`` and ``answers``): what the user was told and what the user answers.
    ``installer``: the stand-in for pip.
    ``errors``: exceptions of slots, timers and VTK observers, which Slicer prints and survives.
    ``selected_module``: the last module that was chosen with slicer.util.selectModule.
    ``sample_data``: the sample data module of this host, with ``press_button(category, name)``.
    """

    def __init__(self):
        os.environ["QT_QPA_PLATFORM"] = "offscreen"
        from . import pythonqt, signals

        self.errors = signals.errors
        self._install_exception_hook(signals.report_error)
        pythonqt.adapt()
        self._install_qt_modules(pythonqt)
        self._start_application()
        self._install_slicer_modules()

    # --- start

    def _install_exception_hook(self, report_error):
        """Exceptions of VTK observers reach sys.excepthook (vtkPythonCommand prints them)."""
        previous = sys.excepthook

        def hook(error_type, error, trace):
            if isinstance(error, Exception):
                report_error(error)
            else:
                previous(error_type, error, trace)

        sys.excepthook = hook

    def _install_qt_modules(self, pythonqt):
        from . import ctk_widgets, ui_loader

        sys.modules["qt"] = pythonqt.qt
        sys.modules["ctk"] = ctk_widgets.ctk_module()
        pythonqt.qt.QUiLoader = ui_loader.QUiLoader

    def _start_application(self):
        import slicer
        import slicer.util
        from trame_slicer.core import SlicerApp

        from . import application, io_manager, layout, mrml_widgets, scripted_loader
        from .dialogs import Dialogs, Message

        self.app = application.Application(["Slicer"])
        slicer_app = SlicerApp()
        application.set_directories(slicer_app.app_logic, self.app.slicerHome)
        self._slicer_app = slicer_app
        self.scene = slicer_app.scene
        self.layout = layout.LayoutManager(slicer_app)
        self.app.set_parts(
            scene=self.scene,
            application_logic=slicer_app.app_logic,
            layout_manager=self.layout,
            io_manager=io_manager.IOManager(slicer_app.volumes_logic, slicer_app.app_logic),
        )
        slicer.app = self.app
        slicer.mrmlScene = self.scene
        slicer.modules = types.ModuleType("slicer.modules", "Loaded modules by name")
        sys.modules["slicer.modules"] = slicer.modules
        for widget in mrml_widgets.WIDGETS:
            setattr(slicer, widget.__name__, widget)
        slicer.qSlicerScriptedLoadableModule = scripted_loader.qSlicerScriptedLoadableModule
        slicer.qSlicerScriptedLoadableModuleWidget = scripted_loader.qSlicerScriptedLoadableModuleWidget
        for name, logic in self._built_in_logics(slicer, slicer_app):
            self.app.moduleManager().add(application.BuiltInModule(name, logic))

        self.dialogs = Dialogs()
        self.messages, self.answers = self.dialogs.messages, self.dialogs.answers
        self.dialogs.install(slicer.util, self.app)
        mrml_widgets.ask_text = lambda title, text: self.dialogs.ask(Message("dialog", text, title))
        self.selected_module = None
        slicer.util.selectModule = self._select_module
        slicer.util.selectedModule = lambda: self.selected_module
        self._main_window = None
        slicer.util.mainWindow = lambda: self._main_window
        slicer.util.startupEnvironment = lambda: dict(os.environ)

    def _built_in_logics(self, slicer, slicer_app):
        """The modules of Slicer whose logic slicer-core has."""
        colors = slicer.vtkSlicerColorLogic()
        colors.SetMRMLApplicationLogic(slicer_app.app_logic)
        colors.SetMRMLScene(slicer_app.scene)
        slicer_app.app_logic.SetModuleLogic("Colors", colors)
        yield "Colors", colors
        yield "Volumes", slicer_app.volumes_logic
        yield "Segmentations", slicer_app.segmentations_logic
        yield "SubjectHierarchy", slicer_app.subject_hierarchy_logic
        yield "Terminologies", slicer_app.terminologies_logic
        yield "Data", slicer_app.data_logic
        for name, class_name in (
            ("Markups", "vtkSlicerMarkupsLogic"),
            ("Transforms", "vtkSlicerTransformLogic"),
            ("Models", "vtkSlicerModelsLogic"),
            ("Tables", "vtkSlicerTablesLogic"),
            ("CropVolume", "vtkSlicerCropVolumeLogic"),
            ("Sequences", "vtkSlicerSequencesLogic"),
        ):
            logic = slicer_app.app_logic.GetModuleLogic(name)
            if logic is None:
                logic = slicer_app.register_module_logic(getattr(slicer, class_name)(), logic_name=name)
            yield name, logic

    def _install_slicer_modules(self):
        import slicer

        from . import i18n

        self._install("i18n", i18n)
        from . import installer, parameter_node

        self._install("parameterNodeWrapper", parameter_node)
        self.installer = installer.Installer()
        self._install("packaging", installer.packaging_module(self.installer))
        from . import sample_data, scripted_module

        self._install("ScriptedLoadableModule", scripted_module)
        self.sample_data = sample_data
        sys.modules["SampleData"] = sample_data.sample_data_module()
        slicer.util.pip_install = slicer.packaging.pip_install
        slicer.util.pip_uninstall = slicer.packaging.pip_uninstall
        atexit.register(self.quit)
        self._has_quit = False

    def _install(self, name, module):
        import slicer

        sys.modules[f"slicer.{name}"] = module
        setattr(slicer, name, module)

    def _select_module(self, module):
        name = module if isinstance(module, str) else module.name
        if not self.app.moduleManager().isLoaded(name):
            raise RuntimeError(f"no module {name} is loaded")
        self.selected_module = name

    # --- modules

    def load_module(self, path):
        """Start the application with one more module, then open it: the module's widget, set up and entered.

        The order is that of qSlicerApplicationHelper and qSlicerModulePanel: the module is loaded, startupCompleted()
        is emitted (once for each handler), the widget is made and set up, and entered when the module is chosen.
        """
        from .scripted_loader import qSlicerScriptedLoadableModule
        from .signals import disconnect, emit

        module = qSlicerScriptedLoadableModule(str(Path(path).resolve()))
        self.app.moduleManager().add(module)
        module.setup()
        emit(self.app, "startupCompleted()")
        disconnect(self.app, "startupCompleted()")
        widget = module.open_widget()
        self.selected_module = module.name
        self.check_widgets()
        return widget

    def reload(self, name):
        """The Reload button: slicer.util.reloadScriptedModule. The new module widget."""
        import slicer

        slicer.util.reloadScriptedModule(name)
        self.check_widgets()
        return getattr(slicer.modules, name + "Widget")

    def unload(self, name):
        """Leave and unload a module, as when Slicer quits.

        Slicer's process would end here; as it goes on, the module's parameter nodes leave the scene with all who
        observe them.
        """
        import slicer

        module = self.app.moduleManager().module(name)
        if module is None:
            raise KeyError(f"no module {name} is loaded")
        module.leave()
        self.app.moduleManager().remove(name)
        module.delete_widget()
        for node in slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode"):
            if node.GetAttribute("ModuleName") == name:
                node.RemoveAllObservers()
                self.scene.RemoveNode(node)
        if self.selected_module == name:
            self.selected_module = None

    def enter(self, name):
        """Switch to a module that is loaded."""
        self.app.moduleManager().module(name).enter()
        self.selected_module = name

    def leave(self, name):
        """Switch away from a module."""
        self.app.moduleManager().module(name).leave()

    def import_module(self, name, path):
        """A Python module from a file, without the application taking notice of it."""
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    # --- with and without windows

    @contextlib.contextmanager
    def main_window(self):
        """Inside, there is a main window, as when a user works with Slicer; otherwise there is none."""
        from .pythonqt import qt

        self._main_window = qt.QMainWindow()
        try:
            yield self._main_window
        finally:
            self._main_window.delete()
            self._main_window = None

    @contextlib.contextmanager
    def no_layout_manager(self):
        """Inside, there are no views: Slicer with --no-main-window, or its Python interpreter as a batch."""
        self.app.set_parts(**self.app.parts() | {"layout_manager": None})
        try:
            yield
        finally:
            self.app.set_parts(**self.app.parts() | {"layout_manager": self.layout})

    # --- events and pictures

    def process_events(self, seconds=0.0, until=None, timeout=None):
        """Run the event loop: for some seconds, or until a condition holds (TimeoutError if it does not in time).

        Some turns of it at least, however busy the machine is: what one event asks for is done, too.
        """
        timeout = TIMEOUT_SECONDS if timeout is None else timeout
        start_time = time.monotonic()
        for _ in range(_TURNS):
            self.app.processEvents()
        while (time.monotonic() - start_time < seconds) if until is None else not until():
            if until is not None and time.monotonic() - start_time > timeout:
                raise TimeoutError(f"the condition did not hold within {timeout} seconds")
            time.sleep(0.005)
            self.app.processEvents()
        for _ in range(_TURNS):  # what is due by now
            self.app.processEvents()
        self.check_widgets()

    def check_widgets(self):
        """Raise for an attribute that was set on a C++ widget and that PythonQt would not have taken."""
        from .pythonqt import stray_attributes

        strays = stray_attributes(self.app.allWidgets())
        if strays:
            raise AttributeError(f"attributes that C++ widgets do not have: {', '.join(strays)}")

    def choose(self, combo_box, text):
        """Click an item of a qMRMLNodeComboBox, as a user does."""
        combo_box.choose_item(text)

    def grab(self, widget, path):
        """A PNG of a widget. The path."""
        widget = getattr(widget, "parent", widget) if not hasattr(widget, "grab") else widget
        widget.show()
        self.process_events(0.05)
        if not widget.grab().save(str(path), "PNG"):
            raise OSError(f"could not write {path}")
        return Path(path)

    def grab_view(self, name, path, size=(512, 512)):
        """A PNG of a slice view, rendered by VTK without a display. The path.

        size: the view gets it, for good in an ordinary layout, for the picture where it is shown larger; None: as large
        as the layout shows it.
        """
        import vtk

        view = self.layout.view(name)
        window = view.render_window()
        if size is not None and self.layout.shown_shares().get(name, (0.5, 0.5)) == (0.5, 0.5):
            self.layout.set_size(name, size)
        else:
            self.layout.resize(name, size or self.layout.size_in_layout(name))
        view.set_render_blocked(False)  # renders
        try:
            to_image = vtk.vtkWindowToImageFilter()
            to_image.SetInput(window)
            to_image.ReadFrontBufferOff()
            to_image.ShouldRerenderOff()
            to_image.Update()
        finally:
            view.set_render_blocked(True)
        self.layout.resize(name, self.layout.size_in_layout(name))
        writer = vtk.vtkPNGWriter()
        writer.SetFileName(str(path))
        writer.SetCompressionLevel(1)
        writer.SetInputConnection(to_image.GetOutputPort())
        writer.Write()
        return Path(path)

    # --- scenes

    def close_scene(self):
        """File / Close Scene."""
        self.scene.Clear(0)

    def save_scene(self, path):
        """Save the scene as .mrb, as .mrml, or into a folder."""
        import slicer

        if not slicer.util.saveScene(str(path)):
            raise OSError(f"could not save the scene as {path}")
        return Path(path)

    def load_scene(self, path, clear=True):
        """Load a scene that save_scene wrote, in place of the current one (or into it)."""
        path = Path(path)
        if path.is_dir():
            path = next(iter(path.glob("*.mrml")))
        if clear:
            self.close_scene()
        if not self.app.coreIOManager().loadNodes("SceneFile", {"fileName": str(path)}):
            raise OSError(f"could not load the scene {path}")

    # --- end

    def reset(self):
        """Back to an application that was just started: no scripted module, an empty scene, nothing recorded."""
        import slicer

        from .scripted_loader import qSlicerScriptedLoadableModule

        manager = self.app.moduleManager()
        for name in manager.modulesNames():
            if isinstance(manager.module(name), qSlicerScriptedLoadableModule):
                self.unload(name)
        for registry in ("sampleDataSources", "sampleDataSourceCategories"):
            if hasattr(slicer.modules, registry):
                delattr(slicer.modules, registry)
        self.app.processEvents()
        self.scene.Clear(0)
        self.app.set_testing_enabled(False)
        self.app.settings().clear()
        self.dialogs.clear()
        self.installer.clear()
        self.errors.clear()

    def quit(self):
        """File / Exit: aboutToQuit() is emitted and every module is unloaded (the process goes on)."""
        if self._has_quit:
            return
        self._has_quit = True
        from .scripted_loader import qSlicerScriptedLoadableModule

        self.app.aboutToQuit.emit()
        manager = self.app.moduleManager()
        for name in manager.modulesNames():
            if isinstance(manager.module(name), qSlicerScriptedLoadableModule):
                self.unload(name)
