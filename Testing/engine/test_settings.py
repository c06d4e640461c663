"""Settings refuse what is not allowed, and come back from JSON as they were."""

from __future__ import annotations

import json
import math
from dataclasses import fields

import pytest
from carlreg.errors import InputError
from carlreg.settings import TRANSFORMS, RegistrationSettings

OTHER_VALUES = {
    "transform": "rigid",
    "model": "unigradicon",
    "weights": "w.trch",
    "allow_untrained": True,
    "robustness": "rotation",
    "effort": "fast",
    "fixed_modality": "ct",
    "moving_modality": "mr",
    "io_method": "network",
    "io_steps": 0,
    "similarity": "mind",
    "stretch_bounds": (0.8, 1.25, 1.2),
    "symmetric": True,
    "landmarks_accuracy_mm": 0.5,
    "smoothness": 0.5,
    "field_spacing_mm": 2.5,
    "grid": 96,
    "device": "cuda:1",
    "seed": 17,
    "threads": 2,
}


def test_every_setting_survives_json(tmp_path):
    assert set(OTHER_VALUES) == {field.name for field in fields(RegistrationSettings)}
    changed = RegistrationSettings(**OTHER_VALUES)
    (tmp_path / "settings.json").write_text(changed.to_json(), encoding="utf-8")
    assert RegistrationSettings.from_json(tmp_path / "settings.json") == changed
    for name, value in OTHER_VALUES.items():
        assert RegistrationSettings(**{name: value}) != RegistrationSettings()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("transform", ["bspline", None, ""]),
        ("model", [None, 3]),
        ("allow_untrained", ["yes", 1, None]),
        ("weights", [3, ["w.trch"]]),
        ("robustness", ["any", None, ""]),
        ("effort", ["most", None, ""]),
        ("fixed_modality", ["pet", "CT"]),
        ("moving_modality", ["us"]),
        ("io_method", ["none"]),
        ("io_steps", [-1, 10_001, 1.5, True, math.nan]),
        ("similarity", ["ncc"]),
        (
            "stretch_bounds",
            [None, 2.0, (0.5, 2.0), (0.5, 2.0, 0.9), (1.1, 2.0, 1.5), ("0.5", 2.0, 1.5), (0.5, math.nan, 2)],
        ),
        ("symmetric", ["yes", 1, None]),
        ("landmarks_accuracy_mm", [-0.1, math.inf, math.nan, "1", True]),
        ("smoothness", [0, -1, 101, math.nan, math.inf, "1", True]),
        ("field_spacing_mm", [0, -1.0, math.inf, math.nan]),
        ("grid", [31, 513, 64.0]),
        ("device", ["gpu", "cuda:", "cuda:x", 0, None, "cpu "]),
        ("seed", [-1, 2**31, 0.5]),
        ("threads", [0, 1025, 1.0]),
    ],
)
def test_refused_values(name, values):
    for value in values:
        with pytest.raises(InputError, match=name.replace("_mm", "").replace("_", " ")):
            RegistrationSettings(**{name: value})


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
def test_devices(device):
    assert RegistrationSettings(device=device).device == device


def test_steps_default_to_the_method():
    assert RegistrationSettings().steps == 100
    assert RegistrationSettings(io_method="network").steps == 50
    assert RegistrationSettings(io_steps=0).steps == 0
    assert RegistrationSettings(transform="rigid", io_steps=30).steps == 0


def test_linear_transforms_say_what_may_change():
    kinds = {kind: RegistrationSettings(transform=kind) for kind in TRANSFORMS}
    assert {kind: one.dof for kind, one in kinds.items()} == {
        "deformable": "affine", "affine": "affine", "similarity": "similarity", "rigid": "rigid",
    }  # fmt: skip
    assert [kind for kind, one in kinds.items() if not one.linear] == ["deformable"]


def test_a_results_settings_are_read(tmp_path):
    changed = RegistrationSettings(**OTHER_VALUES)
    stored = {"carlreg": "0.1.0", "model": "unigradicon", "settings": json.loads(changed.to_json()), "info": {}}
    (tmp_path / "settings.json").write_text(json.dumps(stored))
    assert RegistrationSettings.from_json(tmp_path / "settings.json") == changed


def test_unknown_settings_are_named():
    with pytest.raises(InputError, match=r"Unknown settings colour; known are transform, .*"):
        RegistrationSettings.from_dict({"colour": 1})


def test_not_a_settings_file(tmp_path):
    (tmp_path / "a.json").write_text("[1, 2")
    with pytest.raises(InputError, match=r"a.json.*JSON"):
        RegistrationSettings.from_json(tmp_path / "a.json")
    (tmp_path / "b.json").write_text("[1, 2]")
    with pytest.raises(InputError, match=r"b.json.*settings"):
        RegistrationSettings.from_json(tmp_path / "b.json")
    with pytest.raises(InputError, match=r"none.json"):
        RegistrationSettings.from_json(tmp_path / "none.json")
    (tmp_path / "c.json").write_text('{"colour": 1}')
    with pytest.raises(InputError, match=r"c.json: Unknown settings colour; known are transform, "):
        RegistrationSettings.from_json(tmp_path / "c.json")
    (tmp_path / "d.json").write_text('{"settings": {"grid": 8}}')
    with pytest.raises(InputError, match=r"d.json: grid: expected a whole number from 32"):
        RegistrationSettings.from_json(tmp_path / "d.json")
