"""The laws of the two-sided calls: ``summarise``, ``compare`` and ``merge`` give what ``D(mu, nu)`` gives."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from samples import M, N, claiming, one_a_class, where, with_points
from torch import Tensor

from discrepancy import Discrepancy, Grouping, InvalidInput, Measure, Unsupported

__all__ = ["TwoSides"]


class TwoSides:
    """A part of the contract, which provides the samples."""

    sample: Callable[..., Measure]
    draws: Callable[..., Any]
    value: Callable[..., Tensor]

    def test_two_sided_calls_give_the_value_of_the_short_call(self, discrepancy: Discrepancy):
        for dtype in (torch.float64, torch.float32):
            mu, nu, draws = self.sample(N, 0, dtype), self.sample(M, 1, dtype), self.draws(discrepancy)
            expected = self.value(discrepancy, mu, nu)
            for first, second in [(mu, nu), *self._other_labels(mu, nu)]:
                value = in_two_calls(discrepancy, first, second, draws)
                assert value.shape == ()
                assert value.dtype == dtype
                torch.testing.assert_close(value, expected, rtol=0, atol=0)
            for first, second in [(mu, nu), *self._other_labels(mu, nu)[:1]]:
                value = in_two_calls(discrepancy, first.as_groups(), second.as_groups(), draws)
                torch.testing.assert_close(value, expected[None], rtol=0, atol=0)

    @claiming("differentiable")
    def test_a_flat_value_has_the_gradient_of_the_short_call(self, discrepancy: Discrepancy):
        mu, nu, draws = self.sample(N), self.sample(M, 1), self.draws(discrepancy)
        leaf = nu.tensors[""].clone().requires_grad_()
        side = with_points(nu, leaf)
        (expected,) = torch.autograd.grad(self.value(discrepancy, mu, side), leaf)
        (slope,) = torch.autograd.grad(in_two_calls(discrepancy, mu, side, draws), leaf)
        torch.testing.assert_close(slope, expected, rtol=0, atol=0)

    @where(lambda discrepancy: not discrepancy.merges)
    def test_merging_is_refused(self, discrepancy: Discrepancy):
        assert not discrepancy.mergeable
        summary = discrepancy.summarise(self.sample(N), self.draws(discrepancy))
        with pytest.raises(Unsupported, match=f"'{discrepancy.kind}' cannot be merged, .*; summarise"):
            discrepancy.merge(summary, summary, self.draws(discrepancy))

    @where(lambda discrepancy: discrepancy.merges)
    def test_merged_summaries_are_those_of_the_union(self, discrepancy: Discrepancy):
        self._merges(discrepancy, torch.float64, grouped=False)
        self._merges(discrepancy, torch.float32, grouped=True)

    def _merges(self, discrepancy: Discrepancy, dtype: torch.dtype, grouped: bool) -> None:
        sizes, draws = ([10, 7, 9] if grouped else [5, 3, 4]), self.draws(discrepancy)
        sides = [self.sample(size, seed, dtype, seed / 4) for seed, size in enumerate(sizes)]
        nu = self.sample(7, 5, dtype)
        if grouped:
            nu, *sides = (in_two_groups(side) for side in (nu, *sides))
        expected, turned = (discrepancy(Measure.merged(parts), nu, draws) for parts in (sides, sides[::-1]))
        tolerance = 1e-8 if dtype == torch.float64 else 1e-5
        a, b, c = (discrepancy.summarise(side, draws) for side in sides)
        merge = functools.partial(discrepancy.merge, draws=draws)
        for merged, union in ((merge(merge(a, b), c), expected), (merge(c, merge(b, a)), turned)):
            value = compared(discrepancy, merged, nu, draws)
            torch.testing.assert_close(value, union, rtol=tolerance, atol=tolerance)
            assert merged.nbytes > 0
        pair = compared(discrepancy, merge(c, a), nu, draws)
        union = discrepancy(Measure.merged([sides[2], sides[0]]), nu, draws)
        torch.testing.assert_close(pair, union, rtol=tolerance, atol=tolerance)
        if discrepancy.mergeable:
            assert merge(a, b).nbytes == a.nbytes
        if is_one_hot(nu):
            parts = [discrepancy.summarise(with_class_numbers(side), draws) for side in sides]
            value = compared(discrepancy, functools.reduce(merge, parts), with_class_numbers(nu), draws)
            torch.testing.assert_close(value, expected, rtol=tolerance, atol=tolerance)

    @one_a_class
    def test_flat_and_grouped_sides_do_not_mix(self, discrepancy: Discrepancy):
        mu, nu, draws = self.sample(N), self.sample(M, 1), self.draws(discrepancy)
        flat, grouped = (discrepancy.summarise(side, draws) for side in (mu, mu.as_groups()))
        with pytest.raises(InvalidInput, match="summary is that of a flat measure and 'synthetic' is grouped"):
            discrepancy.compare(flat, nu.as_groups(), draws)
        with pytest.raises(InvalidInput, match="summary is that of a grouped measure and 'synthetic' is flat"):
            discrepancy.compare(grouped, nu, draws)
        for pair in ((flat, grouped), (grouped, flat)):
            with pytest.raises(InvalidInput, match="summarise both parts alike"):
                discrepancy.merge(*pair, draws)
        with pytest.raises(InvalidInput, match="cannot be compared"):
            discrepancy.compare(flat, with_points(nu, torch.cat([nu.tensors[""]] * 2, 1)), draws)
        with pytest.raises(InvalidInput, match="convert one with"):
            discrepancy.compare(flat, with_points(nu, nu.tensors[""].float()), draws)
        with pytest.raises(InvalidInput, match="has no groups"):
            flat.select(torch.tensor([0]))

    @one_a_class
    @where(lambda discrepancy: discrepancy.labelled)
    def test_classes_that_the_summary_does_not_know_are_refused(self, discrepancy: Discrepancy):
        mu, nu, draws = self.sample(N), self.sample(M, 1), self.draws(discrepancy)
        more = Measure(nu.points, nu.weights, torch.arange(M))
        summary = discrepancy.summarise(mu, draws)
        with pytest.raises(InvalidInput, match=rf"summary knows 3 classes and the labels of 'synthetic' have {M}"):
            discrepancy.compare(summary, more, draws)
        with pytest.raises(InvalidInput, match=rf"summaries of 3 and {M} classes|'classes' is 3, .* length {M}"):
            discrepancy.merge(summary, discrepancy.summarise(more, draws), draws)
        with pytest.raises(InvalidInput, match=r"made of label vectors .* Measure.with_label_vectors"):
            discrepancy.compare(discrepancy.summarise(mu.as_groups(), draws), more.as_groups(), draws)
        for side in (mu, mu.as_groups()):
            with pytest.raises(InvalidInput, match="a measure has none"):
                discrepancy.summarise(Measure(side.points, side.weights), draws)

    def test_points_may_be_whole_numbers(self, discrepancy: Discrepancy):
        """Also such as float32 would round."""
        mu, nu = (
            Measure((20 * side.tensors[""]).long() + 2**24, side.weights, side.labels)
            for side in (self.sample(N), self.sample(M, 1))
        )
        value = in_two_calls(discrepancy, mu, nu, self.draws(discrepancy))
        expected = self.value(discrepancy, *(with_points(side, side.tensors[""].double()) for side in (mu, nu)))
        torch.testing.assert_close(value, expected)

    @one_a_class
    def test_named_blocks_are_summed(self, discrepancy: Discrepancy):
        sides, draws = [self.sample(N), self.sample(N, 3), self.sample(M, 1)], self.draws(discrepancy)
        mu, more, nu = (
            Measure({"a": side.tensors[""], "b": side.tensors[""].flip(0) + 1}, side.weights, side.labels)
            for side in sides
        )
        summary = discrepancy.summarise(mu, draws)
        if discrepancy.adversary is not None:
            with pytest.raises(Unsupported, match="one block at a time"):
                discrepancy.sharpened(summary, nu, draws)
        else:
            torch.testing.assert_close(discrepancy.compare(summary, nu, draws), discrepancy(mu, nu, draws))
        if discrepancy.adversary is None and discrepancy.merges:
            merged = discrepancy.merge(summary, discrepancy.summarise(more, draws), draws)
            union = discrepancy(Measure.merged([mu, more]), nu, draws)
            torch.testing.assert_close(discrepancy.compare(merged, nu, draws), union)
        for pair in ((summary, sides[2]), (discrepancy.summarise(sides[0], draws), nu)):
            with pytest.raises(InvalidInput, match="blocks"):
                discrepancy.compare(*pair, draws)

    def _other_labels(self, mu: Measure, nu: Measure) -> list[tuple[Measure, Measure]]:
        """The two sides with labels as class numbers, first both of them, then one; none where labels are not looked at or
        are soft."""
        if not is_one_hot(mu):
            return []
        numbers = [with_class_numbers(side) for side in (mu, nu)]
        return [(numbers[0], numbers[1]), (mu, numbers[1]), (numbers[0], nu)]


def in_two_calls(discrepancy: Discrepancy, mu: Measure, nu: Measure, draws: Any) -> Tensor:
    return compared(discrepancy, discrepancy.summarise(mu, draws), nu, draws)


def compared(discrepancy: Discrepancy, summary: Any, nu: Measure, draws: Any) -> Tensor:
    return discrepancy.compare(summary, nu, discrepancy.sharpened(summary, nu, draws))


def in_two_groups(side: Measure) -> Measure:
    """The measure with its points in two groups of unequal size, which share no pattern with the labels."""
    return side.conditioned(Grouping.of((torch.arange(len(side)) % 7 > 3).long(), 2))


def is_one_hot(side: Measure) -> bool:
    return side.labels is not None and bool((side.labels.amax(-1) == 1).all())


def with_class_numbers(side: Measure) -> Measure:
    """The measure with class numbers in place of unit vectors."""
    assert side.labels is not None
    return Measure(side.points, side.weights, side.labels.argmax(-1))
