"""The networks by name, as plain data: titles, weights, licenses and costs. Needs neither torch nor NumPy.

The panel, the estimates of `resources` and the registry of networks all read it here; what a network is made of says
`registry.COMPOSITIONS`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError

WEIGHTS_FOLDER = Path(__file__).resolve().parent.parent / "weights"
CHECKSUMS = "checksums.json"

_CARL = (
    "H. Greer, L. Tian, F.-X. Vialard, R. Kwitt, R. San Jose Estepar, M. Niethammer: CARL: A Framework for "
    "Equivariant Image Registration. CVPR 2025."
)
_NEPHI = (
    "L. Tian, H. Greer, R. San Jose Estepar, R. Sengupta, M. Niethammer: NePhi: Neural Deformation Fields for "
    "Approximately Diffeomorphic Medical Image Registration. ECCV 2024."
)
_EOIR = (
    "X. Chen, R. Hu, J. Zhang, Y. Zhang, X. Yu, M. Liu, Y. Wang, H. Zhang: Encoder-Only Image Registration. IEEE "
    "Transactions on Circuits and Systems for Video Technology, 2026."
)
_GRADICON = (
    "L. Tian, H. Greer, F.-X. Vialard, R. Kwitt, R. San Jose Estepar, R. Rushmore, N. Makris, S. Bouix, M. Niethammer: "
    "GradICON: Approximate Diffeomorphisms via Gradient Inverse Consistency. CVPR 2023."
)
_CONSTRICON = (
    "H. Greer, L. Tian, F.-X. Vialard, R. Kwitt, S. Bouix, R. San Jose Estepar, R. Rushmore, M. Niethammer: Inverse "
    "Consistency by Construction for Multistep Deep Registration. MICCAI 2023."
)
_NO_PAPER_WEIGHTS = (
    "No official CARL weights are published. Give a state dict of the authors' network (`regis_net.state_dict()` of "
    "icon_registration) that you trained or were given."
)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a network costs, measured on two CPU cores.

    At a grid of 128 voxels for networks that take any size, of a head. memory_mb: of a prediction. extra_seconds: of a
    prediction, beyond the default model's; negative for quicker ones. step_seconds, optimizing_mb: of one optimization
    step of the network's weights. largest_grid: from which on a larger grid makes no difference; None = none.
    """

    memory_mb: float
    extra_seconds: float
    step_seconds: float
    optimizing_mb: float
    largest_grid: int | None = None


_COMPACT_COST = Cost(memory_mb=900.0, extra_seconds=0.0, step_seconds=50.0, optimizing_mb=15000.0)
_NEPHI_COST = Cost(memory_mb=600.0, extra_seconds=0.0, step_seconds=115.0, optimizing_mb=75000.0, largest_grid=96)
_UNET_COST = Cost(memory_mb=900.0, extra_seconds=0.0, step_seconds=20.0, optimizing_mb=8000.0)
_EOIR_COST = Cost(memory_mb=600.0, extra_seconds=-3.0, step_seconds=15.0, optimizing_mb=5500.0)
_CONSTRICON_COST = Cost(memory_mb=1000.0, extra_seconds=5.0, step_seconds=50.0, optimizing_mb=16500.0)
_PUBLISHED_COST = Cost(memory_mb=6000.0, extra_seconds=80.0, step_seconds=40.0, optimizing_mb=24000.0)


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """One entry of the catalog.

    title: for a list to choose from. summary: one line on what it is. good_for: one line on when to choose it.
    published_weights: for weights that others published: in their coordinates (`align_corners`), images stretched to
        `trained_shape_dhw`. trained_shape_dhw: None for a network that takes any size.
    inverse_consistent: exchanging the images gives exactly the inverse map, whatever the weights.
    normalization: what the training did to intensities (`ct-mr`: CT clamped to [-1000, 1000], MR minimum to 99th
        percentile; `maximum`: divided by the maximum; `eoir`: CT clamped to
        [-500, 800], MR as `maximum`; `compact`: the engine's own).
    parameters: of the whole network. attention_parameters: of its attention alone, 0 without.
    weights: where they come from. license: of the weights. citation: who made it.
    """

    name: str
    title: str
    summary: str
    good_for: str
    published_weights: bool
    trained_shape_dhw: tuple[int, int, int] | None = None
    normalization: str = "compact"
    inverse_consistent: bool = False
    parameters: int
    attention_parameters: int
    weights: str
    license: str
    citation: str
    cost: Cost

    @property
    def shipped_file(self) -> Path | None:
        """The weights file inside the package, when there is one."""
        path = WEIGHTS_FOLDER / f"{self.name}.safetensors"
        return path if path.is_file() else None

    @property
    def shipped(self) -> bool:
        return self.shipped_file is not None

    @property
    def sha256(self) -> str | None:
        """Of the shipped file; None for a user's own."""
        return checksums().get(f"{self.name}.safetensors")


