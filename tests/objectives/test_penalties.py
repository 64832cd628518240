"""Penalties, by their formulas, and how an objective sees them."""

import math
from dataclasses import replace

import pytest
import torch
from small import NETWORK, decoded, images, problem, start, table
from torch.nn import functional

from discrepancy import MMD
from discrepancy.embeddings import Features
from discrepancy.errors import InvalidInput
from objectives.contexts import Fresh, Interpolated, Queue
from objectives.terms.match import Match
from objectives.terms.penalties import CrossEntropy, LabelMargin, TotalVariation
from objectives.terms.penalty import Penalised
from objectives.training.augmentation import Siamese
from objectives.training.training import Training


def test_total_variation_by_hand() -> None:
    points = torch.tensor([[[[1.0, 3.0], [0.0, 7.0], [2.0, 1.0]]]])
    # columns: |0-1| |7-3| |2-0| |1-7|; rows: 2, 7, 1; their means differ
    value = TotalVariation()({"points": points}, torch.zeros(1).long(), torch.ones(1))
    assert float(value) == pytest.approx((1 + 4 + 2 + 6) / 4 + (2 + 7 + 1) / 3)


def test_total_variation_needs_images() -> None:
    with pytest.raises(
        InvalidInput, match=r"'total_variation' needs images \(m, C, H, W\), got points of shape \(2, 5\)"
    ):
        TotalVariation()({"points": torch.zeros(2, 5)}, torch.zeros(2).long(), torch.ones(2))


def test_label_margin_by_hand() -> None:
    """Margins 0.5, of which 1/3 counts, 0.1 and 0; the gradient is that of the second alone."""
    labels = torch.tensor([[0.2, 0.7, 0.1], [-1.0, 0.3, 0.2], [2.0, 2.0, 0.0]], requires_grad=True)
    value = LabelMargin()({"points": torch.zeros(3, 1)}, labels, torch.tensor([1.0, 2.0, 1.0]))
    assert value.item() == pytest.approx(-(1 / 3 + 2 * 0.1 + 0) / 4)
    (slope,) = torch.autograd.grad(value, labels)
    torch.testing.assert_close(slope[:2], torch.tensor([[0.0, 0.0, 0.0], [0.0, -0.5, 0.5]]))


def test_label_margin_needs_label_vectors() -> None:
    with pytest.raises(InvalidInput, match="'label_margin' needs labels of two classes or more that are learned"):
        LabelMargin()({"points": torch.zeros(2, 5)}, torch.zeros(2).long(), torch.ones(2))


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_cross_entropy_by_hand(soft: bool) -> None:
    logits = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]], dtype=torch.float64)
    weights = torch.tensor([2.0, 0.5], dtype=torch.float64)
    shares = [[0.1, 0.7, 0.2], [0.5, 0.0, 0.5]] if soft else [[0, 1, 0], [1, 0, 0]]
    labels = torch.tensor(shares, dtype=torch.float64) if soft else torch.tensor([1, 0])
    expected = 0.0
    for row, share, weight in zip(logits.tolist(), shares, weights.tolist(), strict=True):
        total = sum(math.exp(value) for value in row)
        expected -= weight * sum(p * math.log(math.exp(value) / total) for value, p in zip(row, share, strict=True))
    value = CrossEntropy()({"logits": logits}, labels, weights)
    assert float(value) == pytest.approx(expected / 2.5, rel=1e-12)


def test_penalties_see_points_before_augmentation_and_logits_after() -> None:
    context = Fresh(network=NETWORK, batch=5, augment=Siamese())
    some = problem(
        images(), Match(MMD(), via=Features()) + 0.5 * TotalVariation() + 2.0 * CrossEntropy(), context=context
    )
    engine, here = some.engine(4), decoded(some)
    values, view = engine.evaluate(here, 0), engine.real_side.at(0)
    assert engine.bound_context.augment is not None
    augmented = engine.bound_context.augment(here.points.detach(), view.augmentation, here.slots)
    assert not torch.equal(augmented, here.points)
    logits = NETWORK(view.parameters, augmented)["logits"]
    total_variation = TotalVariation()({"points": here.points}, here.labels, here.weights)
    torch.testing.assert_close(values.terms["total_variation"], 0.5 * total_variation.detach(), rtol=1e-5, atol=0)
    expected = 2 * torch.nn.functional.cross_entropy(logits, here.slots)
    torch.testing.assert_close(values.terms["cross_entropy"], expected, rtol=1e-5, atol=0)


