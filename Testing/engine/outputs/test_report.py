"""The report as a file: complete, self-contained, private, and plain about what it cannot find."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import struct
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg import outputs
from carlreg.errors import GeometryError, InputError
from carlreg.outputs import report
from carlreg.outputs.report import charts, pictures
from carlreg.settings import RegistrationSettings
from carlreg.volumes import read_volume
from support.geometry import positions, to_image

from .conftest import FIXED, write

_SIZE = pictures.SIZE
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)> & <b>.nii.gz'
VOID = {"meta", "link", "img", "br", "input", "path", "use", "rect", "circle", "line", "polyline", "polygon"}


class Page(HTMLParser):
    """Elements with their attributes, the text outside of scripts and styles, and whether tags close as they open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(scope="module")
def folder(known_pair, tmp_path_factory):
    """A result folder whose inputs lie beside it as files, with labels, landmarks and an uncertainty."""
    from .conftest import Case, result_of

    transform, fixed, moving, *labels = known_pair
    place = tmp_path_factory.mktemp("home") / "jane.doe"
    place.mkdir()
    sitk.WriteImage(fixed, str(place / "fixed.nii.gz"))
    sitk.WriteImage(moving, str(place / "moving.nii.gz"))
    result = result_of(transform, *(read_volume(place / f"{n}.nii.gz", f"{n} image") for n in ("fixed", "moving")))
    points = FIXED.center_lps + np.random.default_rng(0).uniform(-10, 10, (12, 3))
    case = Case(result, tuple(labels), (points, transform.apply(points) + 0.5))
    out = place / "result"
    result.warnings.append(f"{place / 'fixed.nii.gz'}: a warning that names a folder")
    settings = RegistrationSettings(weights=str(place / "weights.safetensors"))
    result = replace(result, settings=settings)
    write(result, out, labels=case.labels, label_names={7: "liver <b>"}, landmarks=case.landmarks)
    uncertainty = np.full(FIXED.shape_dhw, 2.0, np.float32)
    uncertainty[:8] = np.nan
    sitk.WriteImage(to_image(uncertainty, FIXED), str(out / "uncertainty.nii.gz"))
    return out


@pytest.fixture(scope="module")
def page(folder) -> tuple[str, Page]:
    text = outputs.write_report(folder).read_text(encoding="utf-8")
    return text, Page(text)


@pytest.fixture(autouse=True)
def _small_pictures(monkeypatch):
    """In the reports that single tests write; `page` has them as they are."""
    monkeypatch.setattr(pictures, "SIZE", 40)


def test_tags_close_and_every_part_is_there(page):
    text, parsed = page
    assert text.startswith("<!DOCTYPE html>") and parsed.wrong == [] and parsed.open == []
    sections = [a["id"] for tag, a in parsed.elements if tag == "section"]
    assert sections == [
        *("summary", "pictures", "viewer-section", "figures", "change", "uncertainty", "montage", "settings"),
    ]
    links = [a["href"] for tag, a in parsed.elements if tag == "a"]
    assert links == [f"#{section}" for section in sections]
    for words in (
        "moving.nii.gz",
        "check",
        "Mean of the determinant",
        "liver <b>",
        "Landmarks, mean error",
        "carl-compact",
    ):
        assert words in parsed.text
    identities = [a["id"] for _, a in parsed.elements if "id" in a]
    assert len(identities) == len(set(identities))


def test_nothing_is_fetched(page):
    text, parsed = page
    for tag, attributes in parsed.elements:
        for name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name, value[:60])
        assert not [name for name in attributes if name.startswith("on")]
    assert "@import" not in text and not re.search(r"url\((?!#)", text.split("<script>")[0])
    (policy,) = [a["content"] for tag, a in parsed.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'") and "unsafe-eval'" not in policy.replace("wasm-unsafe-eval", "")
    # Only the scripts that were shipped may run.
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    for script in scripts:
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
    assert len(scripts) == 2


def test_pictures_are_images_of_several_gray_values(page, tmp_path):
    _, parsed = page
    images = [a for tag, a in parsed.elements if tag == "img"]
    assert len(images) > 60 and all(image["alt"] for image in images)
    spread = []
    for n, image in enumerate(images[:30]):
        kind, data = re.fullmatch(r"data:image/(png|jpeg);base64,(.*)", image["src"]).groups()
        path = tmp_path / f"{n}.{kind}"
        path.write_bytes(base64.b64decode(data))
        values = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        assert values.shape[2] == 3 and max(values.shape) == _SIZE
        spread.append(values.std())
    assert min(spread) > 0.5 and np.median(spread) > 20  # differences after a known map are nearly white


def test_volumes_of_the_viewer_hold_the_values(page, folder):
    text, _ = page
    data = json.loads(re.search(r'id="viewer-data">(.*?)</script>', text, re.DOTALL)[1])
    layers = {layer["key"]: layer for layer in data["layers"]}
    assert list(layers) == ["fixed", "warped", "before", "jacobian", "uncertainty"]

    def values(key) -> np.ndarray:
        raw = gzip.decompress(base64.b64decode(layers[key]["nifti"]))
        slope, intercept = struct.unpack_from("<2f", raw, 112)
        codes = np.frombuffer(raw[352:], np.uint8).reshape(FIXED.shape_dhw)
        return codes * slope + intercept

    fixed = sitk.GetArrayFromImage(sitk.ReadImage(str(folder.parent / "fixed.nii.gz"))).astype(float)
    low, high = layers["fixed"]["low"], layers["fixed"]["high"]
    assert np.abs(values("fixed") - np.clip(fixed, low, high)).max() <= 1.01 * (high - low) / 255
    determinant = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "jacobian.nii.gz")))
    assert np.abs(values("jacobian") - np.clip(np.log2(determinant), -1, 1)).max() < 0.01
    uncertainty = values("uncertainty")
    assert (uncertainty[:8] < 0).all()  # unknown, not certain
    assert np.abs(uncertainty[8:] - 2.0).max() < 0.02