def checksums() -> dict[str, str]:
    """SHA-256 by name of each file that the package's weights folder ships."""
    path = WEIGHTS_FOLDER / CHECKSUMS
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _compact(name: str, summary: str, good_for: str) -> ModelInfo:
    return ModelInfo(
        name=name,
        title=name,
        summary=summary,
        good_for=good_for,
        published_weights=False,
        parameters=1_065_099,
        attention_parameters=771_937,
        weights="Shipped with carlreg.",
        license="Apache-2.0",
        citation=_CARL,
        cost=_COMPACT_COST,
    )


def _paper(
    name: str,
    title: str,
    summary: str,
    region: str,
    shape: tuple[int, int, int],
    *,
    parameters: int,
    attention_parameters: int,
) -> ModelInfo:
    return ModelInfo(
        name=name,
        title=title,
        summary=summary,
        good_for=f"The published network for {region}, with weights that you have, to repeat the paper or to compare",
        published_weights=True,
        trained_shape_dhw=shape,
        normalization="maximum",
        weights=_NO_PAPER_WEIGHTS,
        license="the weights' own",
        citation=_CARL,
        cost=_PUBLISHED_COST,
        parameters=parameters,
        attention_parameters=attention_parameters,
    )


def _gradicon(name: str, title: str, summary: str, good_for: str, release: str, citation: str) -> ModelInfo:
    return ModelInfo(
        name=name,
        title=title,
        summary=summary,
        good_for=good_for,
        published_weights=True,
        trained_shape_dhw=(175, 175, 175),
        normalization="ct-mr",
        parameters=70_680_916,
        attention_parameters=0,
        weights=f"Download https://github.com/uncbiag/uniGradICON/releases/download/{release}/Step_2_final.trch",
        license="MIT (uniGradICON project)",
        citation=citation,
        cost=_PUBLISHED_COST,
    )


