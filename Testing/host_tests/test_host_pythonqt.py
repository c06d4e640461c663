"""Qt as PythonQt shows it: properties are attributes, signals connect by name, unknown things raise."""

import pytest


@pytest.fixture
def qt(host):
    import qt

    return qt


def test_properties_are_attributes_and_methods_stay_methods(qt):
    button = qt.QPushButton("Apply")
    assert (button.text, button.enabled, button.visible) == ("Apply", True, False)
    button.text, button.toolTip, button.name = "Run", "Runs", "runButton"
    assert button.objectName == "runButton" and button.toolTip == "Runs"
    button.setText("Again")
    assert button.text == "Again"
    with pytest.raises(TypeError):
        button.text()
    widget = qt.QWidget()
    layout = qt.QVBoxLayout(widget)
    layout.addWidget(button)
    assert widget.layout() is layout and button.parent() is widget and button.className() == "QPushButton"


def test_unknown_and_read_only_attributes_raise(qt):
    label = qt.QLabel("text")
    with pytest.raises(AttributeError, match="txet"):
        label.txet = "misspelled"
    with pytest.raises(AttributeError, match="not writable"):
        label.width = 3
    with pytest.raises(AttributeError):
        _ = label.unknown
    with pytest.raises(AttributeError):
        _ = qt.QNoSuchWidget


def test_dynamic_properties_are_attributes_once_they_are_set(qt):
    label = qt.QLabel()
    label.setProperty("SlicerParameterName", "alpha")
    assert label.SlicerParameterName == "alpha" == label.property("SlicerParameterName")
    assert qt.QLabel().property("SlicerParameterName") is None


def test_values_are_converted_to_the_type_of_the_property(qt):
    spin_box, check_box, label = qt.QSpinBox(), qt.QCheckBox(), qt.QLabel()
    spin_box.value = 3.7
    check_box.checked = 1
    label.alignment = qt.Qt.AlignRight
    label.text = 5
    assert (spin_box.value, check_box.checked, label.text) == (3, True, "5")
    assert label.alignment == qt.Qt.AlignRight


def test_connect_by_signature_and_by_attribute(qt, calls):
    button = qt.QPushButton()
    button.connect("clicked()", lambda: calls.append("none"))
    button.connect("clicked(bool)", lambda checked: calls.append(checked))
    button.clicked.connect(lambda: calls.append("attribute"))
    button.connect("clicked()", lambda name="bound": calls.append(name))
    button.click()
    assert sorted(map(str, calls)) == ["False", "attribute", "bound", "none"]
    with pytest.raises(ValueError, match="no signal"):
        button.connect("clickedTwice()", calls.append)


def test_a_slot_gets_as_many_arguments_as_it_takes(qt, calls):
    spin_box = qt.QSpinBox()
    spin_box.connect("valueChanged(int)", lambda: calls.append(()))
    spin_box.connect("valueChanged(int)", lambda *values: calls.append(values))
    spin_box.value = 4
    assert calls == [(), (4,)]


def test_disconnect_compares_callables(qt, calls):
    class Listener:
        def on_value(self, value):
            calls.append(value)

    listener, spin_box = Listener(), qt.QSpinBox()
    spin_box.connect("valueChanged(int)", listener.on_value)
    spin_box.value = 1
    assert spin_box.disconnect("valueChanged(int)", listener.on_value) is True
    assert spin_box.disconnect("valueChanged(int)", listener.on_value) is False
    spin_box.value = 2
    spin_box.valueChanged.connect(listener.on_value)
    assert spin_box.valueChanged.disconnect(listener.on_value) is True
    assert calls == [1]


def test_a_connection_keeps_its_callable(qt, calls):
    class Listener:
        def on_click(self):
            calls.append("click")

    button = qt.QPushButton()
    button.connect("clicked()", Listener().on_click)
    button.click()
    assert calls == ["click"]


def test_an_exception_in_a_slot_is_recorded_and_goes_no_further(host, qt, calls):
    button = qt.QPushButton()
    button.connect("clicked()", lambda: 1 / 0)
    button.connect("clicked()", lambda: calls.append("next"))
    button.click()
    assert calls == ["next"]
    assert [type(error) for error in host.errors] == [ZeroDivisionError]
    host.errors.clear()


def test_an_exception_in_a_vtk_observer_is_recorded(host):
    import slicer

    node = slicer.vtkMRMLModelNode()
    node.AddObserver("ModifiedEvent", lambda caller, event: 1 / 0)
    node.Modified()
    assert [type(error) for error in host.errors] == [ZeroDivisionError]
    host.errors.clear()


def test_timers(host, qt, calls):
    timer = qt.QTimer()
    timer.singleShot, timer.interval = True, 1
    timer.connect("timeout()", lambda: calls.append("timer"))
    timer.start()
    assert timer.active
    qt.QTimer.singleShot(0, lambda: calls.append("single shot"))
    host.process_events(until=lambda: len(calls) == 2)
    assert sorted(calls) == ["single shot", "timer"] and not timer.active


def test_process_events_gives_up(host):
    with pytest.raises(TimeoutError):
        host.process_events(until=lambda: False, timeout=0.05)


def test_settings_live_as_long_as_the_process(host, qt):
    import slicer

    qt.QSettings().setValue("Developer/DeveloperMode", True)
    assert slicer.util.settingsValue("Developer/DeveloperMode", False, converter=slicer.util.toBool) is True
    assert slicer.app.settings().value("Developer/DeveloperMode") in (True, "true")
    host.reset()
    assert not qt.QSettings().contains("Developer/DeveloperMode")


def test_the_application_refuses_what_it_does_not_have(host):
    import slicer

    with pytest.raises(AttributeError):
        _ = slicer.app.pythonConsole
    with pytest.raises(AttributeError):
        slicer.app.unknown = 1
    with pytest.raises(AttributeError):
        _ = slicer.modules.nosuchmodule
    with pytest.raises(AttributeError):
        _ = slicer.app.layoutManager().threeDWidget
    assert slicer.app.testingEnabled() is False and slicer.util.mainWindow() is None
