"""Threads sleep while they wait wherever the engine loads PyTorch, and the caller's environment stays as it was."""

import os
import subprocess
import sys

import pytest

# OpenMP says what it goes by when it is loaded (OMP_DISPLAY_ENV), on standard error.
PROGRAM = """
import os, sys
import carlreg
assert "torch" not in sys.modules
carlreg.register
print(os.environ.get("OMP_WAIT_POLICY"))
"""


@pytest.mark.cold_start
@pytest.mark.skipif(sys.platform != "linux", reason="asks GNU's OpenMP library")
@pytest.mark.parametrize("given", [None, "active"])
def test_the_engine_loads_openmp_with_passive_waits_unless_told_otherwise(given):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_DISPLAY_ENV": "true"} | ({} if given is None else {"OMP_WAIT_POLICY": given})
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, check=True)
    assert ran.stdout.split() == [str(given)]
    assert f"OMP_WAIT_POLICY = '{'PASSIVE' if given is None else 'ACTIVE'}'" in ran.stderr
