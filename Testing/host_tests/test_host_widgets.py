"""CTK's widgets and the loading of .ui files."""

import pytest

UI = """<ui version="4.0"><class>Form</class><widget class="{root}" name="Form"><layout class="QVBoxLayout" name="box">
<item><widget class="{inner}" name="inner">{properties}</widget></item></layout></widget>
<connections>{connections}</connections></ui>"""


@pytest.fixture
def load_ui(host, tmp_path):
    import slicer

    def load(root="QWidget", inner="QPushButton", properties="", connections=""):
        path = tmp_path / "form.ui"
        path.write_text(UI.format(root=root, inner=inner, properties=properties, connections=connections))
        return slicer.util.loadUI(str(path))

    return load


def test_a_loaded_file_has_the_classes_of_the_modules(load_ui):
    import ctk
    import qt
    import slicer

    for class_name, expected in (
        ("QLineEdit", qt.QLineEdit),
        ("ctkSliderWidget", ctk.ctkSliderWidget),
        ("qMRMLNodeComboBox", slicer.qMRMLNodeComboBox),
    ):
        widget = load_ui("qMRMLWidget", class_name)
        assert type(slicer.util.childWidgetVariables(widget).inner) is expected
        assert type(widget) is slicer.qMRMLWidget


def test_unknown_classes_properties_signals_and_slots_raise(load_ui):
    with pytest.raises(ValueError, match="ctkFancyKnob"):
        load_ui(inner="ctkFancyKnob")
    with pytest.raises(ValueError, match="shininess"):
        load_ui(properties='<property name="shininess"><number>3</number></property>')
    connection = (
        "<connection><sender>inner</sender><signal>{}</signal><receiver>Form</receiver><slot>{}</slot></connection>"
    )
    with pytest.raises(ValueError, match="no signal"):
        load_ui(connections=connection.format("exploded()", "hide()"))
    with pytest.raises(ValueError, match="no slot"):
        load_ui(connections=connection.format("clicked()", "explode()"))


def test_connections_of_a_file_are_made(load_ui):
    import slicer

    widget = load_ui(
        "qMRMLWidget",
        "qMRMLNodeComboBox",
        connections="<connection><sender>Form</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>"
        "<receiver>inner</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection>",
    )
    inner = slicer.util.childWidgetVariables(widget).inner
    assert inner.mrmlScene() is None and not inner.enabled
    widget.setMRMLScene(slicer.mrmlScene)
    assert inner.mrmlScene() is slicer.mrmlScene and inner.enabled


def test_dynamic_properties_and_sets_of_a_file(load_ui):
    import ctk
    import slicer

    widget = load_ui(
        inner="ctkPathLineEdit",
        properties='<property name="SlicerParameterName" stdset="0"><string>model</string></property>'
        '<property name="filters"><set>ctkPathLineEdit::Files|ctkPathLineEdit::Writable</set></property>',
    )
    inner = slicer.util.childWidgetVariables(widget).inner
    assert inner.property("SlicerParameterName") == "model"
    assert inner.filters == ctk.ctkPathLineEdit.Files | ctk.ctkPathLineEdit.Writable


def test_a_collapsed_button_hides_its_children(host, calls):
    import ctk
    import qt

    button = ctk.ctkCollapsibleButton("Advanced")
    layout = qt.QVBoxLayout(button)
    shown, hidden = qt.QLabel("shown"), qt.QLabel("hidden")
    layout.addWidget(shown)
    layout.addWidget(hidden)
    hidden.visible = False
    button.connect("contentsCollapsed(bool)", calls.append)
    button.show()
    assert button.text == "Advanced" and not button.collapsed and shown.visible
    button.collapsed = True
    assert button.collapsed and not button.checked and not shown.visible
    button.click()
    assert not button.collapsed and shown.visible and not hidden.visible
    assert calls == [True, False]


def test_a_collapsed_group_box_hides_its_children(host):
    import ctk
    import qt

    box = ctk.ctkCollapsibleGroupBox()
    box.title = "Options"
    label = qt.QLabel("inside")
    qt.QVBoxLayout(box).addWidget(label)
    box.show()
    box.collapsed = True
    assert not label.visible and box.title == "Options"
    box.collapsed = False
    assert label.visible


def test_slider_widget(host, calls):
    import ctk

    slider = ctk.ctkSliderWidget()
    slider.minimum, slider.maximum, slider.singleStep, slider.decimals, slider.suffix = 0.5, 9.5, 0.1, 1, " mm"
    slider.connect("valueChanged(double)", calls.append)
    slider.value = 3.14
    assert slider.value == 3.1 and slider.suffix == " mm"
    slider.value = 100
    assert slider.value == 9.5
    slider.value = 9.5
    assert calls == [3.1, 9.5]
    slider.blockSignals(True)
    slider.value = 1
    assert calls == [3.1, 9.5]


def test_path_line_edit(host, calls):
    import ctk

    edit = ctk.ctkPathLineEdit()
    edit.nameFilters = ("Models (*.safetensors)",)
    edit.currentPathChanged.connect(calls.append)
    edit.currentPath = "/data/model.safetensors"
    edit.currentPath = "/data/model.safetensors"
    assert calls == ["/data/model.safetensors"] == [edit.currentPath]
    edit.filters = ctk.ctkPathLineEdit.Files
    host.answers.append("/data/other.safetensors")
    edit.browse()
    assert edit.currentPath == "/data/other.safetensors"
    host.answers.append("")
    edit.browse()
    assert edit.currentPath == "/data/other.safetensors"


def test_host_widgets_take_no_new_attributes(host):
    import ctk
    import slicer

    for widget in (ctk.ctkSliderWidget(), ctk.ctkCollapsibleButton(), slicer.qMRMLNodeComboBox(), slicer.qMRMLWidget()):
        with pytest.raises(AttributeError):
            widget.valeu = 3
