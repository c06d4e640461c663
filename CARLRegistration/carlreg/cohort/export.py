"""A study as work for other schedulers: a Snakefile, or a SLURM array job. Each runs one pair by itself."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

from ..atomic import staged_file
from .study import Study

KINDS = ("snakemake", "slurm-array")
_FILES = {"snakemake": "Snakefile", "slurm-array": "cohort.sbatch"}


def write_export(study: Study, kind: str, memory_mb: float) -> Path:
    """Write the file into the study's folder and return its path. memory_mb: of the largest pair."""
    target = study.folder / _FILES[kind]
    text = (_snakefile if kind == "snakemake" else _array_job)(study, memory_mb)
    with staged_file(target, final=False) as written:
        written.write_text(text, encoding="utf-8")
    return target


def _command(study: Study) -> str:
    return f"{shlex.quote(sys.executable)} -m carlreg cohort {shlex.quote(str(study.folder))}"


def _snakefile(study: Study, memory_mb: float) -> str:
    names = json.dumps([pair.name for pair in study.pairs], indent=4)
    folder = json.dumps(study.folder.as_posix())
    command = json.dumps(_command(study).replace("{", "{{").replace("}", "}}"))[1:-1]
    return f'''# snakemake --snakefile {_FILES["snakemake"]} --cores all --keep-going
# One pair is one job, which may be killed and begun again at any time.
STUDY = {folder}
PAIRS = {names}


rule all:
    input:
        STUDY + "/summary.html",


rule pair:
    output:
        STUDY + "/pairs/{{pair}}/pair.json",
    threads: {study.threads}
    resources:
        mem_mb={int(memory_mb) + 500},
    shell:
        "{command} --pair {{wildcards.pair}} --progress none"


rule summary:
    input:
        expand(STUDY + "/pairs/{{pair}}/pair.json", pair=PAIRS),
    output:
        STUDY + "/summary.html",
    shell:
        "{command} --summary"
'''


def _array_job(study: Study, memory_mb: float) -> str:
    last = len(study.pairs) - 1
    return f"""#!/bin/bash
# sbatch {_FILES["slurm-array"]}; when all have ended: {_command(study)} --summary
#SBATCH --job-name=carlreg
#SBATCH --array=0-{last}
#SBATCH --cpus-per-task={study.threads}
#SBATCH --mem={int(memory_mb) + 500}M
#SBATCH --time=01:00:00
#SBATCH --output={shlex.quote(os.path.join(str(study.folder), "slurm-%A_%a.log"))}
set -euo pipefail
exec {_command(study)} --pair "#$SLURM_ARRAY_TASK_ID" --progress none
"""
