"""The CTK widgets that module user interfaces use (repository commontk/CTK, Libs/Widgets).

Each class has the properties, signals and slots of the CTK class of its name that the header declares and that a module
can observe; what a class does not have raises when it is used.
"""

import math
import types
from enum import IntFlag

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property

from .pythonqt import HostSignal, PythonQtObject, connect, cpp_like, emit


def _forwarded(value_type, name, inner="_spin_box"):
    """A Qt property that a widget inside this one holds."""

    def read(self):
        return getattr(getattr(self, inner), name)

    def write(self, value):
        setattr(getattr(self, inner), name, value)

    return Property(value_type, read, write)


class _CollapsibleChildren:
    """Children of a collapsed widget are hidden, whatever they ask for, and come back as they were when it opens.

    Libs/Widgets/ctkCollapsibleButton.cpp and ctkCollapsibleGroupBox.cpp (setChildVisibility, eventFilter, childEvent).
    """

    def _init_children(self):
        self._is_collapsed = False
        self._forcing_visibility = False
        self._hidden_children = set()

    def childEvent(self, event):
        child = event.child()
        if event.added() and child.isWidgetType():
            child.installEventFilter(self)
            if self._is_collapsed:
                self._show_child(child)
        super().childEvent(event)

    def eventFilter(self, child, event):
        if not self._forcing_visibility and child.isWidgetType() and child.parent() is self:
            if event.type() == QtCore.QEvent.Type.ShowToParent:
                self._hidden_children.discard(child)
                if self._is_collapsed:
                    self._show_child(child)
            elif event.type() == QtCore.QEvent.Type.HideToParent:
                self._hidden_children.add(child)
        return super().eventFilter(child, event)

    def _show_child(self, child):
        self._forcing_visibility = True
        child.setVisible(not self._is_collapsed and child not in self._hidden_children)
        if child not in self._hidden_children:
            child.setAttribute(QtCore.Qt.WidgetAttribute.WA_WState_ExplicitShowHide, False)
        self._forcing_visibility = False

    def _show_children(self):
        for child in self.children():
            if child.isWidgetType():
                self._show_child(child)


