"""Matches of robust means: values by hand, chunks of the real side, wrong examples in a run, embeddings that average."""

from typing import Any

import numpy as np
import pytest
import torch
from small import NETWORK, decoded, images, problem, start, table
from torch import Tensor

from discrepancy import MMD, InvalidInput, MeanGradients, MedianOfMeans, TrimmedMean
from discrepancy.embeddings import Features, Identity, LossGradient
from discrepancy.networks import MLP
from objectives.contexts import Fresh, Pool
from objectives.data.labelled import LabelledData
from objectives.terms.match import Match
from objectives.training.augmentation import Siamese

KINDS = MedianOfMeans(of=MMD(), blocks=3), TrimmedMean(of=MMD(), share=0.2)
CONTEXTS = Fresh(network=NETWORK, batch=5), Pool(network=NETWORK, size=2)
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)


def robust_mean(kind: Any, rows: Any) -> Any:
    """Of examples of equal weight: numpy's median of block means, or the mean of the rows between the ends."""
    if isinstance(kind, MedianOfMeans):
        return np.median([rows[block :: kind.blocks].mean(0) for block in range(kind.blocks)], axis=0)
    inner = np.clip(np.arange(len(rows) + 1) / len(rows), kind.share, 1 - kind.share)
    return np.diff(inner) @ np.sort(rows, axis=0) / (1 - 2 * kind.share)


@each_kind
def test_the_value_is_that_of_class_means_by_hand(kind: Any) -> None:
    data = table()
    some = problem(data, Match(kind, via=Identity()), context=Pool(network=MLP(width=4), size=1))
    here, labels, expected = decoded(some), data.train.labels.numbers, 0.0
    for c in range(3):
        rows = data.train.normalised((labels == c).nonzero()[:, 0]).double().numpy()
        synthetic = here.points[here.slots == c].double().detach().numpy().mean(0)
        expected += float(((robust_mean(kind, rows) - synthetic) ** 2).sum())
    assert some.engine(1).evaluate(here, 0).total.item() == pytest.approx(expected, rel=1e-5)


@each_kind
@pytest.mark.parametrize("batch", [9, "all"])
def test_chunks_of_the_real_side_do_not_matter(kind: Any, batch: Any) -> None:
    context = Pool(network=NETWORK, size=1, batch=batch, augment=Siamese())
    some = problem(images(), Match(kind, via=Features()), context=context)
    here, at_once, in_chunks = decoded(some), some.engine(1), some.engine(1)
    in_chunks.bound_context.extractor.chunk = 4
    first, second = at_once.evaluate(here, 0), in_chunks.evaluate(here, 0)
    torch.testing.assert_close(first.total, second.total, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(dict(first.gradients), dict(second.gradients), rtol=1e-5, atol=1e-6)


@each_kind
@pytest.mark.parametrize("context", CONTEXTS, ids=lambda context: context.kind)
def test_three_steps_move_every_example(kind: Any, context: Any) -> None:
    solving = start(images(), Match(kind, via=Features()), context=context)
    before = solving.parameters["points"].clone()
    for _ in range(3):
        assert float(solving.advance().loss) > 0
    moved = (solving.parameters["points"] - before).flatten(1).norm(dim=1)
    assert bool((moved > 0).all() & torch.isfinite(moved).all())


@each_kind
def test_a_wrong_example_leaves_the_gradient_where_it_was(kind: Any) -> None:
    clean, x, y = table(), table().train.rows().points, table().train.labels.numbers
    x = x.clone()
    x[(y == 2).nonzero()[5]] = 1e6
    spoilt = LabelledData.of(x, y, normalisation=clean.spec.normalisation)

    def slope(data: LabelledData, match: Any) -> Tensor:
        some = problem(data, Match(match, via=Identity()), context=Pool(network=MLP(width=4), size=1))
        return some.engine(1).evaluate(here, 0).gradients["points"]

    here = decoded(problem(clean, context=Pool(network=MLP(width=4), size=1)))
    assert (slope(spoilt, MMD()) - slope(clean, MMD())).abs().max() > 1e4
    assert (slope(spoilt, kind) - slope(clean, kind)).abs().max() < 2.0


def test_an_embedding_that_averages_is_refused() -> None:
    match = Match(MedianOfMeans(of=MeanGradients()), via=LossGradient())
    with pytest.raises(
        InvalidInput, match="only the means of 'loss_gradient', and 'median_of_means' needs single points"
    ):
        problem(images(), match).engine(1)
