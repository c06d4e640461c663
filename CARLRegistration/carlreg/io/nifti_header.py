"""NIfTI-1 and Analyze 7.5 headers: their fields, read, judged by the standard, and written.

A NIfTI file may hold two geometries (qform and sform), lengths in other units, and fields that contradict each other.
SimpleITK takes some of that silently, so the header is read here and the voxels in `volumes.nifti`.
Source: nifti1.h (https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h).
"""

from __future__ import annotations

import gzip
import math
import struct
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..spaces import VolumeGrid
from .raw import is_gzip

HEADER_BYTES = 348
DATA_OFFSET = 352  # of the files that are written here, and the least of files that hold header and voxels
# Offset and struct format of the fields that are read or written here. Source: nifti1.h.
_FIELDS = {
    "dim": (40, "8h"),
    "intent_code": (68, "h"),
    "datatype": (70, "2h"),  # and bits per voxel
    "pixdim": (76, "8f"),
    "vox_offset": (108, "f"),
    "scl_slope": (112, "2f"),  # and intercept
    "xyzt_units": (123, "B"),
    "descrip": (148, "80s"),
    "form_codes": (252, "2h"),  # qform, sform
    "quatern": (256, "6f"),  # b, c, d and the offset
    "srow": (280, "12f"),
    "intent_name": (328, "16s"),
    "magic": (344, "4s"),
}
SCANNER = 1
# Type codes: NumPy's type and how many of it make a voxel.
_TYPES = {
    2: ("u1", 1),
    4: ("i2", 1),
    8: ("i4", 1),
    16: ("f4", 1),
    32: ("f4", 2),
    64: ("f8", 1),
    128: ("u1", 3),
    256: ("i1", 1),
    512: ("u2", 1),
    768: ("u4", 1),
    1024: ("i8", 1),
    1280: ("u8", 1),
    1792: ("f8", 2),
    2304: ("u1", 4),
}
_COMPLEX = (32, 1792)
_COLOR = (128, 2304)
MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_SECONDS_PER_UNIT = {8: 1.0, 16: 1e-3, 24: 1e-6}


@dataclass(frozen=True, eq=False)
class NiftiHeader:
    """The fields that matter for geometry, completeness and meaning, as they are in the file.

    sizes: of all dimensions (i, j, k, ...). intent: NIfTI's code of what the values are. type_code, bits: of a voxel.
    data_offset: where the voxels begin in the unpacked file, NaN and fractions included. slope, intercept: of the
    scaling. unit: code of the lengths. pixdim: all eight. quaternion: b, c, d. qform_offset: (3,).
    ras_from_ijk: the sform (4x4), or None; lengths in the file's unit. magic: b"n+1" (one file), b"ni1" (two), else
    Analyze.
    """

    order: str
    sizes: tuple[int, ...]
    intent: int
    type_code: int
    bits: int
    offset: float
    slope: float
    intercept: float
    unit: int
    time_unit: int
    pixdim: tuple[float, ...]
    sform_code: int
    qform_code: int
    quaternion: tuple[float, ...]
    qform_offset: np.ndarray
    ras_from_ijk: np.ndarray | None
    magic: bytes

    @property
    def value_type(self) -> np.dtype | None:
        """Of the numbers that make a voxel, in the file's byte order; None for types that are not read here."""
        known = _TYPES.get(self.type_code)
        return None if known is None else np.dtype(self.order + known[0])

    @property
    def values_per_voxel(self) -> int:
        return _TYPES.get(self.type_code, ("", 1))[1]

    @property
    def is_complex(self) -> bool:
        return self.type_code in _COMPLEX

    @property
    def is_color(self) -> bool:
        return self.type_code in _COLOR

    @property
    def float_type(self) -> np.dtype | None:
        """Of floating-point voxels, else None."""
        return self.value_type if self.value_type is not None and self.value_type.kind == "f" else None

    @property
    def voxel_count(self) -> int:
        return math.prod(self.sizes)

    @property
    def data_offset(self) -> int:
        """Where the voxels begin in the unpacked file; see `volumes.nifti` for offsets that cannot be."""
        return int(self.offset) if math.isfinite(self.offset) and self.offset > 0 else 0

    @property
    def data_bytes(self) -> int:
        """Where the voxels end in the unpacked file."""
        kind = self.value_type
        bits = self.bits if kind is None else 8 * kind.itemsize * self.values_per_voxel
        return self.data_offset + self.voxel_count * bits // 8

    @property
    def in_mm(self) -> bool:
        return self.unit in (0, 2)

    @property
    def mm_per_unit(self) -> float:
        """Codes that the standard does not know count as mm."""
        return MM_PER_UNIT.get(self.unit, 1.0)

    @property
    def scales(self) -> bool:
        """Whether values are slope * stored + intercept: by the standard a slope of 0 (or none) says they are not."""
        if self.is_color or not math.isfinite(self.slope) or self.slope == 0.0:
            return False
        return (self.slope, self.intercept) != (1.0, 0.0)

    @property
    def seconds_between_frames(self) -> float:
        """Of a time series, as ITK gives it: in the file's unit where that is none of time."""
        step = abs(self.pixdim[4]) * _SECONDS_PER_UNIT.get(self.time_unit, 1.0)
        return step if math.isfinite(step) and step > 0 else 1.0

    @property
    def trusts_sform(self) -> bool:
        """Whether the sform is the file's geometry (another qform is not preferred over it)."""
        return self.ras_from_ijk is not None and (self.qform_code <= 0 or self.sform_code == SCANNER)

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


