"""Configuration files: every wrong key or value is named, and what is written reads back equal."""

from pathlib import Path

import pytest
from carlreg.errors import InputError
from carlreg.training.schema import read_section, to_toml, with_overrides
from carlreg.training.settings import config_from_table, read_config
from carlreg.training.stages import STAGES

try:
    import tomllib
except ModuleNotFoundError:
    import tomli as tomllib

LEAST = {"run": {"steps": 3}, "stage": {"kind": "attention"}}
EXAMPLES = sorted((Path(__file__).resolve().parents[3] / "CARLRegistration/carlreg/training/configs").glob("*.toml"))


def changed(**sections):
    return {**LEAST, **sections}


@pytest.mark.parametrize("kind", STAGES)
def test_a_configuration_survives_being_written(kind):
    config = config_from_table(
        changed(stage={"kind": kind}, optimizer={"rate": 3e-7, "batch": 4}, data={"images": {"source": 'a "b"\\ü'}})
    )
    text = to_toml(config)
    assert config_from_table(tomllib.loads(text)) == config
    assert tomllib.loads(text)["optimizer"]["rate"] == 3e-7
    assert "minutes" not in tomllib.loads(text)["run"]


def test_the_earlier_name_of_the_joint_stage_is_read():
    earlier = config_from_table(changed(stage={"kind": "everything", "labels": 5}))
    assert earlier == config_from_table(changed(stage={"kind": "joint", "labels": 5}))
    assert earlier.stage.kind == "joint"
    assert config_from_table(changed(model={"name": "unet"})).model.name == "gradicon-compact"


@pytest.mark.parametrize(
    ("table", "parts"),
    [
        (changed(optimizer={"rat": 1}), ["optimizer", "'rat'", "rate", "warmup_steps"]),
        (changed(optimizer={"rate": "fast"}), ["optimizer.rate", "a number from 1e-09 to 1", "'fast'"]),
        (changed(optimizer={"rate": 2}), ["optimizer.rate", "1e-09 to 1", "2"]),
        (changed(optimizer={"rate": float("nan")}), ["optimizer.rate", "nan"]),
        (changed(optimizer={"batch": 1.5}), ["optimizer.batch", "whole number", "1.5"]),
        (changed(optimizer={"batch": True}), ["optimizer.batch", "True"]),
        (changed(optimizer=3), ["optimizer", "table", "rate", "3"]),
        (changed(data={"images": {"pairs": "some"}}), ["data.images.pairs", "'within'", "'some'"]),
        (changed(data={"synthetic": {"size": 20}}), ["data.synthetic", "multiple of 8", "20"]),
        (changed(data={"synthetic": {"sizes": 20}}), ["data.synthetic", "'sizes'", "size"]),
        (changed(run={"steps": 3, "minutes": 1}), ["run", "exactly one"]),
        (changed(run={}), ["run", "exactly one"]),
        (changed(run={"steps": 3, "device": "gpu"}), ["run", "cuda:N", "'gpu'"]),
        (changed(run={"steps": 3, "precision": "float16"}), ["run.precision", "'bfloat16'", "'float16'"]),
        (changed(stage={"kind": "atention"}), ["stage.kind", "attention", "'atention'"]),
        (changed(stage={}), ["stage.kind", "None"]),
        (changed(stage={"kind": "images", "queries": 3}), ["stage", "'queries'", "diffusion_steps"]),
        (changed(stages={}), ["configuration", "'stages'", "stage"]),
        ({"run": {"steps": 1}}, ["[stage]"]),
        (changed(data={"images": {"recursive": "yes"}}), ["data.images.recursive", "true or false", "'yes'"]),
    ],
)
def test_wrong_keys_and_values_are_named(table, parts):
    with pytest.raises(InputError) as caught:
        config_from_table(table)
    for part in parts:
        assert part in str(caught.value)


def test_overrides():
    table = with_overrides(LEAST, ["optimizer.rate=1e-3", "stage.kind=images", "data.images.recursive=true"])
    config = config_from_table(table)
    assert config.optimizer.rate == 1e-3 and config.stage.kind == "images" and config.data.images.recursive
    assert "optimizer" not in LEAST
    for wrong in ("optimizer.rate", "=3", "run.steps.more=1"):
        with pytest.raises(InputError, match="--set"):
            with_overrides(LEAST, [wrong])


def test_whole_numbers_serve_as_numbers_and_stay_what_they_are_elsewhere():
    config = config_from_table(changed(optimizer={"clip": 2, "batch": 2}))
    assert isinstance(config.optimizer.clip, float) and isinstance(config.optimizer.batch, int)


def test_paths_are_relative_to_the_file_or_where_the_command_is_given(tmp_path, monkeypatch):
    file = tmp_path / "a.toml"
    file.write_text(
        '[run]\nsteps = 1\n[stage]\nkind = "images"\n[data.images]\nsource = "x/y"\n[model]\nweights = "w.pt"\n'
    )
    config = read_config(file)
    assert Path(config.data.images.source) == tmp_path / "x" / "y"
    assert Path(config.model.weights) == tmp_path / "w.pt"
    monkeypatch.chdir(tmp_path.parent)
    assert Path(read_config(file, ["model.weights=v.pt"]).model.weights) == tmp_path.parent / "v.pt"
    assert Path(read_config(file, ["model.weights=v.pt"]).data.images.source) == tmp_path / "x" / "y"
    assert read_config(file, ["model.weights=shipped"]).model.weights == "shipped"


@pytest.mark.parametrize("text", ["run = ", "[run]\nsteps = 1\nsteps = 2\n"])
def test_a_file_that_is_no_toml_is_named(tmp_path, text):
    file = tmp_path / "a.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=r"a\.toml.*TOML"):
        read_config(file)
    with pytest.raises(InputError, match=r"nothing\.toml"):
        read_config(tmp_path / "nothing.toml")


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_the_examples_are_valid(file):
    config = read_config(file)
    assert read_section(type(config.optimizer), vars(config.optimizer)) == config.optimizer


def test_there_are_examples():
    assert {"attention", "joint", "similarity", "images", "rotation"} <= {file.stem for file in EXAMPLES}
