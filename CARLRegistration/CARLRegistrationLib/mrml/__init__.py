"""Nodes of the scene: volumes, transforms, colors, hierarchy. The only place where RAS appears."""
