"""The kinds of training by name."""

from __future__ import annotations

from .attention_stage import AttentionStage
from .images_stage import ImagesStage
from .joint_stage import JointStage
from .planar.stage import PlanarStage
from .refinement_stage import RefinementStage
from .similarity_stage import SimilarityStage
from .stage import Stage

STAGES: dict[str, type[Stage]] = {
    "attention": AttentionStage,
    "refinement": RefinementStage,
    "joint": JointStage,
    "similarity": SimilarityStage,
    "images": ImagesStage,
    "planar": PlanarStage,
}