MODELS: dict[str, ModelInfo] = {
    info.name: info
    for info in (
        _compact(
            "carl-compact",
            "Coordinate attention at 1/8 resolution, local attention at 1/4 and 1/2; the default",
            "The first choice: scans in similar poses, however far apart and whatever part of the body each shows",
        ),
        _compact(
            "carl-compact-rotation",
            "As carl-compact, with an encoder equivariant to turns by 180 degrees, trained with turned pairs",
            "Scans turned against each other by any angle, with the rotation mode",
        ),
        ModelInfo(
            name="eoir",
            title="eoir",
            summary="Encoder-only: refines the best affine map; quick and small, for pairs that differ little in pose",
            good_for="Scans that differ little in pose, where a network of a fifth of the size is wanted",
            published_weights=False,
            parameters=190_974,
            attention_parameters=0,
            weights="Shipped with carlreg. Checkpoints of the public code (https://github.com/XiangChen1994/EOIR) can "
            "be given, too.",
            license="Apache-2.0",
            citation=_EOIR,
            cost=_EOIR_COST,
        ),
        ModelInfo(
            name="nephi",
            title="nephi",
            summary="Neural deformation field: what windows match becomes codes, codes a map; refines the best affine",
            good_for="Scans that differ little in pose, where the network's map is wanted as a function of points",
            published_weights=False,
            parameters=353_855,
            attention_parameters=0,
            weights="Shipped with carlreg.",
            license="Apache-2.0",
            citation=_NEPHI,
            cost=_NEPHI_COST,
        ),
        ModelInfo(
            name="gradicon-compact",
            title="gradicon-compact",
            summary="GradICON's arrangement of U-Nets, small, without attention: refines the best affine map",
            good_for="Comparing: what U-Nets without attention find from the same start",
            published_weights=False,
            parameters=4_807_287,
            attention_parameters=0,
            weights="Train it (carlreg train run, gradicon.toml).",
            license="Apache-2.0",
            citation=_GRADICON,
            cost=_UNET_COST,
        ),
        _paper(
            "carl-paper-abdomen",
            "CARL as published, abdomen",
            "CARL as published for abdomen CT (Learn2Reg, Abdomen1K): attention at 1/4 resolution, three U-Nets",
            "abdomen CT",
            (175, 175, 175),
            parameters=56_997_503,
            attention_parameters=3_986_816,
        ),
        _paper(
            "carl-paper-brain",
            "CARL as published, brain and lung",
            "CARL as published for brain MR and lung CT: as for the abdomen, joined in another order",
            "brain MR and lung CT",
            (130, 155, 130),
            parameters=56_997_503,
            attention_parameters=3_986_816,
        ),
        _paper(
            "carl-paper-rotation",
            "CARL with rotations, as published",
            "CARL{ROT} as published: an encoder equivariant to turns by 180 degrees",
            "turned brains and lungs",
            (130, 155, 130),
            parameters=58_324_991,
            attention_parameters=5_314_304,
        ),
        _gradicon(
            "unigradicon",
            "uniGradICON",
            "GradICON trained on many regions, CT and MR (four U-Nets, no attention)",
            "CT or MR of many regions by a network trained on real scans, where both show the same part of the body",
            "unigradicon_weights",
            "L. Tian, H. Greer, R. Kwitt, F.-X. Vialard, R. San Jose Estepar, S. Bouix, R. Rushmore, M. Niethammer: "
            "uniGradICON: A Foundation Model for Medical Image Registration. MICCAI 2024.",
        ),
        _gradicon(
            "multigradicon",
            "multiGradICON",
            "As unigradicon, trained across modalities",
            "As unigradicon, for scans of different modalities (CT to MR, T1 to T2)",
            "multigradicon_weights",
            "B. Demir, L. Tian, H. Greer, R. Kwitt, F.-X. Vialard, R. San Jose Estepar, S. Bouix, R. Rushmore, "
            "E. Ebrahim, M. Niethammer: multiGradICON: A Foundation Model for Multimodal Medical Image Registration. "
            "WBIR 2024.",
        ),
        ModelInfo(
            name="eoir-paper",
            title="EOIR as published",
            summary="EOIR as published: 8, 16 or 32 channels and the images' shape as the weights file tells",
            good_for="What a checkpoint of the public code was trained with: LUMIR's brains, the abdomen, ACDC",
            published_weights=True,
            trained_shape_dhw=(192, 224, 160),
            normalization="eoir",
            parameters=909_232,
            attention_parameters=0,
            weights="Give a checkpoint of the public code (https://github.com/XiangChen1994/EOIR).",
            license="the weights' own",
            citation=_EOIR,
            cost=_PUBLISHED_COST,
        ),
        ModelInfo(
            name="constricon",
            title="constricon",
            summary="ConstrICON of local attention: exchanging the images gives exactly the inverse map",
            good_for="Studies over time and atlases, where neither scan is the one to be fixed; similar poses",
            published_weights=False,
            inverse_consistent=True,
            parameters=586_324,
            attention_parameters=0,
            weights="Shipped with carlreg.",
            license="Apache-2.0",
            citation=_CONSTRICON,
            cost=_CONSTRICON_COST,
        ),
        ModelInfo(
            name="constricon-paper",
            title="ConstrICON as published",
            summary="ConstrICON as published: two affine steps and two velocity fields, inverse consistent",
            good_for="The published network, with weights that you have, to repeat the paper or to compare",
            published_weights=True,
            trained_shape_dhw=(130, 155, 130),
            normalization="maximum",
            inverse_consistent=True,
            parameters=45_087_194,
            attention_parameters=0,
            weights="No official ConstrICON weights are published. Give a state dict of the authors' network "
            "(`regis_net.state_dict()` of icon_registration) that you trained or were given.",
            license="the weights' own",
            citation=_CONSTRICON,
            cost=_PUBLISHED_COST,
        ),
    )
}


def model_info(name: str) -> ModelInfo:
    """The catalog's entry. Raises InputError for an unknown name."""
    if name not in MODELS:
        raise InputError(f"Model: expected one of {', '.join(MODELS)}; got {name!r}.")
    return MODELS[name]
