"""The similarities by name: the one place that says what a name means (`settings.SIMILARITIES` only lists them)."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """What makes two images alike.

    descriptors: the images' self-similarity is compared (MIND-SSC), which means the same between contrasts; otherwise
        their intensities, by local correlation (LNCC).
    squared: local correlation is squared, so that inverted contrast counts as well; of descriptors too, where an affine
        is looked for (it can make descriptors equal by collapsing onto a flat place).
    """

    name: str
    descriptors: bool
    squared: bool


SIMILARITIES = {
    similarity.name: similarity
    for similarity in (
        Similarity(name="lncc", descriptors=False, squared=False),
        Similarity(name="lncc2", descriptors=False, squared=True),
        Similarity(name="mind", descriptors=True, squared=True),
    )
}


def similarity_named(name: str) -> Similarity:
    """The similarity of a name. Raises InputError that lists the known ones."""
    if name not in SIMILARITIES:
        raise InputError(f"Similarity: expected one of {', '.join(SIMILARITIES)}; got {name!r}.")
    return SIMILARITIES[name]
