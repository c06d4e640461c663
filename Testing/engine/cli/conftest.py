"""A small pair of volumes on disk, and fake engine modules for child processes."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

# Loaded by every Python process of a test: replaces the registration and the output writer by what FAKE says.
_SITECUSTOMIZE = """
import importlib.abc, importlib.machinery, sys

class Fakes(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    code = {"carlreg.registration": REGISTRATION, "carlreg.outputs": OUTPUTS}
    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self) if name in self.code else None
    def exec_module(self, module):
        exec(compile(self.code[module.__name__], module.__name__, "exec"), module.__dict__)

sys.meta_path.insert(0, Fakes())
"""
_REGISTRATION = """
import ctypes, os, signal, sys, time
from types import SimpleNamespace
from carlreg.volumes import pair_warnings
def hold_the_interpreter(seconds):
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))  # as a kernel that does not release Python's lock
def ready():
    print("READY", file=sys.stderr, flush=True)
def register_pair(fixed, moving, settings, *, fixed_mask, moving_mask, progress, **guidance):
    run(progress)
    return SimpleNamespace(quality={"warnings": pair_warnings(fixed, moving)})
def finish(result, *, labels, label_names, landmarks, progress):
    return result
def run(progress):
    pass
"""
_OUTPUTS = """
import errno, json, os, sys, time
from carlreg.atomic import staged_folder
def ready():
    print("READY", file=sys.stderr, flush=True)
def write_result(result, out, *, overwrite, progress, **more):
    with staged_folder(out, overwrite) as folder:
        (folder / "warped.nii.gz").write_text("half")
        write(folder, progress)
        (folder / "quality.json").write_text(json.dumps(result.quality))
    return result.quality
def write(folder, progress):
    pass
"""


@pytest.fixture
def fakes(tmp_path_factory):
    """fakes(registration=..., outputs=...): a folder by which child processes use fakes with this code at their end.

    first: code that they run before anything else.
    """

    def make(registration: str = "", outputs: str = "", first: str = ""):
        folder = tmp_path_factory.mktemp("fakes")
        text = _SITECUSTOMIZE.replace("REGISTRATION", repr(_REGISTRATION + registration)).replace(
            "OUTPUTS", repr(_OUTPUTS + outputs)
        )
        (folder / "sitecustomize.py").write_text(text + first, encoding="utf-8")
        return folder

    return make


def blob(center, shape=(20, 22, 24), spacing=4.0) -> sitk.Image:
    k, j, i = np.meshgrid(*(np.arange(n) * spacing for n in shape), indexing="ij")
    distance = sum((axis - c) ** 2 for axis, c in zip((k, j, i), center, strict=True))
    noise = np.random.default_rng(0).normal(0, 5, shape)
    image = sitk.GetImageFromArray((800 * np.exp(-distance / 400) + noise).astype(np.float32))
    image.SetSpacing((spacing,) * 3)
    return image


@pytest.fixture
def pair(tmp_path):
    """Two small files, in a folder of their own with spaces and other letters in its name."""
    folder = tmp_path / "Größe 3 mm"
    folder.mkdir()
    files = folder / "fixed é.nii.gz", folder / "moving.nii.gz"
    for file, center in zip(files, ((40, 44, 48), (44, 40, 50)), strict=True):
        sitk.WriteImage(blob(center), str(file))
    return files
