"""Dialogs, packages, sample data, files, layout and slice views."""

import numpy as np
import pytest


@pytest.fixture
def util(host):
    import slicer.util

    return slicer.util


@pytest.fixture
def volume(util):
    values = np.zeros((20, 24, 28), np.float32)
    values[5:15, 6:18, 7:21] = 100
    node = util.addVolumeFromArray(values, name="box")
    node.CreateDefaultDisplayNodes()
    return node


def test_messages_are_recorded(host, util):
    util.infoDisplay("done", windowTitle="Title")
    util.errorDisplay("failed", detailedText="why")
    util.delayDisplay("a moment")
    assert [(m.level, m.text) for m in host.messages] == [("info", "done"), ("error", "failed"), ("info", "a moment")]
    assert host.messages[0].title == "Title" and host.messages[1].details == "why"


def test_questions_are_answered_by_the_test(host, util):
    import qt

    host.answers += [True, False, qt.QMessageBox.Save, True]
    assert util.confirmOkCancelDisplay("Continue?") is True
    assert util.confirmYesNoDisplay("Delete?") is False
    assert util.messageBox("Save?", standardButtons=qt.QMessageBox.Save | qt.QMessageBox.Cancel) == qt.QMessageBox.Save
    assert qt.QMessageBox.question(None, "Title", "Sure?") == qt.QMessageBox.Yes
    assert host.dialogs.texts() == ["Continue?", "Delete?", "Save?", "Sure?"]
    with pytest.raises(AssertionError, match="no answer to"):
        util.confirmYesNoDisplay("Again?")
    host.answers.append(qt.QMessageBox.Retry)
    with pytest.raises(AssertionError, match="no button"):
        util.confirmYesNoDisplay("Again?")


def test_testing_mode_asks_nothing(host, util):
    host.app.set_testing_enabled(True)
    util.confirmOkCancelDisplay("Continue?")
    assert host.dialogs.texts() == ["Continue?"]


def test_file_dialogs_and_links(host):
    import qt

    host.answers += ["/data/a.nrrd", ""]
    assert qt.QFileDialog.getOpenFileName(None, "Open", "", "*.nrrd") == "/data/a.nrrd"
    assert qt.QFileDialog.getExistingDirectory(None, "Folder") == ""
    qt.QDesktopServices.openUrl(qt.QUrl("https://example.org/"))
    assert host.dialogs.opened_urls == ["https://example.org/"]
    with pytest.raises(NotImplementedError):
        qt.QInputDialog.getText(None, "Title", "Label")


def test_packages_that_are_there_need_nothing(host):
    import slicer.packaging

    assert slicer.packaging.pip_check("numpy>=1 pytest") and not slicer.packaging.pip_check("numpy<1")
    assert slicer.packaging.pip_ensure(["numpy"], requester="Test") is None
    assert host.installer.calls == []


def test_missing_packages_are_installed_after_a_question(host):
    import slicer.packaging

    host.installer.missing = {"numpy"}
    host.answers += [False, True]
    with pytest.raises(RuntimeError, match="declined"):
        slicer.packaging.pip_ensure("numpy>=1", requester="Test")
    slicer.packaging.pip_ensure("numpy>=1", constraints="c.txt", requester="Test")
    assert [call.requirements for call in host.installer.calls] == [["numpy>=1"]]
    assert host.installer.calls[0].options["constraints"] == "c.txt"
    assert host.messages[0].title.startswith("Test - ") and slicer.packaging.pip_check("numpy")


def test_a_failed_installation_raises(host):
    from subprocess import CalledProcessError

    import slicer.packaging

    host.installer.missing, host.installer.fail = {"numpy"}, True
    with pytest.raises(CalledProcessError):
        slicer.packaging.pip_ensure("numpy", prompt_install=False)
    assert not slicer.packaging.pip_check("numpy")


def test_testing_mode_installs_nothing(host):
    import slicer.packaging

    host.app.set_testing_enabled(True)
    host.installer.missing = {"numpy"}
    assert slicer.packaging.pip_ensure("numpy") is None and host.installer.calls == []


def test_a_restart_is_offered_for_packages_in_use(host):
    import slicer.packaging

    host.installer.missing, host.installer.updated_imported = {"numpy"}, ["numpy"]
    host.answers.append(True)
    before = host.app.restarts
    slicer.packaging.pip_ensure("numpy", prompt_install=False)
    assert host.app.restarts == before + 1


def test_requirement_files(host, tmp_path):
    import slicer.packaging

    (tmp_path / "requirements.txt").write_text("# comment\nnumpy>=1.20\n\n-r other.txt\ntorch; python_version<'2'\n")
    requirements = slicer.packaging.load_requirements(tmp_path / "requirements.txt")
    assert [requirement.name for requirement in requirements] == ["numpy", "torch"]
    assert slicer.packaging.pip_check(requirements)
    with pytest.raises(TypeError):
        slicer.packaging.pip_check(3)


def test_translations_keep_their_placeholders(host, monkeypatch):
    import slicer.i18n

    assert slicer.i18n.tr("plain {name}") == "plain {name}"
    monkeypatch.setattr(type(host.app), "translate", lambda self, context, text: text.replace("name", "nom"))
    assert slicer.i18n.tr("plain {name}") == "plain {name}" and slicer.i18n.tr("name") == "nom"


