"""The Apply section: one transform on many nodes."""