@cpp_like
class ctkCollapsibleButton(_CollapsibleChildren, PythonQtObject, QtWidgets.QAbstractButton):
    """Libs/Widgets/ctkCollapsibleButton.cpp: a checkable button that shows its children while it is checked."""

    contentsCollapsed = HostSignal("contentsCollapsed(bool)")

    def __init__(self, *arguments):
        texts = [argument for argument in arguments if isinstance(argument, str)]
        QtWidgets.QAbstractButton.__init__(self, *[a for a in arguments if not isinstance(a, str)])
        self._init_children()
        self._collapsed_height = 10
        self._maximum_height = self.maximumHeight
        self.checkable = True
        self.checked = True
        self.text = texts[0] if texts else ""
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Minimum, QtWidgets.QSizePolicy.Policy.Preferred)
        self.setContentsMargins(0, self._button_size().height(), 0, 0)
        connect(self, "toggled(bool)", self._on_toggled)

    def _is_collapsed_now(self):
        return self._is_collapsed

    def setCollapsed(self, collapsed):
        self.checked = not collapsed

    collapsed = Property(bool, _is_collapsed_now, setCollapsed)

    def _get_collapsed_height(self):
        return self._collapsed_height

    def setCollapsedHeight(self, height):
        self._collapsed_height = height
        self.updateGeometry()

    collapsedHeight = Property(int, _get_collapsed_height, setCollapsedHeight)

    def _on_toggled(self, checked):
        self._is_collapsed = not checked
        if self._is_collapsed:
            self._maximum_height = self.maximumHeight
            self.setMaximumHeight(self.sizeHint().height())
        else:
            self.setMaximumHeight(self._maximum_height)
        self._show_children()
        self.updateGeometry()
        emit(self, "contentsCollapsed(bool)", self._is_collapsed)

    def _style_option(self):
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        return option

    def _button_size(self):
        style, option = self.style(), self._style_option()
        text = self.fontMetrics().size(QtCore.Qt.TextFlag.TextShowMnemonic, self.text or "XXXX")
        indicator_height = style.pixelMetric(QtWidgets.QStyle.PixelMetric.PM_IndicatorHeight, option, self)
        indicator_width = style.pixelMetric(QtWidgets.QStyle.PixelMetric.PM_IndicatorWidth, option, self)
        size = QtCore.QSize(indicator_width + text.width() + 6, max(indicator_height, text.height()))
        return style.sizeFromContents(QtWidgets.QStyle.ContentsType.CT_PushButton, option, size, self)

    def minimumSizeHint(self):
        return self._with_button(QtWidgets.QWidget.minimumSizeHint, 0)

    def sizeHint(self):
        return self._with_button(QtWidgets.QWidget.sizeHint, self._collapsed_height)

    def _with_button(self, contents_size, open_extra):
        button = self._button_size()
        if self._is_collapsed:
            return button + QtCore.QSize(0, self._collapsed_height)
        layout = self.layout()
        if layout is None:
            return button + QtCore.QSize(0, open_extra)
        contents = layout.totalSizeHint() if open_extra else layout.totalMinimumSize()
        return contents.expandedTo(button + QtCore.QSize(0, open_extra))

    def hitButton(self, position):
        return position.y() < self._button_size().height()

    def paintEvent(self, event):
        painter = QtGui.QPainter(self)
        option, style = self._style_option(), self.style()
        option.rect.setHeight(self._button_size().height())
        style.drawControl(QtWidgets.QStyle.ControlElement.CE_PushButtonBevel, option, painter, self)
        height, size = option.rect.height(), 10
        arrow = QtWidgets.QStyleOption()
        arrow.initFrom(self)
        arrow.rect = QtCore.QRect((height - size) // 2, (height - size) // 2, size, size)
        pointing = "PE_IndicatorArrowRight" if self._is_collapsed else "PE_IndicatorArrowDown"
        style.drawPrimitive(getattr(QtWidgets.QStyle.PrimitiveElement, pointing), arrow, painter, self)
        text_rect = option.rect.adjusted(height, 0, 0, 0)
        alignment = QtCore.Qt.AlignmentFlag.AlignLeft | QtCore.Qt.AlignmentFlag.AlignVCenter
        flags = alignment | QtCore.Qt.TextFlag.TextHideMnemonic
        style.drawItemText(painter, text_rect, int(flags), self.palette, self.isEnabled(), self.text)
        painter.end()


@cpp_like
class ctkCollapsibleGroupBox(_CollapsibleChildren, PythonQtObject, QtWidgets.QGroupBox):
    """Libs/Widgets/ctkCollapsibleGroupBox.cpp: a checkable group box, open while it is checked."""

    def __init__(self, *arguments):
        QtWidgets.QGroupBox.__init__(self, *arguments)
        self._init_children()
        self._collapsed_height = 14
        self.checkable = True
        self.checked = True
        connect(self, "toggled(bool)", self._on_toggled)

    def _is_collapsed_now(self):
        return self._is_collapsed

    def setCollapsed(self, collapsed):
        self.checked = not collapsed

    collapsed = Property(bool, _is_collapsed_now, setCollapsed)

    def _get_collapsed_height(self):
        return self._collapsed_height

    def setCollapsedHeight(self, height):
        self._collapsed_height = height

    collapsedHeight = Property(int, _get_collapsed_height, setCollapsedHeight)

    def _on_toggled(self, checked):
        self._is_collapsed = not checked
        self._show_children()
        self.setMaximumHeight(self.fontMetrics().height() + 4 if self._is_collapsed else 16777215)
        self.updateGeometry()


@cpp_like
class ctkDoubleSpinBox(PythonQtObject, QtWidgets.QWidget):
    """Libs/Widgets/ctkDoubleSpinBox.h: a widget around a QDoubleSpinBox."""

    valueChanged = HostSignal("valueChanged(double)")

    def __init__(self, parent=None):
        QtWidgets.QWidget.__init__(self, parent)
        self._spin_box = QtWidgets.QDoubleSpinBox(self)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._spin_box)
        connect(self._spin_box, "valueChanged(double)", lambda value: emit(self, "valueChanged(double)", value))

    value = _forwarded(float, "value")
    minimum = _forwarded(float, "minimum")
    maximum = _forwarded(float, "maximum")
    singleStep = _forwarded(float, "singleStep")
    decimals = _forwarded(int, "decimals")
    prefix = _forwarded(str, "prefix")
    suffix = _forwarded(str, "suffix")

    def setValue(self, value):
        self.value = value

    def setRange(self, minimum, maximum):
        self._spin_box.setRange(minimum, maximum)


