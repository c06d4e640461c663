"""NRRD files: the header's lines, judged before SimpleITK reads them.

SimpleITK's reader is sound about voxels, but believes any size, knows no units, opens files by whatever pattern the
header holds, and takes axes of no named space as the patient's.
Source: https://teem.sourceforge.net/nrrd/format.html
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import SimpleITK as sitk

from ..errors import GeometryError, InputError
from ..io.checks import read_error
from ..io.guarded import guarded
from ..io.raw import begins_as_gzip, check_claim
from .accepted import Accepted
from .geometry import scaled_lengths
from .metaimage import existing_file

_HEADER_BYTES = 2**23  # segmentations keep names and colors there
_PACKED, _TEXT = ("gzip", "gz"), ("text", "txt", "ascii", "hex")
# Bytes of a value, by what its type's name contains.
_BYTES = (("64|double|long ?long", 8), ("16|short", 2), ("8|char", 1), ("32|int|float", 4))
_MM = {
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres"), 1.0),
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), 1e3),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre", "centimetres"), 10.0),
    **dict.fromkeys(("um", "\u00b5m", "\u03bcm", "micron", "microns", "micrometer", "micrometers", "micrometre"), 1e-3),
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre", "nanometres"), 1e-6),
    **dict.fromkeys(("in", "inch", "inches"), 25.4),
}
# Fields that a header may have, by their small letters.
_NUMBER_FIELDS = ("dimension", "spacedimension", "sizes", "spacings", "thicknesses", "axismins", "axismaxs", "oldmin")
_NUMBER_FIELDS += ("oldmax", "min", "max", "spacedirections", "spaceorigin", "measurementframe", "byteskip", "lineskip")
_TEXT_FIELDS = ("content", "sampleunits", "datafile", "number", "labels", "units", "spaceunits", "kinds")
_CHOICE_FIELDS = {
    "type": r"[a-z0-9_ ]{3,24}",
    "endian": r"little|big",
    "encoding": r"raw|gzip|gz|ascii|text|txt|hex",
    "space": r"[a-z-]{3,29}|(scanner-xyz|3d-(right|left)-handed)(-time)?",
    "centers": r"((cell|node|none|\?\?\?) ?)+",
    "centerings": r"((cell|node|none|\?\?\?) ?)+",
}
_OUTER_KINDS = ("domain", "space", "time", "none", "???")
_USUAL_LINE = 1000
_USUAL_NUMBER = re.compile(r"[+-]?(\d{1,20}\.?\d{0,30}|\.\d{1,30})([eE][+-]?\d{1,3})?")
_NO_UNIT = ("", "?", "???", "none", "nan", "unknown")
_PATIENT = r"(left|right)-(posterior|anterior)-superior(-time)?|[lr][pa]st?"


def is_nrrd(file: Path) -> bool:
    """Whether a file is NRRD, by its first bytes."""
    with file.open("rb") as stream:
        return re.match(rb"NRRD\d{4}[\r\n]", stream.read(9)) is not None


def read(file: Path, name: str, accepted: Accepted) -> tuple[sitk.Image, list[str]]:
    """Image and notes. Raises InputError, GeometryError, NotEnoughMemory."""
    fields, listed, end, longest = _header(file, name)
    sizes = _sizes(fields, name)
    spacings = _numbers(fields.get("spacings", ""))
    if "spacedirections" not in fields and sum(not n > 0 for n in spacings) > max(len(sizes) - 3, 0):
        raise GeometryError(
            f"{name}: expected positive voxel sizes, its NRRD header has {fields['spacings']!r}. Correct the header, "
            "or export the volume again."
        )
    itemsize = next((n for word, n in _BYTES if re.search(word, fields.get("type", "").lower())), None)
    if itemsize is None:
        raise _wrong(name, "a type of numbers", fields.get("type"))
    _check_data(file, fields, listed, end, int(math.prod(sizes)), itemsize, name)
    path = str(file.absolute())
    try:
        if longest <= _USUAL_LINE and _is_usual(fields):
            image = read_whole(path, name, accepted, itemsize)
        else:
            megabytes = 256.0 + 3.0 * math.prod(sizes) * itemsize / 2**20
            call = "carlreg.volumes.nrrd:read_whole"
            image = guarded(call, path, name, accepted, itemsize, name=name, memory_mb=megabytes)
    except RuntimeError as error:
        raise read_error(error, name) from error
    return image, _notes(fields, image, name)


def read_size(file: Path, name: str) -> tuple[tuple[int, ...], int]:
    """Sizes and values per voxel, from the header alone. Raises InputError."""
    fields = _header(file, name)[0]
    sizes = [int(n) for n in _sizes(fields, name)]
    kinds = fields.get("kinds", "").lower().split()
    if len(kinds) != len(sizes):
        return tuple(sizes), 1
    # The axis of colors or vectors is none of space or time.
    outer = [n for n, kind in zip(sizes, kinds, strict=True) if kind in _OUTER_KINDS]
    return tuple(outer), math.prod(sizes) // math.prod(outer)


def _sizes(fields: dict[str, str], name: str) -> list[float]:
    sizes = _numbers(fields.get("sizes", ""))
    if [float(len(sizes))] != _numbers(fields.get("dimension", "")) or not all(1 <= n < 1e12 for n in sizes):
        raise _wrong(name, f"positive sizes of {fields.get('dimension')} axes", fields.get("sizes"))
    return sizes


def read_whole(path: str, name: str, accepted: Accepted, itemsize: int) -> sitk.Image:
    """What SimpleITK reads, if it is of an accepted kind. Raises as `read`, and RuntimeError."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(path)
    reader.SetImageIO("NrrdImageIO")
    reader.ReadImageInformation()
    accepted.check(reader.GetSize(), reader.GetNumberOfComponents(), itemsize, name, 1.5)
    return reader.Execute()


