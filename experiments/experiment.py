"""A whole experiment as one frozen value: what is read from a configuration file and stored with its result."""

from dataclasses import dataclass
from typing import Literal

import torch

from discrepancy.errors import InvalidInput
from experiments.data.base import Source
from objectives.compilation import Policy
from objectives.contexts import Context
from objectives.objective import Objective
from objectives.solvers import Problem, Solver
from objectives.synthetic import Parameterisation, Pixels

__all__ = ["Experiment", "Method", "chosen_device"]


@dataclass(frozen=True, kw_only=True)
class Method:
    """What a configuration says of its origin; nothing of it changes what is computed."""

    name: str
    title: str = ""
    source: str = ""
    idea: str = ""
    published: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """min over S of the objective, on these data, with this solver."""

    data: Source
    objective: Objective
    context: Context
    solver: Solver
    synthetic: Parameterisation = Pixels()  # noqa: RUF009  (frozen, like every part)
    method: Method | None = None
    seed: int = 0
    device: str = "auto"
    compile: Literal["auto", "always", "never"] = "auto"

    def __post_init__(self) -> None:
        chosen_device(self.device)

    @property
    def title(self) -> str:
        """A short name for folders and pictures."""
        return self.method.name if self.method else "run"

    def problem(self) -> Problem:
        """The data loaded, and everything ready to be solved."""
        policy: Policy = self.compile
        return Problem(
            self.data.load(),
            self.objective,
            self.context,
            self.synthetic,
            self.seed,
            chosen_device(self.device),
            policy,
        )


def chosen_device(name: str) -> torch.device:
    """``auto`` is a CUDA device where there is one, else the CPU.

    Raises:
        InvalidInput: on an unknown name, or a device that this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidInput(f"'device' must be auto, cpu, cuda or cuda:NUMBER, got '{name}'") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InvalidInput(f"'device' is {name}, but torch sees no CUDA device here; use auto or cpu")
    return device
