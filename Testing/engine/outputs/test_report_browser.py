"""The report in a real browser without a window: Chromium, driven by Selenium, offline."""

from __future__ import annotations

import base64
import json
import time

import browser as chromium
import numpy as np
import pytest
import SimpleITK as sitk
from carlreg import outputs
from carlreg.outputs import sheet
from carlreg.volumes import Volume
from support.geometry import to_image

from .conftest import FIXED, Case, result_of, write

pytest.importorskip("selenium", reason="needs selenium")
pytest.importorskip("PIL", reason="needs Pillow")
pytestmark = pytest.mark.skipif(not (chromium.BROWSER and chromium.DRIVER), reason=chromium.MISSING)


@pytest.fixture(scope="module")
def report(known_pair, tmp_path_factory):
    """A report on the known pair, uncertain in one half and unknown in a part."""
    folder = tmp_path_factory.mktemp("Größe 3 mm") / "out"
    transform, fixed, moving, *labels = known_pair
    volumes = [Volume(image, name=name) for image, name in ((fixed, "fixed"), (moving, "moving"))]
    case = Case(result_of(transform, *volumes), tuple(labels), (np.zeros((1, 3)), np.zeros((1, 3))))
    write(case.result, folder, labels=case.labels)
    uncertainty = np.full(FIXED.shape_dhw, 1.0, np.float32)
    uncertainty[:, :, 18:], uncertainty[:5] = 8.0, np.nan
    sitk.WriteImage(to_image(uncertainty, FIXED), str(folder / "uncertainty.nii.gz"))
    # Halved, doubled and folded places, larger than the crosshair.
    determinant = sitk.ReadImage(str(folder / "jacobian.nii.gz"))
    determinant[3:12, 3:33, 2:23], determinant[19:28, 3:33, 2:23], determinant[13:18, 22:30, 2:23] = 0.5, 2.0, -1.0
    sitk.WriteImage(determinant, str(folder / "jacobian.nii.gz"))
    return outputs.write_report(folder, fixed=volumes[0], moving=volumes[1])


@pytest.fixture(scope="module")
def browser(report, tmp_path_factory):
    """The browser with the report open and its viewer ready."""
    driver = chromium.start(tmp_path_factory.mktemp("browser"))
    try:
        driver.get("about:blank")
        driver.get_log("performance")  # what the browser's own first page loads is not the report's
        chromium.open_report(driver, report)
        yield driver
    finally:
        driver.quit()


def canvas(browser) -> np.ndarray:
    """What the viewer shows, (rows, columns, 3)."""
    return np.asarray(chromium.picture(browser, "viewer-canvas"), dtype=float)


def choose(browser, layer: str, opacity: int) -> np.ndarray:
    chromium.choose(browser, layer, opacity)
    return canvas(browser)


def share_like(picture: np.ndarray, color, tolerance=40) -> float:
    return float((np.abs(picture - np.array(color)).max(axis=-1) < tolerance).mean())


def test_opens_without_errors_and_without_the_network(browser, report):
    assert browser.execute_script("return document.documentElement.dataset.viewer") == "ready"
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert report.as_uri() in asked  # requests are seen
    assert [url[:80] for url in asked if not url.startswith(("file:", "data:", "blob:", "chrome:"))] == []
    assert [url for url in asked if url.startswith("file:") and url != report.as_uri()] == []
    problems = [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert problems == []


def test_every_picture_and_chart_is_drawn(browser):
    sizes = browser.execute_script("return [...document.images].map(i => [i.complete, i.naturalWidth, i.clientWidth])")
    assert len(sizes) > 60 and all(complete and natural > 50 and shown > 50 for complete, natural, shown in sizes)
    charts = browser.execute_script(
        "return [...document.querySelectorAll('svg')].map(s => [s.clientWidth, s.clientHeight, s.textContent.length])"
    )
    assert len(charts) >= 4 and all(width > 250 and height > 100 for width, height, _ in charts)
    overflow = browser.execute_script("return document.documentElement.scrollWidth - innerWidth")
    assert overflow <= 0  # nothing sticks out to the right


def test_layers_switch_and_blend(browser):
    alone = choose(browser, "warped", 0)
    assert alone.std() > 20  # the fixed image: not empty, not uniform
    pictures = {layer: choose(browser, layer, 100) for layer in ("warped", "before", "jacobian", "uncertainty")}
    for layer, picture in pictures.items():
        assert np.abs(picture - alone).mean() > 0.5, layer
        for other in pictures:
            if other != layer:
                assert np.abs(picture - pictures[other]).mean() > 0.5, (layer, other)
    # Images are gray, maps are colored; the crosshair is a thin line.
    colored = {layer: float((np.ptp(picture, axis=-1) > 30).mean()) for layer, picture in pictures.items()}
    assert max(colored["warped"], colored["before"]) < 0.02 < min(colored["jacobian"], colored["uncertainty"])
    for name, color in (("half", sheet.BLUE), ("twice", sheet.RED), ("fold", sheet.FOLD)):
        assert share_like(pictures["jacobian"], color) > 0.01 > share_like(alone, color), name
    # Certain, uncertain and unknown have their own colors.
    assert min(share_like(pictures["uncertainty"], c) for c in ((252, 245, 165), (138, 138, 138))) > 0.02
    half = choose(browser, "uncertainty", 50)
    assert 0.2 < np.abs(half - alone).mean() / np.abs(pictures["uncertainty"] - alone).mean() < 0.8
    shown = browser.execute_script(
        "return [...document.querySelectorAll('[data-legend]')].filter(e => !e.hidden).map(e => e.dataset.legend)"
    )
    assert shown == ["uncertainty"]
    assert np.abs(choose(browser, "warped", 0) - alone).mean() < 0.5  # and back


def test_planes_and_flicker(browser):
    every = choose(browser, "warped", 0)
    browser.execute_script(
        "const p = document.getElementById('viewer-planes'); p.value = 'axial'; p.dispatchEvent(new Event('change'))"
    )
    assert np.abs(canvas(browser) - every).mean() > 5
    button = browser.find_element("id", "viewer-flicker")
    browser.execute_script("arguments[0].click()", button)
    seen, end = set(), time.monotonic() + chromium.PATIENCE
    while len(seen) < 2 and time.monotonic() < end:
        seen.add(browser.execute_script("return document.getElementById('viewer-opacity').value"))
        time.sleep(0.05)
    browser.execute_script("arguments[0].click()", button)
    assert seen == {"0", "100"}


def test_values_are_told_where_the_crosshair_is(browser):
    text = browser.execute_script(
        "const nv = window.carlregViewer; nv.scene.crosshairPos = nv.mm2frac(arguments[0]);"
        "nv.createOnLocationChange(); return document.getElementById('viewer-text').textContent",
        (FIXED.center_lps * [-1, -1, 1]).tolist(),
    )
    words = dict(part.strip().rsplit(" ", 1) for part in text.replace(" mm", "").split("·")[1:])
    assert set(words) == {"Fixed", "Warped", "Moving, before", "Determinant", "Uncertainty"}
    assert abs(float(words["Fixed"]) - float(words["Warped"])) < 40  # HU
    assert 0.7 < float(words["Determinant"]) < 1.4


def test_prints_without_the_viewer(browser):
    pdf = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True, "preferCSSPageSize": True})
    content = base64.b64decode(pdf["data"])
    assert content.startswith(b"%PDF") and content.count(b"/Type /Page\n") + content.count(b"/Type /Page ") >= 2
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    hidden = browser.execute_script(
        "return ['viewer-section'].map(i => getComputedStyle(document.getElementById(i)).display)"
    )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert hidden == ["none"]
