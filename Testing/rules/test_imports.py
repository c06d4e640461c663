"""Who may import whom, and what importing costs."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ENGINE = Path(__file__).resolve().parents[2] / "CARLRegistration" / "carlreg"

BASE = {"errors", "paths", "text_files", "settings", "progress", "atomic", "processes", "kept"}
GEOMETRY = BASE | {"spaces"}
FILES = GEOMETRY | {"io", "volumes"}
TENSORS = GEOMETRY | {"maps"}
PREPARED = FILES | TENSORS | {"preprocess"}
NETWORKS = PREPARED | {"models"}
RESULTS = FILES | TENSORS | {"physical", "quality"}
RUN = NETWORKS | RESULTS | {"losses", "optimize", "uncertainty"}
# A package may import itself, the version, and these.
MAY_IMPORT = {
    "errors": set(),
    "paths": {"errors"},
    "text_files": {"errors", "paths"},
    "settings": {"errors", "paths", "text_files"},
    "progress": {"errors"},
    "resources": {"settings", "models"},
    "processes": set(),
    "kept": set(),
    "waiting": set(),
    "leftovers": {"processes"},
    "atomic": {"errors", "paths", "leftovers"},
    "spaces": BASE,
    "io": GEOMETRY,
    "volumes": GEOMETRY | {"io"},
    "phantom": GEOMETRY,
    "maps": GEOMETRY,
    "preprocess": FILES | TENSORS,
    "models": PREPARED,
    "losses": TENSORS,
    "optimize": NETWORKS | {"losses"},
    "physical": FILES | TENSORS,
    "quality": PREPARED | {"physical"},
    "outputs": RESULTS | {"preprocess", "registration"},  # what a result is
    "uncertainty": NETWORKS | {"physical"},
    "formats": RESULTS | {"outputs"},
    "registration": RUN | {"resources", "waiting"},
    "training": RUN | {"registration"},
    "series": RESULTS | {"registration"},
    "template": RESULTS | {"registration", "series", "leftovers"},
    "cohort": FILES | {"leftovers", "resources"},
    "cli": RUN
    | {"resources", "outputs", "formats", "registration", "phantom", "training", "cohort", "series", "template"},
    "__main__": {"cli"},
    "__init__": set(),
}
MODULES = sorted(ENGINE.rglob("*.py"))


MODULE_OF = {
    ".".join(("carlreg", *path.relative_to(ENGINE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in MODULES
}


def part_of(path: Path) -> str:
    return path.relative_to(ENGINE).parts[0].removesuffix(".py")


def imported_parts(path: Path) -> set[str]:
    """The parts of the engine that a module imports, wherever it does so."""
    return {name[1] for name in imported_names(path) if name[0] == "carlreg" and len(name) > 1} - {"__version__"}


def imported_names(path: Path) -> list[list[str]]:
    """Everything that a module imports, at its top, inside functions or for type checking, as absolute names."""
    package = ("carlreg", *path.relative_to(ENGINE).parts[:-1])
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += node.module.split(".") if node.module else []
            found += [[*base, alias.name] for alias in node.names]
    return found


def imported_modules(path: Path) -> set[Path]:
    """The engine's modules that a module names in its imports; a name in a package counts as the package's."""
    found = set()
    for name in map(".".join, imported_names(path)):
        module = name if name in MODULE_OF else name.rpartition(".")[0]
        found |= {MODULE_OF[module]} if module in MODULE_OF else set()
    return found - {path}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ENGINE).as_posix())
def test_import_direction(path):
    part = part_of(path)
    assert part in MAY_IMPORT, f"{part} is new: say in MAY_IMPORT what it may import"
    assert imported_parts(path) <= MAY_IMPORT[part] | {part}


def test_the_rule_sees_imports():
    assert imported_parts(ENGINE / "cli" / "register.py") >= {"errors", "outputs", "registration", "volumes", "atomic"}
    assert imported_parts(ENGINE / "optimize" / "field.py") >= {"maps"}


def test_parts_have_an_order():
    """No part imports, over any chain, itself."""
    above = {part: set(allowed) for part, allowed in MAY_IMPORT.items()}
    for _ in above:
        above = {part: below.union(*(above[other] for other in below)) for part, below in above.items()}
    assert not [part for part, below in above.items() if part in below]


def test_no_modules_import_each_other_in_a_circle():
    """Imports inside functions and for type checking count, too: they only hide a circle."""
    try:
        graphlib.TopologicalSorter({path: imported_modules(path) for path in MODULES}).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" <- ".join(path.relative_to(ENGINE).as_posix() for path in error.args[1]))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ENGINE).as_posix())
def test_the_engine_knows_no_slicer(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
    packages = {name.split(".")[0] for name in names}
    assert not packages & {"slicer", "qt", "vtk", "ctk"}
    # VTK's reading and writing of models is optional, and in one place.
    assert "vtkmodules" not in packages or path == ENGINE / "formats" / "surfaces.py"


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import carlreg", {"torch", "SimpleITK", "numpy", "tqdm"}),
        ("import carlreg.errors, carlreg.settings, carlreg.progress, carlreg.atomic", {"torch", "SimpleITK", "numpy"}),
        ("import carlreg.text_files, carlreg.paths", {"torch", "SimpleITK", "numpy"}),
        ("import carlreg.cli.main", {"torch", "SimpleITK", "numpy"}),
        ("import carlreg.resources, carlreg.models.catalog", {"torch", "SimpleITK", "numpy"}),
        ("import carlreg.formats.catalog", {"torch", "SimpleITK", "numpy"}),
        ("import carlreg.spaces", {"torch", "SimpleITK"}),
        ("import carlreg.training.settings", {"torch", "SimpleITK", "numpy"}),
        ("import carlreg.volumes, carlreg.phantom, carlreg.io.nifti_field, carlreg.io.points", {"torch"}),
        ("import carlreg.cohort.study, carlreg.cohort.figures", {"torch", "SimpleITK", "numpy", "dask"}),
        ("from carlreg import RegistrationSettings, Progress, CarlError", {"torch", "SimpleITK", "numpy"}),
    ],
)
def test_what_importing_brings_along(statement, absent):
    code = f"import sys; {statement}; print(*sorted({absent!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_importing_starts_no_device():
    code = "import carlreg.registration.run, carlreg.outputs, torch, sys; sys.exit(int(torch.cuda.is_initialized()))"
    subprocess.run([sys.executable, "-c", code], check=True)
