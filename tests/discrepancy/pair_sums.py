"""Sums over pairs beside their dense forms."""

from collections.abc import Callable

import torch
from torch import Tensor

from discrepancy.kernels import Kernel
from discrepancy.numerics.pairwise import cross_sum, self_sum

__all__ = ["are_the_dense_ones", "forms"]

Form = Callable[[Tensor, Tensor], Tensor]


def forms(kernel: Kernel, x: Tensor, w: Tensor) -> dict[str, tuple[Form, Form]]:
    """Each sum beside its dense form, as functions of (y, v)."""
    return {
        "cross": (
            lambda y, v: cross_sum(kernel, x, w, y, v),
            lambda y, v: torch.einsum("gn,gm,gnm->g", w, v, kernel(x, y)),
        ),
        "self": (lambda y, v: self_sum(kernel, y, v), lambda y, v: torch.einsum("gn,gm,gnm->g", v, v, kernel(y, y))),
    }


def are_the_dense_ones(kernel: Kernel, x: Tensor, w: Tensor, y: Tensor, v: Tensor, tolerance: float = 1e-7) -> None:
    """Values, gradients and second derivatives, the last within the tolerance."""
    for function, dense in forms(kernel, x, w).values():
        torch.testing.assert_close(function(y, v), dense(y, v))
        with torch.no_grad():
            torch.testing.assert_close(function(y, v), dense(y, v))
        found, first = (torch.func.grad(lambda y, v, f=f: f(y, v).sum(), (0, 1)) for f in (function, dense))
        torch.testing.assert_close(found(y, v), first(y, v))
        found, second = (torch.func.jacrev(f, (0, 1))(y, v) for f in (found, first))
        torch.testing.assert_close(found, second, atol=tolerance, rtol=tolerance)
