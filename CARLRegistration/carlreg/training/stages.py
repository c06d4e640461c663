"""The kinds of training by name."""

from __future__ import annotations

from ..errors import InputError
from .attention_stage import AttentionStage
from .images_stage import ImagesStage
from .joint_stage import EverythingStage
from .refinement_stage import RefinementStage
from .similarity_stage import SimilarityStage
from .stage import Stage

STAGES: dict[str, type[Stage]] = {
    stage.Settings.kind: stage
    for stage in (AttentionStage, RefinementStage, EverythingStage, SimilarityStage, ImagesStage)
}


def stage_class(kind: object) -> type[Stage]:
    """The stage of a name. Raises InputError."""
    if not isinstance(kind, str) or kind not in STAGES:
        raise InputError(f"stage.kind: expected one of {', '.join(STAGES)}; got {kind!r}.")
    return STAGES[kind]
