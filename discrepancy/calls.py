"""The calls of a discrepancy: flat and grouped measures, named blocks, class numbers and label vectors, in one place.

A kind implements its hooks ``summarise_groups``, ``compare_groups`` and ``merge_groups``, which see grouped measures with label
vectors only. What users call brings every measure into this form first; a grouped measure goes straight through.
"""

import functools
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.arrays import are_tensors
from discrepancy.errors import InvalidInput, NonFinite, Unsupported
from discrepancy.measure import Measure, as_measure
from discrepancy.parts import Part
from discrepancy.precision import autocasts, normal, shielded, without_autocast
from discrepancy.summaries import BlockSummary, SideSummary, Space

__all__ = ["Adversary", "Draws", "TwoSided"]

Draws = Mapping[str, Tensor] | None
"""The random parts of one context (frequencies, directions), by name; None where there are none."""


@dataclass(frozen=True)
class Adversary:
    """How the supremum over draws is approached: by gradient ascent on the draws of these names. Where D is evaluated on its
    own, that is so many steps of Adam at this rate; in a run the draws are part of its state, and each of its steps takes one
    step of Adam."""

    names: frozenset[str]
    steps: int
    rate: float


class TwoSided(Part):
    """What is computed in two steps: a summary of the real side, then comparisons with it."""

    labelled: ClassVar[bool] = False
    """Whether it looks at labels."""

    @property
    @abstractmethod
    def tags(self) -> frozenset[Any]:
        """The laws that it obeys."""

    @functools.cached_property
    def differentiable(self) -> bool:
        """Whether its value has a gradient: the tag ``differentiable``."""
        return "differentiable" in self.tags

    @property
    @abstractmethod
    def adversary(self) -> Adversary | None:
        """How the supremum over draws is approached; None where D has no supremum."""

    @abstractmethod
    def summarise_groups(self, real: Measure, draws: Draws) -> Any:
        """The summary of a grouped measure, with a ``select`` and a size ``nbytes`` as in :class:`Summary`; runs without
        gradient."""

    @abstractmethod
    def compare_groups(self, summary: Any, synthetic: Measure, draws: Draws) -> Float[Tensor, " g"]:
        """The discrepancy of each group, differentiable in the synthetic points and weights."""

    @abstractmethod
    def merge_groups(self, first: Any, second: Any, draws: Draws) -> Any:
        """The summary of the union, from two summaries of the same groups; runs without gradient."""

    @torch.no_grad()
    def summarise(self, real: Measure, draws: Draws = None) -> Any:
        """The summary of the real side. No gradient reaches it.

        Values are not looked at, since this runs for every batch: ``Measure.checked`` and ``D(mu, nu)`` do that.

        Args:
            real: flat, grouped, or with named blocks, of which each gets a summary of its own with the same ``draws``.
            draws: what :meth:`draw` gave for the shape of a point.

        Raises:
            InvalidInput: if the discrepancy looks at labels and there are none, or needs draws and there are none.
        """
        real = as_measure(real, "real")
        if isinstance(real.points, Mapping):
            return BlockSummary({name: self.summarise(block, draws) for name, block in real.blocks()})
        with _settled(real):
            real = _normal(real)
            if draws is not None:
                draws = _normal_draws(draws)
            if real.grouped and (not self.labelled or real.has_label_vectors):
                return self.summarise_groups(real, draws)
            classes = real.classes if self.labelled else None
            side = real if classes is None else real.with_label_vectors(classes)
            groups = self.summarise_groups(side.as_groups(), draws)
            return SideSummary(groups, not real.grouped, Space.of(real), classes)

    def compare(self, summary: Any, synthetic: Measure, draws: Draws = None) -> Tensor:
        """The discrepancy, differentiable in the synthetic points and weights: a scalar for flat measures, one value a group
        for grouped ones, summed over named blocks.

        The values are those of ``D(mu, nu)``, which moves an adversary first, where there is one: :meth:`sharpened`.

        Args:
            summary: of the real side, by :meth:`summarise` or :meth:`merge`.
            synthetic: flat where the real side was flat, with the same groups where it was grouped.
            draws: those of the summary.

        Raises:
            InvalidInput: if the two sides do not fit each other.
            NonFinite: if points or weights are NaN or infinite and there is no gradient; else the value is that too.
        """
        synthetic = as_measure(synthetic, "synthetic")
        _check_summary(summary)
        if draws is not None:
            _check_draws(draws)
        if isinstance(summary, BlockSummary):
            parts = summary.paired(dict(synthetic.blocks()))
            return _summed(self.compare(part, block, draws) for part, block in parts)
        groups, synthetic = self._grouped(summary, synthetic)
        value = self._compared(groups, synthetic, draws)
        return value[0] if isinstance(summary, SideSummary) and summary.flat else value

    def _compared(self, summary: Any, synthetic: Measure, draws: Draws) -> Float[Tensor, " g"]:
        """:meth:`compare_groups` outside of autocast and inference mode."""
        if not self.differentiable and not all(bool(torch.isfinite(item).all()) for item in synthetic.every):
            raise NonFinite(f"'{self.kind}' got points or weights that are not finite; look at what made them")
        kind = synthetic.weights.device.type
        if torch.is_inference_mode_enabled():
            with _settled(synthetic):
                draws = None if draws is None else _normal_draws(draws)
                return self.compare_groups(summary, _normal(synthetic), draws)
        if not autocasts(kind):
            return self.compare_groups(summary, synthetic, draws)
        names = [*(draws or {})]

        def value(points: Tensor, weights: Tensor, *rest: Tensor) -> Tensor:
            labels, drawn = (rest[0], rest[1:]) if synthetic.labels is not None else (None, rest)
            side = Measure(points, weights, labels)
            return self.compare_groups(summary, side, dict(zip(names, drawn, strict=True)) if draws else draws)

        labels = [] if synthetic.labels is None else [synthetic.labels]
        return shielded(kind, value, [synthetic.tensors[""], synthetic.weights, *labels, *(draws or {}).values()])

    @torch.no_grad()
    def merge(self, first: Any, second: Any, draws: Draws = None) -> Any:
        """The summary of the union of two samples, whose weights stay as they are: each counts by its mass.

        Sums add up, in bounded memory where the discrepancy is :attr:`mergeable`. Where the points are kept they are
        concatenated, and the constants of the real side are computed again.

        Args:
            first, second: summaries of the same groups, blocks and classes.
            draws: those of both summaries.

        Raises:
            InvalidInput: if the two are summaries of different sorts of measures, or draws are needed and missing.
        """
        _check_summary(first)
        _check_summary(second)
        if isinstance(first, BlockSummary):
            parts = first.paired(second.blocks if isinstance(second, BlockSummary) else {"": second})
            return BlockSummary(
                {name: self.merge(*pair, draws) for name, pair in zip(first.blocks, parts, strict=True)}
            )
        if isinstance(first, SideSummary):
            with _settled():
                kept = None if draws is None else _normal_draws(draws)
                return first.merged(second, functools.partial(self.merge_groups, draws=kept))
        if isinstance(second, SideSummary | BlockSummary):
            return self.merge(second, first, draws)
        with _settled():
            return self.merge_groups(first, second, None if draws is None else _normal_draws(draws))

    def sharpened(self, summary: Any, synthetic: Measure, draws: Draws = None) -> Draws:
        """The draws after the gradient ascent of the adversary, one for each group; the same where there is none.

        Raises:
            Unsupported: for measures with named blocks, each of which has an adversary of its own.
        """
        if self.adversary is None or draws is None:
            return draws
        if isinstance(summary, BlockSummary):
            raise Unsupported(f"each block has an adversary of its own; call '{self.kind}' for one block at a time")
        groups, synthetic = self._grouped(summary, as_measure(synthetic, "synthetic"))
        with _settled(synthetic):
            return self.sharpen_groups(groups, _normal(synthetic.detached()), _normal_draws(draws))

    def sharpen_groups(self, summary: Any, synthetic: Measure, draws: Mapping[str, Tensor]) -> Draws:
        """:meth:`sharpened` for grouped measures and a discrepancy with an adversary."""
        adversary = self.adversary
        assert adversary is not None
        count = len(synthetic.weights)
        fixed = synthetic.detached()
        moving = {
            name: draws[name].expand(count, *draws[name].shape).clone().requires_grad_() for name in adversary.names
        }
        optimizer = torch.optim.Adam(moving.values(), lr=adversary.rate, maximize=True)
        with torch.enable_grad():
            for _ in range(adversary.steps):
                value = self.compare_groups(summary, fixed, {**draws, **moving}).sum()
                for tensor, slope in zip(
                    moving.values(), torch.autograd.grad(value, list(moving.values())), strict=True
                ):
                    tensor.grad = slope
                optimizer.step()
        return {**draws, **{name: tensor.detach() for name, tensor in moving.items()}}

    def _grouped(self, summary: Any, synthetic: Measure) -> tuple[Any, Measure]:
        """The summary of the groups, and the synthetic side grouped and with label vectors.

        Raises:
            InvalidInput: if the two do not fit each other.
        """
        if isinstance(synthetic.points, Mapping):
            raise InvalidInput("'synthetic' has named blocks and the summary has none; summarise the same blocks")
        if isinstance(summary, SideSummary):
            return summary.groups, summary.of_other(synthetic, "synthetic")
        if not synthetic.grouped:
            raise InvalidInput(
                "the summary is that of a grouped measure and 'synthetic' is flat; condition both sides or neither"
            )
        if self.labelled and not synthetic.has_label_vectors:
            raise InvalidInput(
                f"the summary was made of label vectors and 'synthetic' has {synthetic.classes} classes by number; use "
                f"Measure.with_label_vectors(classes)"
            )
        return summary, synthetic

    def __call__(self, mu: Any, nu: Any, draws: Draws = None) -> Tensor:
        """D(mu, nu): a scalar for flat measures, one value a group for grouped ones, summed over named blocks.

        Args:
            mu, nu: measures, or what :class:`Measure` makes points of equal weight of; nested lists take the type of the other
                side.
            draws: what :meth:`draw` gave for the shape of a point.

        Raises:
            InvalidInput: if the values of a measure are unusable, or the two do not fit each other.
        """
        mu, nu = as_measure(mu, "mu", nu).checked("mu"), as_measure(nu, "nu", mu).checked("nu")
        if mu.grouped != nu.grouped:
            raise InvalidInput("one measure is grouped and the other is not; condition both or neither")
        if mu.grouped and len(mu.weights) != len(nu.weights):
            raise InvalidInput(
                f"the measures have {len(mu.weights)} and {len(nu.weights)} groups; condition both alike"
            )
        if mu.tensors.keys() != nu.tensors.keys():
            raise InvalidInput(f"the measures have different blocks: {sorted(mu.tensors)} and {sorted(nu.tensors)}")
        if self.labelled:
            classes = max(mu.classes, nu.classes)
            mu, nu = mu.with_label_vectors(classes), nu.with_label_vectors(classes)
            if mu.classes != nu.classes:
                raise InvalidInput(
                    f"labels of {mu.classes} and {nu.classes} classes cannot be compared; use one list of classes"
                )
        values = []
        for (name, real), (_, synthetic) in zip(mu.blocks(), nu.blocks(), strict=True):
            Space.of(real).check(Space.of(synthetic), f" in block '{name}'" if name else "")
            # The masses do not count, and sums of weights that are not near 1 might overflow.
            real, synthetic = (replace(side, weights=side.masses) for side in (real.as_groups(), synthetic.as_groups()))
            summary = self.summarise(real, draws)
            values.append(self.compare(summary, synthetic, self.sharpened(summary, synthetic, draws)))
        total = _summed(values)
        return total if mu.grouped else total[0]


