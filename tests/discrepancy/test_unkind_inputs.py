"""Every instance of every contract against its definition in sixty digits, on small unkind inputs: the value from either side,
the slope in a direction of the points, and by the weight of a point.

``DISCREPANCY_UNKIND_CASES`` is the number of inputs of each instance. A slope is not compared at a kink, where the definition
has another one to the other side; by the weights of exact transport it must lie between the two.
"""

import importlib
import os
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import brute_force_learned  # noqa: F401
import brute_force_robust  # noqa: F401
import brute_force_transport  # noqa: F401
import numpy as np
import pytest
import torch
from brute_force import Exact, Part, Parts, digits, truths, value_of
from contract import DiscrepancyContract, claims
from torch import Tensor
from unkind import SITUATIONS, sides

from discrepancy import DiscrepancyError, Measure
from discrepancy.errors import NumericalWarning
from discrepancy.transport import MaxSlicedWasserstein, SlicedWasserstein, Wasserstein

CASES = int(os.environ.get("DISCREPANCY_UNKIND_CASES", "2"))
ROUNDINGS = 200
"""By which whatever is compared may be off: of the type of the points, and of float64 for what is told from zero."""
UNDEFINED = NotImplementedError, ZeroDivisionError
CONVEX = Wasserstein, SlicedWasserstein, MaxSlicedWasserstein
"""In the weights, so that slopes at a kink lie between those to both sides."""


def contracts(base: type = DiscrepancyContract) -> Iterator[type[DiscrepancyContract]]:
    for kind in base.__subclasses__():
        if "instances" in vars(kind):
            yield kind
        yield from contracts(kind)


for path in sorted(Path(__file__).parent.glob("test_*.py")):
    if path != Path(__file__) and ("Contract)" in path.read_text() or "LargerGroups)" in path.read_text()):
        importlib.import_module(path.stem)
WITHOUT_TIES = "plain", "scaled", "near", "clusters"
"""The situations of discrepancies whose truth is that of their contract: in float64, of several points in general position."""
INSTANCES = {
    f"{kind.__name__}-{name}": (kind(), instance) for kind in contracts() for name, instance in kind.instances.items()
}


