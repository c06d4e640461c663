"""A small test host that gives an unchanged scripted module what a Slicer application gives it.

Qt comes from PySide6 with PythonQt's conventions, MRML from slicer-core, views from trame-slicer; the rest is imitated,
each part with the file of Slicer, CTK or PythonQt that it follows. What the host does not know raises.
"""

from .core import Host, start

__all__ = ["Host", "start"]
