"""The laws of a discrepancy, each checked where the instance claims it.

A new discrepancy is covered by a subclass that supplies ``instances`` and ``truth``:

    class TestMine(DiscrepancyContract):
        instances = {"plain": Mine(), "rooted": Mine(root=True)}

        @staticmethod
        def truth(discrepancy, mu, nu): ...   # slow, independent
"""

from collections.abc import Mapping
from typing import ClassVar

import pytest
import torch
from guards import Guards
from samples import M, N, applies, claiming, claims, one_a_class, rows, under, where, with_points, with_weights
from torch import Tensor
from two_sides import TwoSides

from discrepancy import Discrepancy, Grouping, InvalidInput, Measure, Unsupported
from discrepancy import discrepancy as base
from discrepancy.numerics import pairwise

__all__ = ["DiscrepancyContract", "M", "N", "claiming", "claims", "rows", "with_points", "with_weights"]


def compares_pairs(discrepancy: Discrepancy) -> bool:
    """Whether its value depends on the points by their differences, pair by pair."""
    return "translation-invariant" in claims(discrepancy) and not discrepancy.mergeable


class DiscrepancyContract(Guards, TwoSides):
    instances: ClassVar[Mapping[str, Discrepancy]]
    shape: ClassVar[tuple[int, ...]] = (3,)
    other_shapes: ClassVar[tuple[tuple[int, ...], ...]] = ((2, 3, 1),)
    """Those of which the laws that depend on the shape of a point are checked too: an image unless the class says otherwise."""
    groups: ClassVar[tuple[tuple[int, ...], tuple[int, ...]]] = ((0, 1, 1, 0, 1, 1, 1), (1, 0, 1, 1, 1))
    """The groups of the points on the two sides, where the law of groups is checked."""
    classes: ClassVar[int | None] = None
    """How many classes the points of the samples have, for discrepancies that look at labels."""
    float32_tolerance: ClassVar[float] = 2e-6
    far_tolerance: ClassVar[float | None] = None
    """Of the value in float32 where half of the points lie far from the rest; None for one that does not compare pairs."""

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        """The value for two flat measures, by loops or another library."""
        raise NotImplementedError

    @staticmethod
    def rescaled(discrepancy: Discrepancy, factor: float) -> Discrepancy | None:
        """The discrepancy that has the same value where points are ``factor`` times as far apart, for one without a degree."""
        return None

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "discrepancy" in metafunc.fixturenames:
            chosen = under(metafunc.function, self.instances)
            metafunc.parametrize("discrepancy", chosen.values(), ids=chosen.keys())

    # Inputs

    def sample(self, n: int, seed: int = 0, dtype: torch.dtype = torch.float64, shift: float = 0.0) -> Measure:
        generator = torch.Generator().manual_seed(seed)
        points = torch.randn(n, *self.shape, generator=generator, dtype=torch.float64) + shift
        weights = torch.rand(n, generator=generator, dtype=torch.float64) + 0.1
        side = Measure(points.to(dtype), weights.to(dtype))
        if self.classes is None:
            return side
        labels = (torch.arange(n) + seed) % self.classes
        return Measure(side.points, side.weights, labels).with_label_vectors(self.classes)

    def draws(self, discrepancy: Discrepancy):
        return discrepancy.draw(torch.Generator().manual_seed(5), self.shape)

    def value(self, discrepancy: Discrepancy, mu: Measure, nu: Measure) -> Tensor:
        return discrepancy(mu, nu, self.draws(discrepancy))

    def function_of(self, discrepancy: Discrepancy, mu: Measure, labels: Tensor | None = None):
        """D(mu, ·) as a function of plain tensors, with the real side summarised beforehand."""
        draws = self.draws(discrepancy)
        summary = discrepancy.summarise(mu.as_groups(), draws)

        def function(points: Tensor, weights: Tensor) -> Tensor:
            return discrepancy.compare(summary, Measure(points, weights, labels).as_groups(), draws)[0]

        return function

    # Values

    def test_agrees_with_truth(self, discrepancy: Discrepancy):
        mu, nu = self.sample(N, 1), self.sample(M, 2, shift=0.5)
        value = self.value(discrepancy, mu, nu)
        assert value.ndim == 0
        torch.testing.assert_close(value, torch.tensor(self.truth(discrepancy, mu, nu), dtype=torch.float64))

    def test_claims_laws(self, discrepancy: Discrepancy):
        claimed = claims(discrepancy)
        assert discrepancy.mergeable == ("mergeable" in claimed)
        assert "differentiable" in claimed or not claimed & {"twice-differentiable", "pulls"}

    @claiming("zero-at-equality")
    def test_zero_at_equality(self, discrepancy: Discrepancy):
        mu = self.sample(N)
        # A root turns a rounding error of 1e-15 into 3e-8.
        torch.testing.assert_close(self.value(discrepancy, mu, mu), torch.tensor(0.0).double(), atol=1e-7, rtol=0)

    @claiming("nonnegative")
    def test_nonnegative(self, discrepancy: Discrepancy):
        for seed in range(4):
            assert self.value(discrepancy, self.sample(N, seed), self.sample(M, seed + 10)) > 0

    @claiming("symmetric")
    def test_symmetric(self, discrepancy: Discrepancy):
        mu, nu = self.sample(N), self.sample(M, 1)
        torch.testing.assert_close(self.value(discrepancy, mu, nu), self.value(discrepancy, nu, mu))

    # What must not matter

    def test_order_of_points_does_not_matter(self, discrepancy: Discrepancy):
        mu, nu = self.sample(N), self.sample(M, 1)
        flipped = [rows(side, torch.arange(len(side)).flip(0)) for side in (mu, nu)]
        torch.testing.assert_close(self.value(discrepancy, *flipped), self.value(discrepancy, mu, nu))

    def test_splitting_a_weight_does_not_matter(self, discrepancy: Discrepancy):
        mu, nu = self.sample(N), self.sample(M, 1)
        expected = self.value(discrepancy, mu, nu)
        if "splits" in claims(discrepancy):
            torch.testing.assert_close(self.value(discrepancy, with_a_weight_split(mu), nu), expected)
        torch.testing.assert_close(self.value(discrepancy, mu, with_a_weight_split(nu)), expected)

    def test_points_without_weight_do_nothing(self, discrepancy: Discrepancy):
        mu, nu, extra = self.sample(N), self.sample(M, 1), self.sample(3, 2, shift=30.0)
        expected = self.value(discrepancy, mu, nu)
        none = with_weights(extra, torch.zeros_like(extra.weights))
        torch.testing.assert_close(self.value(discrepancy, Measure.merged([mu, none]), nu), expected)
        torch.testing.assert_close(self.value(discrepancy, mu, Measure.merged([nu, none])), expected)

    def test_total_mass_does_not_matter(self, discrepancy: Discrepancy):
        mu, nu = self.sample(N), self.sample(M, 1)
        expected = self.value(discrepancy, mu, nu)
        for pair in ((with_weights(mu, 13 * mu.weights), nu), (mu, with_weights(nu, 13 * nu.weights))):
            torch.testing.assert_close(self.value(discrepancy, *pair), expected)

    @claiming("translation-invariant")
    def test_translation_does_not_matter(self, discrepancy: Discrepancy):
        near = self.value(discrepancy, self.sample(N), self.sample(M, 1))
        far = self.value(discrepancy, self.sample(N, shift=100.0), self.sample(M, 1, shift=100.0))
        torch.testing.assert_close(far, near, atol=1e-9, rtol=1e-9)

    def test_units_scale(self, discrepancy: Discrepancy):
        mu, nu, factor = self.sample(N), self.sample(M, 1), 3.0
        wide = [with_points(side, factor * side.points) for side in (mu, nu)]
        if discrepancy.degree is not None:
            expected = factor**discrepancy.degree * self.value(discrepancy, mu, nu)
            torch.testing.assert_close(self.value(discrepancy, *wide), expected)
            return
        other = self.rescaled(discrepancy, factor)
        if other is None:
            pytest.skip("no degree, and no instance in other units")
        torch.testing.assert_close(self.value(other, *wide), self.value(discrepancy, mu, nu))

    @where(lambda discrepancy: discrepancy.bound is not None)
    def test_statistic_is_within_its_bound(self, discrepancy: Discrepancy):
        assert discrepancy.bound is not None
        draws = self.draws(discrepancy)
        for shift in (0.0, 5.0, -300.0):
            alone = [rows(self.sample(N, shift=shift), torch.tensor([i])).as_groups() for i in range(N)]
            for point in alone:
                assert discrepancy.summarise(point, draws).mean.norm() <= discrepancy.bound * (1 + 1e-9)

    def test_block_size_does_not_matter(self, discrepancy: Discrepancy, monkeypatch: pytest.MonkeyPatch):
        mu, nu = self.sample(N), self.sample(M, 1)

        def value_and_gradient() -> tuple[Tensor, Tensor]:
            leaf = nu.points.clone().requires_grad_()  # pyright: ignore[reportAttributeAccessIssue]
            value = self.value(discrepancy, mu, with_points(nu, leaf))
            needs_gradient = "differentiable" in claims(discrepancy)
            return value.detach(), torch.autograd.grad(value, leaf)[0] if needs_gradient else torch.zeros(())

        dense = value_and_gradient()
        monkeypatch.setitem(pairwise.BLOCK_BYTES, "cpu", 64)
        monkeypatch.setattr(base, "SUMMARY_POINTS", 2)
        torch.testing.assert_close(value_and_gradient(), dense)

    def test_float32_is_close_to_float64(self, discrepancy: Discrepancy):
        for offset in (0.0, 100.0):
            mu, nu = self.sample(N, 0, torch.float32, offset), self.sample(M, 1, torch.float32, offset + 0.5)
            value, exact = self.value(discrepancy, mu, nu), self.value(discrepancy, in_float64(mu), in_float64(nu))
            assert value.dtype == torch.float32
            tolerance = self.float32_tolerance
            torch.testing.assert_close(value.double(), exact, atol=tolerance, rtol=tolerance)

    @where(compares_pairs)
    def test_near_pairs_count_beside_far_ones(self, discrepancy: Discrepancy):
        if self.far_tolerance is None:
            pytest.skip("of no pairs of points alone")
        mu, nu = (self.beside_far_points(2 * half, at) for half, at in ((4, 0), (3, 5)))
        exact = torch.tensor(self.truth(discrepancy, mu, nu), dtype=torch.float64)
        narrow, wide = (
            [with_points(side, side.points.to(kind)) for side in (mu, nu)] for kind in (torch.float32, torch.float64)
        )
        value = self.value(discrepancy, *narrow)
        torch.testing.assert_close(value.double(), exact, atol=self.far_tolerance, rtol=self.far_tolerance)
        torch.testing.assert_close(self.value(discrepancy, *wide), exact, atol=1e-6, rtol=1e-6)
        if "nonnegative" in claims(discrepancy):
            assert value >= -1e-6
        if "zero-at-equality" in claims(discrepancy):
            exponent = 0.5 if getattr(discrepancy, "root", False) else 1.0
            assert self.value(discrepancy, narrow[0], narrow[0]).abs() <= self.far_tolerance**exponent

    def beside_far_points(self, n: int, seed: int) -> Measure:
        """Points with the same weights, half of them elsewhere, at places that float32 holds."""
        side = self.sample(n, seed, torch.float32)
        assert isinstance(side.points, Tensor)
        points = side.points.double()
        points[::2] += 1024.0
        return Measure(points.float().double(), torch.ones(n, dtype=torch.float64), side.labels)

    # Groups

    def test_groups_are_compared_one_by_one(self, discrepancy: Discrepancy):
        of_mu, of_nu = map(torch.tensor, self.groups)
        mu, nu, draws = self.sample(len(of_mu)), self.sample(len(of_nu), 1), self.draws(discrepancy)
        grouped = [side.conditioned(Grouping.of(of, 2)) for side, of in ((mu, of_mu), (nu, of_nu))]
        together = discrepancy(*grouped, draws)
        alone = [
            discrepancy(
                rows(mu, (of_mu == group).nonzero()[:, 0]),
                rows(nu, (of_nu == group).nonzero()[:, 0]),
                draws,
            )
            for group in range(2)
        ]
        torch.testing.assert_close(together, torch.stack(alone))
        second, whole = torch.tensor([1]), discrepancy.summarise(grouped[0], draws)
        summary, chosen = whole.select(second), grouped[1].select(second)
        both = discrepancy.compare(whole, grouped[1], draws)
        torch.testing.assert_close(discrepancy.compare(summary, chosen, draws), both[1:])
        assert summary.nbytes > 0

    # Derivatives

    @claiming("differentiable")
    def test_gradient(self, discrepancy: Discrepancy):
        nu = self.sample(M, 1)
        leaves = nu.points.clone().requires_grad_(), nu.weights.clone().requires_grad_()  # pyright: ignore
        function = self.function_of(discrepancy, self.sample(N), nu.labels)
        assert torch.autograd.gradcheck(function, leaves, fast_mode=True)

    @where(lambda discrepancy: {"differentiable", "zero-at-equality", "nonnegative"} <= claims(discrepancy))
    def test_weights_have_no_gradient_at_equality(self, discrepancy: Discrepancy):
        for mu in (self.sample(N), self.sample(N, 1, shift=100.0), self.sample(N, 2, torch.float32, 100.0)):
            leaf = mu.weights.clone().requires_grad_()
            value = self.value(discrepancy, mu, with_weights(mu, leaf))
            slope = torch.autograd.grad(value, leaf, allow_unused=True)[0] if value.requires_grad else None
            assert slope is None or float(slope.abs().max()) < 1e-6

    @claiming("differentiable")
    def test_hessian_is_right_or_refused(self, discrepancy: Discrepancy):
        nu = self.sample(M, 1)
        leaves = nu.points.clone().requires_grad_(), nu.weights.clone().requires_grad_()  # pyright: ignore
        function = self.function_of(discrepancy, self.sample(N), nu.labels)
        try:
            assert torch.autograd.gradgradcheck(function, leaves, fast_mode=True)
        except Unsupported:
            assert "twice-differentiable" not in claims(discrepancy)

    @claiming("differentiable")
    def test_functional_and_vmapped_gradients_are_the_gradient(self, discrepancy: Discrepancy):
        function = self.function_of(discrepancy, self.sample(N), self.sample(M, 1).labels)
        sides = [self.sample(M, seed) for seed in (1, 2, 3)]
        points, weights = torch.stack([side.points for side in sides]), torch.stack([side.weights for side in sides])  # pyright: ignore
        leaf = points.clone().requires_grad_()
        total = sum(function(*pair) for pair in zip(leaf, weights, strict=True))
        (expected,) = torch.autograd.grad(total, leaf)  # pyright: ignore
        torch.testing.assert_close(torch.func.grad(function)(points[0], weights[0]), expected[0])
        torch.testing.assert_close(torch.vmap(torch.func.grad(function))(points, weights), expected)

    @claiming("differentiable")
    def test_real_side_gets_no_gradient(self, discrepancy: Discrepancy):
        mu, nu = self.sample(N), self.sample(M, 1)
        real, synthetic = (side.points.clone().requires_grad_() for side in (mu, nu))  # pyright: ignore
        self.value(discrepancy, with_points(mu, real), with_points(nu, synthetic)).backward()
        assert real.grad is None
        assert synthetic.grad is not None

    @claiming("differentiable")
    def test_gradient_at_coincident_points_is_finite(self, discrepancy: Discrepancy):
        one = self.sample(1)
        mu, nu = (rows(one, torch.zeros(count, dtype=torch.long)) for count in (2, 3))
        leaf = nu.points.clone().requires_grad_()  # pyright: ignore[reportAttributeAccessIssue]
        self.value(discrepancy, mu, with_points(nu, leaf)).backward()
        assert leaf.grad is not None
        assert bool(torch.isfinite(leaf.grad).all())

    @claiming("pulls")
    def test_lone_point_moves_to_its_target(self, discrepancy: Discrepancy):
        target, start = self.sample(1, 3), self.sample(1, 4)
        start = Measure(start.points, start.weights, target.labels)
        gradient = torch.func.grad(self.function_of(discrepancy, rows(target, torch.tensor([0, 0])), target.labels))
        point = start.points
        for step in range(14):
            slope = gradient(point, start.weights)
            point = point - 1.0 * 0.75**step * slope / slope.norm().clamp(min=1e-12)
        torch.testing.assert_close(point, target.points, atol=0.05, rtol=0)

    # Bad input

    @one_a_class
    def test_bad_input_is_refused(self, discrepancy: Discrepancy):
        good = {"mu": self.sample(N), "nu": self.sample(M, 1)}
        for name, side in good.items():
            points = side.points
            assert isinstance(points, Tensor)
            for spoilt, message in [
                (with_points(side, points.index_fill(0, torch.tensor([1]), torch.nan)), "not finite"),
                (with_weights(side, -side.weights), "negative or not finite"),
                (with_weights(side, 0 * side.weights), "sum to zero"),
                (rows(side, torch.arange(0)), "no points"),
                (with_points(side, points.flatten(1).repeat(1, 2)), "cannot be compared"),
                (with_points(side, points.float()), "convert one with"),
            ]:
                with pytest.raises(InvalidInput, match=message):
                    self.value(discrepancy, **{**good, name: spoilt})

    @where(lambda discrepancy: discrepancy.labelled)
    def test_labels_are_asked_for(self, discrepancy: Discrepancy):
        mu, nu = self.sample(N), self.sample(M, 1)
        with pytest.raises(InvalidInput, match="looks at labels"):
            self.value(discrepancy, mu, Measure(nu.points, nu.weights))

    # Points of other shapes

    def test_laws_hold_for_points_of_other_shapes(self, discrepancy: Discrepancy):
        for shape in self.other_shapes:
            other = type(self)()
            other.shape = shape  # pyright: ignore[reportAttributeAccessIssue]
            for law in (
                other.test_agrees_with_truth,
                other.test_groups_are_compared_one_by_one,
                other.test_functional_and_vmapped_gradients_are_the_gradient,
            ):
                if applies(law, discrepancy):
                    law(discrepancy)


def with_a_weight_split(side: Measure) -> Measure:
    """The measure with its first point as two, of 0.7 and 0.3 of its weight."""
    weights = torch.cat([side.weights, 0.3 * side.weights[:1]])
    weights[0] *= 0.7
    return with_weights(rows(side, torch.tensor([*range(len(side)), 0])), weights)


def in_float64(side: Measure) -> Measure:
    labels = None if side.labels is None else side.labels.double()
    return Measure(side.points.double(), side.weights.double(), labels)  # pyright: ignore
