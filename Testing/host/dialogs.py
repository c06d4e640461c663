"""Dialogs without a user: every message is recorded, every question is answered by the test.

The functions of slicer.util keep what Base/Python/slicer/util.py does with its messages (level, title, testing mode);
only the window that would wait for a click is replaced.
"""

import logging
from dataclasses import dataclass

from PySide6 import QtGui, QtWidgets

from .pythonqt import qt


@dataclass
class Message:
    """One message shown to the user: ``level`` is debug, info, warning, error, question or dialog."""

    level: str
    text: str
    title: str = ""
    details: str = ""
    question: bool = False


class Dialogs:
    """``messages`` shown so far and ``answers`` to the questions to come, first one first.

    An answer is True or False (Ok or Cancel, Yes or No, Retry or Close), a button such as qt.QMessageBox.Save, a path
    (or "" for Cancel) for a file dialog, a text for an input dialog, or a callable that gets the message and gives one
    of these. A question without an answer raises.
    """

    def __init__(self):
        self.messages: list[Message] = []
        self.answers: list = []
        self.opened_urls: list[str] = []

    def ask(self, message):
        message.question = True
        self.messages.append(message)
        if not self.answers:
            raise AssertionError(f"the test gave no answer to: {message.title} {message.text}")
        answer = self.answers.pop(0)
        return answer(message) if callable(answer) and not isinstance(answer, type) else answer

    def texts(self, level=None):
        return [message.text for message in self.messages if level in (None, message.level)]

    def clear(self):
        self.messages.clear()
        self.answers.clear()
        self.opened_urls.clear()

    def install(self, util, application):
        """Replace the windows of slicer.util and of Qt's dialog classes."""
        self._install_slicer_util(util, application)
        self._install_message_boxes()
        self._install_file_dialogs()
        QtGui.QDesktopServices.openUrl = staticmethod(self._open_url)

    def _install_slicer_util(self, util, application):
        def message_display(
            level, text, testing_value, mainWindowNeeded=False, parent=None, windowTitle=None, **options
        ):
            """slicer.util._messageDisplay, with a user who sees what infoDisplay and errorDisplay show."""
            logging.log(level, text)
            name = logging.getLevelName(level).lower()
            title = windowTitle or f"{application.applicationName} {name}"
            message = Message(name, text, title, options.get("detailedText", ""))
            if application.testingEnabled():
                self.messages.append(message)
                return testing_value
            buttons = options.get("standardButtons", qt.QMessageBox.Ok)
            if mainWindowNeeded and buttons == qt.QMessageBox.Ok:
                self.messages.append(message)
                return qt.QMessageBox.Ok
            return _button(self.ask(message), buttons)

        def delay_display(text, autoCloseMsec=1000, parent=None, **options):
            self.messages.append(Message("info", text))
            application.processEvents()

        util._messageDisplay = message_display
        util.delayDisplay = delay_display

    def _install_message_boxes(self):
        def execute(box):
            message = Message("question", box.text, box.windowTitle, box.detailedText)
            buttons = box.standardButtons
            return int(_button(self.ask(message), buttons))

        def static_function(level, default):
            def show(parent, title, text, buttons=default, defaultButton=None):
                message = Message(level, text, title)
                if buttons == qt.QMessageBox.Ok:
                    self.messages.append(message)
                    return qt.QMessageBox.Ok
                return _button(self.ask(message), buttons)

            return staticmethod(show)

        box_class = QtWidgets.QMessageBox
        box_class.exec = box_class.exec_ = execute
        yes_no = box_class.StandardButton.Yes | box_class.StandardButton.No
        box_class.question = static_function("question", yes_no)
        for name, level in (("information", "info"), ("warning", "warning"), ("critical", "error")):
            setattr(box_class, name, static_function(level, box_class.StandardButton.Ok))

        def execute_dialog(dialog):
            answer = self.ask(Message("dialog", dialog.objectName, dialog.windowTitle))
            return int(answer)

        QtWidgets.QDialog.exec = QtWidgets.QDialog.exec_ = execute_dialog

    def _install_file_dialogs(self):
        """PythonQt's file dialog functions give the path alone."""

        def static_function(empty):
            def show(parent=None, caption="", directory="", *_, **options):
                return self.ask(Message("dialog", str(directory), caption)) or empty

            return staticmethod(show)

        dialog = QtWidgets.QFileDialog
        dialog.getOpenFileName = dialog.getSaveFileName = dialog.getExistingDirectory = static_function("")
        dialog.getOpenFileNames = static_function(())

        def get_text(*arguments, **options):
            raise NotImplementedError("this host does not imitate qt.QInputDialog")

        for name in ("getText", "getInt", "getDouble", "getItem", "getMultiLineText"):
            setattr(QtWidgets.QInputDialog, name, staticmethod(get_text))

    def _open_url(self, url):
        self.opened_urls.append(url if isinstance(url, str) else url.toString())
        return True


def _button(answer, buttons):
    """The button that an answer stands for, among those that the box has."""
    box = QtWidgets.QMessageBox.StandardButton
    if isinstance(answer, bool):
        wanted = (box.Ok, box.Yes, box.Retry) if answer else (box.Cancel, box.No, box.Close)
        answer = next((button for button in wanted if button & buttons), None)
    if answer is None or not box(answer) & buttons:
        raise AssertionError(f"the message box has no button for the answer {answer!r}: {buttons!r}")
    return box(answer)
