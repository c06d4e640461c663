"""`carlreg train` as a user runs it: train, stop, go on, report, export, join; wrong things are refused in one line."""

from __future__ import annotations

import csv
import signal
import time

import pytest
import torch

from .command import carlreg, finish, names, start

CONFIG = """
[run]
steps = {steps}
log_every = 1
device = "cpu"
[stage]
kind = "attention"
queries = 64
[data]
workers = 1
[data.synthetic]
size = 24
views = 2
[validation]
every_steps = 0
pairs = 1
"""


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "a.toml"
    file.write_text(CONFIG.format(steps=3))
    return file


def steps_of(run) -> list[int]:
    with open(run / "log.csv", newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def test_from_training_to_weights_that_register_loads(config, tmp_path):
    run = tmp_path / "run"
    done = carlreg("train", "run", "--config", config, "--out", run, "--set", "optimizer.rate=1e-3")
    assert done.code == 0, done.err
    assert "Finished at step 3" in done.out and "step 2, loss" in done.err
    assert {"checkpoint.pt", "config.toml", "log.csv"} <= set(names(run))
    assert "rate = 0.001" in (run / "config.toml").read_text()
    again = carlreg("train", "run", "--config", run / "config.toml", "--out", run, "--set", "run.steps=4")
    assert again.code == 0 and steps_of(run) == [1, 2, 3, 4]
    done = carlreg("train", "report", run)
    assert done.code == 0 and "loss" in done.out and (run / "report.png").is_file()
    done = carlreg("train", "export", run / "checkpoint.pt", "--out", tmp_path / "w.safetensors", "--shards", "0.7")
    assert done.code == 0, done.err
    index = tmp_path / "w.safetensors.index.json"
    assert index.is_file() and (tmp_path / "w.md").is_file()
    done = carlreg("train", "join", index, "--out", tmp_path / "w.safetensors")
    assert done.code == 0, done.err
    from carlreg.models import registry

    assert registry.load("carl-compact", tmp_path / "w.safetensors").trained["attention"]


def test_a_stop_saves_the_checkpoint_and_the_same_command_goes_on(config, tmp_path):
    run = tmp_path / "run"
    command = ["train", "run", "--config", config, "--out", run, "--set", "run.steps=1000"]
    for number in (signal.SIGINT, signal.SIGTERM):
        before = len(steps_of(run)) if run.exists() else 0
        process = start(*command)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and (not (run / "log.csv").is_file() or len(steps_of(run)) < before + 2):
            time.sleep(0.1)
        process.send_signal(number)
        done = finish(process, timeout=60)
        assert done.code == 3, done.err
        assert "Stopped at step" in done.out and "the same command goes on" in done.err
        assert not list(run.glob("*.partial"))
        state = torch.load(run / "checkpoint.pt", weights_only=True)
        assert state["step"] == steps_of(run)[-1] and state["step"] >= before + 2
    assert "Going on from step" in done.err
    assert steps_of(run) == list(range(1, state["step"] + 1))


def test_the_time_limit_is_no_failure(config, tmp_path):
    command = ["--config", config, "--out", tmp_path / "run", "--set", "run.steps=1000", "--time-limit", "0.02"]
    done = carlreg("train", "run", *command, "--progress", "json")
    assert done.code == 0, done.err
    assert done.records and all(record["stage"] == "train" for record in done.records)
    assert 1 <= len(steps_of(tmp_path / "run")) < 100


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "optimizer.rat=1"], ["unknown key 'rat'", "rate", "a.toml"]),
        (["--set", "data.synthetic.size=20"], ["data.synthetic", "multiple of 8"]),
        (["--set", "model.name=resnet"], ["model.name", "carl-compact", "'resnet'"]),
        (["--set", "model.weights=nothing.pt"], ["nothing.pt"]),
        (["--set", "run.device=cuda:7"], ["run.device", "cuda:"]),
        (["--set", "stage.kind=images"], ["stage", "'queries'"]),
        (["--set", "validation.images=pairs.csv"], ["validation.images", "pairs.csv"]),
        (["--time-limit", "-1"], ["--time-limit", "-1"]),
    ],
)
def test_wrong_configurations_are_one_line_and_write_nothing(config, tmp_path, arguments, words):
    done = carlreg("train", "run", "--config", config, "--out", tmp_path / "run", *arguments)
    assert done.code == 2, done.err
    assert done.err.count("\n") == 1 and all(word in done.err for word in words), done.err
    assert names(tmp_path) == ["a.toml"]


def test_other_wrong_arguments(config, tmp_path):
    for arguments, words in (
        (["run", "--config", tmp_path / "no.toml", "--out", tmp_path / "r"], "no.toml does not exist"),
        (["run", "--config", config, "--out", config], "expected a folder for the run, got a file"),
        (["report", tmp_path / "no"], "does not exist"),
        (["export", tmp_path / "no.pt", "--out", tmp_path / "w.safetensors"], "no.pt does not exist"),
        (["export", config, "--out", tmp_path / "w.pt"], "ends in .safetensors"),
        (["export", config, "--out", tmp_path / "w.safetensors"], "cannot be read"),
        (["join", config, "--out", tmp_path / "w.safetensors"], "expected an index"),
        (["preview", "--out", tmp_path / "p.png", "--pairs", "0"], "--pairs"),
        ([], "required"),
    ):
        done = carlreg("train", *arguments)
        assert done.code == 2 and words in done.err, (arguments, done.err)
        assert done.err.count("\n") == 1, done.err
    assert names(tmp_path) == ["a.toml"]


def test_preview_draws_a_sheet(config, tmp_path):
    done = carlreg("train", "preview", "--config", config, "--out", tmp_path / "p.png", "--pairs", "2", "--seed", "3")
    assert done.code == 0, done.err
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
