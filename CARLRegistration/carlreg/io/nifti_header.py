"""NIfTI-1 headers: their fields, read and written, and what they say beside what the reader makes of them.

A NIfTI file may hold two geometries (qform and sform). SimpleITK refuses a sheared sform when it stands alone,
replaces it silently by the qform when there is one, and fills a cut-off .nii.gz with zeros; so the header is read
here too.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import GeometryError, InputError
from ..spaces import VolumeGrid, apply_affine, lps_from_ras
from .checks import not_finite

HEADER_BYTES = 348
DATA_OFFSET = 352  # of the files that are written here
# Offset and struct format of the fields that are read or written here. Source: nifti1.h.
_FIELDS = {
    "dim": (40, "8h"),
    "intent_code": (68, "h"),
    "datatype": (70, "2h"),  # and bits per voxel
    "vox_offset": (108, "f"),
    "scl_slope": (112, "2f"),  # and intercept
    "xyzt_units": (123, "B"),
    "descrip": (148, "80s"),
    "form_codes": (252, "2h"),  # qform, sform
    "srow": (280, "12f"),
    "intent_name": (328, "16s"),
}
_SCANNER = 1
_FLOATS = {16: "f4", 64: "f8"}  # codes of float32 and float64
# Headers are written in float32 and often rounded further; up to here the nearest right-angled axes are taken.
_SHEAR_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class NiftiHeader:
    """The fields that matter for geometry, completeness and meaning.

    sizes: of all dimensions (i, j, k, ...). intent: NIfTI's code of what the values are. data_offset, data_bytes: where
    the voxels begin and end in the unpacked file. float_type: of floating-point voxels, else None. ras_from_ijk: the
    sform (4x4), or None.
    """

    sizes: tuple[int, ...]
    intent: int
    data_offset: int
    data_bytes: int
    voxel_count: int
    float_type: np.dtype | None
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


def read_header(file: Path, name: str) -> NiftiHeader | None:
    """The header of a NIfTI-1 file, plain or compressed; None for other files. Raises InputError for NIfTI-2."""
    if not file.name.lower().endswith((".nii", ".nii.gz")):
        return None
    try:
        with file.open("rb") as stream:
            head = stream.read(2)
        opener = gzip.open if head == b"\x1f\x8b" else open
        with opener(file, "rb") as stream:
            raw = stream.read(HEADER_BYTES)
    except (OSError, EOFError, zlib.error):
        return None  # the reader will say why
    if len(raw) == HEADER_BYTES and 540 in struct.unpack_from("<i", raw) + struct.unpack_from(">i", raw):
        raise InputError(
            f"{name}: a NIfTI-2 file, which SimpleITK cannot read. Save it as NIfTI-1, with nibabel: "
            "nibabel.save(nibabel.Nifti1Image.from_image(nibabel.load(FILE)), 'one.nii.gz')."
        )
    return parse(raw)


def parse(raw: bytes) -> NiftiHeader | None:
    """The header in a file's first (unpacked) bytes; None when they are not those of a NIfTI-1 file."""
    for order in "<>":
        if len(raw) >= HEADER_BYTES and struct.unpack_from(f"{order}i", raw)[0] == HEADER_BYTES:
            return _parsed(raw, order)
    return None


def put(header: bytearray, field: str, *values) -> None:
    """Set a field (a key of `_FIELDS`) in a header in this machine's byte order, as SimpleITK writes it."""
    offset, kind = _FIELDS[field]
    struct.pack_into(f"={kind}", header, offset, *values)


