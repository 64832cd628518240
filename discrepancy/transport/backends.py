"""Entropic transport by other libraries, behind the methods of :class:`~discrepancy.transport.potentials.Entropic`.

Their usual schedule anneals ε and stops as soon as ε has its final value. Where the blur is a twentieth of the distances,
gradients are then wrong by half or more. So all their steps are made at the final ε, and one sweep of our own then measures how
much mass is still out of place. Both libraries give the gradient that holds the potentials fixed. A term of a measure with
itself is their OT(ν, ν) with one side fixed, so the term of the real side is computed only once, as in our own solver.
"""

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.errors import InvalidInput, Unsupported
from discrepancy.transport.costs import Cost
from discrepancy.transport.potentials import Potentials, mass_out_of_place, reachable, warn_stopped

__all__ = ["Backend", "Borrowed"]

Backend = Literal["own", "geomloss", "flash_sinkhorn"]

INSTALL = {"geomloss": "geomloss", "flash_sinkhorn": "flash-sinkhorn", "pykeops": "pykeops"}
"""Distributions by the name of their module."""

DENSE_PAIRS = 5_000**2
"""Pairs of points (of all groups) up to which geomloss holds matrices of them; above, it needs KeOps."""

NEARLY = 1e-8
"""log(first blur / last blur): nearly zero, so that all steps are made at the final ε."""


@dataclass(frozen=True)
class Borrowed:
    """Balanced transport with the cost ‖x - y‖² / 2 and ε = ``blur``², by so many ``iterations`` of ``library``."""

    library: Literal["geomloss", "flash_sinkhorn"]
    blur: float
    tolerance: float
    iterations: int

    def across(
        self,
        x: Float[Tensor, "g n d"],
        a: Float[Tensor, "g n"],
        y: Float[Tensor, "g m d"],
        b: Float[Tensor, "g m"],
        centre: Float[Tensor, "g 1 d"],
        halves: tuple[Float[Tensor, "g n"], Float[Tensor, "g m"]],
        known: Tensor | None = None,
    ) -> Potentials:
        """OT of two measures, with its derivatives by y and b; weights are float64 with sum one.

        Raises:
            InvalidInput: if the library is not installed.
            Unsupported: for points that it does not take.

        Warns:
            NumericalWarning: if more mass than the tolerance is out of place after the last iteration.
        """
        cost, eps = Cost(2, x, y, centre, halves), torch.full_like(b[:, 0], self.blur**2)
        x, y = (side.points for side in cost.centred)
        with torch.enable_grad():  # geomloss leaves gradients switched on
            points, weights = y.detach().requires_grad_(), b.to(y.dtype).detach().requires_grad_()
            total = self.loss(x, y)(a.to(x.dtype), x, weights, points)
            by_points, by_weights = torch.autograd.grad(total.sum(), (points, weights))
        error = mass_out_of_place(b, cost.sweep(a, b, by_weights.double(), eps).residual, eps)
        if bool((error > reachable(self.tolerance, y.dtype, cost.mean(a, b) / eps)).any()):
            warn_stopped(self.iterations, float(error.max()), self.tolerance, y.dtype)
        return Potentials(total.detach().double(), by_points, by_weights.double())

    def alone(
        self,
        y: Float[Tensor, "g m d"],
        b: Float[Tensor, "g m"],
        centre: Float[Tensor, "g 1 d"],
        half: Float[Tensor, "g m"],
        slopes: bool = True,
    ) -> Potentials:
        """OT of a measure with itself, with its derivatives with respect to one of its two arguments."""
        return self.across(y, b, y, b, centre, (half, half))

    def loss(self, x: Float[Tensor, "g n d"], y: Float[Tensor, "g m d"]) -> Callable[..., Tensor]:
        """The library's function of (a, x, b, y), one value a group."""
        if self.library == "geomloss":
            dense = len(x) * x.shape[1] * y.shape[1] <= DENSE_PAIRS
            if not dense:
                _imported(
                    "pykeops", f"geomloss needs it for more than {DENSE_PAIRS:,} pairs of points; or use backend: own"
                )
            return _imported("geomloss").SamplesLoss(
                "sinkhorn",
                p=2,
                blur=self.blur,
                diameter=self.blur * math.exp(NEARLY),  # ε falls from here to its value, by the factor below at a time
                scaling=math.exp(-NEARLY / self.iterations),
                debias=False,
                backend="tensorized" if dense else "online",
            )
        if x.device.type != "cuda" or x.dtype != torch.float32:
            raise Unsupported(
                f"backend 'flash_sinkhorn' takes float32 on a CUDA device only, got {x.dtype} on {x.device}; use backend: own"
            )
        return _imported("flash_sinkhorn").SamplesLoss(
            "sinkhorn",
            blur=self.blur,
            use_epsilon_scaling=False,
            eps=self.blur**2,
            n_iters=self.iterations,
            debias=False,
            half_cost=True,
            normalize=False,
            allow_tf32=False,
        )


def _imported(module: str, why: str = "or use backend: own") -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InvalidInput(f"'{module}' does not import ({error}): pip install {INSTALL[module]}; {why}") from error
