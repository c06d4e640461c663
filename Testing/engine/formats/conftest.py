"""One case per orientation, and its files' surroundings."""

from __future__ import annotations

import pytest

from .geometry_cases import DIRECTIONS, GeometryCase, geometry_case
from .tool_jobs import jobs_of, prepared
from .tools import run_jobs, tools_python


@pytest.fixture(scope="session", params=list(DIRECTIONS))
def each_case(request) -> GeometryCase:
    return geometry_case(request.param)


@pytest.fixture(scope="session")
def oblique() -> GeometryCase:
    return geometry_case("oblique")


@pytest.fixture(scope="session")
def tool_results(tmp_path_factory):
    """tool_results(tool): what it was asked to do, done in one process when first asked for (see tool_jobs)."""
    tools_python()
    cases = prepared(tmp_path_factory.mktemp("our_files"))
    known: dict[str, dict] = {}

    def results(tool: str) -> dict:
        if tool not in known:
            work = tmp_path_factory.mktemp(tool)
            known[tool] = jobs_of(tool, cases, work)
            run_jobs([job for _, job in known[tool].values()], work)
        return known[tool]

    return results
