"""The report's picture for the documents: `python Testing/report_picture.py [RESULT]`.

RESULT: a result folder, e.g. demo_output of `make demo`; without one the generated pair is registered. Needs Chromium.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import browser
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
COLUMN, GAP, MARGIN = 720, 4, 14


def column(parts: list[Image.Image]) -> Image.Image:
    """Pictures of one width below each other."""
    scaled = [
        part.resize((COLUMN, round(part.height * COLUMN / part.width)), Image.Resampling.LANCZOS) for part in parts
    ]
    out = Image.new("RGB", (COLUMN, sum(part.height for part in scaled)), "white")
    top = 0
    for part in scaled:
        out.paste(part, (0, top))
        top += part.height
    return out


def take(report: Path, profile: Path) -> Image.Image:
    """Head, verdict and slices on the left; viewer, figures and maps on the right."""
    driver = browser.start(profile)
    try:
        browser.open_report(driver, report)
        left = column([browser.picture(driver, name, MARGIN) for name in ("summary", "pictures")])
        browser.choose(driver, "uncertainty", 70)
        right = column([browser.picture(driver, name, MARGIN) for name in ("viewer-section", "uncertainty", "figures")])
    finally:
        driver.quit()
    height = min(left.height, right.height)
    out = Image.new("RGB", (2 * COLUMN + GAP, height), "white")
    out.paste(left, (0, 0))
    out.paste(right, (COLUMN + GAP, 0))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", nargs="?", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "Resources" / "Screenshots" / "report.png")
    args = parser.parse_args()
    if not (browser.BROWSER and browser.DRIVER):
        raise SystemExit(browser.MISSING)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        result = args.result or place / "demo"
        carlreg = [sys.executable, "-m", "carlreg"]
        if args.result is None:
            subprocess.run([*carlreg, "demo", "--out", result], check=True)
        subprocess.run([*carlreg, "report", result, "--out", place / "report.html"], check=True)
        picture = take(place / "report.html", place / "profile")
        picture.save(args.out, optimize=True)


if __name__ == "__main__":
    main()
