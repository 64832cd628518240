"""Laws about what surrounds a computation: the scale of the weights, NaN and infinity, autocast, what is set for the process,
the types of the points. Part of the contract of every discrepancy."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from samples import M, N, claiming, claims, with_points, with_weights
from torch import Tensor

from discrepancy import Discrepancy, DiscrepancyError, Measure

__all__ = ["SURROUNDINGS", "Guards"]


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def other_defaults() -> Iterator[None]:
    with default_dtype(torch.float64), torch.device("meta"):
        yield


SURROUNDINGS: dict[str, Callable[[], Any]] = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "another default type and device": other_defaults,
    "inference mode": torch.inference_mode,
    "no gradient": torch.no_grad,
}


class Guards:
    sample: Callable[..., Measure]
    draws: Callable[..., Any]
    value: Callable[..., Tensor]
    function_of: Callable[..., Callable[..., Tensor]]

    def test_scale_of_all_weights_does_not_matter(self, discrepancy: Discrepancy):
        mu, nu = self.sample(N), self.sample(M, 1)
        expected = self.value(discrepancy, mu, nu)
        draws = self.draws(discrepancy)
        for scale in (1e-170, 1e160, 1e-300, 1e307):
            light, other = (with_weights(side, scale * side.weights) for side in (mu, nu))
            torch.testing.assert_close(self.value(discrepancy, light, other), expected)
            if discrepancy.adversary is None and 1e-200 < scale < 1e200:
                summary = discrepancy.summarise(light.as_groups(), draws)
                value = discrepancy.compare(summary, other.as_groups(), draws)[0]
                torch.testing.assert_close(value, expected)
                if not discrepancy.merges:
                    continue
                both = discrepancy.merge(summary, summary, draws)
                torch.testing.assert_close(
                    discrepancy.compare(both, other.as_groups(), draws)[0],
                    self.value(discrepancy, Measure.merged([mu, mu]), nu),
                )

    @pytest.mark.filterwarnings(
        "ignore::discrepancy.errors.NumericalWarning"
    )  # iterations that do not arrive say so too
    def test_nan_and_infinity_survive(self, discrepancy: Discrepancy):
        """As in a run that diverges. A point at infinity may have a finite value, but no such gradient."""
        mu, nu, draws = self.sample(N), self.sample(M, 1), self.draws(discrepancy)
        summary = discrepancy.summarise(mu.as_groups(), draws)
        second = torch.tensor([1])
        for wrong in (torch.nan, torch.inf):
            for spoiled in (
                with_points(nu, nu.points.index_fill(0, second, wrong)),  # pyright: ignore[reportAttributeAccessIssue]
                with_weights(nu, nu.weights.index_fill(0, second, torch.nan)),
            ):
                leaf = spoiled.points.clone().requires_grad_()  # pyright: ignore[reportAttributeAccessIssue]
                try:
                    value = discrepancy.compare(summary, with_points(spoiled, leaf).as_groups(), draws)
                except DiscrepancyError:
                    continue
                if bool(torch.isfinite(value).all()) and "differentiable" in claims(discrepancy):
                    (value,) = torch.autograd.grad(value.sum(), leaf)
                assert not bool(torch.isfinite(value).all())

    def value_and_gradient(self, discrepancy: Discrepancy, mu: Measure, nu: Measure) -> tuple[Tensor, ...]:
        if "differentiable" not in claims(discrepancy) or not torch.is_grad_enabled():
            return (self.value(discrepancy, mu, nu).clone(),)
        leaf = nu.points.detach().clone().requires_grad_()  # pyright: ignore[reportAttributeAccessIssue]
        value = self.value(discrepancy, mu, with_points(nu, leaf))
        return value.detach(), torch.autograd.grad(value, leaf)[0]

    def test_surroundings_do_not_matter(self, discrepancy: Discrepancy):
        mu, nu = self.sample(N, 0, torch.float32), self.sample(M, 1, torch.float32)
        expected = self.value_and_gradient(discrepancy, mu, nu)
        for name, surrounding in SURROUNDINGS.items():
            with surrounding():
                found = self.value_and_gradient(discrepancy, mu, nu)
            for one, other in zip(found, expected, strict=False):
                torch.testing.assert_close(
                    one, other, atol=1e-6, rtol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
                )

    @claiming("twice-differentiable")
    def test_product_of_hessian_and_vector(self, discrepancy: Discrepancy):
        nu = self.sample(M, 1)
        function = self.function_of(discrepancy, self.sample(N), nu.labels)
        along = self.sample(M, 2).points
        _, found = torch.autograd.functional.hvp(lambda points: function(points, nu.weights), nu.points, along)
        leaf = nu.points.clone().requires_grad_()  # pyright: ignore[reportAttributeAccessIssue]
        (slope,) = torch.autograd.grad(function(leaf, nu.weights), leaf, create_graph=True)
        expected = torch.zeros_like(leaf)
        if slope.requires_grad:
            (expected,) = torch.autograd.grad(slope, leaf, along, materialize_grads=True)
        torch.testing.assert_close(found, expected)