def _is_usual(fields: dict[str, str]) -> bool:
    """Whether a header holds nothing but what programs write: the library's parser crashes on, among others, long words
    that it does not know, and works on without end on numbers that are not."""
    for key, text in fields.items():
        if key in _NUMBER_FIELDS:
            words = re.sub(r"[(),]", " ", text).split()
            known = len(words) <= 300 and all(
                word in ("none", "nan", "NaN") or _is_usual_number(word) for word in words
            )
        elif key in _CHOICE_FIELDS:
            known = re.fullmatch(_CHOICE_FIELDS[key], text.lower()) is not None
        else:
            known = key in _TEXT_FIELDS and len(text) <= 300 and text.isprintable()
        if not known:
            return False
    return True


def _is_usual_number(word: str) -> bool:
    return _USUAL_NUMBER.fullmatch(word) is not None and abs(float(word)) < 1e16


def _wrong(name: str, expected: str, got: str | None) -> InputError:
    shown = "nothing" if got is None else repr(got[:60])
    return InputError(f"{name}: expected {expected} in its NRRD header, got {shown}. The file is damaged.")


def _header(file: Path, name: str) -> tuple[dict[str, str], list[str], int, int]:
    """Fields by name (small letters, no spaces), the lines of a list of files, where the voxels begin, and how long the
    longest line is that is no key with its value."""
    with file.open("rb") as stream:
        head = stream.read(_HEADER_BYTES)
    fields: dict[str, str] = {}
    at, longest = head.find(b"\n") + 1, 0
    while 0 < at < len(head):
        stop = head.find(b"\n", at)
        line, at = head[at : stop if stop >= 0 else None].rstrip(b"\r"), stop + 1 if stop >= 0 else len(head)
        if not line:
            return fields, [], at, longest
        text = line.decode("utf-8", "replace")
        if text.startswith("#") or ":=" not in text[:100]:
            longest = max(longest, len(line))
        key, colon, value = text.partition(": ")
        if text.startswith("#") or not colon or ":=" in key:
            continue
        key = re.sub(r"[\s]", "", key).lower()
        if key in fields:
            raise InputError(f"{name}: its NRRD header gives the field {key!r} twice. The file is damaged.")
        fields[key] = value.strip()
        if key == "datafile" and fields[key].upper().startswith("LIST"):
            return fields, head[at:].decode("utf-8", "replace").splitlines(), at, longest
    if "datafile" not in fields:
        raise InputError(f"{name}: its NRRD header is cut off: expected an empty line after it. Copy the file again.")
    return fields, [], len(head), longest


def _numbers(text: str) -> list[float]:
    """The words as numbers; a word that is none as not-a-number."""

    def number(word: str) -> float:
        try:
            return float(word)
        except ValueError:
            return math.nan

    return [number(word) for word in text.split()]


