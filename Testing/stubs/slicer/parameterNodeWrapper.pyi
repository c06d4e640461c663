from typing import Any, TypeVar

T = TypeVar("T")

def parameterNodeWrapper(cls: type[T]) -> type[T]: ...

class WithinRange:
    def __init__(self, low: float, high: float) -> None: ...

def __getattr__(name: str) -> Any: ...
