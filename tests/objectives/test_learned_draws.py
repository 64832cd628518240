"""Suprema within a run: the adversary moves uphill once a step, is kept over a resume, and is refused where draws come back;
and discrepancies that look at labels get them."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from small import problem, start, table
from torch import Tensor

from discrepancy import Discrepancy, InvalidInput, Measure
from discrepancy.discrepancy import Adversary, Draws, SampleDiscrepancy, SampleSummary
from objectives.contexts import Fresh, Pool
from objectives.solvers import Descent, Herding
from objectives.synthetic.pixels import Pixels
from objectives.terms.match import Match


@pytest.fixture(autouse=True)
def kinds() -> Iterator[None]:
    yield
    for name in ("widest_by_test", "correlated_by_test", "counted_by_test"):
        Discrepancy.members.pop(name, None)


def parts() -> dict[str, Any]:
    """Discrepancies of this test alone, made anew."""

    class Widest(SampleDiscrepancy, kind="widest_by_test"):
        """sup over unit ψ of <ψ, E x - E y>², which is ‖E x - E y‖²."""

        @property
        def tags(self):
            return frozenset({"differentiable"})

        @property
        def adversary(self) -> Adversary:
            return Adversary(frozenset({"direction"}), steps=200, rate=0.05)

        def draw(self, generator: torch.Generator, shape: tuple[int, ...]) -> Draws:
            return {"direction": torch.randn(*shape, generator=generator)}

        def constants(self, real: Measure, draws: Draws) -> Mapping[str, Tensor]:
            return {"mean": torch.einsum("gn,gnd->gd", real.shares, real.rows.double())}

        def compare_groups(self, summary: SampleSummary, synthetic: Measure, draws: Draws) -> Tensor:
            assert draws is not None
            psi = draws["direction"] / draws["direction"].norm(dim=-1, keepdim=True)
            apart = summary.constants["mean"] - torch.einsum("gn,gnd->gd", synthetic.shares, synthetic.rows.double())
            return (apart.float() * psi).sum(-1).square()

    class Correlated(SampleDiscrepancy, kind="correlated_by_test"):
        """‖E x yᵀ - E x yᵀ‖² with y the label vector."""

        @property
        def tags(self):
            return frozenset({"differentiable"})

        @property
        def labelled(self) -> bool:
            return True

        def constants(self, real: Measure, draws: Draws) -> Mapping[str, Tensor]:
            return {"joint": torch.einsum("gn,gnd,gnc->gdc", real.shares.float(), real.rows, real.labels)}

        def compare_groups(self, summary: SampleSummary, synthetic: Measure, draws: Draws) -> Tensor:
            joint = torch.einsum("gn,gnd,gnc->gdc", synthetic.shares.float(), synthetic.rows, synthetic.labels)
            return (summary.constants["joint"] - joint).square().sum((-1, -2))

    class Counted(SampleDiscrepancy, kind="counted_by_test"):
        """For reports."""

        @property
        def tags(self):
            return frozenset({"nonnegative"})

        def constants(self, real: Measure, draws: Draws) -> Mapping[str, Tensor]:
            return {}

        def compare_groups(self, summary: SampleSummary, synthetic: Measure, draws: Draws) -> Tensor:
            return torch.zeros(len(synthetic.weights))

    return {"widest": Widest, "correlated": Correlated, "counted": Counted}


def run(solving: Any, steps: int) -> list[float]:
    return [float(solving.advance().loss) for _ in range(steps)]


def test_an_adversary_finds_the_supremum_on_its_own():
    x, y = torch.randn(7, 3, generator=torch.Generator().manual_seed(0)), torch.zeros(2, 3)
    discrepancy = parts()["widest"]()
    draws = discrepancy.draw(torch.Generator().manual_seed(1), (3,))
    expected = x.mean(0).square().sum()
    torch.testing.assert_close(discrepancy(Measure(x), Measure(y), draws), expected, rtol=1e-3, atol=0)
    unmoved = discrepancy.compare(discrepancy.summarise(Measure(x).as_groups()), Measure(y).as_groups(), draws)
    assert unmoved < 0.9 * expected


@pytest.mark.parametrize("update", ["joint", "per_class"])
def test_an_adversary_moves_uphill_while_the_set_stands(update: str):
    data = table()
    objective = Match(parts()["widest"]())
    frozen = Descent(lr=1e-12, steps=150, update=update)  # pyright: ignore[reportArgumentType]
    solving = start(data, objective, frozen, context=Fresh(batch="all"))
    losses = run(solving, 150)
    points, slots = solving.parameters["points"], solving.problem.slots  # pyright: ignore[reportAttributeAccessIssue]
    real = data.normalisation.apply(data.train.points)
    suprema = [
        (real[data.train.labels.numbers == c].mean(0) - points[slots == c].mean(0)).square().sum()
        for c in range(data.count)
    ]
    assert losses[0] < 0.95 * losses[-1]
    torch.testing.assert_close(losses[-1], float(torch.stack(suprema).sum()), rtol=0.05, atol=0)


def test_a_run_with_an_adversary_resumes_bit_for_bit():
    data, objective = table(), Match(parts()["widest"]())
    options: dict[str, Any] = {"context": Fresh(batch=4)}
    whole = start(data, objective, Descent(lr=0.1, steps=6), **options)
    run(whole, 6)
    first = start(data, objective, Descent(lr=0.1, steps=6), **options)
    run(first, 3)
    second = start(data, objective, Descent(lr=0.1, steps=6), **options)
    second.restore(first.state())
    run(second, 3)
    assert torch.equal(whole.parameters["points"], second.parameters["points"])
    fresh = start(data, objective, Descent(lr=0.1, steps=6), **options)
    fresh.restore({**first.state(), "learned_draws": fresh.state()["learned_draws"]})
    run(fresh, 3)
    assert not torch.equal(whole.parameters["points"], fresh.parameters["points"])


def test_an_adversary_over_a_pool_is_refused():
    with pytest.raises(InvalidInput, match=r"has an adversary, which moves at every step.*use the context 'fresh'"):
        start(table(), Match(parts()["widest"]()), context=Pool(size=2))


@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_labels_reach_a_discrepancy_that_looks_at_them(labels: str):
    data, objective = table(), Match(parts()["correlated"](), by="none")
    form = Pixels(per_class=2, labels=labels)  # pyright: ignore[reportArgumentType]
    solving = start(data, objective, Descent(lr=0.5, steps=3), context=Fresh(batch="all"), synthetic=form)
    x, y = data.normalisation.apply(data.train.points), data.train.labels.numbers
    joint = x.T @ torch.nn.functional.one_hot(y, 3).float() / len(x)
    now = solving.parameters
    p = now["labels"].softmax(-1) if labels == "soft" else torch.eye(3).repeat_interleave(2, 0)
    expected = (joint - now["points"].T @ p / len(p)).square().sum()
    record = solving.advance()
    torch.testing.assert_close(record.loss, expected)
    if labels == "soft":
        assert not torch.equal(solving.parameters["labels"], now["labels"])


def test_herding_takes_labels_along():
    solving = start(table(), Match(parts()["correlated"]()), Herding(), context=Fresh(batch="all"))
    assert float(solving.advance().loss) > 0


def test_a_discrepancy_for_reports_is_no_term():
    with pytest.raises(InvalidInput, match="'counted_by_test' is for reports"):
        Match(parts()["counted"]())


def test_no_adversary_costs_nothing():
    assert (
        len(problem(table(), context=Fresh(batch=4), objective=Match(parts()["correlated"]())).engine(1).learned_draws)
        == 0
    )
