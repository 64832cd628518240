"""What the tests of new terms share: small data in double precision, a descent, and differences of values."""

import torch
from small import NETWORK, images
from torch import Tensor

from objectives.contexts import Context, Fresh
from objectives.engine.runtime import Runtime
from objectives.solvers import Problem
from objectives.synthetic.parameterisation import EXTRA, Decoded
from objectives.synthetic.pixels import Pixels
from objectives.terms.objective import Summand

__all__ = ["decoded", "differences", "problem"]


def problem(objective: Summand, context: Context | None = None, dtype: torch.dtype = torch.float64) -> Problem:
    """Two synthetic examples of each of three classes, from noise."""
    context = context or Fresh(network=NETWORK, batch=5)
    runtime = Runtime(dtype=dtype, compile="never")
    return Problem(images().train, objective.as_objective(), context, Pixels(per_class=2, start="noise"), runtime)


def decoded(some: Problem) -> Decoded:
    """The synthetic set at its start, with gradients wanted at the points and the extras."""
    parameters = {name: value.requires_grad_(True) for name, value in some.initial().items()}
    return some.synthetic.decode(parameters, some.layout)


def differences(some: Problem, here: Decoded, name: str, h: float = 1e-5) -> tuple[Tensor, Tensor]:
    """The derivative of the objective along a random direction in the tensor of this name: by the engine's gradient, and by
    central differences."""
    engine = some.engine(1)
    found = engine.evaluate(here, 0).gradients[name]
    direction = torch.randn(found.shape, generator=torch.Generator().manual_seed(11), dtype=found.dtype)
    at = here.tensors[name].detach()
    moved = [here.with_tensors({name: (at + sign * direction).requires_grad_(True)}) for sign in (h, -h)]
    ends = [engine.evaluate(other, 0).total for other in moved]
    assert name == "points" or name.startswith(EXTRA)
    return (found * direction).sum(), (ends[0] - ends[1]) / (2 * h)
