"""The Apply section: one transform on many nodes. From Python: `apply(ApplyJob(nodes, transform))`."""

from .run import ApplyJob, apply

__all__ = ["ApplyJob", "apply"]
