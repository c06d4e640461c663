"""What the Extensions Index and Slicer's build ask of the repository."""

from __future__ import annotations

import ast
import json
import re
import struct
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from .extension_entries import CMAKE, JSON, ROOT, S4EXT, TEXT_FILES, cmake_values, json_entry, s4ext_lines

MODULE = ROOT / "CARLRegistration"
MODULE_CMAKE = MODULE / "CMakeLists.txt"
UI = MODULE / "Resources" / "UI" / "CARLRegistration.ui"
INSPECT_UI = UI.with_name("CARLRegistrationInspect.ui")
INDEX_LIMIT_MB = 90


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, check=True).stdout
    return [ROOT / name for name in listed.decode().split("\0") if name and (ROOT / name).is_file()]


def cmake_list(name: str) -> list[str]:
    return re.search(rf"set\({name}\s+(.*?)\)", MODULE_CMAKE.read_text("utf-8"), re.DOTALL)[1].split()


def test_both_entries_say_what_cmake_says():
    values = cmake_values()
    assert S4EXT.read_text("utf-8").splitlines() == s4ext_lines(values)
    entry = json.loads(JSON.read_text("utf-8"))
    assert entry == json_entry(values)
    fields = dict(line.partition(" ")[::2] for line in S4EXT.read_text("utf-8").splitlines())
    assert fields["category"] == entry["category"] == "Registration"
    assert fields["depends"] == "PyTorch" and entry["build_dependencies"] == ["PyTorch"]
    assert fields["scmurl"] + ".git" == entry["scm_url"] and fields["homepage"] == values["HOMEPAGE"]
    assert fields["scmrevision"] == entry["scm_revision"] and fields["scm"] == "git"
    assert fields["build_subdirectory"] == entry["build_subdirectory"] == "."
    assert S4EXT.stem == JSON.stem == values["NAME"] == "CARLRegistration"


def test_the_address_is_one():
    address = cmake_values()["HOMEPAGE"]
    owner = address.removeprefix("https://github.com/")
    for path in tracked():
        if path.suffix in TEXT_FILES:
            text = path.read_text("utf-8")
            for found in re.findall(r"github(?:usercontent)?\.com/([\w.-]+/\w*CARLRegistration)", text):
                assert found == owner, path


def test_the_description_has_no_semicolons():
    """CMake takes a semicolon for the end of a list's item: the catalog would show what stands before it."""
    values = cmake_values()
    assert [name for name, value in values.items() if ";" in value] == []
    assert values["DESCRIPTION"] in S4EXT.read_text("utf-8") and values["DESCRIPTION"].endswith("canceled.")


def test_page_steps_of_sliders_are_steps():
    """A click beside the handle moves it by the page step, which is 10 where nothing else is said."""
    for path in sorted((MODULE / "Resources" / "UI").glob("*.ui")):
        for widget in ElementTree.parse(path).getroot().iter("widget"):
            if widget.get("class") == "ctkSliderWidget":
                given = {one.get("name"): one[0].text for one in widget.findall("property")}
                length = float(given.get("maximum", 99)) - float(given.get("minimum", 0))
                page = float(given.get("pageStep", 10))
                assert float(given.get("singleStep", 1)) <= page <= length / 5, (path.name, widget.get("name"))


def test_no_widget_has_the_name_of_one_inside_a_ctk_widget():
    """slicer.util.childWidgetVariables gives the last one of a name."""
    inner = {"Slider", "SpinBox", "ComboBox", "PathLineEdit", "BrowseButton", "qt_spinbox_lineedit"}
    for path in sorted((MODULE / "Resources" / "UI").glob("*.ui")):
        names = [widget.get("name") for widget in ElementTree.parse(path).getroot().iter("widget")]
        assert len(names) == len(set(names)) and not inner & set(names), path.name


def test_urls_are_one_quoted_string_each():
    text = CMAKE.read_text("utf-8")
    for name in ("ICONURL", "SCREENSHOTURLS"):
        (url,) = re.findall(rf'^set\(EXTENSION_{name} "(\S+)"\)$', text, re.MULTILINE)
        assert (ROOT / url.split("/main/")[1]).is_file()


@pytest.mark.parametrize("icon", [ROOT / "Resources" / "Icons", MODULE / "Resources" / "Icons"], ids=["top", "module"])
def test_icon_is_a_128_pixel_png(icon):
    head = (icon / "CARLRegistration.png").read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", head[16:24]) == (128, 128)


def test_license_and_size():
    assert "Apache License" in (ROOT / "LICENSE").read_text("utf-8")[:200]
    assert sum(path.stat().st_size for path in tracked()) < INDEX_LIMIT_MB * 1e6


