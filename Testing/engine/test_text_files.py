"""Text, JSON and TOML from anywhere: what is read, and what is refused in one sentence."""

from __future__ import annotations

import os
import time

import pytest
from carlreg.errors import InputError
from carlreg.text_files import (
    cut,
    is_file,
    number,
    parse_toml,
    read_bytes,
    read_json,
    read_json_object,
    read_text,
    shown,
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_as_windows_and_others_write_it(tmp_path, encoding):
    (tmp_path / "a.json").write_text('{"Größe": [1, 2.5, null, true]}', encoding=encoding)
    assert read_json(tmp_path / "a.json", "a") == {"Größe": [1, 2.5, None, True]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("[" * 100 + "]" * 100, "nested too deeply"),
        ('{"a": ' * 100 + "1" + "}" * 100, "nested too deeply"),
        ('{"a": 1, "a": 2}', "'a' is there twice"),
        ('{"a": NaN}', "finite numbers, got nan"),
        ('{"a": [1e999]}', "finite numbers, got inf"),
        (f'{{"a": {"9" * 400}}}', "too large"),
        (f'{{"a": {"9" * 5000}}}', "expected a JSON file"),
        ('{"a": "\\ud800"}', "letters that no text has"),
        ('{"a": "\\u0000"}', "letters that no text has"),
        ("{", "damaged or something else"),
        ("[1]", "with values by name, got a list alone"),
        ("null", "got null alone"),
    ],
)
def test_json_that_is_refused(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        read_json_object(tmp_path / "a.json", "settings (a.json)")
    assert len(str(caught.value)) < 300 and str(caught.value).startswith("settings (a.json): ")


def test_files_that_are_none_or_have_no_end(tmp_path):
    with pytest.raises(InputError, match="got a folder"):
        read_bytes(tmp_path, "x")
    (tmp_path / "large").write_bytes(bytes(2000))
    with pytest.raises(InputError, match="expected at most 1 KB"):
        read_bytes(tmp_path / "large", "x", 1024)
    with pytest.raises(InputError, match="zero bytes"):
        read_text(tmp_path / "large", "x")
    (tmp_path / "latin").write_bytes("Größe".encode("latin-1"))
    with pytest.raises(InputError, match="no UTF-8"):
        read_text(tmp_path / "latin", "x")
    assert not is_file(tmp_path) and not is_file("a\0b") and not is_file("x" * 5000)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_devices_and_pipes_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(InputError, match="a device or a pipe"):
            read_bytes(tmp_path / name, "x")


@pytest.mark.parametrize(
    "text", ["[" * 50_000, "a = " + "[" * 50_000, "a." * 4000 + "a = 1", "a = 1\na = 2", "a = nan", "a = " + "9" * 30]
)
def test_toml_that_is_refused_soon(text):
    begin = time.perf_counter()
    with pytest.raises(InputError, match="x: "):
        parse_toml(text, "x")
    assert time.perf_counter() - begin < 2


@pytest.mark.parametrize(
    ("word", "value"),
    [("1", 1.0), (" -2.5e1 ", -25.0), (".5", 0.5), (3, 3.0)]
    + [(word, None) for word in ("", "nan", "1_0", "0x1", "1e999", "٣", "1,5", True, None, [1], 10**400, "9" * 500)],
)
def test_numbers(word, value):
    assert number(word) == value


def test_what_messages_show():
    assert shown(10**6000) == "a int too large to show" and len(shown("x" * 500)) == 80
    assert cut("a\nb") == "a?b" and len(cut("x" * 500)) == 80
