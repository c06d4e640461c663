"""A study's results laid out as BIDS derivatives: the names of the raw images, with `desc-carl`."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from .. import __version__
from ..atomic import claim_folder, staged_folder
from ..errors import InputError
from .plan import PlannedPair
from .study import DONE, Study, write_json

FOLDER = "derivatives"
_FILES = (
    ("transform.h5", "carl", "xfm.h5"),
    ("inverse_transform.h5", "carlInverse", "xfm.h5"),
    ("warped.nii.gz", "carl", "{suffix}.nii.gz"),
    ("jacobian.nii.gz", "carlJacobian", "{suffix}.nii.gz"),
)
_MEANING = {
    "transform.h5": "Takes points of the fixed image to points of the moving one, LPS mm",
    "inverse_transform.h5": "Takes points of the moving image to points of the fixed one, LPS mm",
    "warped.nii.gz": "The moving image on the fixed image's grid",
    "jacobian.nii.gz": "Jacobian determinant of transform.h5 on the fixed image's grid",
}


def write_derivatives(study: Study) -> int:
    """Write the folder `derivatives` anew from what is done; returns how many pairs are in it.

    Files are linked to those in `pairs/` where the file system can, and copied where not.
    Raises: InputError when the pairs do not come from a BIDS folder; ResourceError.
    """
    done = [pair for pair in study.pairs if pair.entities and study.state(pair).word == DONE]
    if not done:
        raise InputError("bids derivatives: expected pairs of a BIDS folder (--bids) that are done; found none.")
    claim = claim_folder(study.folder / FOLDER, overwrite=True) if _ours(study.folder / FOLDER) else None
    with staged_folder(claim or claim_folder(study.folder / FOLDER)) as folder:
        write_json(
            folder / "dataset_description.json",
            {
                "Name": f"carlreg: {study.folder.name}",
                "BIDSVersion": "1.9.0",
                "DatasetType": "derivative",
                "GeneratedBy": [{"Name": "carlreg", "Version": __version__}],
            },
        )
        for pair in done:
            _lay_out(study, pair, folder)
    return len(done)


def _ours(folder: Path) -> bool:
    return (folder / "dataset_description.json").is_file()


def _lay_out(study: Study, pair: PlannedPair, folder: Path) -> None:
    entities, suffix = _without_suffix(pair)
    kind = Path(pair.files["moving"]).parent.name
    there = folder.joinpath(*[f"{key}-{entities[key]}" for key in ("sub", "ses") if key in entities], kind)
    there.mkdir(parents=True, exist_ok=True)
    stem = "_".join(f"{key}-{value}" for key, value in entities.items() if key != "desc")
    for file, description, ending in _FILES:
        source = study.result(pair.name) / file
        target = there / f"{stem}_desc-{description}_{ending.format(suffix=suffix)}"
        with suppress(FileNotFoundError):  # linear results have no Jacobian file
            _link(source, target)
            about = {"Description": _MEANING[file], "Sources": [pair.files["moving"], pair.files["fixed"]]}
            write_json(target.with_name(target.name.partition(".")[0] + ".json"), about)


def _without_suffix(pair: PlannedPair) -> tuple[dict[str, str], str]:
    entities = dict(pair.entities)
    return entities, entities.pop("suffix")


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
