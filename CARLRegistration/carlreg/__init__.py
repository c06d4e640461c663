"""carlreg: deformable registration of 3-D medical images with coordinate attention (CARL, CVPR 2025).

`import carlreg` imports neither torch nor SimpleITK; the names below are loaded on first use.
"""

from __future__ import annotations

__version__ = "0.1.0"

_LAZY = {
    "register": "registration",
    "register_pair": "registration",
    "mend": "registration",
    "finish": "registration",
    "preview_start": "registration",
    "write_result": "outputs",
    "RegistrationResult": "registration",
    "RigidSegments": "registration",
    "SegmentMatch": "registration",
    "SegmentsGuide": "registration",
    "StiffSegments": "registration",
    "RegistrationSettings": "settings",
    "Progress": "progress",
    "CarlError": "errors",
}
__all__ = ["__version__", *_LAZY]


def __getattr__(name: str):
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
