"""Chromium without a window, driven by Selenium, offline: for the report's test and its picture in the documents."""

from __future__ import annotations

import base64
import io
import shutil
import time
from pathlib import Path

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = "needs chromium and chromedriver (Debian: apt install chromium chromium-driver)"
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--window-size=1240,1000"),
)
PATIENCE = 90.0


def start(profile: Path):
    """A browser with a profile folder of its own; the caller quits it."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))


def open_report(driver, path: Path) -> None:
    """Open a report and wait until its viewer is ready, or has failed. Raises TimeoutError with the page's text."""
    driver.get(path.as_uri())
    end = time.monotonic() + PATIENCE
    while driver.execute_script("return document.documentElement.dataset.viewer") is None:
        if time.monotonic() > end:
            raise TimeoutError(driver.execute_script("return document.body.innerText.slice(0, 2000)"))
        time.sleep(0.2)


def choose(driver, layer: str, opacity: int) -> None:
    """Put a layer over the fixed image in the report's viewer."""
    driver.execute_script(
        "document.querySelector(`input[name=viewer-layer][value=${arguments[0]}]`).click();"
        "const slider = document.getElementById('viewer-opacity'); slider.value = arguments[1];"
        "slider.dispatchEvent(new Event('input'));",
        layer,
        opacity,
    )


def picture(driver, element: str, margin: int = 0):
    """One element of the page by its id, with a margin at its sides, as a Pillow image, after two frames."""
    from PIL import Image

    driver.execute_async_script(
        "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"
    )
    place = driver.execute_script(
        "const r = document.getElementById(arguments[0]).getBoundingClientRect(), m = arguments[1];"
        "return {x: r.x + scrollX - m, y: r.y + scrollY, width: r.width + 2 * m, height: r.height, scale: 1}",
        element,
        margin,
    )
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": place, "captureBeyondViewport": True})
    return Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
