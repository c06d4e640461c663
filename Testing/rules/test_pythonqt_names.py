"""The panel asks its widgets only for what they have inside Slicer.

PySide6, which the test host is made of, offers more methods than PythonQt does. The lists were found with the real
widgets (PythonQt, and CTK at Qt 5.15) by loading the same .ui files: what C++ has as a plain method, neither a slot nor
a property, is not there for Python unless PythonQt's generated wrappers have it, and CTK's classes have none.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

MODULE = Path(__file__).resolve().parents[2] / "CARLRegistration"
# Of no Qt class.
NOWHERE = {"raise_", "print_", "del_", "staticMetaObject", "topLevelWidget", "internalWinId", "setScreen", "painters"}
# Of these classes in particular; their properties of the same meaning are there (slider.maximum = 3).
OF_CLASS = {
    "ctkSliderWidget": {
        *("setMaximum", "setMinimum", "setRange", "setPageStep", "setSingleStep", "setPrefix", "setSuffix"),
        *("setTracking", "spinBox"),
    },
    "ctkCollapsibleButton": {"setCollapsed", "setCollapsedHeight"},
    "qMRMLNodeComboBox": {
        *("setAddEnabled", "setEditEnabled", "setRemoveEnabled", "setRenameEnabled", "setNoneEnabled"),
        *("setBaseName", "setNodeTypes", "setHideChildNodeTypes"),
    },
    "QSpinBox": {"returnPressed"},
    "QDoubleSpinBox": {"returnPressed"},
    "QTableWidget": {"setKeyboardSearchFlags", "setUpdateThreshold"},
    "QFormLayout": {"setRowVisible"},
}


def classes() -> dict[str, str]:
    """Name of each widget and layout of the panel -> its class."""
    found = {}
    for file in (MODULE / "Resources" / "UI").glob("*.ui"):
        for element in ElementTree.parse(file).iter():
            if element.tag in ("widget", "layout"):
                found[element.get("name")] = element.get("class")
    return found


def asked_for(source: str, names: dict[str, str]) -> list[tuple[str, str]]:
    """(widget, attribute) pairs in a source that PythonQt does not have."""
    pairs = re.findall(r"(\w+)\.(\w+)", source)
    return [
        (widget, attribute)
        for widget, attribute in pairs
        if attribute in NOWHERE or attribute in OF_CLASS.get(names.get(widget, ""), ())
    ]


@pytest.mark.parametrize("file", sorted(MODULE.glob("CARLRegistration*/**/*.py")), ids=lambda path: path.name)
def test_only_what_is_there(file):
    assert asked_for(file.read_text(encoding="utf-8"), classes()) == []


def test_the_rule_sees():
    names = classes()
    sliders = [name for name, kind in names.items() if kind == "ctkSliderWidget"]
    assert len(sliders) > 3
    assert asked_for(f"self.ui.{sliders[0]}.setMaximum(3)", names) == [(sliders[0], "setMaximum")]
    assert asked_for(f"self.ui.{sliders[0]}.maximum = 3", names) == []
    assert asked_for("window.raise_()", names) == [("window", "raise_")]
