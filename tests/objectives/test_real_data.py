"""The one interface to the real data: what is asked of it, and that it can refuse."""

from typing import Literal

import pytest
import torch
from small import NETWORK, decoded, images, table
from torch import Tensor

from discrepancy import MMD, Gaussian, InvalidInput
from discrepancy.embeddings import Features, LossGradient
from discrepancy.learning.gradients import MeanGradients
from objectives import condense
from objectives.contexts import Fresh, Pool, Trained
from objectives.data.examples import Examples
from objectives.data.labels import Labels
from objectives.data.real import Query, RealData, Summaries
from objectives.data.spec import DataSpec
from objectives.data.subset import Subset
from objectives.data.units import Normalisation
from objectives.solvers import Descent, Herding, Problem
from objectives.solvers.selection import Random
from objectives.synthetic.pixels import Pixels
from objectives.terms.match import Match
from objectives.training.augmentation import Siamese
from objectives.training.training import Training


class SummariesOnly(RealData):
    """A real side that gives away summaries and the sizes of its classes, and no example.

    It counts what it is asked for. The sample from which shapes are known asks for one example of each class: zeros here.
    """

    def __init__(self, of: RealData) -> None:
        self._of, self.asked = of, 0

    def __len__(self) -> int:
        return len(self._of)

    @property
    def spec(self) -> DataSpec:
        return self._of.spec

    @property
    def labels(self) -> Labels:
        return self._of.labels

    @property
    def groups(self) -> Tensor | None:
        return None

    @property
    def nbytes(self) -> int:
        return self._of.nbytes

    def rows(self, numbers: Tensor | None = None) -> Examples:
        assert numbers is not None
        assert len(numbers) <= self.count, "more examples than one of each class were asked for"
        return Examples(torch.zeros(len(numbers), *self.shape, dtype=torch.uint8), self.labels.take(numbers))

    def require_rows(self, what: str) -> None:
        raise InvalidInput(f"{what} needs single examples, which '{self.name}' does not give away")

    def fingerprint(self) -> str:
        return "none"

    def summaries(self, query: Query) -> Summaries:
        self.asked += 1
        return self._of.summaries(query)


def problem(data: RealData, **changes: object) -> Problem:
    match = changes.pop("match", Match(MMD(), via=Features()))
    context = changes.pop("context", Fresh(network=NETWORK, batch=5))
    synthetic = changes.pop("synthetic", Pixels(per_class=2, start="noise"))
    assert not changes
    return Problem(data, match.as_objective(), context, synthetic)  # pyright: ignore


