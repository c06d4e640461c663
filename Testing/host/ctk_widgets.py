"""The CTK widgets that module user interfaces use (repository commontk/CTK, Libs/Widgets).

Each class has the properties, signals and slots of the CTK class of its name that the header declares and that a module
can observe; what a class does not have raises when it is used.
"""

import math
import types

from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property

from .ctk_collapsible import ctkCollapsibleButton, ctkCollapsibleGroupBox
from .ctk_path import ctkPathLineEdit
from .pythonqt import PythonQtObject, cpp_like
from .signals import HostSignal, connect, emit


def _forwarded(value_type, name, inner="_spin_box"):
    """A Qt property that a widget inside this one holds."""

    def read(self):
        return getattr(getattr(self, inner), name)

    def write(self, value):
        setattr(getattr(self, inner), name, value)

    return Property(value_type, read, write)


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
        # As in ctkSliderWidget.ui: slicer.util.childWidgetVariables finds them, too.
        self._slider.setObjectName("Slider")
        self._spin_box.setObjectName("SpinBox")
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
