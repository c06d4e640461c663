# What Slicer brings has no types of its own: anything may be asked of it.
from typing import Any

def __getattr__(name: str) -> Any: ...
