"""Makes the picture of a series in the documents: a generated breath of ten phases, registered.

.venv/bin/python Testing/series_picture.py [FOLDER]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "CARLRegistration")]

from carlreg import RegistrationSettings  # noqa: E402
from carlreg.phantom import LABELS, make_breathing  # noqa: E402
from carlreg.series import Carried, SeriesSettings, register_series, series_of, write_series  # noqa: E402

SHOWN = ("right lung", "left lung", "heart", "liver", "spleen", "stomach")


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "Resources" / "Screenshots"
    breath = make_breathing()
    how = SeriesSettings(cyclic=True, temporal_smoothness=0.1)
    result = register_series(series_of(breath.frames), RegistrationSettings(threads=1), how)
    labels = breath.labels[0] * 0
    for number, name in enumerate(SHOWN):
        labels += (breath.labels[0] == LABELS[name]) * LABELS[name]
        labels.SetMetaData(f"Segment{number}_LabelValue", str(LABELS[name]))
        labels.SetMetaData(f"Segment{number}_Name", name)
    with tempfile.TemporaryDirectory() as made:
        write_series(result, f"{made}/series", carried=Carried(labels))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "series.png").write_bytes(Path(f"{made}/series/series.png").read_bytes())


if __name__ == "__main__":
    main()
