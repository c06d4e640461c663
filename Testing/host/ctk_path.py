"""ctkPathLineEdit: a line for the path of a file or folder."""

import types
from enum import IntFlag

from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property

from .pythonqt import PythonQtObject, cpp_like
from .signals import HostSignal, connect, emit


@cpp_like
class ctkPathLineEdit(PythonQtObject, QtWidgets.QWidget):
    """Libs/Widgets/ctkPathLineEdit.cpp: an editable combo box with a path and a button that opens a file dialog."""

    class Filter(IntFlag):
        """The values of QDir::Filter, as Libs/Widgets/ctkPathLineEdit.h declares them."""

        Dirs = 0x001
        Files = 0x002
        Drives = 0x004
        NoSymLinks = 0x008
        Readable = 0x010
        Writable = 0x020
        Executable = 0x040
        Hidden = 0x100
        System = 0x200
        AllDirs = 0x400
        NoDot = 0x2000
        NoDotDot = 0x4000
        NoDotAndDotDot = 0x6000
        AllEntries = 0x007

    Dirs, Files, Drives, NoSymLinks = Filter.Dirs, Filter.Files, Filter.Drives, Filter.NoSymLinks
    Readable, Writable, Executable = Filter.Readable, Filter.Writable, Filter.Executable
    Hidden, System, AllDirs = Filter.Hidden, Filter.System, Filter.AllDirs
    NoDot, NoDotDot, NoDotAndDotDot = Filter.NoDot, Filter.NoDotDot, Filter.NoDotAndDotDot
    AllEntries = Filter.AllEntries

    #: Enumeration properties that a .ui file sets by name.
    ui_sets = types.MappingProxyType({"filters": Filter})

    currentPathChanged = HostSignal("currentPathChanged(QString)")
    validInputChanged = HostSignal("validInputChanged(bool)")

    def __init__(self, parent=None):
        QtWidgets.QWidget.__init__(self, parent)
        self._filters = self.AllEntries | self.NoDotAndDotDot | self.Readable | self.Executable
        self._name_filters = []
        self._label = ""
        self._setting_key = ""
        self._combo_box = QtWidgets.QComboBox(self)
        self._combo_box.setEditable(True)
        self._combo_box.setInsertPolicy(QtWidgets.QComboBox.InsertPolicy.NoInsert)
        self._browse_button = QtWidgets.QToolButton(self)
        self._browse_button.setText("...")
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self._combo_box, 1)
        layout.addWidget(self._browse_button)
        policy = QtWidgets.QSizePolicy.Policy
        self.setSizePolicy(policy.Expanding, policy.Fixed)
        connect(self._combo_box.lineEdit(), "textChanged(QString)", self._on_text)
        connect(self._browse_button, "clicked()", self.browse)

    def _get_current_path(self):
        return self._combo_box.currentText

    def setCurrentPath(self, path):
        self._combo_box.setEditText(path)

    currentPath = Property(str, _get_current_path, setCurrentPath)

    def _get_name_filters(self):
        return tuple(self._name_filters)

    def setNameFilters(self, name_filters):
        self._name_filters = list(name_filters)

    nameFilters = Property("QStringList", _get_name_filters, setNameFilters)

    def _get_filters(self):
        return self._filters

    def setFilters(self, filters):
        self._filters = self.Filter(filters)

    filters = property(_get_filters, setFilters)

    def _get_label(self):
        return self._label

    def setLabel(self, label):
        self._label = label

    label = Property(str, _get_label, setLabel)

    def _get_setting_key(self):
        return self._setting_key

    def setSettingKey(self, key):
        self._setting_key = key

    settingKey = Property(str, _get_setting_key, setSettingKey)

    def _get_show_browse_button(self):
        return not self._browse_button.isHidden()

    def setShowBrowseButton(self, visible):
        self._browse_button.setVisible(visible)

    showBrowseButton = Property(bool, _get_show_browse_button, setShowBrowseButton)

    def addCurrentPathToHistory(self):
        """The last paths, newest first, in the settings under ``ctkPathLineEdit/<setting key or object name>``."""
        path = self.currentPath
        if not path:
            return
        settings = QtCore.QSettings()
        key = "ctkPathLineEdit/" + (self._setting_key or self.objectName)
        stored = settings.value(key, [])
        history = [stored] if isinstance(stored, str) else list(stored or [])
        settings.setValue(key, [path, *[known for known in history if known != path]][:5])

    def browse(self):
        """A save dialog with Files and Writable, an open dialog with Files, otherwise a folder dialog."""
        patterns = ";;".join(self._name_filters)
        dialog = QtWidgets.QFileDialog
        if self._filters & self.Files and self._filters & self.Writable:
            path = dialog.getSaveFileName(self, "Select a file to save ", self.currentPath, patterns)
        elif self._filters & self.Files:
            path = dialog.getOpenFileName(self, "Open a file", self.currentPath, patterns)
        else:
            path = dialog.getExistingDirectory(self, "Select a directory...", self.currentPath)
        if path:
            self.setCurrentPath(path)

    def _on_text(self, text):
        emit(self, "currentPathChanged(QString)", text)
