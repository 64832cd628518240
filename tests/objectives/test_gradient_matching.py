"""Gradient matching through the engine: blocks, classes in turn, labels and weights, and what is refused."""

from typing import Any

import pytest
import torch
from small import decoded, images, problem, start

from discrepancy import MMD, Gaussian, InvalidInput
from discrepancy.embeddings import LossGradient
from discrepancy.learning.gradients import MeanGradients
from discrepancy.networks import ConvNet
from objectives import Fresh, Match
from objectives.solvers import Descent, Herding
from objectives.synthetic.pixels import Pixels
from objectives.terms.match import BoundMatch

NETWORK = ConvNet(width=4, depth=2)


@pytest.mark.parametrize("update", ["per_class", "per_class_shared_state"])
def test_classes_in_turn_see_their_own_gradient(update: str):
    objective, context = Match(MeanGradients(), via=LossGradient()), Fresh(network=NETWORK, batch=5)
    options: dict[str, Any] = {"context": context}
    first: Any = start(images(), objective, Descent(lr=0.1, steps=1, update=update), **options)  # pyright: ignore
    joint: Any = start(images(), objective, Descent(lr=0.1, steps=1), **options)
    torch.testing.assert_close(first.advance().loss, joint.advance().loss)
    torch.testing.assert_close(first.parameters["points"], joint.parameters["points"])


def test_soft_labels_and_weights_are_learned_through_the_gradient():
    form = Pixels(per_class=2, labels="soft", weights="learned")
    some = problem(
        images(), Match(MeanGradients(), via=LossGradient()), context=Fresh(network=NETWORK, batch=5), synthetic=form
    )
    values = some.engine(1).evaluate(decoded(some), 0)
    assert all(bool(values.gradients[name].abs().sum() > 0) for name in ("points", "labels", "weights"))


def test_blocks_are_the_matrices_of_the_network():
    everything = problem(
        images(), Match(MeanGradients(), via=LossGradient(vectors=True)), context=Fresh(network=NETWORK, batch=5)
    ).engine(1)
    some = problem(
        images(),
        Match(MeanGradients(), via=LossGradient(leave_out=("linear",))),
        context=Fresh(network=NETWORK, batch=5),
    ).engine(1)
    initial = everything.bound_context.initial(0)
    names = set(initial)
    whole, chosen = (engine.terms["mean_gradients"] for engine in (everything, some))
    assert isinstance(whole, BoundMatch)
    assert isinstance(chosen, BoundMatch)
    assert set(whole.discrepancies) == names
    assert set(chosen.discrepancies) == {n for n in names if initial[n].ndim > 1 and not n.startswith("linear")}


def test_only_means_can_be_matched():
    with pytest.raises(InvalidInput, match="has only the means of 'loss_gradient', and 'mmd' needs single points"):
        start(images(), Match(MMD(kernel=Gaussian()), via=LossGradient()), context=Fresh(network=NETWORK, batch=5))


def test_herding_by_gradients_is_refused():
    with pytest.raises(
        InvalidInput, match="'herding' values one example at a time, but term 'mean_gradients' compares means"
    ):
        start(
            images(), Match(MeanGradients(), via=LossGradient()), Herding(), context=Fresh(network=NETWORK, batch="all")
        )


def test_a_network_is_needed():
    with pytest.raises(InvalidInput, match="a term takes 'gradient' of the context's network, but it has none"):
        start(images(), Match(MeanGradients(), via=LossGradient()), context=Fresh(batch=5))
