"""One case per orientation, and its files' surroundings."""

from __future__ import annotations

import pytest

from .geometry_cases import DIRECTIONS, GeometryCase, geometry_case


@pytest.fixture(scope="session", params=list(DIRECTIONS))
def each_case(request) -> GeometryCase:
    return geometry_case(request.param)


@pytest.fixture(scope="session")
def oblique() -> GeometryCase:
    return geometry_case("oblique")
