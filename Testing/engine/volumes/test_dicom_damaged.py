"""Damaged DICOM files: refused in plain words, in bounded time and memory."""

from __future__ import annotations

import os
import random
import struct
import time

import numpy as np
import pytest
from carlreg.errors import CarlError, GeometryError, InputError
from carlreg.volumes import read_volume
from carlreg.volumes.dicom import header
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless, RLELossless

from .dicom_files import enhanced, image, positions, save, save_series, values

PIXELS = b"\xe0\x7f\x10\x00O"


def replaced(file, keyword_tag: tuple[int, int], change):
    """A file's element (explicit, little endian) with other bytes of the same length."""
    content, tag = file.read_bytes(), struct.pack("<HH", *keyword_tag)
    start = content.index(tag) + 8
    length = struct.unpack("<H", content[start - 2 : start])[0]
    new = change(content[start : start + length])
    assert len(new) == length
    file.write_bytes(content[:start] + new + content[start + length :])


@pytest.mark.parametrize(
    ("tag", "keyword", "change"),
    [
        ((0x20, 0x32), "ImagePositionPatient", lambda v: b"x" + v[1:]),
        ((0x20, 0x32), "ImagePositionPatient", lambda v: v.replace(b"\\", b"0")),
        ((0x20, 0x32), "ImagePositionPatient", lambda v: b"\\" * len(v)),
        ((0x20, 0x32), "ImagePositionPatient", lambda v: b"nan" + v[3:]),
        ((0x20, 0x32), "ImagePositionPatient", lambda v: b"1e9".ljust(v.index(b"\\")) + v[v.index(b"\\") :]),
        ((0x20, 0x37), "ImageOrientationPatient", lambda v: b"\\" * len(v)),
        ((0x20, 0x37), "ImageOrientationPatient", lambda v: v.replace(b"1", b"0")),
        ((0x20, 0x37), "ImageOrientationPatient", lambda v: v.replace(b"1", b"7")),
        ((0x28, 0x30), "PixelSpacing|pixel spacing", lambda v: v.replace(b"2", b"-")),
        ((0x28, 0x30), "PixelSpacing|pixel spacing", lambda v: b"0\\0".ljust(len(v))),
        ((0x28, 0x1053), "RescaleSlope", lambda v: b"e" * len(v)),
        ((0x28, 0x1053), "RescaleSlope", lambda v: b"inf".ljust(len(v))),
    ],
)
@pytest.mark.parametrize("victim", [0, 3, 5])
def test_a_damaged_value_is_named_with_its_file(tmp_path, tag, keyword, change, victim):
    save_series(tmp_path, values(), RescaleSlope="1.50", RescaleIntercept=0)
    replaced(tmp_path / f"{victim:03d}.dcm", tag, change)
    named = "its position" if "1e9" in str(change(b"0\\0\\0\\")) else keyword
    with pytest.raises(InputError, match=rf"00{victim}\.dcm: its (.*)|{named}"):
        read_volume(tmp_path)


@pytest.mark.parametrize("last", [1, 10, 60, 100, 200])
@pytest.mark.parametrize("syntax", [None, RLELossless])
def test_a_file_that_is_cut_off_is_refused(tmp_path, last, syntax):
    made = enhanced(values(), positions(6))
    if syntax is not None:
        made.compress(syntax)
    file = save(made, tmp_path / "e.dcm")
    file.write_bytes(file.read_bytes()[: -last - 8])
    with pytest.raises(InputError, match=r"cut off|damaged|no image|cannot be decoded"):
        read_volume(file)


@pytest.mark.parametrize(
    "change",
    [
        {"Rows": 65535, "Columns": 65535},
        {"NumberOfFrames": 100000},
        {"NumberOfFrames": 2147483647},
        {"NumberOfFrames": -1},
        {"NumberOfFrames": 0},
        {"Rows": 0},
        {"BitsAllocated": 64},
        {"BitsAllocated": 12},
        {"BitsAllocated": 65535, "BitsStored": 65535, "HighBit": 65534},
        {"BitsStored": 0},
        {"BitsStored": 17, "HighBit": 16},
        {"HighBit": 255},
        {"SamplesPerPixel": 0},
        {"SamplesPerPixel": 65535},
    ],
    ids=str,
)
@pytest.mark.parametrize("compressed", [False, True])
def test_what_a_header_claims_is_compared_with_what_is_there(tmp_path, change, compressed):
    made = enhanced(values(), positions(6))
    if compressed:
        made.compress(RLELossless)
    for keyword, value in change.items():
        setattr(made, keyword, value)
    file = save(made, tmp_path / "e.dcm")
    start = time.monotonic()
    with pytest.raises(InputError):
        read_volume(file)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_rubbish_for_compressed_pixels_is_refused(tmp_path, syntax):
    made = enhanced(values(), positions(6))
    made.compress(RLELossless)
    file = save(made, tmp_path / "e.dcm")
    content = file.read_bytes().replace(RLELossless.encode() + b"\0", syntax.encode().ljust(22, b"\0")[:20], 1)
    start = content.index(b"\xe0\x7f\x10\x00OB") + 40
    noise = random.Random(0).randbytes(200)
    file.write_bytes(content[:start] + noise + content[start + 200 :])
    with pytest.raises(CarlError):
        read_volume(file)