@pytest.mark.parametrize(
    "context",
    [Fresh(network=NETWORK, batch=5), Pool(network=NETWORK, size=2), Fresh(network=NETWORK, batch=5, augment=None)],
    ids=["fresh", "pool", "keep"],
)
def test_matching_asks_for_summaries_alone(context: Fresh | Pool) -> None:
    data = images().train
    without = SummariesOnly(data)
    ours = Descent(steps=3).start(problem(without, context=context))
    theirs = Descent(steps=3).start(problem(data, context=context))
    for _ in range(3):
        ours.advance()
        theirs.advance()
    torch.testing.assert_close(ours.parameters["points"], theirs.parameters["points"], rtol=0, atol=0)
    assert without.asked == (3 if isinstance(context, Fresh) else len({context.at(step, 0) for step in range(3)}))


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (lambda data: Pixels(per_class=2).initial(data, 0), "start: real"),
        (lambda data: Pixels(per_class=2, start="class-mean").initial(data, 0), "start: class-mean"),
        (lambda data: Herding().start(problem(data, context=Pool(network=NETWORK, size=1))), "solver: herding"),
        (lambda data: Random().start(problem(data)), "solver: random"),
        (
            lambda data: (
                Descent(steps=2)
                .start(problem(data, context=Trained(network=NETWORK, before=1, training=Training(on="real"))))
                .advance()
            ),
            "training a network on real examples",
        ),
    ],
    ids=["real-start", "class-means", "herding", "random", "training"],
)
def test_what_needs_examples_is_refused_by_name(start: object, what: str) -> None:
    with pytest.raises(InvalidInput, match=f"{what} needs single examples, which 'data' does not give away"):
        start(SummariesOnly(images().train))  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize(
    "match",
    [
        Match(MMD(), via=Features()),
        Match(MMD(kernel=Gaussian(lengthscale=3.0)), via=Features()),
        Match(MeanGradients(), via=LossGradient()),
        Match(MMD(), via=Features(), by="none"),
    ],
    ids=["mean", "points", "gradients", "whole"],
)
def test_summaries_do_not_depend_on_how_the_examples_come(match: Match, monkeypatch: pytest.MonkeyPatch) -> None:
    """One example after the other, in parts of four, or all at once: the value and its gradient are the same."""
    found = []
    for part in (1, 4, 4096):
        monkeypatch.setattr("objectives.engine.bound_context.PART_EXAMPLES", part)
        monkeypatch.setattr("objectives.engine.extractor.chunk_examples", lambda *_, part=part: min(part, 16))
        some = problem(
            images().train, match=match, context=Pool(network=NETWORK, size=1), synthetic=Pixels(per_class=2)
        )
        values = some.engine(1).evaluate(decoded(some), 0)
        found.append((values.total, values.gradients["points"]))
    for total, gradient in found[:-1]:
        torch.testing.assert_close(total, found[-1][0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(gradient, found[-1][1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("per", ["class", "image"])
def test_each_image_keeps_its_augmentation_however_the_batch_is_divided(
    per: Literal["class", "image"], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for part in (4096, 5):
        monkeypatch.setattr("objectives.engine.bound_context.PART_EXAMPLES", part)
        augment = Siamese(per=per, mode="all", operations=("crop",))
        some = problem(images().train, match=Match(MMD()), context=Pool(size=1, augment=augment))
        found.append(some.engine(1).evaluate(decoded(some), 0).total)
    torch.testing.assert_close(found[1], found[0], rtol=1e-6, atol=0)


def test_targets_have_the_precision_of_the_run() -> None:
    targets = torch.randn(9, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 1e3
    labels = Labels("targets", targets, Normalisation.measured(targets))
    exact = (targets - targets.mean(0)) / targets.std(0, correction=0)
    found = labels.vectors(1, torch.float64)
    assert found is not None
    torch.testing.assert_close(found, exact, rtol=1e-10, atol=1e-12)


def test_a_subset_is_the_data_of_these_examples() -> None:
    data = images(groups=[0, 1] * 15 + [1]).train
    numbers = torch.tensor([4, 0, 17, 30, 9, 2, 25])
    part = Subset(data, numbers)
    assert len(part) == 7
    assert torch.equal(part.rows(torch.tensor([2, 0])).points, data.points[[17, 4]])
    assert torch.equal(part.rows().labels.numbers, data.labels.numbers[numbers])
    assert part.per_class == tuple(torch.bincount(data.labels.numbers[numbers], minlength=3).tolist())
    assert part.groups is not None
    assert data.groups is not None
    assert torch.equal(part.groups, data.groups[numbers])
    assert part.fingerprint() != data.fingerprint()
    assert part.fingerprint() == Subset(part, torch.arange(7)).fingerprint()


def test_counts_by_class_and_group() -> None:
    data = images(groups=[0, 1] * 15 + [1]).train
    assert data.groups is not None
    expected = torch.zeros(3, 2, dtype=torch.long)
    for label, group in zip(data.labels.numbers.tolist(), data.groups.tolist(), strict=True):
        expected[label, group] += 1
    assert torch.equal(data.counts, expected)
    assert torch.equal(data.sizes("class"), expected.sum(1))
    assert torch.equal(data.sizes("group"), expected.sum(0))
    assert data.sizes("none").tolist() == [31]
    assert table().train.counts.shape == (3, 1)


def test_condense_takes_a_real_side() -> None:
    data = images()
    objective, context = Match(MMD(), via=Features()), Fresh(network=NETWORK, batch=5)
    made = [condense(some, objective, context=context, per_class=2, steps=2) for some in (data, data.train)]
    assert torch.equal(made[0].points, made[1].points)
