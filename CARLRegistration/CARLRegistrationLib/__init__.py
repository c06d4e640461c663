"""The Slicer side of CARLRegistration: panel, nodes and the engine's process. Never imports torch."""
