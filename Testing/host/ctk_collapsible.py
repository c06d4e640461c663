"""The widgets of ctk that open and close."""

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property

from .pythonqt import PythonQtObject, cpp_like
from .signals import HostSignal, connect, emit


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
        underlined = style.styleHint(QtWidgets.QStyle.StyleHint.SH_UnderlineShortcut, option, self)
        flags = alignment | QtCore.Qt.TextFlag["TextShowMnemonic" if underlined else "TextHideMnemonic"]
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
