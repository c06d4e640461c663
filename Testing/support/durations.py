"""A table for Testing/durations.md from what `pytest --durations=0` printed: `python durations.py LOG [COUNT]`.

Prints the sums of the folders and the slowest tests, each with set-up, call and teardown together. Seconds of computing
("most computing", Testing/conftest.py) are taken where the log has them, else the clock's ("slowest durations").
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

_COMPUTED = re.compile(r"^([\d.]+)s computed in (setup|call|teardown) +(\S.*)$")
_CLOCK = re.compile(r"^([\d.]+)s (setup|call|teardown) +(\S.*)$")


def seconds_by_test(log: str) -> Counter[str]:
    """Test -> seconds."""
    for pattern in (_COMPUTED, _CLOCK):
        found = Counter()
        for match in filter(None, map(pattern.match, log.splitlines())):
            found[match[3].strip()] += float(match[1])
        if found:
            return found
    raise ValueError("no durations in it: run pytest with --durations=0")


def table(heads: tuple[str, str], rows: list[tuple[str, float]]) -> str:
    lines = [f"| {heads[0]} | {heads[1]} |", "|---|---:|"]
    # A bar in a parameter would end the cell.
    lines += [f"| `{name.replace('|', '/')}` | {seconds:.1f} |" for name, seconds in rows]
    return "\n".join(lines)


def report(log: str, count: int) -> str:
    tests = seconds_by_test(log)
    folders = Counter()
    for name, seconds in tests.items():
        parts = Path(name.partition("::")[0]).parts[1:-1]
        folders["/".join(parts) or "."] += seconds
    total = sum(tests.values())
    return "\n\n".join(
        [
            f"Together {total:.0f} s in {len(tests)} tests of 5 ms and more.",
            table(("Folder", "Seconds"), folders.most_common()),
            table(("Test", "Seconds"), tests.most_common(count)),
        ]
    )


if __name__ == "__main__":
    text = Path(sys.argv[1]).read_text(encoding="utf-8", errors="replace")
    sys.stdout.write(report(text, int(sys.argv[2]) if len(sys.argv) > 2 else 60) + "\n")
