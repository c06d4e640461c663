"""Other programs for the tests: an environment of their own, made by `make test-all` from tools.txt."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


def tools_python() -> str:
    """The Python that has antspyx, itk-elastix and picsl-greedy; skips where it is not there."""
    named = os.environ.get("CARLREG_TOOLS_PYTHON")
    python = (
        Path(named)
        if named
        else Path(sys.prefix) / "tools" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    )
    if not python.is_file():
        pytest.skip(
            "the tools' environment is not there: `make test-all` makes it from Testing/engine/formats/tools.txt, "
            "where antspyx, itk-elastix and picsl-greedy have wheels; or name a Python: CARLREG_TOOLS_PYTHON"
        )
    return str(python)


def run_jobs(jobs: list[dict], folder: Path) -> None:
    """Run jobs of one tool in one process; their own errors are told by `require_tool`."""
    listing = folder / f"jobs_{jobs[0]['tool']}_{len(list(folder.glob('jobs_*')))}.json"
    listing.write_text(json.dumps(jobs))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1", "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [tools_python(), str(HERE / "tool_runner.py"), str(listing)],
        capture_output=True,
        text=True,
        timeout=1200,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def require_tool(job: dict) -> None:
    """Skips where the tool of a job is not installed; an error of its own fails the test."""
    file = Path(job["out_points"]).with_suffix(".error")
    error = file.read_text() if file.is_file() else None
    if error is not None and error.startswith("ModuleNotFoundError"):
        pytest.skip(f"{job['tool']} has no wheel for this platform: {error}")
    assert error is None, error
