"""Nodes that another node refers to in a role of its own: what is checked in a list, saved with the scene."""

from __future__ import annotations

from collections.abc import Iterable


def referencedIds(node, role: str) -> set[str]:
    """IDs of the nodes that it refers to, whether they are there or not."""
    return {node.GetNthNodeReferenceID(role, n) for n in range(node.GetNumberOfNodeReferences(role))}


def refer(node, role: str, others: Iterable) -> None:
    """Refer to these nodes and no others."""
    node.RemoveNodeReferenceIDs(role)
    for one in others:
        node.AddNodeReferenceID(role, one.GetID())


__all__ = ["refer", "referencedIds"]