def test_no_folders_and_no_names_when_asked(page, folder, tmp_path):
    text, parsed = page
    assert "jane.doe" not in text and str(folder.parent.parent) not in text
    assert "a warning that names a folder" in parsed.text and "weights.safetensors" in parsed.text
    without = outputs.write_report(folder, tmp_path / "anonymous.html", names=False).read_text(encoding="utf-8")
    assert "fixed.nii.gz" not in without and "moving.nii.gz" not in without
    assert "a warning that names a folder" in without


def test_hostile_names_are_shown_as_text(folder, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        if file.suffix != ".html":
            (copy / file.name).write_bytes(file.read_bytes())
    settings = json.loads((copy / "settings.json").read_text())
    settings["inputs"]["fixed"]["file"] = HOSTILE
    settings["settings"]["model"] = settings["device"] = HOSTILE
    settings["software"]["torch"] = settings["info"]["fixed_modality"] = HOSTILE
    (copy / "settings.json").write_text(json.dumps(settings))
    quality = json.loads((copy / "quality.json").read_text())
    quality["warnings"] = quality["verdict"]["reasons"] = [HOSTILE]
    quality["start"] = quality["notes"]["before"] = HOSTILE
    quality["segments"][0]["name"] = HOSTILE
    quality["verdict"]["word"] = HOSTILE
    quality["stages"][0]["name"] = HOSTILE
    (copy / "quality.json").write_text(json.dumps(quality))
    images = {side: folder.parent / f"{side}.nii.gz" for side in ("fixed", "moving")}
    parsed = Page(outputs.write_report(copy, **images).read_text(encoding="utf-8"))
    assert parsed.wrong == [] and parsed.open == []
    assert len([1 for tag, _ in parsed.elements if tag == "script"]) == 3
    assert not [a for _, a in parsed.elements if "onerror" in a or a.get("src") == "x"]
    assert parsed.text.count("alert(1)") >= 5


def test_images_that_were_moved(folder, tmp_path):
    place = tmp_path / "elsewhere" / "deeper"
    place.mkdir(parents=True)
    for file in folder.iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    with pytest.raises(InputError, match=r"fixed image fixed\.nii\.gz: .* --fixed FILE"):
        outputs.write_report(place)
    with pytest.raises(InputError, match=r"moving image moving\.nii\.gz: .* --moving FILE"):
        outputs.write_report(place, fixed=folder.parent / "fixed.nii.gz")
    (place / "fixed.nii.gz").write_bytes((folder.parent / "fixed.nii.gz").read_bytes())
    written = outputs.write_report(place, tmp_path / "r.html", moving=folder.parent / "moving.nii.gz")
    assert written == tmp_path / "r.html" and written.stat().st_size > 2_000_000
    with pytest.raises(GeometryError, match="expected the fixed image of this result"):
        outputs.write_report(place, fixed=folder.parent / "moving.nii.gz")


def test_folders_that_are_no_results(folder, tmp_path):
    with pytest.raises(InputError, match="expected a result folder"):
        outputs.write_report(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"with a quality\.json"):
        outputs.write_report(tmp_path)
    (tmp_path / "quality.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        outputs.write_report(tmp_path)
    (tmp_path / "quality.json").write_text("{}")
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(InputError, match="lacks what a report needs"):
        outputs.write_report(tmp_path)
    for name in ("quality.json", "settings.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    images = {side: folder.parent / f"{side}.nii.gz" for side in ("fixed", "moving")}
    with pytest.raises(InputError, match="missing"):
        outputs.write_report(tmp_path, **images)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["quality.json", "settings.json"]


def test_results_without_labels_uncertainty_or_verdict(case, tmp_path, monkeypatch):
    """As earlier versions wrote them, without matplotlib, from volumes in memory."""
    write(case.result, tmp_path / "out", report=True)
    parsed = Page((tmp_path / "out" / report.NAME).read_text(encoding="utf-8"))
    assert "uncertainty" not in [a.get("id") for _, a in parsed.elements]
    quality = json.loads((tmp_path / "out" / "quality.json").read_text())
    old = {key: quality[key] for key in ("similarity", "inverse_error_mm", "overlap_percent", "warnings", "notes")}
    old["jacobian"] = {key: quality["jacobian"][key] for key in ("fold_percent", "min", "max", "sd_log")}
    (tmp_path / "out" / "quality.json").write_text(json.dumps(old))
    monkeypatch.setattr(charts, "available", lambda: False)
    text = outputs.write_report(tmp_path / "out", fixed=case.result.fixed, moving=case.result.moving).read_text("utf-8")
    assert "Charts need matplotlib" in text and "<svg" not in text
    assert "The map folds nowhere" in text


def test_the_steps_of_the_optimization_are_drawn(case, tmp_path):
    """One line per resolution, as wide as the steps that were taken of those that were asked for."""
    write(case.result, tmp_path / "out")
    file = tmp_path / "out" / "quality.json"
    quality = json.loads(file.read_text())
    told = {"asked": 10, "done": 5, "similarity": "lncc2", "curve": [0.5, 0.6, 0.7, 0.3, 0.4], "levels": [3, 2]}
    file.write_text(json.dumps(quality | {"optimization": told}))
    text = outputs.write_report(tmp_path / "out", fixed=case.result.fixed, moving=case.result.moving).read_text("utf-8")
    assert "Similarity while the map was optimized" in text and "squared LNCC" in text
    assert "<td>Steps taken</td><td>5 of 10</td>" in text
    drawn = charts.optimization({"optimization": told})
    lines = re.findall(rf'<path d="([^"]+)"[^>]*stroke: {charts.AFTER}', drawn)
    assert [len(re.findall("[ML]", line)) for line in lines] == [3, 2]
    for nothing in ({}, {"optimization": None}, {"optimization": told | {"levels": [3]}}):
        assert charts.optimization(nothing) is None
    file.write_text(json.dumps(quality | {"optimization": told | {"curve": ["a"]}}))
    with pytest.raises(InputError, match="curve"):
        outputs.write_report(tmp_path / "out", fixed=case.result.fixed, moving=case.result.moving)


def test_folds_are_listed_with_their_place(case, tmp_path):
    transform = case.result.transform
    points = positions(transform.grid)
    near = np.linalg.norm(points - FIXED.center_lps, axis=-1) < 7
    collapse = np.where(near[..., None], -1.8 * (points - FIXED.center_lps), 0).astype(np.float32)
    case.result = replace(case.result, transform=type(transform)(np.eye(4), collapse, transform.grid))
    write(case.result, tmp_path / "out", report=True)
    text = Page((tmp_path / "out" / report.NAME).read_text(encoding="utf-8")).text
    fold = json.loads((tmp_path / "out" / "quality.json").read_text())["jacobian"]["folds"][0]
    letters = [pair[x < 0] for pair, x in zip(("LR", "PA", "SI"), fold["center_lps"], strict=True)]
    place = ", ".join(f"{a} {abs(x):.1f}" for a, x in zip(letters, fold["center_lps"], strict=True))
    assert place + " mm" in text and "Folds:" in text and "POOR" in text.upper()


def test_slices_show_what_they_say(folder):
    slices = pictures.Slices(report.read_case(folder))
    for plane in range(3):
        colors = {
            kind: slices._colors(kind, plane, slices.middle)[0]
            for kind in (
                *("fixed", "moving after", "overlay after", "difference before", "difference after"),
                *("checkerboard after", "jacobian", "uncertainty"),
            )
        }
        np.testing.assert_allclose(colors["overlay after"][..., 0], colors["fixed"][..., 0])
        np.testing.assert_allclose(colors["overlay after"][..., 1], colors["moving after"][..., 0])
        # Signed and diverging: away from white before, nearly white after.
        spread = {when: np.abs(colors[f"difference {when}"] - 245).mean() for when in ("before", "after")}
        assert spread["after"] < 0.6 * spread["before"]
        board = colors["checkerboard after"][..., 0]
        from_fixed = np.isclose(board, colors["fixed"][..., 0])
        from_moving = np.isclose(board, colors["moving after"][..., 0])
        assert (from_fixed | from_moving).all() and 0.3 < from_fixed.mean() < 0.999
        assert not np.allclose(colors["jacobian"], colors["fixed"])
    striped = slices.at_point("uncertainty", FIXED.lps_from_ijk[:3, 2] * 2 + FIXED.origin_lps)
    assert all(picture.uri.startswith("data:image/png") for picture in striped)


def test_the_viewers_library_is_the_published_file():
    place = report.page.__globals__["_FILES"]
    told = (place / "README.md").read_text(encoding="utf-8")
    digest = hashlib.sha256((place / "niivue.umd.js").read_bytes()).hexdigest()
    assert digest in told and "@niivue/niivue@0.69.0" in told
    assert "Redistribution" in (place / "niivue.LICENSE.txt").read_text(encoding="utf-8")
