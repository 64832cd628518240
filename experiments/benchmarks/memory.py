"""Memory: the peak above what was held before, each in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable

import torch

from experiments.peak import Peak

__all__ = ["extra_megabytes", "peak_megabytes"]


def extra_megabytes(module: str, *arguments: object) -> float:
    """What ``python -m module arguments`` prints: the :func:`peak_megabytes` of something, in a new process."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    # Makes glibc give freed blocks back, so that memory held by an earlier computation hides nothing.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    return float(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


def peak_megabytes(action: Callable[[], object]) -> float:
    """How far resident memory rises above where it is now while ``action`` runs and its result is held."""
    with Peak(torch.device("cpu"), seconds=0.0005) as peak:
        kept = action()
        highest = peak.bytes
        del kept
    return highest / 2**20