def test_sample_data_sources(host, util, volume, tmp_path):
    import SampleData

    assert util.saveNode(volume, str(tmp_path / "box.nrrd"))
    logic = SampleData.SampleDataLogic
    logic.registerCustomSampleDataCategory("Host", "Host data")
    for _ in range(2):
        logic.registerCustomSampleDataSource(
            category="Host",
            sampleName="Box",
            uris=(tmp_path / "box.nrrd").as_uri(),
            fileNames="box.nrrd",
            nodeNames="Loaded box",
        )
    assert len(logic.sampleDataSourcesByCategory("Host")) == 1 and logic.categoryTitle("Host") == "Host data"
    (node,) = host.sample_data.press_button("Host", "Box")
    assert node.GetName() == "Loaded box" and util.arrayFromVolume(node).max() == 100
    with pytest.raises(ValueError):
        SampleData.SampleDataSource(uris=["a", "b"], fileNames=["a"])


def test_files(host, util, volume, tmp_path):
    import slicer

    assert util.saveNode(volume, str(tmp_path / "box.nii.gz"))
    loaded = util.loadVolume(str(tmp_path / "box.nii.gz"))
    assert loaded.GetName().startswith("box") and util.arrayFromVolume(loaded).shape == (20, 24, 28)
    label_map = util.loadLabelVolume(str(tmp_path / "box.nii.gz"))
    assert label_map.IsA("vtkMRMLLabelMapVolumeNode")
    transform = host.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "shift")
    transform.SetMatrixTransformToParent(util.vtkMatrixFromArray(np.diag([1.0, 2.0, 3.0, 1.0])))
    assert util.saveNode(transform, str(tmp_path / "shift.h5"))
    assert util.arrayFromTransformMatrix(util.loadTransform(str(tmp_path / "shift.h5")))[2, 2] == pytest.approx(3)
    with pytest.raises(RuntimeError):
        util.loadVolume(str(tmp_path / "missing.nrrd"))
    with pytest.raises(NotImplementedError):
        util.loadText(str(tmp_path / "notes.txt"))
    assert slicer.app.coreIOManager().fileType("x.mrb") == "SceneFile"


def test_built_in_logics(host):
    import slicer

    assert slicer.modules.volumes.logic().IsA("vtkSlicerVolumesLogic")
    assert slicer.modules.colors.logic().IsA("vtkSlicerColorLogic")
    assert slicer.app.applicationLogic().IsA("vtkMRMLApplicationLogic")
    with pytest.raises(NotImplementedError):
        slicer.modules.volumes.widgetRepresentation()


def test_select_module(host, util, example_path):
    host.load_module(example_path)
    util.selectModule("Volumes")
    assert host.selected_module == "Volumes"
    with pytest.raises(RuntimeError):
        util.selectModule("NoSuchModule")


def test_layout(host):
    import slicer

    manager = slicer.app.layoutManager()
    assert manager.sliceViewNames() == ("Red", "Yellow", "Green")
    assert host.scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode") == 3
    assert manager.sliceWidget("Blue") is None
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
    assert manager.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView
    with pytest.raises(NotImplementedError):
        manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUp3DView)
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)


def picture(path):
    from matplotlib.image import imread

    return imread(path)[..., :3]


def test_slice_views_are_rendered(host, util, volume, tmp_path):
    """Background, foreground with opacity, and the color legend."""
    import slicer

    ramp = np.broadcast_to(np.arange(28, dtype=np.float32), (20, 24, 28)).copy()
    other = util.addVolumeFromArray(ramp, name="ramp")
    other.CreateDefaultDisplayNodes()
    other.GetDisplayNode().SetAndObserveColorNodeID("vtkMRMLColorTableNodeRainbow")
    util.setSliceViewerLayers(background=volume, foreground=other, foregroundOpacity=0.0, fit=True)
    view = slicer.app.layoutManager().sliceWidget("Red")
    assert view.sliceLogic().GetSliceCompositeNode() is view.mrmlSliceCompositeNode()
    gray = picture(host.grab_view("Red", tmp_path / "gray.png"))
    assert gray.shape == (512, 512, 3) and gray.max() > 0.9
    assert np.ptp(gray, axis=2).max() == 0
    view.mrmlSliceCompositeNode().SetForegroundOpacity(0.5)
    colored = picture(host.grab_view("Red", tmp_path / "colored.png"))
    assert np.ptp(colored, axis=2).max() > 0.3
    legend = slicer.vtkSlicerColorLogic.AddDefaultColorLegendDisplayNode(other)
    legend.SetVisibility(True)
    with_legend = picture(host.grab_view("Red", tmp_path / "legend.png"))
    assert np.abs(with_legend - colored).max() > 0.3
    util.resetSliceViews()
    host.close_scene()
    assert picture(host.grab_view("Red", tmp_path / "empty.png")).max() < 0.1


def test_a_loaded_volume_is_shown(host, util, volume, tmp_path):
    assert util.saveNode(volume, str(tmp_path / "box.nrrd"))
    host.layout.view("Red")
    loaded = util.loadVolume(str(tmp_path / "box.nrrd"))
    assert host.layout.sliceWidget("Green").mrmlSliceCompositeNode().GetBackgroundVolumeID() == loaded.GetID()
