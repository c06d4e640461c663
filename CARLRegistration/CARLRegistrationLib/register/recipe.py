"""The present choices as what can be run without the panel: a command line, and lines for the Python console."""

from __future__ import annotations

import dataclasses
import shlex

from carlreg.settings import RegistrationSettings

from .job import Job


def commandLine(job: Job) -> str:
    """`carlreg register ...` with the files of both volumes, as far as they have any, and the settings.

    Masks, guidance and initial transforms are nodes of the scene, which a command does not see.
    """
    words = ["carlreg", "register", _file(job.fixedVolume, "FIXED"), _file(job.movingVolume, "MOVING")]
    words += ["--out", "RESULT"]
    for name, value in _changed(job.settings, RegistrationSettings()).items():
        words.append("--" + name.removesuffix("_mm").replace("_", "-"))
        if isinstance(value, tuple):
            words += [f"{one:g}" for one in value]
        elif not isinstance(value, bool):
            words.append(str(value))
    return shlex.join(words)


def pythonLines(job: Job) -> str:
    """Lines for Slicer's Python console, once the module was opened."""
    settings = ", ".join(f"{name}={value!r}" for name, value in _changed(job.settings, RegistrationSettings()).items())
    arguments = [_node(job.fixedVolume), _node(job.movingVolume)]
    for name, value in _changed(job, Job(job.fixedVolume, job.movingVolume)).items():
        if name != "settings":
            plain = isinstance(value, (bool, int, float, str))
            arguments.append(f"{name}={value!r}" if plain else f"{name}={_node(value)}")
    lines = ["logic = slicer.modules.CARLRegistrationWidget.logic"]
    if settings:
        lines.insert(0, "from carlreg.settings import RegistrationSettings\n")
        arguments.append(f"settings=RegistrationSettings({settings})")
    joined = "".join(f"    {one},\n" for one in arguments)
    return "\n".join([*lines, f"result = logic.register(\n{joined})", ""])


def _changed(one, default) -> dict:
    values = {field.name: getattr(one, field.name) for field in dataclasses.fields(default)}
    return {name: value for name, value in values.items() if value != getattr(default, name)}


def _node(node) -> str:
    return f"slicer.util.getNode({node.GetID() if node is not None else ''!r})"


def _file(node, otherwise: str) -> str:
    storage = node.GetStorageNode() if node is not None else None
    return (storage.GetFileName() if storage is not None else None) or otherwise


__all__ = ["commandLine", "pythonLines"]
