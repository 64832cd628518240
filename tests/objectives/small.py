"""Small data with unequal classes, the network for them, and the one line that starts a descent."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jaxtyping
import torch

from discrepancy import MMD
from discrepancy.embeddings import Features
from discrepancy.networks import ConvNet
from objectives.contexts import Fresh
from objectives.data.labelled import LabelledData
from objectives.engine.engine import Engine
from objectives.engine.runtime import Runtime
from objectives.solvers import Descent, Problem, Solver, Solving
from objectives.synthetic.parameterisation import Decoded
from objectives.synthetic.pixels import Pixels
from objectives.terms.bound import DrawView
from objectives.terms.match import Match
from objectives.terms.objective import Summand

__all__ = ["NETWORK", "decoded", "images", "numbers_of", "problem", "start", "table", "unchecked"]

NETWORK = ConvNet(width=8, depth=2)
SIZES = (7, 11, 13)


def labels(sizes: tuple[int, ...] = SIZES) -> torch.Tensor:
    """Class numbers, not in order."""
    sorted_ = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return sorted_[torch.randperm(len(sorted_), generator=torch.Generator().manual_seed(3))]


def images(
    sizes: tuple[int, ...] = SIZES, channels: int = 1, side: int = 8, mirror: bool = True, groups: Any = None
) -> LabelledData:
    """8-bit images whose mean depends on the class."""
    y = labels(sizes)
    noise = torch.randint(0, 160, (len(y), channels, side, side), generator=torch.Generator().manual_seed(5))
    x = (noise + 20 * y[:, None, None, None]).to(torch.uint8)
    return LabelledData.of(x, y, mirror=mirror, groups=groups)


def table(sizes: tuple[int, ...] = SIZES, features: int = 5) -> LabelledData:
    """Rows of numbers whose mean depends on the class."""
    y = labels(sizes)
    x = torch.randn(len(y), features, generator=torch.Generator().manual_seed(7)) + 0.7 * y[:, None]
    return LabelledData.of(x, y)


def problem(data: LabelledData, objective: Summand | None = None, **options: Any) -> Problem:
    """Distribution matching in small, unless the options say otherwise."""
    objective = objective if objective is not None else Match(MMD(), via=Features())
    context = options.pop("context", None) or Fresh(network=NETWORK, batch=5)
    synthetic = options.pop("synthetic", None) or Pixels(per_class=2)
    runtime = Runtime(compile=options.pop("compile", "never"), **options)
    return Problem(data.train, objective.as_objective(), context, synthetic, runtime)


def start(
    data: LabelledData, objective: Summand | None = None, solver: Solver | None = None, **options: Any
) -> Solving:
    """A solution under way."""
    return (solver or Descent(lr=0.5, momentum=0.5, steps=4)).start(problem(data, objective, **options))


def decoded(some: Problem, **changes: torch.Tensor) -> Decoded:
    """The synthetic set at its start, with a gradient wanted at the points and whatever else is changed."""
    parameters = {name: value.requires_grad_(True) for name, value in some.initial().items()}
    parameters |= changes
    return some.synthetic.decode(parameters, some.layout)


@torch.no_grad()
def numbers_of(engine: Engine, view: DrawView) -> torch.Tensor:
    """The real examples of a draw, by number."""
    context = engine.bound_context
    return engine.batches.rows(engine.data, view.draw, lambda members: context.features(members, view.parameters))


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """Without the shape-checking hook, which would refuse a wrong type before the library's own words can."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)
