"""Which tests run in one process, one after the other: those of a file, and of files that share what is expensive.

pytest-xdist's own `loadgroup` puts the group into the name of a test, which some versions of pytest ignore without a
word, and which `--last-failed` in one process does not find again. Here the name alone says the group.
"""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from xdist.scheduler import LoadScopeScheduling

# Folders and files of Testing/ that share an application or a result, or that measure time one after the other.
_TOGETHER = {
    "slicer": "panel",
    "host_tests": "panel",
    "engine/cli/test_cancel.py": "cancel",
    "engine/cli/test_delivery.py": "cancel",
    "engine/registration/test_run.py": "wide pair",
    "engine/registration/test_rotation.py": "wide pair",
    "engine/registration/test_mending.py": "wide pair",
}
# What takes longest begins first, so that all processes end at about the same time.
_FIRST = ("panel", "docs", "engine/uncertainty", "engine/registration", "wide pair", "engine/training", "engine/models")


def group_of(nodeid: str) -> str:
    """The group of a test by its name, `Testing/FOLDER/FILE.py::test...`."""
    file = PurePosixPath(nodeid.partition("::")[0])
    file = file.relative_to("Testing") if file.parts[0] == "Testing" else file
    return next((_TOGETHER[str(place)] for place in (file, *file.parents) if str(place) in _TOGETHER), str(file))


def rank(nodeid: str) -> int:
    """Which tests begin first; equal ones stay as they are."""
    group = group_of(nodeid)
    return next((n for n, start in enumerate(_FIRST) if group.startswith(start)), len(_FIRST))


class GroupScheduling(LoadScopeScheduling):
    """Gives the next group to the process that is free, in the order of collection."""

    def __init__(self, config: pytest.Config, log=None) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
