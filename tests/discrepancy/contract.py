"""The laws of a discrepancy, each checked where the instance claims it.

A new discrepancy is covered by a subclass that supplies ``instances`` and ``truth``:

    class TestMine(DiscrepancyContract):
        instances = {"plain": Mine(), "rooted": Mine(root=True)}

        @staticmethod
        def truth(discrepancy, mu, nu): ...   # slow, independent
"""

from collections.abc import Mapping
from typing import ClassVar, get_args

import pytest
import torch
from torch import Tensor

from discrepancy import Discrepancy, Grouping, Measure, Unsupported, pairwise
from discrepancy.sorts import Tag

__all__ = ["DiscrepancyContract", "claims"]

N, M = 7, 5


def claims(discrepancy: Discrepancy) -> frozenset[Tag]:
    """The tags of an instance; without any it fails."""
    tags = discrepancy.tags
    assert tags, f"{discrepancy} claims no law; give it tags"
    assert tags <= set(get_args(Tag)), f"unknown tags {sorted(tags - set(get_args(Tag)))}"
    return tags


def needs(discrepancy: Discrepancy, tag: Tag) -> None:
    if tag not in claims(discrepancy):
        pytest.skip(f"does not claim '{tag}'")


class DiscrepancyContract:
    instances: ClassVar[Mapping[str, Discrepancy]]
    shape: ClassVar[tuple[int, ...]] = (3,)

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        """The value for two flat measures, by loops or another library."""
        raise NotImplementedError

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "discrepancy" in metafunc.fixturenames:
            metafunc.parametrize("discrepancy", self.instances.values(), ids=self.instances.keys())

    # Inputs

    def sample(self, n: int, seed: int = 0, dtype: torch.dtype = torch.float64, shift: float = 0.0) -> Measure:
        generator = torch.Generator().manual_seed(seed)
        points = torch.randn(n, *self.shape, generator=generator, dtype=torch.float64) + shift
        weights = torch.rand(n, generator=generator, dtype=torch.float64) + 0.1
        return Measure(points.to(dtype), weights.to(dtype))

    def draws(self, discrepancy: Discrepancy):
        return discrepancy.draw(torch.Generator().manual_seed(5), self.shape)

    def value(self, discrepancy: Discrepancy, mu: Measure, nu: Measure) -> Tensor:
        return discrepancy(mu, nu, self.draws(discrepancy))

    def function_of(self, discrepancy: Discrepancy, mu: Measure):
        """D(mu, ·) as a function of plain tensors, with the real side summarised beforehand."""
        draws = self.draws(discrepancy)
        summary = discrepancy.summarise(mu.as_groups(), draws)

        def function(points: Tensor, weights: Tensor) -> Tensor:
            return discrepancy.compare(summary, Measure(points, weights).as_groups(), draws)[0]

        return function

    # Values

    def test_agrees_with_truth(self, discrepancy: Discrepancy):
        mu, nu = self.sample(N, 1), self.sample(M, 2, shift=0.5)
        value = self.value(discrepancy, mu, nu)
        assert value.ndim == 0
        torch.testing.assert_close(value, torch.tensor(self.truth(discrepancy, mu, nu), dtype=torch.float64))

    def test_claims_laws(self, discrepancy: Discrepancy):
        assert discrepancy.streams == ("mergeable" in claims(discrepancy))

    def test_zero_at_equality(self, discrepancy: Discrepancy):
        needs(discrepancy, "zero-at-equality")
        mu = self.sample(N)
        # A root turns a rounding error of 1e-15 into 3e-8.
        torch.testing.assert_close(self.value(discrepancy, mu, mu), torch.tensor(0.0).double(), atol=1e-7, rtol=0)

    @pytest.mark.parametrize("seed", range(4))
    def test_nonnegative(self, discrepancy: Discrepancy, seed: int):
        needs(discrepancy, "nonnegative")
        assert self.value(discrepancy, self.sample(N, seed), self.sample(M, seed + 10)) > 0

    def test_symmetric(self, discrepancy: Discrepancy):
        needs(discrepancy, "symmetric")
        mu, nu = self.sample(N), self.sample(M, 1)
        torch.testing.assert_close(self.value(discrepancy, mu, nu), self.value(discrepancy, nu, mu))

    # What must not matter

    def test_order_of_points_does_not_matter(self, discrepancy: Discrepancy):
        mu, nu = self.sample(N), self.sample(M, 1)
        flipped = [Measure(side.points.flip(0), side.mass_of.flip(0)) for side in (mu, nu)]
        torch.testing.assert_close(self.value(discrepancy, *flipped), self.value(discrepancy, mu, nu))

    @pytest.mark.parametrize("side", ["real", "synthetic"])
    def test_splitting_a_weight_does_not_matter(self, discrepancy: Discrepancy, side: str):
        if side == "real":
            needs(discrepancy, "splits")
        mu, nu = self.sample(N), self.sample(M, 1)
        whole = mu if side == "real" else nu
        weights = torch.cat([whole.mass_of, 0.3 * whole.mass_of[:1]])
        weights[0] *= 0.7
        split = Measure(torch.cat([whole.points, whole.points[:1]]), weights)
        pair = (split, nu) if side == "real" else (mu, split)
        torch.testing.assert_close(self.value(discrepancy, *pair), self.value(discrepancy, mu, nu))

    @pytest.mark.parametrize("side", ["real", "synthetic"])
    def test_points_without_weight_do_nothing(self, discrepancy: Discrepancy, side: str):
        mu, nu, extra = self.sample(N), self.sample(M, 1), self.sample(3, 2, shift=30.0)
        whole = mu if side == "real" else nu
        padded = Measure(
            torch.cat([whole.points, extra.points]), torch.cat([whole.mass_of, torch.zeros_like(extra.mass_of)])
        )
        pair = (padded, nu) if side == "real" else (mu, padded)
        torch.testing.assert_close(self.value(discrepancy, *pair), self.value(discrepancy, mu, nu))

    @pytest.mark.parametrize("side", ["real", "synthetic"])
    def test_total_mass_does_not_matter(self, discrepancy: Discrepancy, side: str):
        mu, nu = self.sample(N), self.sample(M, 1)
        expected = self.value(discrepancy, mu, nu)
        if side == "real":
            mu = Measure(mu.points, 13 * mu.mass_of)
        else:
            nu = Measure(nu.points, 13 * nu.mass_of)
        torch.testing.assert_close(self.value(discrepancy, mu, nu), expected)

    def test_translation_does_not_matter(self, discrepancy: Discrepancy):
        needs(discrepancy, "translation-invariant")
        near = self.value(discrepancy, self.sample(N), self.sample(M, 1))
        far = self.value(discrepancy, self.sample(N, shift=100.0), self.sample(M, 1, shift=100.0))
        torch.testing.assert_close(far, near, atol=1e-9, rtol=1e-9)

    def test_block_size_does_not_matter(self, discrepancy: Discrepancy, monkeypatch: pytest.MonkeyPatch):
        mu, nu = self.sample(N), self.sample(M, 1)
        leaf = nu.points.clone().requires_grad_()
        dense = self.value(discrepancy, mu, Measure(leaf, nu.mass_of))
        (dense_gradient,) = torch.autograd.grad(dense, leaf)
        monkeypatch.setitem(pairwise.BLOCK_BYTES, "cpu", 64)
        blocked = self.value(discrepancy, mu, Measure(leaf, nu.mass_of))
        (gradient,) = torch.autograd.grad(blocked, leaf)
        torch.testing.assert_close(blocked, dense)
        torch.testing.assert_close(gradient, dense_gradient)

    @pytest.mark.parametrize("offset", [0.0, 100.0])
    def test_float32_is_close_to_float64(self, discrepancy: Discrepancy, offset: float):
        mu = self.sample(N, 0, torch.float32, offset)
        nu = self.sample(M, 1, torch.float32, offset + 0.5)
        value = self.value(discrepancy, mu, nu)
        exact = self.value(discrepancy, *(Measure(side.points.double(), side.mass_of.double()) for side in (mu, nu)))
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), exact, atol=2e-6, rtol=2e-6)

    # Summaries and groups

    def test_summaries_merge(self, discrepancy: Discrepancy):
        mu, nu, draws = self.sample(N), self.sample(M, 1).as_groups(), self.draws(discrepancy)
        batches = (
            [
                discrepancy.summarise(Measure(points, weights).as_groups(), draws)
                for points, weights in zip(mu.points.split([3, 1, N - 4]), mu.mass_of.split([3, 1, N - 4]), strict=True)
            ]
            if discrepancy.streams
            else [discrepancy.summarise(mu.as_groups(), draws)] * 2
        )
        if not discrepancy.streams:
            with pytest.raises(Unsupported, match="merge"):
                discrepancy.merge(*batches)
            return
        merged = discrepancy.merge(discrepancy.merge(batches[0], batches[1]), batches[2])
        torch.testing.assert_close(
            discrepancy.compare(merged, nu, draws),
            discrepancy.compare(discrepancy.summarise(mu.as_groups(), draws), nu, draws),
        )

    def test_groups_are_compared_one_by_one(self, discrepancy: Discrepancy):
        mu, nu, draws = self.sample(N), self.sample(M, 1), self.draws(discrepancy)
        of_mu, of_nu = torch.tensor([0, 1, 1, 0, 1, 1, 1]), torch.tensor([1, 0, 1, 1, 1])
        grouped = [side.conditioned(Grouping.of(of, 2)) for side, of in ((mu, of_mu), (nu, of_nu))]
        together = discrepancy(*grouped, draws)
        alone = [
            discrepancy(
                Measure(mu.points[of_mu == group], mu.mass_of[of_mu == group]),
                Measure(nu.points[of_nu == group], nu.mass_of[of_nu == group]),
                draws,
            )
            for group in range(2)
        ]
        torch.testing.assert_close(together, torch.stack(alone))
        second = torch.tensor([1])
        summary = discrepancy.summarise(grouped[0], draws).select(second)
        chosen = Measure(grouped[1].points[second], grouped[1].mass_of[second])
        torch.testing.assert_close(discrepancy.compare(summary, chosen, draws), together[1:])
        assert summary.nbytes > 0

    # Derivatives

    def test_gradient(self, discrepancy: Discrepancy):
        nu = self.sample(M, 1)
        leaves = nu.points.clone().requires_grad_(), nu.mass_of.clone().requires_grad_()
        assert torch.autograd.gradcheck(self.function_of(discrepancy, self.sample(N)), leaves)

    def test_hessian(self, discrepancy: Discrepancy):
        needs(discrepancy, "twice-differentiable")
        nu = self.sample(M, 1)
        leaves = nu.points.clone().requires_grad_(), nu.mass_of.clone().requires_grad_()
        assert torch.autograd.gradgradcheck(self.function_of(discrepancy, self.sample(N)), leaves)

    def test_functional_gradient_is_the_gradient(self, discrepancy: Discrepancy):
        function, nu = self.function_of(discrepancy, self.sample(N)), self.sample(M, 1)
        leaf = nu.points.clone().requires_grad_()
        (expected,) = torch.autograd.grad(function(leaf, nu.mass_of), leaf)
        torch.testing.assert_close(torch.func.grad(function)(nu.points, nu.mass_of), expected)

    def test_vmapped_gradient_is_the_gradient(self, discrepancy: Discrepancy):
        function = self.function_of(discrepancy, self.sample(N))
        sides = [self.sample(M, seed) for seed in (1, 2, 3)]
        points, weights = torch.stack([side.points for side in sides]), torch.stack([side.mass_of for side in sides])
        expected = torch.stack([torch.func.grad(function)(side.points, side.mass_of) for side in sides])
        torch.testing.assert_close(torch.vmap(torch.func.grad(function))(points, weights), expected)

    def test_real_side_gets_no_gradient(self, discrepancy: Discrepancy):
        mu, nu = self.sample(N), self.sample(M, 1)
        real, synthetic = mu.points.clone().requires_grad_(), nu.points.clone().requires_grad_()
        self.value(discrepancy, Measure(real, mu.mass_of), Measure(synthetic, nu.mass_of)).backward()
        assert real.grad is None
        assert synthetic.grad is not None

    def test_gradient_at_coincident_points_is_finite(self, discrepancy: Discrepancy):
        point = self.sample(1).points
        mu = Measure(point.expand(2, *self.shape))
        leaf = point.repeat(3, *(1 for _ in self.shape)).requires_grad_()
        self.value(discrepancy, mu, Measure(leaf, torch.ones(3, dtype=torch.float64))).backward()
        assert leaf.grad is not None
        assert bool(torch.isfinite(leaf.grad).all())

    def test_lone_point_moves_to_its_target(self, discrepancy: Discrepancy):
        needs(discrepancy, "pulls")
        target = self.sample(1, 3).points
        gradient = torch.func.grad(self.function_of(discrepancy, Measure(target.expand(2, *self.shape))))
        point, one = self.sample(1, 4).points, torch.ones(1, dtype=torch.float64)
        for step in range(60):
            slope = gradient(point, one)
            point = point - 0.5 * 0.92**step * slope / slope.norm().clamp(min=1e-12)
        torch.testing.assert_close(point, target, atol=0.05, rtol=0)