def _summed(values: Iterable[Tensor]) -> Tensor:
    """The sum over blocks, in the dtype of the last."""
    each = list(values)
    total = torch.zeros_like(each[0])
    for value in each:
        total = value + total.to(value)
    return total


def _settled(side: Measure | None = None) -> AbstractContextManager[Any]:
    """Without autocast on the device of a measure (on any, without one), and out of inference mode but without gradient."""
    stack = ExitStack()
    for kind in filter(autocasts, ("cpu", "cuda") if side is None else (side.weights.device.type,)):
        stack.enter_context(without_autocast(kind))
    if torch.is_inference_mode_enabled():
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
    return stack


def _check_draws(draws: Any) -> None:
    if not are_tensors(draws):
        raise InvalidInput(f"'draws' must be what draw(generator, shape) gave, got a {type(draws).__name__}")


def _check_summary(summary: Any) -> None:
    if not hasattr(type(summary), "select"):
        raise InvalidInput(f"a summary must be what summarise or merge gave, got a {type(summary).__name__}")


def _normal(side: Measure) -> Measure:
    """The measure, made of tensors that a graph can keep."""
    return side._mapped(normal) if any(map(Tensor.is_inference, side.every)) else side


def _normal_draws(draws: Mapping[str, Tensor]) -> dict[str, Tensor]:
    _check_draws(draws)
    return {name: normal(value) for name, value in draws.items()}
