"""What all tests share."""

from __future__ import annotations

import importlib.util
import os
import sys
import types
from pathlib import Path

import pytest
from data_folder import MISSING, find_data_folder

# Child processes of tests import this checkout, installed or not.
_ENGINE = str(Path(__file__).resolve().parents[1] / "CARLRegistration")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_ENGINE, os.environ.get("PYTHONPATH")]))


def _stand_in_for_itk() -> None:
    """The authors' packages import `itk` (1.5 GB) for their file handling, which no test uses."""

    def attribute(name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})

    module = types.ModuleType("itk")
    module.__getattr__ = attribute  # type: ignore[method-assign]
    sys.modules["itk"] = module


if importlib.util.find_spec("itk") is None:
    _stand_in_for_itk()


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder with the evaluation volumes; skips the test when it is missing."""
    folder = find_data_folder()
    if folder is None:
        pytest.skip(MISSING)
    return folder
