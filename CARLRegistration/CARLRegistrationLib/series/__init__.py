"""The Series section: the frames of a sequence or of files, and what becomes of them over time in the scene."""
