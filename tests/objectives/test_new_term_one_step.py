"""A new term in one file: one step of dataset distillation through a network, with a learned step size.

    θ' = θ - η ∇_θ L_S(θ),      value = L_P(θ')

with the cross-entropies L of the synthetic set S and of the real batch P.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from gate import decoded, differences, problem
from small import NETWORK, images
from torch import Tensor
from torch.nn import functional

from objectives import condense
from objectives.contexts import Fresh
from objectives.solvers import Descent
from objectives.synthetic.parameterisation import EXTRA
from objectives.terms.bound import BoundTerm, TermEngine, View
from objectives.terms.objective import Term
from objectives.terms.weights import WeightSchedule


class OneStep(Term, kind="one_step_by_test"):
    """The loss on the real batch after one step of gradient descent on the synthetic set."""

    distilled: Literal["cross_entropy"] = field(kw_only=False, default="cross_entropy")
    rate: float = 0.1
    weight: float | WeightSchedule = 1.0

    @property
    def takes(self) -> frozenset[str]:
        return frozenset({"logits"})

    @property
    def default_name(self) -> str:
        return "one_step"

    @property
    def extras(self) -> Mapping[str, float]:
        return {"step_size": self.rate}

    def bind(self, name: str, engine: TermEngine) -> "BoundOneStep":
        engine.data.require_classes(f"term '{name}'")
        return BoundOneStep(name, engine)


@dataclass(frozen=True, eq=False)
class BoundOneStep(BoundTerm):
    name: str
    engine: TermEngine
    needs_graph = True

    def value(self, view: View) -> Tensor:
        network, engine = self.engine.context.network, self.engine
        assert network is not None
        weights = {name: value.detach().requires_grad_(True) for name, value in view.at.parameters.items()}
        logits = network(weights, view.synthetic.points, ("logits",))["logits"]
        loss = functional.cross_entropy(logits, view.labels)
        slopes = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        rate = view.synthetic.extras[EXTRA + "step_size"]
        moved = {name: value - rate * slope for (name, value), slope in zip(weights.items(), slopes, strict=True)}
        examples = engine.real_batch(view.at)
        real = engine.data.normalised(examples, engine.device, engine.dtype)
        found = network(moved, real, ("logits",))["logits"]
        return functional.cross_entropy(found, examples.numbers("class").to(engine.device))[None]


def test_value_by_hand() -> None:
    some = problem(OneStep(rate=0.3))
    here, engine = decoded(some), some.engine(1)
    weights = {name: value.clone().requires_grad_(True) for name, value in engine.real_side.at(0).parameters.items()}
    loss = functional.cross_entropy(NETWORK(weights, here.points.detach(), ("logits",))["logits"], some.slots)
    slopes = torch.autograd.grad(loss, list(weights.values()))
    moved = {name: w.detach() - 0.3 * slope for (name, w), slope in zip(weights.items(), slopes, strict=True)}
    batch = engine.real_batch(engine.real_side.at(0))
    logits = NETWORK(moved, some.data.normalised(batch, dtype=torch.float64), ("logits",))["logits"]
    expected = functional.cross_entropy(logits, batch.labels.numbers)
    torch.testing.assert_close(engine.evaluate(here, 0).total, expected, rtol=1e-10, atol=0)


def test_gradients_by_differences() -> None:
    some = problem(OneStep(rate=0.3))
    for name in ("points", EXTRA + "step_size"):
        along, expected = differences(some, decoded(some), name)
        torch.testing.assert_close(along, expected, rtol=1e-5, atol=1e-12)


def test_the_step_size_is_learned_beside_the_set_and_resumes() -> None:
    solver = Descent(lr=0.5, rates=((EXTRA + "step_size", 0.02),), steps=6)
    solving = solver.start(problem(OneStep(rate=0.05)))
    losses = [float(solving.advance().loss) for _ in range(3)]
    again = solver.start(problem(OneStep(rate=0.05)))
    again.restore(solving.state())
    for run in (solving, again):
        losses += [float(run.advance().loss) for _ in range(3)]
    name = EXTRA + "step_size"
    assert float(solving.parameters[name]) != 0.05
    assert torch.equal(solving.parameters[name], again.parameters[name])
    assert torch.equal(solving.parameters["points"], again.parameters["points"])
    assert losses[3:6] == losses[6:]


def test_the_step_size_is_in_the_artefact(tmp_path) -> None:
    made = condense(images(), OneStep(), context=Fresh(network=NETWORK, batch=5), per_class=2, steps=2)
    made.save(tmp_path / "set.safetensors")
    loaded = type(made).load(tmp_path / "set.safetensors")
    assert torch.equal(loaded.parameters[EXTRA + "step_size"], made.parameters[EXTRA + "step_size"])
    assert loaded.points.shape == (6, 1, 8, 8)


def test_a_weight_that_follows_a_schedule() -> None:
    from objectives.terms.weights import LinearWeight

    some = problem(OneStep(weight=LinearWeight(start=0.0, end=2.0)) * 0.5)
    engine = some.engine(5)
    unweighted = [float(problem(OneStep()).engine(5).evaluate(decoded(some), step).total) for step in range(5)]
    weighted = [float(engine.evaluate(decoded(some), step).total) for step in range(5)]
    for step in range(5):
        assert abs(weighted[step] - 0.25 * step * unweighted[step]) < 1e-12
