"""A new term in one file: a discrepancy to statistics that are stored, with no pass over the real data.

    Σ over layers l   ‖ mean_l(S) - μ_l ‖² + ‖ variance_l(S) - σ²_l ‖²

with the means and variances μ, σ² of the inputs of a batch-normalised network's layers, as they come with pretrained weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
import torch
from gate import decoded, differences, problem
from small import images
from torch import Tensor

from discrepancy.networks import ConvNet
from objectives.contexts import Fresh
from objectives.data.examples import Examples
from objectives.data.in_memory import InMemory
from objectives.rng import rng
from objectives.solvers import Descent
from objectives.terms.bound import BoundTerm, TermEngine, View
from objectives.terms.objective import Term
from objectives.terms.weights import WeightSchedule

NETWORK = ConvNet(width=4, depth=2, norm="batch")
pytestmark = pytest.mark.filterwarnings("ignore:batch normalisation of")  # six examples are few

STORE: dict[str, Mapping[str, Tensor]] = {}
"""Statistics by name; a part of the library would read them from a file."""


class StoredStatistics(Term, kind="stored_by_test"):
    """Squared distance of batch means and variances to stored ones, over the layers of the context's network."""

    statistics: str = field(kw_only=False)
    weight: float | WeightSchedule = 1.0

    @property
    def takes(self) -> frozenset[str]:
        return frozenset({"statistics"})

    @property
    def default_name(self) -> str:
        return "statistics"

    def bind(self, name: str, engine: TermEngine) -> "BoundStatistics":
        return BoundStatistics(name, {key: value.to(engine.device) for key, value in STORE[self.statistics].items()})


@dataclass(frozen=True, eq=False)
class BoundStatistics(BoundTerm):
    name: str
    stored: Mapping[str, Tensor]

    def value(self, view: View) -> Tensor:
        return torch.stack([(view.taken[key] - value).square().sum() for key, value in self.stored.items()])


def stored(seed: int = 5) -> str:
    """Statistics of the real data in the first network of a run, under a name."""
    data = images().train
    some = problem(StoredStatistics("none"), Fresh(network=NETWORK, batch=5))
    initial = NETWORK.initial(rng(some.runtime.seed, "network", 0), data.shape, data.count, affine=False)
    double = {name: value.double() for name, value in initial.items()}
    points = data.normalised(torch.arange(len(data)), dtype=torch.float64)
    outputs = NETWORK(double, points, ("statistics",))
    STORE["layers"] = {name: value for name, value in outputs.items() if not name.endswith("count")}
    return "layers"


def test_value_and_gradient() -> None:
    term = StoredStatistics(stored())
    some = problem(term, Fresh(network=NETWORK, batch=5))
    here, engine = decoded(some), some.engine(1)
    found = NETWORK(engine.real_side.at(0).parameters, here.points.detach(), ("statistics",))
    expected = sum((found[name] - value).square().sum() for name, value in STORE["layers"].items())
    torch.testing.assert_close(engine.evaluate(here, 0).total, expected, rtol=1e-10, atol=0)
    along, by_differences = differences(some, here, "points")
    torch.testing.assert_close(along, by_differences, rtol=1e-6, atol=0)


def test_no_real_example_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    term, context = StoredStatistics(stored()), Fresh(network=NETWORK, batch=5)
    solving = Descent(lr=0.05, steps=5).start(problem(term, context))

    def refuse(self: InMemory, numbers: Tensor | None = None) -> Examples:
        raise AssertionError("a real example was read")

    monkeypatch.setattr(InMemory, "rows", refuse)
    losses = [float(solving.advance().loss) for _ in range(5)]
    assert all(torch.isfinite(torch.tensor(losses)))
