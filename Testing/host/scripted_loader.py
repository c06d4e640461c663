"""Loading a scripted module: qSlicerScriptedLoadableModule and its widget (Base/QTGUI)."""

import importlib.util
import sys
from pathlib import Path

import slicer

from .mrml_widgets import qSlicerWidget
from .pythonqt import PythonQtObject, qt


def _load_source(name, path):
    """qSlicerScriptedUtils::loadSourceAsModule: the module is in sys.modules under its own name."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _class_from(name, class_name, path):
    """The class of a module that is imported already, or of its file."""
    module = sys.modules.get(name)
    if module is None or not hasattr(module, class_name):
        module = _load_source(name, path)
    if not hasattr(module, class_name):
        raise RuntimeError(f"class {class_name} was not found in {path}")
    return getattr(module, class_name)


class qSlicerScriptedLoadableModule:
    """Base/QTGUI/qSlicerScriptedLoadableModule.cxx: the ``parent`` of the class that a module's file defines."""

    title = ""
    helpText = ""
    acknowledgementText = ""
    icon = None
    hidden = False
    index = -1
    _METADATA = ("categories", "contributors", "associatedNodeTypes", "dependencies", "extensions")
    _OTHER = ("title", "helpText", "acknowledgementText", "icon", "hidden", "index")

    def __init__(self, path):
        self._values = {name: [] for name in self._METADATA}
        self._path = path
        self._name = Path(path).stem
        self._widget = None
        folder = str(Path(path).parent)
        if folder not in sys.path:  # ctkFactoryScriptedItem::load appends the folder of the module
            sys.path.append(folder)
        sys.modules.pop(self._name, None)
        self._instance = _class_from(self._name, self._name, path)(self)
        setattr(slicer.modules, self._name + "Instance", self._instance)

    def __getattr__(self, name):
        values = self.__dict__.get("_values", {})
        if name in values:
            return values[name]
        raise AttributeError(f"qSlicerScriptedLoadableModule has no attribute '{name}'")

    def __setattr__(self, name, value):
        if name in self._METADATA:
            self._values[name] = value
        elif name in self._OTHER or name.startswith("_"):
            super().__setattr__(name, value)
        else:
            raise AttributeError(f"Attribute '{name}' of qSlicerScriptedLoadableModule does not exist")

    @property
    def name(self):
        return self._name

    @property
    def path(self):
        return self._path

    def setup(self):
        if hasattr(self._instance, "setup"):
            self._instance.setup()

    def widgetRepresentation(self):
        """The widget, made on the first call (qSlicerAbstractCoreModule::widgetRepresentation)."""
        if self._widget is None:
            self._widget = qSlicerScriptedLoadableModuleWidget(self)
            self._widget.setup()
            self._widget.setMRMLScene(slicer.mrmlScene)
        return self._widget

    def createNewWidgetRepresentation(self):
        widget = qSlicerScriptedLoadableModuleWidget(self)
        widget.setup()
        widget.setMRMLScene(slicer.mrmlScene)
        return widget

    def open_widget(self):
        """For the host: choose the module in the module panel (qSlicerModulePanel::addModule)."""
        widget = self.widgetRepresentation()
        widget.resize(500, 900)
        self.enter()
        return widget.self()

    def enter(self):
        self._widget.show()
        self._widget.enter()

    def leave(self):
        """For the host: qSlicerModulePanel::removeModule."""
        if self._widget is not None and self._widget.isEntered():
            self._widget.exit()
            self._widget.hide()

    def delete_widget(self):
        """For the host: the widget goes with the module."""
        for name in (self._name + "Widget", self._name + "Instance"):
            if hasattr(slicer.modules, name):
                delattr(slicer.modules, name)
        if self._widget is not None:
            self._widget.deleteLater()
            self._widget = None
        slicer.selfTests.pop(self._name, None)
        slicer.app.processEvents()
        PythonQtObject.flush_deletions()


class qSlicerScriptedLoadableModuleWidget(qSlicerWidget):
    """Base/QTGUI/qSlicerScriptedLoadableModuleWidget.cxx: the ``parent`` of a module's widget class."""

    def __init__(self, module):
        super().__init__()
        self._module = module
        self._python_self = None
        self._is_entered = False
        qt.QVBoxLayout(self)
        self._set_python_source()

    def _set_python_source(self):
        name = self._module.name
        class_name = name if name.endswith("Widget") else name + "Widget"
        self._python_self = _class_from(name, class_name, self._module.path)(self)
        setattr(slicer.modules, class_name, self._python_self)

    def self(self):
        return self._python_self

    def module(self):
        return self._module

    def reload(self):
        """A new widget object of the reloaded class, set up but not entered."""
        self._set_python_source()
        self.setup()

    def setup(self):
        self.setObjectName(f"{self._module.name}ModuleWidget")
        self.windowTitle = self._module.title
        self._call("setup")

    def enter(self):
        self._is_entered = True
        self._call("enter")

    def exit(self):
        self._is_entered = False
        self._call("exit")

    def isEntered(self):
        return self._is_entered

    def _call(self, method):
        """qSlicerPythonCppAPI::callMethod: a method that the class does not have is left out."""
        if hasattr(self._python_self, method):
            getattr(self._python_self, method)()
