"""The report of one registration: a single HTML file that needs neither a server nor a network."""

from __future__ import annotations

import os
from pathlib import Path

from ...atomic import staged_file
from ...paths import given_path
from ...progress import Progress
from ...volumes import Volume
from .case import ReportCase, read_case, recorded_images
from .page import page

NAME = "report.html"

__all__ = ["NAME", "ReportCase", "read_case", "recorded_images", "write_report"]


def write_report(
    folder: str | os.PathLike,
    out: str | os.PathLike | None = None,
    *,
    fixed: str | os.PathLike | Volume | None = None,
    moving: str | os.PathLike | Volume | None = None,
    names: bool = True,
    progress: Progress | None = None,
) -> Path:
    """Write the report on a result folder of `carlreg register`; returns the file's path.

    Args: out: default `report.html` in the folder. fixed, moving: the images, where they have been moved since.
        names: False leaves the images' file names out.
    Raises InputError, GeometryError (see `read_case`); nothing half-written is left behind.
    """
    target = given_path(folder, "result folder") / NAME if out is None else given_path(out, "--out")
    case = read_case(folder, fixed, moving, names)
    if progress is not None:
        progress.check()
    text = page(case)
    if progress is not None:
        progress.check()
    with staged_file(target) as part:
        part.write_text(text, encoding="utf-8")
    return target