def test_lines_end_with_lf():
    for path in tracked():
        if path.suffix in (*TEXT_FILES, ".csv"):
            assert b"\r\n" not in path.read_bytes(), path


def test_every_script_and_resource_is_listed():
    scripts = {
        path.relative_to(MODULE).as_posix()
        for folder in ("CARLRegistrationLib", "carlreg")
        for path in (MODULE / folder).rglob("*.py")
    }
    listed = cmake_list("MODULE_PYTHON_SCRIPTS")
    assert len(listed) == len(set(listed)) and set(listed) == scripts | {"CARLRegistration.py"}
    resources = {
        path.relative_to(MODULE).as_posix()
        for folder in ("Resources", "carlreg/weights", "carlreg/training/configs", "carlreg/outputs/report/html")
        for path in (MODULE / folder).rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    }
    assert set(cmake_list("MODULE_PYTHON_RESOURCES")) == resources


def test_no_other_module_beside_the_module():
    """Slicer takes every .py file beside the module file for a module."""
    assert [path.name for path in MODULE.glob("*.py")] == ["CARLRegistration.py"]


ALLOWED_AT_FILE_SCOPE = {"slicer", "qt", "ctk", "vtk", "SimpleITK", "numpy", "scipy", "carlreg"}
SLICER_SIDE = [MODULE / "CARLRegistration.py", *sorted((MODULE / "CARLRegistrationLib").rglob("*.py"))]
TORCH_FREE = {"atomic", "errors", "text_files", "settings", "spaces", "resources", "phantom", "volumes", "io"}
TORCH_FREE_MODULES = {
    "cohort",
    "cohort.figures",
    "cohort.study",
    "formats.catalog",
    "models.catalog",
}  # of packages that are not torch-free as a whole


@pytest.mark.parametrize("path", SLICER_SIDE, ids=lambda path: path.name)
def test_slicer_side_imports(path):
    """At file scope nothing but the standard library and what Slicer brings; torch never; the engine's light parts."""
    tree = ast.parse(path.read_text("utf-8"))
    at_top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        else:
            continue
        for name in names:
            package, *rest = name.split(".")
            assert package != "torch"
            if package == "carlreg":
                light = rest and (rest[0] in TORCH_FREE or ".".join(rest) in TORCH_FREE_MODULES)
                assert light, f"{path.name}: {name}"
            if id(node) in at_top:
                assert package in ALLOWED_AT_FILE_SCOPE or package in sys.stdlib_module_names, name


def test_no_code_runs_when_the_module_file_is_imported():
    tree = ast.parse((MODULE / "CARLRegistration.py").read_text("utf-8"))
    kinds = (ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef)
    for node in tree.body:
        plain = isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        assert isinstance(node, kinds) or plain or docstring, ast.unparse(node)


@pytest.mark.parametrize(("path", "count"), [(UI, 19), (INSPECT_UI, 8)])
def test_ui_connects_the_scene_to_every_node_selector(path, count):
    root = ElementTree.parse(path).getroot()
    selectors = {w.get("name") for w in root.iter("widget") if w.get("class") == "qMRMLNodeComboBox"}
    connected = {c.findtext("receiver") for c in root.iter("connection")}
    assert selectors == connected and len(selectors) == count
    assert {c.findtext("signal") for c in root.iter("connection")} == {"mrmlSceneChanged(vtkMRMLScene*)"}


@pytest.mark.parametrize("path", [UI, INSPECT_UI])
def test_ui_controls_have_tooltips(path):
    root = ElementTree.parse(path).getroot()
    kinds = {"QComboBox", "qMRMLNodeComboBox", "QCheckBox", "QPushButton", "QToolButton", "QSpinBox", "QDoubleSpinBox"}
    kinds |= {"ctkSliderWidget", "QLineEdit"}
    for widget in root.iter("widget"):
        if widget.get("class") in kinds:
            tips = [p for p in widget.findall("property") if p.get("name") == "toolTip"]
            assert tips and len(tips[0].findtext("string")) > 10, widget.get("name")


def test_requirements_leave_slicers_own_packages_alone():
    lines = (MODULE / "Resources" / "requirements.txt").read_text("utf-8").splitlines()
    names = [re.match(r"[\w-]+", line)[0].lower() for line in lines if line and not line.startswith("#")]
    assert names and not {"numpy", "simpleitk", "vtk", "torch"} & set(names)
    assert all(">=" in line for line in lines if line and not line.startswith("#"))