class Case:
    """One input: what the library says of it and what is right."""

    def __init__(self, ident: str, number: int) -> None:
        self.contract, self.discrepancy = INSTANCES[ident]
        start = zlib.crc32(ident.encode())
        exactly = self.discrepancy.kind in truths
        situations = list(SITUATIONS) if exactly else WITHOUT_TIES
        self.situation = situations[(start + number) % len(situations)]
        self.random = np.random.default_rng([start, number])
        self.mu, self.nu = sides(self.contract, self.situation, self.random, 1 if exactly else 4)
        self.eps = torch.finfo(self.nu.tensors[""].dtype).eps
        self.first, self.second = Exact.of(self.mu), Exact.of(self.nu)
        self.value: Tensor | DiscrepancyError
        self.back: float | None = None
        self.run()

    def run(self) -> None:
        discrepancy, nu = self.discrepancy, self.nu
        self.draws = discrepancy.draw(torch.Generator().manual_seed(5), tuple(nu.tensors[""].shape[1:]))
        self.leaves = nu.tensors[""].clone().requires_grad_(), nu.weights.clone().requires_grad_()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", NumericalWarning)
            try:
                self.value = discrepancy(
                    self.mu, Measure(*self.leaves, nu.labels) if self.differentiable else nu, self.draws
                )
                if "symmetric" in claims(discrepancy) and discrepancy.adversary is None:
                    self.back = discrepancy(nu, self.mu, self.draws).item()
                if discrepancy.adversary is not None:
                    self.draws = discrepancy.sharpened(discrepancy.summarise(self.mu, self.draws), nu, self.draws)
            except DiscrepancyError as error:
                self.value = error
        self.told = [str(warning.message) for warning in told]

    @property
    def differentiable(self) -> bool:
        return "differentiable" in claims(self.discrepancy)

    @property
    def stopped(self) -> bool:
        return any("stopped after" in text for text in self.told)

    def truth(self, first: Exact, second: Exact) -> Parts:
        if self.discrepancy.kind in truths:
            return truths[self.discrepancy.kind](self.discrepancy, first, second, self.draws)
        plain = [
            Measure(torch.tensor(side.points.astype(np.float64)), torch.tensor(side.weights.astype(np.float64)))
            for side in (first, second)
        ]
        return [Part(digits.mpf(self.contract.truth(self.discrepancy, *plain)), 1 + 1e-7 / (ROUNDINGS * self.eps))]

    def shaken(self) -> tuple[Exact, Exact]:
        """Both sides with every number off by some roundings: points by those of their distance from one of them, where pairs
        are compared, and by those of float64 anyway."""
        pairs, found = self.contract.far_tolerance is not None, []
        invariant = "translation-invariant" in claims(self.discrepancy)
        for side in (self.first, self.second):
            points, weights = side.points, side.weights
            size = self.eps * abs(points - (self.second.points[0] if invariant else 0))
            if not pairs:
                size = size + 2.0**-52 * abs(points)
            noise = [self.random.normal(size=item.shape) for item in (points, weights)]
            found.append(moved(side, ROUNDINGS * noise[0] * size, ROUNDINGS * self.eps * noise[1] * weights))
        return found[0], found[1]

    def faults(self) -> list[str]:
        try:
            parts = self.truth(self.first, self.second)
        except NotImplementedError:
            return []
        except ZeroDivisionError:
            return [] if isinstance(self.value, DiscrepancyError) else [f"UNDEFINED, got {self.value}"]
        if isinstance(self.value, DiscrepancyError):
            return [f"REFUSED {self.value}"]
        if self.stopped:
            return []
        try:
            shaken = self.shaken()
            other = self.truth(*shaken)
            beside = self.truth(self.first, moved(self.second, self.random.normal(size=self.second.points.shape), 0))
        except UNDEFINED:
            return []
        found, right = self.value.item(), value_of(parts)
        scale = abs(right) + abs(value_of(beside))
        off = (
            2 * abs(value_of(other) - right)
            + ROUNDINGS * self.eps * abs(right)
            + (ROUNDINGS * self.eps) ** 2 * (scale + 1)
        )
        low, high = (value_of(parts, sign * ROUNDINGS * digits.mpf(self.eps)) + sign * off for sign in (-1, 1))
        faults = []
        if not low <= found <= high:
            faults.append(f"VALUE {found} for {digits.nstr(right, 15)} in {digits.nstr(low)} .. {digits.nstr(high)}")
        if self.back is not None and not low <= self.back <= high:
            faults.append(f"BACK {self.back} for {digits.nstr(right, 15)} in {digits.nstr(low)} .. {digits.nstr(high)}")
        if self.differentiable:
            faults += self.slopes(parts, shaken, value_of(other), scale)
        return faults

    def slopes(self, parts: Parts, shaken: tuple[Exact, Exact], other: Any, scale: Any) -> list[str]:
        assert isinstance(self.value, Tensor)
        grads = (
            torch.autograd.grad(self.value, self.leaves, allow_unused=True)
            if self.value.requires_grad
            else (None, None)
        )
        by_points, by_weights = (
            (torch.zeros_like(leaf) if slope is None else slope).double().numpy()
            for leaf, slope in zip(self.leaves, grads, strict=True)
        )
        step = digits.mpf("1e-6" if self.discrepancy.kind == "sinkhorn" else "1e-16")
        off = (1e-3 if self.eps > 1e-10 else 1e-4 if self.discrepancy.kind == "sinkhorn" else 1e-7) * digits.one
        floor = 1e-25 + ROUNDINGS * self.eps * (scale + sum(part.size * part.factor for part in parts))
        if self.contract.far_tolerance is None:  # weights multiply points, not differences of them
            floor += ROUNDINGS * 2.0**-52 * float(self.nu.tensors[""].abs().max()) * abs(by_points).sum()
        right, faults = value_of(parts), []

        def sided(points: Any, weights: Any, signs: tuple[int, ...]) -> list[Any]:
            def ahead(sign: int, first: Exact, second: Exact, base: Any) -> Any:
                after = self.truth(first, moved(second, sign * step * points, sign * step * weights))
                return sign * (value_of(after) - base) / step

            return [
                *(ahead(sign, self.first, self.second, right) for sign in signs),
                ahead(1, *shaken, other),
            ]

        def compare(what: str, found: float, slopes: list[Any]) -> None:
            low, high = min(slopes), max(slopes)
            slack = off * max(abs(low), abs(high)) + floor + abs(slopes[-1] - slopes[0])
            if not low - slack <= found <= high + slack:
                faults.append(f"{what} {found} for {[digits.nstr(slope, 12) for slope in slopes]}")

        def agree(one: Any, other: Any) -> bool:
            """Otherwise there is a kink."""
            return bool(abs(one - other) <= 3 * off * max(abs(one), abs(other)) + floor)

        every = self.random.normal(size=self.second.points.shape)
        j = int(self.random.integers(len(self.nu)))
        present = bool(self.nu.weights[j] > 0)
        weight = 0 * by_weights
        weight[j] = (self.nu.weights[j] if present else self.nu.weights.max()).item()
        try:
            slopes = sided(every, 0, (1, -1))
            kinked = self.discrepancy.kind == "covering_radius" or getattr(self.discrepancy, "p", 2) == 1
            tied = kinked and self.situation in ("ties", "coincident", "itself", "reweighted")
            if not tied and agree(*slopes[:2]):
                compare("POINTS", float((by_points * every).sum()), slopes)
            slopes = sided(0, weight, (1, -1) if present else (1,))
            jump = max(map(abs, slopes)) * step > digits.sqrt(step) * scale / 1000
            if not present:  # one side alone
                smooth = not any(part.power > 1 and part.value <= step for part in parts)
                smooth &= agree(slopes[0], sided(0, weight / 100, (1,))[0] * 100)
            else:
                smooth = isinstance(self.discrepancy, CONVEX) or agree(*slopes[:2])
            if smooth and not jump:
                compare("WEIGHT", float((by_weights * weight).sum()), slopes)
        except UNDEFINED:
            pass
        return faults


def moved(side: Exact, points: Any, weights: Any) -> Exact:
    return Exact(side.points + points, side.weights + weights, side.labels)


@pytest.mark.parametrize("ident", INSTANCES)
def test_values_and_slopes_are_those_of_the_definition(ident: str):
    for number in range(CASES):
        case = Case(ident, number)
        assert not case.faults(), (number, case.situation)
