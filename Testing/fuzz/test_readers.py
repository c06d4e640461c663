"""Damaged files are refused in words or read as something a file can mean, whatever the damage."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from .mutate import mutated
from .readers import ACCEPTED, READERS, Absurd, Reader

# Some readers start a process, or read many files: few examples there.
SLOW = {name: 4 for name in READERS if name.startswith(("surface", "result", "dicom", "weights", "nrrd", "nifti-pair"))}
EXAMPLES = 30


@pytest.mark.parametrize("name", READERS)
def test_right_files_are_accepted(name):
    reader = READERS[name]
    for variant, files in enumerate(reader.variants):
        assert reader.attempt(files[reader.damaged], variant) == ACCEPTED


@pytest.mark.parametrize("name", READERS)
def test_damaged_files(name):
    reader = READERS[name]

    @settings(
        max_examples=SLOW.get(name, EXAMPLES),
        derandomize=True,
        deadline=None,
        phases=[Phase.explicit, Phase.generate] if name in SLOW else list(Phase),
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def refused_or_plausible(data):
        variant = data.draw(st.integers(0, len(reader.variants) - 1))
        right = reader.variants[variant][reader.damaged]
        reader.attempt(mutated(right, lambda n: data.draw(st.integers(0, n - 1))), variant)

    refused_or_plausible()


def test_damage_differs():
    """The same choices make the same damage; others make others, and nearly all of it changes something."""
    import random

    right = READERS["landmarks"].variants[0]["l.csv"]
    made = [mutated(right, random.Random(seed).randrange) for seed in range(200)]
    assert made == [mutated(right, random.Random(seed).randrange) for seed in range(200)]
    assert len(set(made)) > 150
    assert sum(one == right for one in made) < 20
    assert any(one != other for one, other in pairwise(made))


def test_faults_are_seen():
    """A reader that breaks, and one that accepts nonsense, are told from one that refuses."""
    files = lambda: [{"x.bin": b"right"}]  # noqa: E731

    def breaks(path):
        raise KeyError("no words")

    def judge(found):
        raise Absurd("nonsense")

    with pytest.raises(KeyError):
        Reader("breaks", "x.bin", files, breaks).attempt(b"wrong")
    with pytest.raises(Absurd):
        Reader("absurd", "x.bin", files, lambda path: path.read_bytes(), judge).attempt(b"wrong")