@cpp_like
class ctkSliderWidget(PythonQtObject, QtWidgets.QWidget):
    """Libs/Widgets/ctkSliderWidget.h: a slider and a spin box that show one value.

    The value is rounded to the decimals of the spin box. Without tracking, a value dragged with the slider is announced
    by valueIsChanging and becomes the value when the slider is let go.
    """

    valueChanged = HostSignal("valueChanged(double)")
    valueIsChanging = HostSignal("valueIsChanging(double)")

    def __init__(self, parent=None):
        QtWidgets.QWidget.__init__(self, parent)
        self._tracking = True
        self._page_step = 10.0
        self._slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal, self)
        self._spin_box = QtWidgets.QDoubleSpinBox(self)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider)
        layout.addWidget(self._spin_box)
        self._update_slider()
        connect(self._spin_box, "valueChanged(double)", self._on_value)
        connect(self._slider, "sliderMoved(int)", self._on_slider_moved)
        connect(self._slider, "valueChanged(int)", self._on_slider_value)
        connect(self._slider, "sliderReleased()", lambda: self._on_slider_value(self._slider.value))

    value = _forwarded(float, "value")
    prefix = _forwarded(str, "prefix")
    suffix = _forwarded(str, "suffix")

    def _slider_property(value_type, name):
        def read(self):
            return getattr(self._spin_box, name)

        def write(self, value):
            setattr(self._spin_box, name, value)
            self._update_slider()

        return Property(value_type, read, write)

    minimum = _slider_property(float, "minimum")
    maximum = _slider_property(float, "maximum")
    singleStep = _slider_property(float, "singleStep")
    decimals = _slider_property(int, "decimals")
    del _slider_property

    def _get_page_step(self):
        return self._page_step

    def setPageStep(self, step):
        self._page_step = step
        self._update_slider()

    pageStep = Property(float, _get_page_step, setPageStep)

    def _get_tracking(self):
        return self._tracking

    def setTracking(self, tracking):
        self._tracking = tracking

    tracking = Property(bool, _get_tracking, setTracking)

    def _get_spin_box_visible(self):
        return not self._spin_box.isHidden()

    def setSpinBoxVisible(self, visible):
        self._spin_box.setVisible(visible)

    spinBoxVisible = Property(bool, _get_spin_box_visible, setSpinBoxVisible)

    def setValue(self, value):
        self.value = value

    def setMinimum(self, minimum):
        self.minimum = minimum

    def setMaximum(self, maximum):
        self.maximum = maximum

    def setRange(self, minimum, maximum):
        self._spin_box.setRange(minimum, maximum)
        self._update_slider()

    def setSingleStep(self, step):
        self.singleStep = step

    def setDecimals(self, decimals):
        self.decimals = decimals

    def setSuffix(self, suffix):
        self.suffix = suffix

    def setPrefix(self, prefix):
        self.prefix = prefix

    def spinBox(self):
        return self._spin_box

    def _step(self):
        return self._spin_box.singleStep or 1.0

    def _update_slider(self):
        self._slider.blockSignals(True)
        steps = (self._spin_box.maximum - self._spin_box.minimum) / self._step()
        self._slider.setRange(0, round(min(steps, 2**30)) if math.isfinite(steps) else 0)
        self._slider.setPageStep(max(1, round(self._page_step / self._step())))
        self._slider.setValue(round((self._spin_box.value - self._spin_box.minimum) / self._step()))
        self._slider.blockSignals(False)

    def _on_value(self, value):
        self._update_slider()
        emit(self, "valueChanged(double)", value)

    def _slider_value(self, position):
        return self._spin_box.minimum + position * self._step()

    def _on_slider_moved(self, position):
        if not self._tracking:
            emit(self, "valueIsChanging(double)", self._slider_value(position))

    def _on_slider_value(self, position):
        if self._tracking or not self._slider.isSliderDown():
            self._spin_box.setValue(self._slider_value(position))


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


@cpp_like
class ctkComboBox(PythonQtObject, QtWidgets.QComboBox):
    """Libs/Widgets/ctkComboBox.h: a combo box with a text for the case that nothing is selected."""

    _default_text = ""

    def _get_default_text(self):
        return self._default_text

    def setDefaultText(self, text):
        self._default_text = text
        self.setPlaceholderText(text)

    defaultText = Property(str, _get_default_text, setDefaultText)


@cpp_like
class ctkCheckBox(PythonQtObject, QtWidgets.QCheckBox):
    """Libs/Widgets/ctkCheckBox.h, without its indicator icon."""


@cpp_like
class ctkMessageBox(PythonQtObject, QtWidgets.QMessageBox):
    """Libs/Widgets/ctkMessageBox.h: a message box that can remember not to show itself again."""

    _dont_show_again = False
    _dont_show_again_key = ""

    def _get_dont_show_again(self):
        return self._dont_show_again

    def setDontShowAgain(self, value):
        self._dont_show_again = value

    dontShowAgain = Property(bool, _get_dont_show_again, setDontShowAgain)

    def _get_key(self):
        return self._dont_show_again_key

    def setDontShowAgainSettingsKey(self, key):
        self._dont_show_again_key = key

    dontShowAgainSettingsKey = Property(str, _get_key, setDontShowAgainSettingsKey)


WIDGETS = (
    ctkCheckBox,
    ctkCollapsibleButton,
    ctkCollapsibleGroupBox,
    ctkComboBox,
    ctkDoubleSpinBox,
    ctkMessageBox,
    ctkPathLineEdit,
    ctkSliderWidget,
)


def ctk_module():
    """The ``ctk`` module, with the classes above."""
    module = types.ModuleType("ctk", "CTK widgets")
    for widget_class in WIDGETS:
        setattr(module, widget_class.__name__, widget_class)
    return module
