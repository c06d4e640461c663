"""The panel in the test host: a second pair after the first, what is overwritten, and Undo of both."""

# ruff: noqa: F811 (fixtures that are imported)
import numpy as np

from .test_panel import isShown, pair, panel, waitForEnd  # noqa: F401
from .volumes import addVolume


def run(host, panel):
    panel.ui.applyButton.click()
    waitForEnd(host, panel)
    assert panel.ui.resultLabel.text.startswith("Done"), panel.ui.warningLabel.text
    return panel.results.result


def test_a_second_pair_makes_nodes_of_its_own(host, panel, pair, replayedEngine):
    import slicer

    ui = panel.ui
    other = addVolume(np.arange(1000, dtype=np.int16).reshape(10, 10, 10), np.eye(4), "other")
    first = run(host, panel)
    ui.movingVolumeSelector.setCurrentNode(other)
    second = run(host, panel)
    assert not set(first.nodes.values()) & set(second.nodes.values())
    assert first.nodes["warped"].GetName() == "Warped: CARLSampleMoving to CARLSampleFixed"
    assert second.nodes["warped"].GetName() == "Warped: other to CARLSampleFixed"
    # a node is filled again only where it was chosen, for this pair, and then it is called after it
    mine = first.nodes["jacobian"]
    mine.SetName("mine")

    def choose():
        ui.outputWarpedSelector.setCurrentNode(first.nodes["warped"])
        ui.outputJacobianSelector.setCurrentNode(mine)

    choose()
    assert ui.overwriteLabel.text == "Will overwrite:\nWarped: CARLSampleMoving to CARLSampleFixed\nmine"
    ui.swapButton.click()
    assert ui.outputWarpedSelector.currentNode() is None and not isShown(ui.overwriteLabel)
    ui.swapButton.click()
    choose()
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "new and empty")
    ui.outputTransformSelector.setCurrentNode(empty)
    assert "empty" not in ui.overwriteLabel.text
    third = run(host, panel)
    assert third.nodes["warped"] is first.nodes["warped"] and third.nodes["transform"] is empty
    assert third.nodes["warped"].GetName() == "Warped: other to CARLSampleFixed_1" and mine.GetName() == "mine"
    # one after the other is taken back; the one before is the last again, with its buttons
    ui.undoButton.click()
    assert panel.results.result is second and isShown(ui.resultWidget) and ui.undoButton.enabled
    assert ui.resultLabel.text.startswith("Registration undone. The one before it:\nDone in ")
    assert first.nodes["warped"].GetName() == "Warped: CARLSampleMoving to CARLSampleFixed"
    assert panel.inspect.ui.inspectTransformSelector.currentNode() is second.nodes["transform"]
    assert panel.inspect.ui.reportButton.enabled
    ui.undoButton.click()
    ui.undoButton.click()
    assert panel.results.result is None and not isShown(ui.resultWidget)
    assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == [*pair, other]


def test_an_error_is_marked_and_goes_when_something_else_is_chosen(host, panel, pair, replayedEngine, tmp_path):
    ui = panel.ui
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexit 1\n")
    script.chmod(0o755)
    ui.enginePythonLineEdit.text = str(script)
    ui.applyButton.click()
    waitForEnd(host, panel)
    assert "no Python that can run" in ui.warningLabel.text and "#d64545" in ui.warningLabel.styleSheet
    picture = ui.warningLabel.grab().toImage()
    bar = [picture.pixelColor(2, y).getRgb()[:3] for y in range(2, 12)]
    assert set(bar) == {(0xD6, 0x45, 0x45)}
    ui.enginePythonLineEdit.text = ""
    assert not isShown(ui.warningLabel) and ui.warningLabel.text == "" == ui.warningLabel.styleSheet


def test_a_verdict_stands_beside_the_figures(host, panel, pair, replayedEngine):
    """What the run said against its pair at its start is not forgotten when it ends."""
    ui = panel.ui
    ui.applyButton.click()
    panel._doubts.append("Little in common.")
    waitForEnd(host, panel)
    result = panel.results.result
    assert result.quality["verdict"]["word"] == "good"
    assert ui.resultVerdictLabel.text == "Check" and "#d9902f" in ui.resultVerdictLabel.styleSheet
    assert ui.warningLabel.text == "Check: Little in common."  # what is good is no reason
    result.warnings = ["Try the robustness Rotation (--robustness rotation)."]
    panel.results.say(result)
    assert ui.warningLabel.text == "Check: Try 'Any rotation' at Difference in pose."  # what the panel calls it
    result.warnings = []
    panel.results.say(result)
    assert ui.resultVerdictLabel.text == "Good" and "#2e9e5b" in ui.resultVerdictLabel.styleSheet
    assert not isShown(ui.warningLabel)


def test_an_evaluation_adds_to_what_the_registration_knows(moduleWidget):
    from CARLRegistrationLib.inspect.metrics import joined

    def check(name, word):
        return {"name": name, "word": word, "value": 1.0, "text": f"{name} is {word}"}

    def quality(checks, **blocks):
        return {"verdict": {"word": "", "reasons": [], "checks": checks, "thresholds": {}}, **blocks}

    former = quality(
        [check("uncertainty", "check"), check("folds", "good")], uncertainty={"median_mm": 2.0}, labels=None
    )
    found = quality([check("folds", "good"), check("dice", "poor")], uncertainty=None, labels={"after": {"mean": 0.1}})
    made = joined(former, found)
    assert made["uncertainty"] == {"median_mm": 2.0} and made["labels"] == {"after": {"mean": 0.1}}
    assert made["verdict"]["word"] == "poor"
    assert made["verdict"]["reasons"] == ["dice is poor", "uncertainty is check"]
    fine = joined(quality([check("a", "good")]), quality([check("b", "good"), check("dice_change", "good")]))
    assert fine["verdict"]["word"] == "good" and fine["verdict"]["reasons"] == ["a is good", "b is good"]
