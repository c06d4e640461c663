"""Reading, writing and checking volumes, masks, label maps, landmarks and transforms (SimpleITK; never torch)."""

from ..io.itk_transform import read_transform
from ..io.points import read_landmarks
from ..io.writing import write_image
from .dicom import references as dicom_references
from .masks import read_labels, read_mask, without_ignored
from .memory import available_memory_mb, require_memory
from .volume import Volume, pair_warnings, read_image, read_size, read_volume, require_comparable, volume_from_image

__all__ = [
    "Volume",
    "available_memory_mb",
    "dicom_references",
    "pair_warnings",
    "read_image",
    "read_labels",
    "read_landmarks",
    "read_mask",
    "read_size",
    "read_transform",
    "read_volume",
    "require_comparable",
    "require_memory",
    "volume_from_image",
    "without_ignored",
    "write_image",
]
