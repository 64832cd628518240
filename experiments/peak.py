"""The most memory that something takes, above what was held before it.

On a CUDA device it is what torch has allocated there at most, exactly. On a CPU it is the resident set of the process, which is
looked at every few milliseconds; where the process has never been as large before, the operating system's own maximum says
exactly how large it became. Beyond the tensors it holds whatever else the process needs for the work, a compiler for example.
Where a process did other work before, memory that was freed then may be used again: compare runs in processes of their own.
"""

import re
import sys
import threading
from pathlib import Path
from types import TracebackType

import psutil
import torch

__all__ = ["Peak"]

SECONDS_BETWEEN_LOOKS = 0.01


class Peak:
    """``with Peak(device) as peak: ...; peak.bytes``: the most that was held in the block so far, less what was held before it.

    Args:
        device: whose memory.
        seconds: between two looks at the resident set.
        before: bytes of an earlier part of the same work, below which the answer does not fall.
    """

    def __init__(self, device: torch.device, seconds: float = SECONDS_BETWEEN_LOOKS, before: int = 0) -> None:
        self.device, self.seconds, self.before = device, seconds, before
        self._done, self._watcher = threading.Event(), threading.Thread(target=self._watch, daemon=True)

    @property
    def measured(self) -> str:
        """What the number is, in words."""
        if self.device.type == "cuda":
            return f"allocated by torch on {self.device}, at most, above the start"
        return "resident set of the process, at most, above the start"

    @property
    def bytes(self) -> int:
        """The answer so far."""
        if self.device.type == "cuda":
            return max(self.before, torch.cuda.max_memory_allocated(self.device) - self._start)
        self._look()
        ever = _largest_ever()
        highest = max(self._seen, ever) if ever > self._largest_before else self._seen
        return max(self.before, highest - self._start)

    @property
    def held(self) -> int:
        """What is held now, less what was held before the block."""
        if self.device.type == "cuda":
            return torch.cuda.memory_allocated(self.device) - self._start
        return psutil.Process().memory_info().rss - self._start

    def __enter__(self) -> "Peak":
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._start = torch.cuda.memory_allocated(self.device)
            return self
        self._largest_before = _largest_ever()
        self._start = self._seen = psutil.Process().memory_info().rss
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.device.type != "cuda":
            self._done.set()
            self._watcher.join()

    def _look(self) -> None:
        self._seen = max(self._seen, psutil.Process().memory_info().rss)

    def _watch(self) -> None:
        while not self._done.wait(self.seconds):
            self._look()


def _largest_ever() -> int:
    """The largest resident set that this process has had; 0 where the system does not say. (On Linux, getrusage would also
    count the process that started this one.)"""
    if sys.platform == "linux":
        status = Path("/proc/self/status")
        found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text(encoding="utf-8")) if status.exists() else None
        return 1024 * int(found[1]) if found else 0
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else 1024 * largest
