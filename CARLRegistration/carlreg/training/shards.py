"""Weights files in pieces, for places that refuse large files: cut at tensors, put together bit for bit.

Each piece is a safetensors file of its own; the index names the piece of each tensor, the hash of every piece and of
the whole, and the whole file's header, so that joining gives the very same file.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from ..atomic import staged_file
from ..errors import CheckpointError, InputError
from ..models.weights_file import MOST_HEADER_BYTES, sha256_of
from ..text_files import decoded, is_file, parse_json, read_json

_SIZES = 8  # bytes of the header's length, little endian


@dataclass(frozen=True)
class _Whole:
    header: str
    start: int  # of the data, bytes
    tensors: dict[str, dict]


def _read_header(path: Path) -> _Whole:
    """Raises CheckpointError when the file is no safetensors file."""
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(_SIZES))
            if length > MOST_HEADER_BYTES:
                raise ValueError("its header is too long")  # noqa: TRY301
            header = decoded(file.read(length), path.name, "a safetensors file")
        entries = parse_json(header, path.name, "the header of a safetensors file")
        entries.pop("__metadata__", None)
    except (struct.error, ValueError, AttributeError, InputError) as error:
        raise CheckpointError(f"{path}: expected a safetensors file ({error}).") from error
    return _Whole(header, _SIZES + length, entries)


def index_of(path: Path) -> Path:
    """The index of a file's pieces."""
    return path.with_name(path.name + ".index.json")


def split(path: Path, shard_mb: float) -> list[Path]:
    """Cut a safetensors file into pieces of about `shard_mb` MB (at least one tensor each), and remove it.

    Returns: the pieces and, last, the index `NAME.safetensors.index.json`.
    """
    whole = _read_header(path)
    names = sorted(whole.tensors, key=lambda name: whole.tensors[name]["data_offsets"])
    groups: list[list[str]] = []
    size = 0
    for name in names:
        begin, end = whole.tensors[name]["data_offsets"]
        if not groups or size + end - begin > shard_mb * 1e6:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += end - begin
    written, shards, weight_map = [], {}, {}
    with open(path, "rb") as source:
        for number, group in enumerate(groups, 1):
            piece = path.with_name(f"{path.stem}-{number:05d}-of-{len(groups):05d}.safetensors")
            first = whole.tensors[group[0]]["data_offsets"][0]
            entries = {
                name: whole.tensors[name] | {"data_offsets": [n - first for n in whole.tensors[name]["data_offsets"]]}
                for name in group
            }
            header = json.dumps(entries).encode()
            header += b" " * (-len(header) % 8)
            source.seek(whole.start + first)
            data = source.read(whole.tensors[group[-1]]["data_offsets"][1] - first)
            with staged_file(piece) as part:
                part.write_bytes(struct.pack("<Q", len(header)) + header + data)
            written.append(piece)
            shards[piece.name] = sha256_of(piece)
            weight_map |= dict.fromkeys(group, piece.name)
    index = index_of(path)
    content = {
        "metadata": {"total_size": os.path.getsize(path), "sha256": sha256_of(path), "header": whole.header},
        "shards": shards,
        "weight_map": weight_map,
    }
    with staged_file(index) as part:
        part.write_text(json.dumps(content, indent=1), encoding="utf-8")
    path.unlink()
    return [*written, index]


def join(index: Path, out: Path) -> str:
    """Put the pieces together; returns the file's SHA-256.

    Raises: CheckpointError when the index is none, or a piece is missing or damaged; nothing is written then.
    """
    try:
        content = read_json(index, str(index), "an index that `carlreg train export --shards` wrote")
        header, expected = content["metadata"]["header"], content["metadata"]["sha256"]
        shards = dict(content["shards"])
        if not all(isinstance(text, str) for text in (header, expected, *shards.values())):
            raise TypeError  # noqa: TRY301
    except (InputError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{index}: expected an index that `carlreg train export --shards` wrote.") from error
    digest = hashlib.sha256()
    with staged_file(out) as part:
        with open(part, "wb") as file:
            text = header.encode()
            blocks = [struct.pack("<Q", len(text)) + text]
            for name, sha256 in shards.items():
                piece = index.parent / Path(name).name
                if not is_file(piece):
                    raise CheckpointError(f"{index}: the piece {piece.name} is missing beside it.")
                if sha256_of(piece) != sha256:
                    raise CheckpointError(f"{piece}: expected SHA-256 {sha256}; the piece is damaged. Copy it again.")
                with open(piece, "rb") as source:
                    source.seek(_read_header(piece).start)
                    blocks.append(source.read())
                for block in blocks:
                    digest.update(block)
                    file.write(block)
                blocks = []
        if digest.hexdigest() != expected:
            raise CheckpointError(f"{index}: the joined file has another hash than the one that was cut.")
    return expected
