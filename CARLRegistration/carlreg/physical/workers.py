"""Chunks of work on a few threads, each with single-threaded PyTorch.

Threads that share every small operation wait for each other thousands of times, and for long where the machine has
other work; threads with chunks of their own do not. Results do not depend on the number of threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch


def in_threads(work: Callable, items: Iterable[tuple]) -> Iterator[Any]:
    """`work(*item)` for all items, results in their order; as many threads as PyTorch was given."""
    threads = torch.get_num_threads()
    if threads == 1:
        for item in items:
            yield work(*item)
        return
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    waiting: deque = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, *item))
            if len(waiting) >= 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(threads)
