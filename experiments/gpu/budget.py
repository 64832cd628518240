"""What every part of ``make gpu`` is given: where to run, how large, and for how long."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch

__all__ = ["Budget", "Setting", "spread", "wait_for"]


@dataclass(frozen=True)
class Setting:
    """Where to run.

    Args:
        device: the accelerator.
        tiny: the sizes of a test of the script itself; nothing is compiled.
        data: a folder with ``cifar10_a.npz`` and ``imgpack.py``, which reads it; None for synthetic images.
    """

    device: torch.device
    tiny: bool = False
    data: Path | None = None


@dataclass(frozen=True)
class Budget:
    """Seconds from now on."""

    seconds: float
    start: float = field(default_factory=time.perf_counter)

    @property
    def left(self) -> float:
        return self.seconds - (time.perf_counter() - self.start)

    @property
    def spent(self) -> bool:
        return self.left <= 0


def wait_for(device: torch.device) -> None:
    """Return when the device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def spread(values: list[float]) -> dict[str, Any]:
    """Median, smallest, largest and number, as a row has them."""
    return {"median": median(values), "least": min(values), "most": max(values), "n": len(values)}
