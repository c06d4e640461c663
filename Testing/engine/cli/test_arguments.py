"""Wrong arguments are answered at once, with one line and exit code 2; nothing heavy is imported for that."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest
from carlreg import __version__
from carlreg.cli.main import COMMANDS, build_parser, main
from carlreg.cli.options import SETTING_OPTIONS, settings_from
from carlreg.settings import RegistrationSettings

from .command import carlreg, names

REGISTER = ["register", "{fixed}", "{moving}", "--out", "{out}"]
WRONG = [
    ([], "required: COMMAND"),
    (["dance"], "invalid choice: 'dance'"),
    (["register"], "required: FIXED, MOVING, --out"),
    (["register", "{fixed}", "{moving}"], "required: --out"),
    ([*REGISTER, "--nonsense"], "Unrecognized arguments: --nonsense"),
    ([*REGISTER, "--robustness", "any"], "invalid choice: 'any'"),
    ([*REGISTER, "--fixed-modality", "pet"], "invalid choice: 'pet'"),
    ([*REGISTER, "--similarity", "ssd"], "invalid choice: 'ssd'"),
    ([*REGISTER, "--io-method", "none"], "invalid choice: 'none'"),
    ([*REGISTER, "--io-steps", "many"], "invalid int value: 'many'"),
    ([*REGISTER, "--io-steps", "-1"], "io steps: expected a whole number from 0 to 10000"),
    ([*REGISTER, "--transform", "bspline"], "invalid choice: 'bspline'"),
    ([*REGISTER, "--transform", "rigid", "--io-steps", "9"], "--io-steps: expected --transform deformable with it"),
    ([*REGISTER, "--smoothness", "0"], "smoothness: expected a number from 0.01 to 100"),
    ([*REGISTER, "--smoothness", "nan"], "smoothness: expected a number"),
    ([*REGISTER, "--field-spacing", "0"], "field spacing: expected a number from 1e-09 to 1e+09 mm"),
    ([*REGISTER, "--grid", "8"], "grid: expected a whole number from 32 to 512"),
    ([*REGISTER, "--seed", "-3"], "seed: expected a whole number"),
    ([*REGISTER, "--threads", "0"], "threads: expected a whole number"),
    ([*REGISTER, "--device", "tpu"], "device: expected auto, cpu, cuda or cuda:N; got 'tpu'"),
    ([*REGISTER, "--progress", "loud"], "invalid choice: 'loud'"),
    ([*REGISTER, "--moving-labels", "{fixed}"], "expected --fixed-labels too"),
    ([*REGISTER, "--landmarks", "{out}"], "landmarks: {out} does not exist"),
    ([*REGISTER, "--weights", "{out}.trch"], "weights: {out}.trch does not exist"),
    ([*REGISTER, "--settings", "{out}.json"], "{out}.json: cannot be read: No such file"),
    ([*REGISTER, "--settings", "{fixed}"], "cannot be read as a JSON file with settings"),
    ([*REGISTER, "--settings", "{unknown}"], "Unknown settings colour; known are transform, model"),
    ([*REGISTER, "--settings", "{lost_weights}"], "weights: gone.trch does not exist"),
    ([*REGISTER, "--initial-transform", "{out}.h5"], "initial transform: {out}.h5 does not exist"),
    ([*REGISTER, "--moving-mask", ""], "moving mask: expected a path, got an empty path"),
    (["register", "{out}", "{moving}", "--out", "{out}"], "fixed: {out} does not exist"),
    (["register", "{fixed}", "{moving}", "--out", "{fixed}"], "expected a folder for the results, got a file"),
    (["register", "{fixed}", "{moving}", "--out", "{folder}"], "the folder is not empty"),
    (["register", "{fixed}", "{moving}", "--out", "{folder}", "--overwrite"], "holds more than results of carlreg"),
    (["apply", "{fixed}", "{moving}"], "required: --out"),
    (["apply", "{fixed}", "{moving}", "--out", "{out}.csv"], "expected an image file"),
    (["apply", "{fixed}", "{moving}", "{moving}", "--out", "{out}"], "Several inputs are called"),
    (["apply", "{fixed}", "{moving}", "--points", "back", "--out", "{out}"], "invalid choice"),
    (["export", "{fixed}", "--out", "{out}.xyz"], "expected a name that ends in one of"),
    (["export", "{fixed}", "--to", "ants", "--out", "{out}.h5"], "ends in .nii.gz for the format ants"),
    (["export", "{fixed}", "--which", "with-initial", "--out", "{out}.h5"], "belong together"),
    (["invert", "{fixed}", "--tolerance", "0", "--out", "{out}.h5"], "--tolerance: expected a positive"),
    (["compose", "{fixed}", "{moving}", "--direction", "inverse", "--out", "{out}.h5"], "then compose"),
    (["apply", "{fixed}", "{moving}", "--out", "{out}.nii.gz", "--interpolation", "cubic"], "invalid choice: 'cubic'"),
    (["evaluate", "{fixed}", "{moving}"], "required: MOVING"),
    (["evaluate", "{fixed}", "{fixed}", "{moving}", "--warped", "w.nrrd"], "expected a name that ends in .nii.gz"),
    (
        ["evaluate", "{fixed}", "{fixed}", "{moving}", "--warped", "{out}.nii.gz", "--jacobian", "{out}.nii.gz"],
        "expected different files",
    ),
    (["evaluate", "{fixed}", "{fixed}", "{moving}", "--uncertainty", "{out}"], "uncertainty: {out} does not exist"),
    (["report"], "required: DIR"),
    (["report", "{out}"], "expected a result folder"),
    (["report", "{folder}", "--fixed", "{out}"], "fixed: {out} does not exist"),
    (["demo", "--fixed", "{fixed}"], "expected both --fixed and --moving"),
    (["demo", "--spacing", "0.1"], "expected 2 to 8 mm"),
]


@pytest.fixture
def filled(pair, tmp_path):
    """Puts the test's paths into a list of arguments."""
    paths = {"fixed": pair[0], "moving": pair[1], "out": tmp_path / "out", "folder": pair[0].parent}
    for name, content in (("unknown", {"colour": 1}), ("lost_weights", {"weights": "gone.trch"})):
        paths[name] = tmp_path / f"{name}.json"
        paths[name].write_text(json.dumps(content), encoding="utf-8")
    return lambda texts: [text.format(**paths) for text in texts]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_wrong_arguments(filled, tmp_path, capfd, arguments, message):
    before = names(tmp_path)
    assert main(filled(arguments)) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("Error: ")
    assert filled([message])[0] in err
    assert names(tmp_path) == before