def test_a_sequence_without_end_is_refused(tmp_path):
    """A hundred thousand items, one in the other: deeper than any reader may follow."""
    file = save(enhanced(values(), positions(6)), tmp_path / "e.dcm")
    content = file.read_bytes()
    at = content.index(struct.pack("<HH", 0x5200, 0x9230))
    nest = struct.pack("<HH2sHI", 0x5200, 0x9230, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    file.write_bytes(content[:at] + nest * 100_000)
    with pytest.raises(InputError):
        read_volume(file)


@pytest.mark.parametrize("defined", [True, False], ids=["told length", "end mark"])
def test_a_header_of_nothing_but_empty_items_takes_no_gigabytes(tmp_path, defined, monkeypatch):
    monkeypatch.setattr(header, "_ITEMS", 30_000)
    monkeypatch.setattr(header, "_READS", 30_000)
    file = save(enhanced(values(), positions(6)), tmp_path / "e.dcm")
    content = file.read_bytes()
    at = content.index(struct.pack("<HH", 0x5200, 0x9230))
    body = struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 40_000
    length = len(body) if defined else 0xFFFFFFFF
    file.write_bytes(
        content[:at]
        + struct.pack("<HH2sHI", 0x5200, 0x9230, b"SQ", 0, length)
        + body
        + content[content.index(PIXELS) :]
    )
    with pytest.raises(InputError):
        read_volume(file)


def test_a_bomb_of_deflated_data_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(header, "_INFLATED_BYTES", 2**20)
    made = image(np.zeros((6, 1024, 1024)), syntax=DeflatedExplicitVRLittleEndian)
    file = save(made, tmp_path / "e.dcm")
    assert file.stat().st_size < 100_000
    with pytest.raises(InputError, match="deflated content"):
        read_volume(file)


def damaged(content: bytes, source: random.Random) -> bytes:
    """A file with bits flipped, lengths changed, a piece missing, moved or zero, or cut off."""
    changed, where = bytearray(content), source.randrange(132, len(content) - 8)
    kind = source.randrange(6)
    if kind == 0:
        for _ in range(source.choice([1, 4, 20])):
            changed[source.randrange(len(changed))] ^= 1 << source.randrange(8)
    elif kind == 1:
        lengths = [0, 1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, source.randrange(2**32)]
        changed[where : where + 4] = struct.pack("<I", source.choice(lengths))
    elif kind == 2:
        del changed[where:]
    elif kind == 3:
        del changed[where : where + source.randrange(1, 30)]
    elif kind == 4:
        changed[where:where] = source.randbytes(source.randrange(1, 30))
    else:
        digits = [n for n, byte in enumerate(changed) if n > 132 and chr(byte) in "0123456789"]
        for n in source.sample(digits, 5):
            changed[n] = source.choice(b"0123456789.-eE\\ x\0")
    return bytes(changed)


@pytest.mark.parametrize("kind", ["series", "implicit", "enhanced", "deflated"])
def test_damage_anywhere_is_refused_or_harmless(tmp_path, kind):
    """Nothing but errors of ours, in no more than a second each; `make fuzz` tries more."""
    syntax = {"syntax": ImplicitVRLittleEndian} if kind == "implicit" else {}
    if kind in ("enhanced", "deflated"):
        syntax = {"syntax": DeflatedExplicitVRLittleEndian} if kind == "deflated" else {}
        save(enhanced(values(), positions(6), rescales=[(k + 0.5, 0) for k in range(6)], **syntax), tmp_path / "e.dcm")
    else:
        save_series(tmp_path, values(), RescaleSlope=1, RescaleIntercept=-1024, **syntax)
    files = sorted(tmp_path.iterdir())
    whole = {file: file.read_bytes() for file in files}
    source, outcomes = random.Random(kind), {"read": 0, "refused": 0}
    for _ in range(80):
        for file in source.sample(files, source.choice([1, len(files)])):
            file.write_bytes(damaged(whole[file], source))
        try:
            volume = read_volume(tmp_path)
            assert min(volume.grid.size_ijk) >= 4 and np.isfinite(volume.array).all()
            outcomes["read"] += 1
        except CarlError:
            outcomes["refused"] += 1
        for file, content in whole.items():
            file.write_bytes(content)
    assert outcomes["refused"] > 25, outcomes


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_pipes_broken_links_and_links_to_themselves_are_passed_over(tmp_path):
    save_series(tmp_path, values())
    os.mkfifo(tmp_path / "a-pipe.dcm")
    (tmp_path / "gone.dcm").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop.dcm").symlink_to(tmp_path / "loop.dcm")
    (tmp_path / "up").symlink_to(tmp_path)
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.array, values())
    assert volume.warnings == ()


def test_a_gap_beside_a_file_that_cannot_be_read_is_refused(tmp_path):
    save_series(tmp_path, values())
    (tmp_path / "002.dcm").write_bytes((tmp_path / "002.dcm").read_bytes()[:200])
    with pytest.raises(GeometryError, match="slices are missing"):
        read_volume(tmp_path)