def _check_data(
    file: Path, fields: dict[str, str], listed: list[str], end: int, values: int, itemsize: int, name: str
) -> None:
    """Raise InputError when the voxels cannot be where the header says, or are fewer."""
    encoding = fields.get("encoding", "").lower()
    if encoding not in ("raw", *_PACKED, *_TEXT):
        raise InputError(
            f"{name}: expected an NRRD file with the encoding raw, gzip or ascii, got {encoding or 'none'!r}. Save it "
            "with gzip compression."
        )
    if "datafile" in fields:
        parts = [(path, 0) for path in _data_files(file, fields["datafile"], listed, name)]
    else:
        parts = [(file, end)]
    if encoding in _PACKED and "lineskip" not in fields and not all(begins_as_gzip(*part) for part in parts):
        raise _wrong(name, "voxels packed by gzip (encoding)", encoding)
    held = [path.stat().st_size - start for path, start in parts]
    skipped = _numbers(fields.get("byteskip", "0"))
    if len(skipped) != 1 or not skipped[0] >= -1 or (encoding == "raw" and skipped[0] > min(held)):
        raise _wrong(name, "a number of bytes that the file has (byte skip)", fields.get("byteskip"))
    if encoding in _TEXT:
        least = 2 * values * itemsize if encoding == "hex" else 2 * values - 1
        check_claim(sum(held), least, False, name)
    else:
        check_claim(sum(held), values * itemsize, encoding in _PACKED, name)


def _data_files(file: Path, given: str, listed: list[str], name: str) -> list[Path]:
    if given.upper().startswith("LIST"):
        names = [line.strip() for line in listed if line.strip()]
    elif "%" in given:
        # A pattern as of printf, with the first and last number and their step.
        found = re.fullmatch(r"([^%\s]*%0?\d?d[^%\s]*) (\d{1,6}) (\d{1,6}) (\d{1,6})( \d)?", given)
        if found is None:
            raise _wrong(name, "a pattern with one number, and its range (data file: v%03d.raw 1 20 1)", given)
        first, last, step = (int(found[n]) for n in (2, 3, 4))
        names = [found[1] % number for number in range(first, last + 1, max(step, 1))]
    else:
        names = [given]
    if not names:
        raise _wrong(name, "names of files with voxels", given)
    return [existing_file(file.parent / path, name) for path in names]


def _notes(fields: dict[str, str], image: sitk.Image, name: str) -> list[str]:
    notes = []
    if "spacings" not in fields and "spacedirections" not in fields:
        notes.append(f"{name}: its header does not give the voxel size; it is taken as 1 mm.")
    elif "spacedirections" not in fields:
        notes.append(f"{name}: the file does not say which way the volume is turned.")
    elif "space" not in fields and fields.get("spacedimension") == str(image.GetDimension()) == "4":
        pass  # so ITK itself writes time series, because NRRD has no name for L, P, S and time
    elif not re.fullmatch(_PATIENT, fields.get("space", "").lower()):
        space = fields.get("space") or "none that it names"
        notes.append(f"{name}: its header's space ({space}) is not the patient's; its axes are taken as L, P, S.")
    if "measurementframe" in fields and image.GetNumberOfComponentsPerPixel() > 1:
        notes.append(f"{name}: its header turns vectors (measurement frame); they are taken as they are.")
    notes += _units(fields, image, name)
    return notes


def _units(fields: dict[str, str], image: sitk.Image, name: str) -> list[str]:
    """Lengths into mm, in place; what to say about it. `space units` are of the space, `units` of the array's axes."""
    field = "spaceunits" if "spacedirections" in fields else "units"
    words = re.findall(r'"([^"]*)"', fields.get(field, "")) or fields.get(field, "").split()
    words = [word.strip() for word in words if word.strip().lower() not in _NO_UNIT]
    lengths = {_MM[word.lower()] for word in words if word.lower() in _MM}
    unknown = [word for word in words if word.lower() not in _MM and not re.fullmatch(r"[mun]?s|sec(onds?)?", word)]
    if unknown:
        return [f"{name}: its header gives lengths in {unknown[0]!r}, not a known unit; they are taken as mm."]
    if len(lengths) > 1:
        raise InputError(f"{name}: expected one unit of length in its header, got {', '.join(words)}.")
    if not lengths or lengths == {1.0}:
        return []
    scaled_lengths(image, lengths.pop())
    return [f"{name}: its header gives lengths in {words[0]}; they were turned into mm."]
