"""What NIfTI headers say beside what the reader makes of them.

A NIfTI file may hold two geometries (qform and sform). SimpleITK refuses a sheared sform when it stands alone,
replaces it silently by the qform when there is one, and fills a cut-off .nii.gz with zeros; so the header is read
here too.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import GeometryError, InputError
from ..spaces.grid import VolumeGrid, lps_from_ras

_SCANNER = 1
# Headers are written in float32 and often rounded further; up to here the nearest right-angled axes are taken.
_SHEAR_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class NiftiHeader:
    """The fields that matter for geometry and completeness; `ras_from_ijk` is the sform (4x4) or None."""

    data_bytes: int
    sform_code: int
    qform_code: int
    ras_from_ijk: np.ndarray | None
    in_mm: bool

    @property
    def trusts_sform(self) -> bool:
        """Whether the sform is the file's geometry (another qform is not preferred over it)."""
        return self.ras_from_ijk is not None and (self.qform_code <= 0 or self.sform_code == _SCANNER)

    @property
    def shear(self) -> float:
        """How far the sform's axes are from right angles (largest cosine); infinite when singular, 0 without one."""
        if self.ras_from_ijk is None:
            return 0.0
        matrix = self.ras_from_ijk[:3, :3]
        lengths = np.linalg.norm(matrix, axis=0)
        if not np.all(np.isfinite(self.ras_from_ijk)) or np.any(lengths <= 0):
            return math.inf
        axes = matrix / lengths
        if abs(np.linalg.det(axes)) < 1e-3:
            return math.inf
        return float(np.abs(axes.T @ axes - np.eye(3)).max())


def read_header(file: Path) -> NiftiHeader | None:
    """The header of a NIfTI file, plain or compressed; None when the file is something else."""
    if not file.name.lower().endswith((".nii", ".nii.gz")):
        return None
    try:
        with file.open("rb") as stream:
            head = stream.read(2)
        opener = gzip.open if head == b"\x1f\x8b" else open
        with opener(file, "rb") as stream:
            raw = stream.read(540)
    except (OSError, EOFError, zlib.error):
        return None  # the reader will say why
    for order in "<>":
        if len(raw) >= 348 and np.frombuffer(raw, f"{order}i4", 1)[0] == 348:
            return _parse(raw, order, dim=(40, "i2"), bits=72, voxels=(108, "f4"), codes=(252, "i2"), rows=(280, "f4"))
        if len(raw) >= 540 and np.frombuffer(raw, f"{order}i4", 1)[0] == 540:
            return _parse(raw, order, dim=(16, "i8"), bits=14, voxels=(168, "i8"), codes=(344, "i4"), rows=(400, "f8"))
    return None


def _parse(raw: bytes, order: str, dim, bits: int, voxels, codes, rows) -> NiftiHeader:
    def field(offset: int, kind: str, count: int = 1) -> np.ndarray:
        return np.frombuffer(raw, order + kind, count, offset)

    sizes = field(*dim, 8)
    count = math.prod(max(int(n), 1) for n in sizes[1 : 1 + min(max(int(sizes[0]), 0), 7)])
    qform_code, sform_code = (int(code) for code in field(*codes, 2))
    ras_from_ijk = None
    if sform_code > 0:
        ras_from_ijk = np.vstack([field(*rows, 12).astype(np.float64).reshape(3, 4), [0.0, 0.0, 0.0, 1.0]])
    units = raw[123] if dim[0] == 40 else int(field(500, "i4")[0])
    offset = float(field(*voxels)[0])
    data_bytes = int(offset if math.isfinite(offset) else 0) + count * int(field(bits, "i2")[0]) // 8
    return NiftiHeader(data_bytes, sform_code, qform_code, ras_from_ijk, in_mm=(units & 7) in (0, 2))


def check_geometry(header: NiftiHeader, name: str) -> None:
    """Raise GeometryError when the file's geometry is sheared or singular."""
    if not header.trusts_sform or header.shear <= _SHEAR_TOLERANCE:
        return
    if math.isinf(header.shear):
        problem = "singular: an image axis is missing, doubled or not a number"
    else:
        angle = math.degrees(math.asin(min(header.shear, 1.0)))
        problem = f"sheared: image axes are {angle:.2g} degrees off a right angle, as with a tilted gantry"
    raise GeometryError(
        f"{name}: expected image axes at right angles; the header's sform is {problem}. "
        "Resample the volume to a regular grid, or correct its header, first."
    )


def check_complete(file: Path, header: NiftiHeader, name: str) -> None:
    """Raise InputError when the file holds fewer voxels than its header says."""
    with file.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
        stream.seek(-4, os.SEEK_END)
        size_at_end = int.from_bytes(stream.read(4), "little")
    if not compressed:
        complete = file.stat().st_size >= header.data_bytes
    else:
        # A gzip file ends with its unpacked size; where that differs (cut off, padded, of several members), unpack.
        complete = size_at_end == header.data_bytes % 2**32 or _unpacks_to(file, header.data_bytes)
    if not complete:
        raise InputError(
            f"{name}: the file is cut off or damaged: it ends before the {header.data_bytes} bytes that its header "
            "announces. Copy or download it again."
        )


def _unpacks_to(file: Path, wanted: int) -> bool:
    total = 0
    try:
        with gzip.open(file, "rb") as stream:
            while block := stream.read(2**22):
                total += len(block)
    except (OSError, EOFError, zlib.error):
        return False
    return total >= wanted


@contextmanager
def tolerating_rounded_axes(header: NiftiHeader | None) -> Iterator[None]:
    """Let the reader take the nearest right-angled axes when an sform's are off by rounding only."""
    variable = "ITK_NIFTI_SFORM_PERMISSIVE"
    if header is None or header.qform_code > 0 or not 0.0 < header.shear <= _SHEAR_TOLERANCE:
        yield
        return
    before = os.environ.get(variable)
    os.environ[variable] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before


def geometry_notes(header: NiftiHeader, image: sitk.Image, name: str) -> list[str]:
    """Warnings about a geometry that is missing or that contradicts itself."""
    if header.sform_code <= 0 and header.qform_code <= 0:
        return [f"{name}: the file does not say where the volume lies nor which way it is turned."]
    if header.ras_from_ijk is None or not header.in_mm:
        return []
    grid = VolumeGrid.of(image)
    corners_ijk = np.array([[(c >> a) & 1 for a in range(3)] for c in range(8)]) * (np.array(grid.size_ijk) - 1)
    sform = lps_from_ras() @ header.ras_from_ijk
    distance = np.linalg.norm(corners_ijk @ sform[:3, :3].T + sform[:3, 3] - grid.corners_lps(), axis=1).max()
    if distance <= 0.5 * grid.spacing.min():
        return []
    far = f"{distance:.1f} mm" if math.isfinite(distance) else "not comparable"
    return [f"{name}: its header holds two geometries, up to {far} apart; the one that 3D Slicer takes is used."]