def new_header(dtype: np.dtype, grid: VolumeGrid, *, vectors: bool = False, sizes=None) -> bytearray:
    """The 352 bytes that SimpleITK writes before such an image, from a small one with the true sizes put in.

    Args: vectors: three components instead of one. sizes: all eight numbers of the header's `dim` (those of one 3-D
        volume).
    """
    corner = grid.cropped((0, 0, 0), (2, 2, 2))
    small = corner.image(np.zeros((2, 2, 2, 3) if vectors else (2, 2, 2), dtype=dtype))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "header.nii"
        sitk.WriteImage(small, str(path))
        header = bytearray(path.read_bytes()[:DATA_OFFSET])
    put(header, "dim", *(sizes or (3, *grid.size_ijk, 1, 1, 1, 1)))
    return header


def _parsed(raw: bytes, order: str) -> NiftiHeader:
    def field(name: str) -> tuple:
        offset, kind = _FIELDS[name]
        return struct.unpack_from(order + kind, raw, offset)

    dimensions, *sizes = field("dim")
    sizes = tuple(sizes[: min(max(dimensions, 0), 7)])
    count = math.prod(max(n, 1) for n in sizes)
    qform_code, sform_code = field("form_codes")
    ras_from_ijk = None
    if sform_code > 0:
        ras_from_ijk = np.vstack([np.array(field("srow")).reshape(3, 4), [0.0, 0.0, 0.0, 1.0]])
    (offset,) = field("vox_offset")
    offset = int(offset) if math.isfinite(offset) and offset > 0 else 0
    data_type, bits_per_voxel = field("datatype")
    return NiftiHeader(
        sizes=sizes,
        intent=field("intent_code")[0],
        data_offset=offset,
        data_bytes=offset + count * bits_per_voxel // 8,
        voxel_count=count,
        float_type=np.dtype(order + _FLOATS[data_type]) if data_type in _FLOATS else None,
        sform_code=sform_code,
        qform_code=qform_code,
        ras_from_ijk=ras_from_ijk,
        in_mm=(field("xyzt_units")[0] & 7) in (0, 2),
    )


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


def check_data(file: Path, header: NiftiHeader, name: str) -> None:
    """Raise InputError when the file holds fewer voxels than its header says, or values that are not finite.

    The reader would make zeros of both.
    """
    with file.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
        stream.seek(-4, os.SEEK_END)
        size_at_end = int.from_bytes(stream.read(4), "little")
    bad = 0
    if header.float_type is not None:
        complete, bad = _scan(file, header, compressed)
    elif compressed:
        # A gzip file ends with its unpacked size; where that differs (cut off, padded, of several members), unpack.
        complete = size_at_end == header.data_bytes % 2**32 or _scan(file, header, compressed)[0]
    else:
        complete = file.stat().st_size >= header.data_bytes
    if not complete:
        raise InputError(
            f"{name}: the file is cut off or damaged: it ends before the {header.data_bytes} bytes that its header "
            "announces. Copy or download it again."
        )
    if bad:
        raise not_finite(bad, header.voxel_count, name)


def _scan(file: Path, header: NiftiHeader, compressed: bool) -> tuple[bool, int]:
    """Whether all voxels are there, and how many are not finite."""
    left, bad = header.data_bytes - header.data_offset, 0
    try:
        with (gzip.open if compressed else open)(file, "rb") as stream:
            stream.seek(header.data_offset)
            while left > 0 and (block := stream.read(min(left, 2**22))):
                left -= len(block)
                if header.float_type is not None:
                    values = np.frombuffer(block, header.float_type, len(block) // header.float_type.itemsize)
                    bad += int(values.size - np.count_nonzero(np.isfinite(values)))
    except (OSError, EOFError, zlib.error):
        return False, bad
    return left <= 0, bad


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
    sform = lps_from_ras() @ header.ras_from_ijk
    distance = np.linalg.norm(apply_affine(sform, grid.corners_ijk()) - grid.corners_lps(), axis=1).max()
    if distance <= 0.5 * grid.spacing.min():
        return []
    far = f"{distance:.1f} mm" if math.isfinite(distance) else "not comparable"
    return [f"{name}: its header holds two geometries, up to {far} apart; the one that 3D Slicer takes is used."]