def is_nifti_name(file: Path) -> bool:
    """Whether a file is called as NIfTI and Analyze files are."""
    return file.name.lower().endswith((".nii", ".nii.gz", ".hdr", ".img", ".img.gz", ".hdr.gz"))


def read_header(file: Path, name: str) -> NiftiHeader | None:
    """The header of a file that is called as NIfTI or Analyze files are, plain or compressed; None for other content.

    Raises InputError for NIfTI-2, and for sizes that no volume has.
    """
    if not is_nifti_name(file):
        return None
    try:
        with gzip.open(file, "rb") if is_gzip(file) else file.open("rb") as stream:
            raw = stream.read(HEADER_BYTES)  # type: ignore[union-attr]
    except (OSError, EOFError, zlib.error):
        return None  # the reader will say why
    if len(raw) == HEADER_BYTES and 540 in struct.unpack_from("<i", raw) + struct.unpack_from(">i", raw):
        raise InputError(
            f"{name}: a NIfTI-2 file, which SimpleITK cannot read. Save it as NIfTI-1, with nibabel: "
            "nibabel.save(nibabel.Nifti1Image.from_image(nibabel.load(FILE)), 'one.nii.gz')."
        )
    found = parse(raw)
    if found is not None and (not 1 <= len(found.sizes) <= 7 or any(n < 1 for n in found.sizes)):
        raise InputError(
            f"{name}: expected a NIfTI header with 1 to 7 positive sizes, got {list(found.sizes)}: the header is "
            "damaged. Copy or export the file again."
        )
    return found


def parse(raw: bytes) -> NiftiHeader | None:
    """The header in a file's first (unpacked) bytes; None when they are not those of a NIfTI-1 or Analyze file."""
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
    sizes = sizes[:dimensions] if 1 <= dimensions <= 7 else []
    # Further axes are often left at 0 where there is nothing along them.
    sizes = tuple(1 if n == 0 and axis > 2 else n for axis, n in enumerate(sizes))
    magic = field("magic")[0].rstrip(b"\0")
    is_nifti = magic in (b"n+1", b"ni1")
    qform_code, sform_code = field("form_codes") if is_nifti else (0, 0)
    ras_from_ijk = None
    if sform_code > 0:
        ras_from_ijk = np.vstack([np.array(field("srow")).reshape(3, 4), [0.0, 0.0, 0.0, 1.0]])
    type_code, bits = field("datatype")
    slope, intercept = field("scl_slope") if is_nifti else (0.0, 0.0)
    units = field("xyzt_units")[0] if is_nifti else 0
    quaternion = field("quatern")
    return NiftiHeader(
        order=order,
        sizes=sizes,
        intent=field("intent_code")[0] if is_nifti else 0,
        type_code=type_code,
        bits=bits,
        offset=field("vox_offset")[0],
        slope=slope,
        intercept=intercept,
        unit=units & 7,
        time_unit=units & 56,
        pixdim=field("pixdim"),
        sform_code=sform_code,
        qform_code=qform_code,
        quaternion=quaternion[:3],
        qform_offset=np.array(quaternion[3:]),
        ras_from_ijk=ras_from_ijk,
        magic=magic,
    )
