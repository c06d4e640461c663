"""The pairs of a folder that follows the Brain Imaging Data Structure (https://bids.neuroimaging.io)."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..errors import InputError
from ..paths import given_path
from ..text_files import cut
from .plan import PlannedPair, checked

TARGETS = ("template", "session")
_FILE = re.compile(r"((?:[a-zA-Z0-9]+-[a-zA-Z0-9+]+_)+)([a-zA-Z0-9]+)\.nii(?:\.gz)?")


def entities_of(name: str) -> dict[str, str]:
    """The entities in a BIDS file name, in order, with `suffix`; empty for other names."""
    match = _FILE.fullmatch(name)
    if match is None:
        return {}
    entities = dict(part.split("-", 1) for part in match[1].rstrip("_").split("_"))
    return entities | {"suffix": match[2]}


def from_bids(folder: str, suffix: str, to: str, template: str | None = None) -> list[PlannedPair]:
    """Every image with this suffix onto a template, or those of a subject's later sessions onto its first one's.

    Derivatives and what lies outside the folders of subjects are not looked at. Raises InputError.
    """
    root = given_path(folder, "bids").resolve()
    if not root.is_dir():
        raise InputError(f"bids: expected a BIDS folder, found none at {root}. Check the path.")
    if (to == "template") != (template is not None):
        raise InputError("bids: --to template goes with --fixed TEMPLATE, and --to session with none.")
    found = []
    for path in sorted(root.glob("sub-*/**/*.nii*")):
        entities = entities_of(path.name)
        if entities.get("suffix") == suffix and entities.get("sub") == path.relative_to(root).parts[0][4:]:
            found.append((str(path), entities))
    if not found:
        raise InputError(
            f"bids: expected files such as sub-01/anat/sub-01_{cut(suffix)}.nii.gz in {root}; found none. Check "
            "--suffix."
        )
    if template is not None:
        target = os.path.abspath(given_path(template, "fixed"))
        pairs = [_pair(target, path, entities) for path, entities in found if path != target]
        return checked(pairs, "bids")
    first: dict[tuple, str] = {}
    pairs = []
    for path, entities in sorted(found, key=lambda one: _natural(one[1].get("ses", ""))):
        series = tuple(sorted((key, value) for key, value in entities.items() if key != "ses"))
        if "ses" not in entities:
            continue
        if series in first:
            pairs.append(_pair(first[series], path, entities))
        else:
            first[series] = path
    if not pairs:
        raise InputError("bids: expected subjects with two sessions (ses-...) or more; found none. See --to template.")
    return checked(pairs, "bids")


def _natural(text: str) -> list[tuple[int, str]]:
    """For sorting: numbers in it by their size, so that session 2 comes before session 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text) if part]


def _pair(fixed: str, moving: str, entities: dict[str, str]) -> PlannedPair:
    name = re.sub(r"\.nii(\.gz)?$", "", Path(moving).name)
    return PlannedPair(name, {"fixed": fixed, "moving": moving}, entities)
