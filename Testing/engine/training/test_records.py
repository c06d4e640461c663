"""The log is a CSV file that goes on, TensorBoard gets the same numbers, and the report shows them."""

import csv
import errno
import mmap

import pytest
import torch
from carlreg.errors import InputError
from carlreg.training import records
from carlreg.training.records import Records, hardware, memory_gb
from carlreg.training.report import curves, draw_report, last_numbers
from PIL import Image


def read(folder):
    with open(folder / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_log_is_appended_with_one_header_and_new_columns(tmp_path):
    log = Records(tmp_path, 0)
    log.write(1, {"loss": 1.25})
    log.write(2, {"loss": 0.5, "end_point": 3.0})
    log.close()
    log = Records(tmp_path, 2)
    log.write(3, {"val_loss": 2.0})
    log.close()
    assert (tmp_path / "log.csv").read_text().count("loss,") == 1
    assert read(tmp_path) == [
        {"step": "1", "loss": "1.25", "end_point": "", "val_loss": ""},
        {"step": "2", "loss": "0.5", "end_point": "3", "val_loss": ""},
        {"step": "3", "loss": "", "end_point": "", "val_loss": "2"},
    ]


def test_tensorboard_gets_the_same_numbers_and_none_twice(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = Records(tmp_path, 0)
    for step in (1, 2, 3):
        log.write(step, {"loss": 1 / step})
    log.close()
    log = Records(tmp_path, 2)  # goes on from step 2: the number of step 3 is made again
    log.write(3, {"loss": 0.25})
    log.close()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("loss")]
    assert found == [(1, pytest.approx(1.0)), (2, pytest.approx(0.5)), (3, pytest.approx(0.25))]
    assert [row["loss"] for row in read(tmp_path)] == ["1", "0.5", "0.25"]


def test_without_tensorboard_it_is_said_and_the_log_remains(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with caplog.at_level("INFO"):
        log = Records(tmp_path, 0)
    log.write(1, {"loss": 1.0})
    assert "TensorBoard is not installed" in caplog.text and len(read(tmp_path)) == 1


def test_a_full_disk_does_not_end_the_run_and_is_said_once(tmp_path, monkeypatch, caplog):
    log = Records(tmp_path, 0)
    log.write(1, {"loss": 1.0})

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(records, "open", full, raising=False)
    log.write(2, {"loss": 1.0})
    log.write(3, {"loss": 1.0})
    assert caplog.text.count("could not be written") == 1
    monkeypatch.undo()
    log.write(4, {"loss": 1.0})
    log.close()
    assert [row["step"] for row in read(tmp_path)] == ["1", "4"]


def test_a_disk_that_is_full_when_a_column_is_added_leaves_a_log_that_goes_on(tmp_path, monkeypatch):
    log = Records(tmp_path, 0)
    log.write(1, {"loss": 1.0})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("carlreg.training.saving.os.fsync", full)
    log.write(2, {"loss": 1.0, "end_point": 2.0})
    monkeypatch.undo()
    log.write(3, {"loss": 1.0, "end_point": 3.0})
    log.write(4, {"loss": 1.0, "gradient": 4.0})
    log.close()
    assert [row["step"] for row in read(tmp_path)] == ["1", "3", "4"]
    assert [row["end_point"] for row in read(tmp_path)] == ["", "3", ""]
    assert [row["gradient"] for row in read(tmp_path)] == ["", "", "4"]


def test_report_draws_every_curve_and_prints_the_last_numbers(tmp_path):
    log = Records(tmp_path, 0)
    for step in range(1, 6):
        log.write(
            step, {"loss": 10.0 / step, "rate": 1e-3, "end_point": 2.0, "end_point_turn_0_10": 1.5, "gradient": 1.0}
        )
    log.write(5, {"val_loss": 3.0, "val_landmarks_mm": 4.5})
    log.close()
    assert curves(tmp_path)["loss"] == ([1, 2, 3, 4, 5], [10.0, 5.0, pytest.approx(10 / 3, rel=1e-6), 2.5, 2.0])
    lines = last_numbers(tmp_path).splitlines()
    assert any(line.split()[:2] == ["val_landmarks_mm", "4.5"] and "step 5" in line for line in lines)
    draw_report(tmp_path, tmp_path / "report.png")
    with Image.open(tmp_path / "report.png") as image:
        assert image.format == "PNG" and image.size[0] > 1000
        colors = image.convert("RGB").resize((300, 300)).getcolors(90_000)
    assert len(colors) > 30  # axes, curves of several colors, text
    with pytest.raises(InputError, match="expected the log of a run"):
        draw_report(tmp_path / "nothing", tmp_path / "x.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "log.csv").write_text("step,loss\n")
    with pytest.raises(InputError, match="nothing is logged yet"):
        last_numbers(tmp_path / "empty")


def test_machine():
    cpu = torch.device("cpu")
    with mmap.mmap(-1, 120_000_000) as held:  # goes back to the system at once, unlike what a library frees
        held.write(b"x" * len(held))
        with_it = memory_gb(cpu)
    assert 0.1 < with_it < 100
    assert with_it - memory_gb(cpu) == pytest.approx(0.112, abs=0.06)
    assert "PyTorch" in hardware(cpu, 2) and hardware(cpu, 2).startswith("2 x")
