"""Where and how everything is computed, as one value."""

from dataclasses import dataclass
from typing import Any, get_args

import torch

from discrepancy.errors import InvalidInput
from discrepancy.parts import check_choice, fits
from objectives.data.cache import Cache
from objectives.engine.compile import Policy, compiles
from objectives.engine.memory import available_bytes

__all__ = ["Runtime", "as_device", "rounding"]


def as_device(device: Any) -> torch.device:
    """The device of this name.

    Raises:
        InvalidInput: if torch knows none of it.
    """
    try:
        return torch.device(device)
    except (RuntimeError, TypeError):
        raise InvalidInput(f"'device' must be a device of torch, such as cpu or cuda:0, got {device!r}") from None


def rounding(device: torch.device) -> dict[str, Any]:
    """What the last bits of a result depend on, beside its inputs and the code: the device, the precision of matrix products,
    and on a CPU torch's code for the processor and the number of threads."""
    if device.type == "cuda":
        return {"device": torch.cuda.get_device_name(device), "precision": torch.get_float32_matmul_precision()}
    return {
        "device": device.type,
        "precision": torch.get_float32_matmul_precision(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }


@dataclass(frozen=True)
class Runtime:
    """Seed, device and precision of a computation, what is compiled, and how much memory it may take.

    Args:
        seed: of all the random streams.
        device: ``cpu``, ``cuda``, ``cuda:1``, ...
        dtype: of everything that is computed and stored: ``torch.float32``, or ``torch.float64`` where exactness is the point.
        compile: ``auto`` compiles networks where that saves time, ``always``, or ``never``.
        memory: bytes that may be used; None for what is free.
        cache: where real examples that take long to change are kept between runs; None for nowhere.
        rank: the number of this process, of ``world`` that work together.
        world: the number of processes. More than one need a real side that is divided among them.

    Raises:
        InvalidInput: for an unknown policy, another precision, no memory, or a rank that is not below ``world``.
    """

    seed: int = 0
    device: torch.device = torch.device("cpu")  # noqa: RUF009  (a constant)
    dtype: torch.dtype = torch.float32
    compile: Policy = "auto"
    memory: int | None = None
    cache: Cache | None = None
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "device", as_device(self.device))
        if not fits(self.seed, int):
            raise InvalidInput(f"'seed' must be a whole number, got {self.seed!r}")
        if self.dtype not in (torch.float32, torch.float64):
            raise InvalidInput(f"'dtype' must be torch.float32 or torch.float64, got {self.dtype!r}")
        check_choice("compile", self.compile, get_args(Policy))
        if self.memory is not None and self.memory < 1:
            raise InvalidInput(f"'memory' must be at least 1 byte, got {self.memory}")
        if not 0 <= self.rank < self.world:
            raise InvalidInput(f"'rank' must lie in 0 .. {self.world - 1} for a world of {self.world}, got {self.rank}")

    @property
    def free_bytes(self) -> int:
        """Bytes that may be allocated now."""
        free = available_bytes(self.device)
        return free if self.memory is None else min(free, self.memory)

    def compiles(self, seconds: float) -> bool:
        """Whether so many seconds of eager work are to be compiled; warns if that pays and there is no compiler."""
        return compiles(self.compile, seconds, self.device)
