"""The one place that decides what is compiled.

Components stay pure and uncompiled. Compilation costs some ten seconds a function, so it is worth it only for work that takes
longer than that: short runs and tests stay eager. Without a working compiler the same functions run eagerly, with a warning.
"""

import warnings
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch

from discrepancy.errors import PerformanceWarning
from discrepancy.parts import check_choice

__all__ = ["Compiled", "Policy", "compiles", "eager_seconds"]

Policy = Literal["auto", "always", "never"]

WORTHWHILE_SECONDS = 90.0
"""Estimated eager work above which ``auto`` compiles: compiling takes 10 to 25 s and halves the rest."""

VERSIONS = 64
"""Compiled versions of one function that a process holds. Torch shares them among all that call it, and gives up at eight: a
sweep over sizes would end there."""

MULTIPLICATIONS_PER_SECOND = {"cpu": 1.5e10, "cuda": 5e12}
"""Eager convolutional networks on a laptop's core, and on a data-centre GPU: an order of magnitude for estimates."""


def eager_seconds(multiplications: float, device: torch.device | str = "cpu") -> float:
    """A rough estimate of the time that so many multiply-accumulates of a network take without compilation."""
    kind = torch.device(device).type
    rate = MULTIPLICATIONS_PER_SECOND.get(kind, MULTIPLICATIONS_PER_SECOND["cuda"])
    return multiplications / (rate * (torch.get_num_threads() if kind == "cpu" else 1))


def compiles(policy: Policy, seconds: float, device: torch.device | str = "cpu") -> bool:
    """Whether to compile: ``auto`` does when ``seconds`` of eager work make it worthwhile; warns if a compiler is missing."""
    check_choice("compile", policy, get_args(Policy))
    if policy == "never" or (policy == "auto" and seconds < WORTHWHILE_SECONDS):
        return False
    reason = _missing_compiler(torch.device(device))
    if reason is not None:
        _warn(reason)
    return reason is None


class Compiled:
    """A compiled function that falls back to the plain one, once and with a warning, if the compiler fails.

    The function must be pure, take tensors of one fixed shape, and be called in one gradient mode."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.plain = function
        self.fast: Callable[..., Any] | None = torch.compile(function, fullgraph=True, dynamic=False)

    def __call__(self, *arguments: Any) -> Any:
        if self.fast is None:
            return self.plain(*arguments)
        from torch._dynamo import config, exc  # takes longer to import than all the rest of torch

        # The second is the name of the limit up to torch 2.6.
        limit = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"
        try:
            with config.patch({limit: VERSIONS}):
                return self.fast(*arguments)
        except (exc.TorchDynamoException, exc.FailOnRecompileLimitHit) as error:
            self.fast = None
            _warn(" ".join(str(error).split("\n")[:2]).strip())
            return self.plain(*arguments)


def _missing_compiler(device: torch.device) -> str | None:
    """Why inductor cannot compile for this device; None if it can."""
    if device.type != "cpu":
        return None
    from torch._inductor import cpp_builder, exc

    try:
        cpp_builder.get_cpp_compiler()
    except (exc.InvalidCxxCompiler, RuntimeError) as error:
        return str(error).strip().splitlines()[0]
    return None


def _warn(reason: str) -> None:
    warnings.warn(
        f"running without compilation, about twice as slow: {reason}; install a C++ compiler (g++ or clang) or set CXX, "
        "or pass compile='never' to silence this",
        PerformanceWarning,
        stacklevel=4,
    )
