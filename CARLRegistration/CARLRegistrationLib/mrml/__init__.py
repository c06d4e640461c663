"""Nodes of the scene: volumes, transforms, colors, hierarchy. The only place where RAS becomes LPS and back."""
