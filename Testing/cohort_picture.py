"""The picture of a cohort's summary for the documents: `python Testing/cohort_picture.py [STUDY]`.

STUDY: a cohort's folder; without one the phases of a generated breath are registered to the first. Needs Chromium.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
from pathlib import Path

import browser
import SimpleITK as sitk
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "CARLRegistration")]

from carlreg.phantom import make_breathing  # noqa: E402

WIDTH, HEIGHT = 1200, 1600


def make_study(folder: Path) -> Path:
    """Nine phases onto the first, and a file that is no image."""
    breath = make_breathing(spacing_mm=6.0, phases=10)
    for number, frame in enumerate(breath.frames):
        sitk.WriteImage(frame, str(folder / f"phase_{number}.nii.gz"))
    (folder / "phase_cut_off.nii.gz").write_bytes((folder / "phase_3.nii.gz").read_bytes()[:2000])
    rows = [f"{path.name[:-7]},phase_0.nii.gz,{path.name}" for path in sorted(folder.glob("phase_[!0]*.nii.gz"))]
    (folder / "plan.csv").write_text("\n".join(["name,fixed,moving", *rows]), encoding="utf-8")
    command = [sys.executable, "-m", "carlreg", "cohort", folder / "plan.csv", "--out", folder / "breath"]
    subprocess.run(command, check=False)  # one pair fails
    return folder / "breath"


def take(page: Path, profile: Path) -> Image.Image:
    """The top of the page."""
    driver = browser.start(profile)
    try:
        driver.set_window_size(WIDTH, HEIGHT)
        driver.get(page.resolve().as_uri())
        return Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    finally:
        driver.quit()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", nargs="?", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "Resources" / "Screenshots" / "cohort_summary.png")
    args = parser.parse_args()
    if not (browser.BROWSER and browser.DRIVER):
        raise SystemExit(browser.MISSING)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = args.study or make_study(folder)
        take(study / "summary.html", folder / "profile").quantize(128).save(args.out, optimize=True)


if __name__ == "__main__":
    main()
