"""What the scripts that make pictures of the panel share: the module in the test host, and pictures put together."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[1]
MODULE = ROOT / "CARLRegistration" / "CARLRegistration.py"
VIEW = "Green"  # coronal
TILE = 330


class Studio:
    """The module in the test host, and a folder for single pictures."""

    def __init__(self, folder: Path) -> None:
        sys.path.insert(0, str(ROOT / "Testing"))
        import host

        self.host = host.start()
        self.folder = folder
        self.widget = self.host.load_module(MODULE)
        self.panel = self.widget.panel
        for name in ("Red", "Yellow", "Green"):
            self.host.grab_view(name, folder / "view.png", (TILE, TILE))

    def view(self, name: str = VIEW) -> Image.Image:
        return Image.open(self.host.grab_view(name, self.folder / "view.png", (TILE, TILE))).convert("RGB")

    def shot(self, height: int | None = None) -> Image.Image:
        window = self.panel.ui.applyButton.window()
        window.resize(460, max(height or 1180, window.heightForWidth(460)))
        return Image.open(self.host.grab(window, self.folder / "panel.png")).convert("RGB")

    def register(self, spacing_mm: float) -> Image.Image:
        """Run it from the panel; a picture of the panel meanwhile."""
        from CARLRegistrationLib.register.sample_data import loadSamplePair

        fixed, moving = loadSamplePair(spacing_mm)
        self.widget.initializeParameterNode()
        parameters = self.panel.parameters
        parameters.fixedVolume, parameters.movingVolume = fixed, moving
        self.panel.ui.applyButton.click()
        logic, label = self.panel.logic, self.panel.ui.progressLabel
        # Late enough for a curve, and for a map in the views.
        late = re.compile(r": step [6-9]\d ")
        self.host.process_events(until=lambda: late.search(label.text) or not logic.isRunning, timeout=600)
        picture = self.shot()
        self.host.process_events(until=lambda: not logic.isRunning, timeout=600)
        if not self.panel.ui.resultLabel.text:
            raise SystemExit(f"{self.panel.ui.warningLabel.text}\n{self.panel.ui.logText.plainText}")
        return picture


def titled(picture: Image.Image, title: str) -> Image.Image:
    made = Image.new("RGB", (picture.width, picture.height + 28), "white")
    font = ImageFont.load_default(size=15)
    ImageDraw.Draw(made).text((2, 5), title, fill="black", font=font)
    made.paste(picture, (0, 28))
    return made


def beside(pictures: list[Image.Image], gap: int = 10) -> Image.Image:
    width = sum(p.width for p in pictures) + gap * (len(pictures) - 1)
    made = Image.new("RGB", (width, max(p.height for p in pictures)), "white")
    left = 0
    for picture in pictures:
        made.paste(picture, (left, 0))
        left += picture.width + gap
    return made


def below(pictures: list[Image.Image], gap: int = 8) -> Image.Image:
    height = sum(p.height for p in pictures) + gap * (len(pictures) - 1)
    made = Image.new("RGB", (max(p.width for p in pictures), height), "white")
    top = 0
    for picture in pictures:
        made.paste(picture, (0, top))
        top += picture.height + gap
    return made
