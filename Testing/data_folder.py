"""Where the evaluation volumes lie: $CARLREG_DATA, else `shared/data` beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

MISSING = (
    "the evaluation volumes are missing: set CARLREG_DATA to their folder, or put them in shared/data beside the "
    "checkout"
)


def find_data_folder() -> Path | None:
    """The folder with the evaluation volumes, or None when there is none."""
    named = os.environ.get("CARLREG_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    return folder if (folder / "MANIFEST.md").is_file() else None