def test_refusing_imports_nothing_heavy(pair):
    code = (
        "import sys; from carlreg.cli.main import main; code = main(sys.argv[1:]); "
        "heavy = {'torch', 'SimpleITK', 'numpy'} & set(sys.modules); print(heavy or ''); sys.exit(code)"
    )
    arguments = ["register", str(pair[0]), str(pair[1]), "--out", str(pair[0].parent)]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stdout.strip()) == (2, "")


@pytest.mark.cold_start
def test_version():
    assert carlreg("--version").out.strip() == f"carlreg {__version__}"


@pytest.mark.parametrize("command", COMMANDS)
def test_help(capfd, command):
    assert main([command, "--help"]) == 0
    out, err = capfd.readouterr()
    assert err == "" and COMMANDS[command].HELP[:30] in out


def test_defaults_are_those_of_the_settings():
    args = build_parser().parse_args(["register", "a", "b", "--out", "c"])
    assert settings_from(args) == RegistrationSettings()


def test_options_override_a_settings_file(tmp_path):
    file = tmp_path / "settings.json"
    stored = RegistrationSettings(model="unigradicon", grid=96, io_steps=7, allow_untrained=True, seed=5)
    file.write_text(stored.to_json(), encoding="utf-8")

    def settings(*more):
        return settings_from(build_parser().parse_args(["register", "a", "b", "--out", "c", *more]))

    assert settings("--settings", str(file)) == stored
    changed = settings("--grid", "128", "--settings", str(file), "--seed", "0")
    assert changed == dataclasses.replace(stored, grid=128, seed=0)  # to the defaults, because they were given
    file.write_text(json.dumps({"carlreg": __version__, "settings": {"smoothness": 2.0}, "info": {}}), encoding="utf-8")
    assert settings("--settings", str(file), "--similarity", "mind") == RegistrationSettings(
        smoothness=2.0, similarity="mind"
    )


def test_every_setting_has_one_option():
    assert set(SETTING_OPTIONS) == {field.name for field in dataclasses.fields(RegistrationSettings)}


def test_every_option_reaches_the_settings():
    text = (
        "register a b --out c --model unigradicon --weights w.trch --allow-untrained --robustness rotation "
        "--fixed-modality ct --moving-modality mr --io-method network --io-steps 7 --similarity mind --smoothness 2.5 "
        "--field-spacing 4 --grid 96 --device cuda:1 --seed 5 --threads 3"
    )
    assert settings_from(build_parser().parse_args(text.split())) == RegistrationSettings(
        model="unigradicon",
        weights="w.trch",
        allow_untrained=True,
        robustness="rotation",
        fixed_modality="ct",
        moving_modality="mr",
        io_method="network",
        io_steps=7,
        similarity="mind",
        smoothness=2.5,
        field_spacing_mm=4.0,
        grid=96,
        device="cuda:1",
        seed=5,
        threads=3,
    )
