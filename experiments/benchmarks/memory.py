"""Memory: the peak above what was held before, each in a process of its own."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import psutil

__all__ = ["extra_megabytes", "peak_megabytes"]


def extra_megabytes(module: str, *arguments: object) -> float:
    """What ``python -m module arguments`` prints: the :func:`peak_megabytes` of something, in a new process."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    # Makes glibc give freed blocks back, so that memory held by an earlier computation hides nothing.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    return float(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


def peak_megabytes(action: Callable[[], object]) -> float:
    """How far resident memory rises above where it is now while ``action`` runs and its result is held."""
    process, done = psutil.Process(), threading.Event()
    before = peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, process.memory_info().rss)
            time.sleep(0.0005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        kept = action()
    finally:
        done.set()
        watcher.join()
    peak = max(peak, process.memory_info().rss)
    del kept
    return (peak - before) / 2**20
