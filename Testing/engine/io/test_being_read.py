"""The note of what is being read, as the process sees it that would have to explain a crash."""

from __future__ import annotations

import os

from carlreg.io import being_read as module
from carlreg.io.being_read import AS_MODEL, AS_VOLUME, NOTE_VARIABLE, being_read, noted


def test_the_innermost_file_is_noted_until_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_file", None)
    with (tmp_path / "note").open("w+b") as file:
        monkeypatch.setenv(NOTE_VARIABLE, str(file.fileno()))
        module.take_notes()
        assert NOTE_VARIABLE not in os.environ  # a process started from here has no such file
        assert noted(file.fileno()) is None
        with being_read("a long name ä.seg.nrrd", AS_VOLUME):
            with being_read("m.vtk", AS_MODEL):
                assert noted(file.fileno()) == ("m.vtk", "as .vtp or .vtk")
            assert noted(file.fileno()) == ("a long name ä.seg.nrrd", "as .nrrd or .nii.gz")
            with being_read("x" * 10_000, AS_MODEL):  # no name is too long for the advice
                name, save_as = noted(file.fileno())
                assert set(name) == {"x"} and save_as == AS_MODEL
        assert noted(file.fileno()) is None


def test_without_a_reader_nothing_is_noted(monkeypatch):
    monkeypatch.delenv(NOTE_VARIABLE, raising=False)
    module.take_notes()
    with being_read("a", AS_VOLUME):
        assert module._notes == []
