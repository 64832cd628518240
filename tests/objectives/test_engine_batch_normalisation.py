"""Batch normalisation in the engine: whole batches, each class alone."""

import contextlib

import pytest
import torch
from engines import BATCH, batch_of, means, module
from small import decoded, images, problem
from torch import nn

from discrepancy import MeanGradients
from discrepancy.embeddings import LossGradient
from discrepancy.errors import NumericalWarning
from objectives.contexts import Fresh
from objectives.synthetic.pixels import Pixels
from objectives.terms.match import Match


@pytest.mark.parametrize(("per_class", "warned"), [(10, True), (11, False)])
def test_batch_statistics_of_few_examples_are_warned_of(per_class: int, warned: bool):
    some = problem(
        images(sizes=(11, 11, 11)), context=Fresh(network=BATCH, batch=4), synthetic=Pixels(per_class=per_class)
    )
    remedies = "a synthetic set of 30 examples, which are few .*; use norm: instance .*, more examples a class, or"
    with pytest.warns(NumericalWarning, match=remedies) if warned else contextlib.nullcontext():
        some.engine(1)


@pytest.mark.parametrize(("per_class", "warned"), [(31, True), (32, False)])
def test_gradients_take_batch_statistics_of_each_class_alone(per_class: int, warned: bool):
    some = problem(
        images(sizes=(32, 32, 32)),
        Match(MeanGradients(), via=LossGradient()),
        context=Fresh(network=BATCH, batch=4),
        synthetic=Pixels(per_class=per_class),
    )
    remedies = "a class of 31 examples, which are few .*; use norm: instance"
    with pytest.warns(NumericalWarning, match=remedies) if warned else contextlib.nullcontext():
        some.engine(1)


@pytest.mark.filterwarnings("ignore:batch normalisation of")
def test_batch_normalisation_sees_whole_batches() -> None:
    data = images()
    some = problem(data, context=Fresh(network=BATCH, batch=5))
    engine, here = some.engine(1), decoded(some)
    engine.bound_context.extractor.chunk = 4
    network = module(dict(engine.real_side.at(0).parameters), 1)
    for position in (1, 5):
        network[position] = nn.BatchNorm2d(8, affine=False)
    rows = torch.cat(list(batch_of(data, 5, 0, 0).values()))
    real, own = network(data.normalisation.apply(data.train.points[rows])), network(here.points.detach())
    expected = (means(real, data.train.labels.numbers[rows], 3) - means(own, here.slots, 3)).square().sum()
    torch.testing.assert_close(engine.evaluate(here, 0).total.double(), expected.detach(), rtol=1e-4, atol=0)
