"""What other programs may rely on."""

from __future__ import annotations

import dataclasses
import inspect

import carlreg
import pytest


def test_names():
    assert set(carlreg.__all__) >= {"register", "register_pair", "RegistrationSettings", "Progress", "CarlError"}
    for name in carlreg.__all__:
        assert getattr(carlreg, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'regsiter'"):
        carlreg.regsiter  # noqa: B018


def test_register_takes_two_images_settings_and_progress():
    parameters = inspect.signature(carlreg.register).parameters
    assert list(parameters)[:3] == ["fixed", "moving", "settings"]
    assert parameters["progress"].kind is inspect.Parameter.KEYWORD_ONLY


def test_errors_are_one_family_with_exit_codes():
    from carlreg import errors

    codes = {
        name: kind.exit_code
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, errors.CarlError)
    }
    assert codes == {
        "CarlError": 1,
        "OptimizationDiverged": 1,
        "ResourceError": 1,
        "InputError": 2,
        "GeometryError": 2,
        "CheckpointError": 2,
        "DeviceError": 2,
        "NotEnoughMemory": 2,
        "Cancelled": 3,
    }


def test_settings_are_frozen_and_by_keyword():
    with pytest.raises(TypeError):
        carlreg.RegistrationSettings("carl-compact")
    with pytest.raises(dataclasses.FrozenInstanceError):
        carlreg.RegistrationSettings().grid = 64