def test_an_image_penalty_on_a_table_is_refused() -> None:
    some = problem(table(), TotalVariation(), context=Fresh())
    with pytest.raises(InvalidInput, match="'total_variation' needs images"):
        some.engine(1).evaluate(decoded(some), 0)


@pytest.mark.parametrize("only", [None, 1], ids=["whole", "class"])
def test_a_penalty_by_class_adds_up_those_of_the_classes(only: int | None) -> None:
    term = Penalised(CrossEntropy(), by="class", weight=2.0)
    some = problem(images(), Match(MMD(), via=Features()) + term, context=Fresh(network=NETWORK, batch=5))
    engine, here = some.engine(4), decoded(some)
    logits = NETWORK(engine.real_side.at(0).parameters, here.points.detach())["logits"]
    labels = [0, 1, 2] if only is None else [only]
    expected = sum(2 * functional.cross_entropy(logits[2 * c : 2 * c + 2], torch.tensor([c, c])) for c in labels)
    rows = here if only is None else here.rows((here.slots == only).nonzero()[:, 0])
    value = engine.evaluate(rows, 0, only).terms["cross_entropy"]
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("recompute", [False, True], ids=["at once", "in chunks"])
def test_the_trained_network_stands_beside_the_interpolated_one(recompute: bool) -> None:
    training = Training(on="real", steps=2, batch=8, lr=0.1)
    context = Interpolated(network=NETWORK, size=2, training=training, trained=2, batch=5, augment=Siamese())
    objective = Match(MMD(), via=Features()) + 3.0 * CrossEntropy(network="trained")
    some = problem(images(), objective, context=context, dtype=torch.float64)
    engine, here = some.engine(4), decoded(some)
    bound = engine.bound_context
    bound.recompute, bound.extractor.chunk, bound.trained_extractor.chunk = recompute, 4, 4
    values, view = engine.evaluate(here, 0), engine.real_side.at(0)
    trained = engine.networks.parameters(replace(view.draw, mixture=1.0))
    assert any(not torch.equal(trained[name], value) for name, value in view.parameters.items())
    assert engine.bound_context.augment is not None
    points = here.points.detach().requires_grad_(True)
    augmented = engine.bound_context.augment(points, view.augmentation, here.slots)
    loss = 3 * functional.cross_entropy(NETWORK(trained, augmented)["logits"], here.slots)
    torch.testing.assert_close(values.terms["cross_entropy"], loss.detach(), rtol=1e-12, atol=0)
    matched = problem(images(), Match(MMD(), via=Features()), context=context, dtype=torch.float64).engine(4)
    rest = matched.evaluate(here, 0).gradients["points"]
    (slope,) = torch.autograd.grad(loss, points)
    torch.testing.assert_close(values.gradients["points"], rest + slope, rtol=1e-9, atol=1e-12)


def test_a_trained_network_is_refused_where_there_is_none() -> None:
    some = problem(images(), CrossEntropy(network="trained"), context=Fresh(network=NETWORK, batch=5))
    with pytest.raises(
        InvalidInput, match=r"takes 'trained\.logits', but 'fresh' has no trained network beside the current"
    ):
        some.engine(1)


def test_a_penalty_may_count_as_much_as_the_network_knows() -> None:
    term = Penalised(CrossEntropy(), times_accuracy=True, weight=2.0)
    training = Training(steps=3, batch=8, lr=0.05)
    context = Queue(network=NETWORK, size=1, first=1, trained_after=1, training=training, batch=5)
    run = start(images(), Match(MMD(), via=Features()) + term, context=context)
    assert run.advance().terms["cross_entropy"] == 0  # the network has learned nothing yet
    saved = run.engine.networks.state()["trainers"][0]
    assert saved["shown"] == 24
    logits = NETWORK(saved["parameters"], run.parameters["points"])["logits"]
    expected = 2 * saved["correct"] / 24 * functional.cross_entropy(logits, run.slots)
    assert expected > 0
    torch.testing.assert_close(run.advance().terms["cross_entropy"], expected, rtol=1e-5, atol=0)


def test_an_accuracy_of_networks_that_are_not_trained_is_refused() -> None:
    term = Penalised(CrossEntropy(), times_accuracy=True)
    with pytest.raises(InvalidInput, match=r"'times_accuracy' of term 'cross_entropy' asks .* but 'fresh' trains none"):
        problem(images(), term, context=Fresh(network=NETWORK, batch=5)).engine(1)
