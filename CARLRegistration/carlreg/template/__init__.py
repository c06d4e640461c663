"""Templates: the mean of a group's images, or of one person's time points, in the mean of their shapes."""

from .build import Member, Template, TemplateSettings, build, members_of, read_members
from .changes import change_rows, write_changes

__all__ = [
    "Member",
    "Template",
    "TemplateSettings",
    "build",
    "change_rows",
    "members_of",
    "read_members",
    "write_changes",
]
