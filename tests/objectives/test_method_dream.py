"""DREAM: IDC's loss on representative real examples, as the query of its code finds them."""

from collections.abc import Mapping

import pytest
import torch
from conformance import Sight, Trial, agree, same_turns, same_value_and_gradient, trial
from small import images
from test_method_idc import of_class
from torch import Tensor

from objectives.rng import rng

DATA = images((8, 21, 33), channels=3)
SMALL = ("context.training.steps=2", "context.training.batch=6")


def query(some: Trial, weights: Mapping[str, Tensor], names: tuple[str | int, ...], number: int) -> Tensor:
    """Of each class: as many means as wanted, moved until they stay, and to each the example at the least distance."""
    network = some.problem.context.network
    assert network is not None
    generator, chosen = rng(0, *names), []
    points = DATA.normalisation.apply(DATA.train.points, some.dtype)
    features = network(weights, points, ("features",))["features"].flatten(1).detach()
    for members in DATA.train.members:
        own, order = features[members], torch.randperm(len(members), generator=generator)
        if len(members) <= number:
            chosen.append(members)
            continue
        means, before = own[order[:number]], torch.zeros(0)
        while not torch.equal(means, before):
            before = means
            owner = torch.cdist(own, means).argmin(1)
            means = torch.stack(
                [own[owner == k].mean(0) if bool((owner == k).any()) else means[k] for k in range(number)]
            )
        apart = torch.cdist(means, own).square()
        near = apart < apart.min(1, keepdim=True).values + 1e-6 * apart.mean()  # the two of a pair are as near
        chosen.append(members[near.int().argmax(1)])
    return torch.cat(chosen)


def at_once(sight: Sight, parameters: Mapping[str, Tensor], label: int) -> Tensor:
    """IDC's, whose own test is on random examples; these have come from the query."""
    return of_class(sight, parameters, label)


def of_all(sight: Sight, parameters: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([at_once(sight, parameters, label) for label in sight.classes]).sum()


@pytest.mark.conformance("dream")
@pytest.mark.parametrize(
    ("dtype", "settings", "steps"),
    [(torch.float32, ("context.augment=null",), 0), (torch.float64, (), 1)],
    ids=["float32-plain-new", "float64-augmented-trained"],
)
def test_value_and_gradient(dtype: torch.dtype, settings: tuple[str, ...], steps: int):
    some = trial("dream", (*SMALL, *settings), dtype=dtype, data=DATA)
    for _ in range(steps):
        some.run.advance()
    same_value_and_gradient(some, of_all)


@pytest.mark.conformance("dream")
def test_classes_take_turns_on_one_optimiser():
    same_turns(trial("dream", (*SMALL, "solver.project_every=1"), data=DATA), at_once)


@pytest.mark.conformance("dream")
def test_batches_come_from_the_query_of_every_tenth_step_and_of_every_network():
    settings = ("context.keep=12", "context.batch=6", "solver.steps=15")
    some, kept = trial("dream", (*SMALL, *settings), data=DATA), torch.zeros(0)
    for step in range(15):
        sight = some.sight()
        if step in (0, 10, 12):
            kept = query(some, sight.weights, ("batch", step), 6)
        assert sight.rows.equal(kept)
        if step == 11:
            assert not kept.equal(query(some, sight.weights, ("batch", 10), 6))
        some.run.advance()


def test_the_start_is_the_query_too():
    some = trial("dream", SMALL, data=DATA)
    weights = some.engine.bound_context.initial(0)
    rows = query(some, weights, ("start",), 8)
    pixels = DATA.train.points[rows][:, :, ::2, ::2].to(some.dtype) / 255
    first, second, third, fourth = pixels.unflatten(0, (6, 4)).unbind(1)
    tables = torch.cat([torch.cat([first, second], 3), torch.cat([third, fourth], 3)], 2)
    agree(some.run.parameters["images"], tables, torch.float32)
