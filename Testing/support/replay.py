"""`python -m support.replay RECORDING STAGE`: the process of a job that was recorded (recorded_jobs.py).

Says the recorded progress, puts the recorded result where the engine would, and ends with 0. A cancel on standard
input, or its end, ends it with 3. STAGE: there it waits to be ended, or to be asked to stop there; "" for none.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path

_CANCELLED = 3
_stop_here = threading.Event()


def _obey() -> None:
    for line in sys.stdin:
        if line.strip() == "cancel":
            break
        if line.strip() == "stop":
            _stop_here.set()
    os._exit(_CANCELLED)


def main(recording: Path, stage: str) -> None:
    threading.Thread(target=_obey, daemon=True).start()
    for line in (recording / "progress.jsonl").read_text(encoding="utf-8").splitlines():
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        record = json.loads(line)
        if stage and record["stage"] == stage and record["message"].startswith("step "):
            _stop_here.wait(600)
            stage = ""
        time.sleep(0.01)
    shutil.copytree(recording / "result", "result")
    recorded_in = (recording / "folder.txt").read_text(encoding="utf-8")
    for path in Path("result").glob("*.json"):  # they name the files that were read
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(recorded_in, os.getcwd()), encoding="utf-8")
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
