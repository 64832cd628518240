"""The tangent features of finite networks: the explicit Jacobian, their derivative, and kernel ridge regression with them."""

from typing import Any, Literal

import pytest
import torch
from small import NETWORK, decoded, images, numbers_of, problem, table
from torch import Tensor

from discrepancy import MMD, InvalidInput, Risk
from discrepancy.embeddings import Features, Jacobian, RandomFourier
from discrepancy.learning.learners import KernelRidge
from discrepancy.networks import MLP, ConvNet, LeNet
from discrepancy.networks.base import Network
from discrepancy.networks.tangent import jacobians
from objectives import Fresh, Match, Renewed, Siamese, Trained, Training

NETWORKS: dict[str, tuple[Network, tuple[int, ...]]] = {
    "mlp": (MLP(width=7), (5,)),
    "convnet": (ConvNet(width=4, depth=2), (2, 8, 8)),
    "convnet-max": (ConvNet(width=4, depth=2, norm="none", pooling="max"), (2, 8, 8)),
    "convnet-grows": (ConvNet(width=4, depth=2, norm="layer", growth=2), (2, 8, 8)),
    "lenet": (LeNet(), (1, 28, 28)),
}


def given(name: str, n: int = 3) -> tuple[Network, dict[str, Tensor], Tensor]:
    network, shape = NETWORKS[name]
    generator = torch.Generator().manual_seed(0)
    initial = network.initial(generator, shape, 4)
    return (
        network,
        {key: value.double() for key, value in initial.items()},
        torch.randn(n, *shape, generator=generator).double(),
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_is_the_jacobian_of_autograd(name: str):
    network, parameters, points = given(name)
    leaves = {key: value.clone().requires_grad_(True) for key, value in parameters.items()}
    logits = network(leaves, points)["logits"]
    rows = [
        torch.cat(
            [slope.flatten() for slope in torch.autograd.grad(row.sum() / 2, list(leaves.values()), retain_graph=True)]
        )
        for row in logits
    ]
    torch.testing.assert_close(jacobians(network, parameters, points), torch.stack(rows))


@pytest.mark.parametrize("name", ["mlp", "convnet"])
def test_is_differentiable_in_the_points(name: str):
    network, parameters, points = given(name, 2)
    points.requires_grad_(True)
    mix = torch.randn(
        jacobians(network, parameters, points).shape[1], generator=torch.Generator().manual_seed(1)
    ).double()
    assert torch.autograd.gradcheck(lambda x: jacobians(network, parameters, x) @ mix, points)


def test_at_random_weights_it_is_the_mean_of_the_kernels_of_the_logits():
    """Over networks the products of gradients of different logits cancel."""
    network, x, generator = MLP(width=100, depth=1), torch.randn(3, 5).double(), torch.Generator().manual_seed(0)
    mixed, single = torch.zeros(3, 3).double(), torch.zeros(3, 3).double()
    for _ in range(60):
        parameters = {key: value.double() for key, value in network.initial(generator, (5,), 4).items()}
        rows = jacobians(network, parameters, x)
        mixed += rows @ rows.mT
        each = torch.func.vmap(torch.func.jacrev(lambda p, a: network(p, a[None])["logits"][0]), (None, 0))(
            parameters, x
        )
        every = torch.cat([value.flatten(2) for value in each.values()], 2)
        single += torch.einsum("nkp,mkp->nm", every, every) / 4
    torch.testing.assert_close(mixed, single, rtol=0, atol=0.06 * float(single.max()))


CONTEXTS = {
    "fresh": Fresh(network=NETWORK, batch=5),
    "augmented": Fresh(network=NETWORK, batch=5, augment=Siamese()),
    "renewed": Renewed(network=NETWORK, batch=5, training=Training(on="synthetic", steps=1, optimizer="adam")),
}


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=list(CONTEXTS))
def test_kernel_ridge_regression_with_it(context: Any):
    """The risk by an explicit Jacobian of both sides, with its gradient at the synthetic points; beside another term."""
    learner = KernelRidge(penalty=1e-4, relative=True)
    objective = Match(Risk(learner=learner), via=Jacobian(), by="none").named("tangent")
    objective += Match(Risk(learner=learner), via=Features(), by="none").named("features")
    some = problem(images(), objective, context=context, dtype=torch.float64)
    engine, here = some.engine(4), decoded(some)
    values, view, bound = engine.evaluate(here, 0), engine.real_side.at(0), engine.bound_context
    rows = numbers_of(engine, view)
    real = bound.augmented(bound.normalised(rows), view.augmentation, some.data.strata[rows], 0)
    mine = here.points.detach().requires_grad_(True)
    seen = bound.augmented(mine, view.augmentation, here.slots, bound.real_examples)

    def explicit(points: Tensor) -> Tensor:
        leaves = {name: value.detach().clone().requires_grad_(True) for name, value in view.parameters.items()}
        logits = NETWORK(leaves, points)["logits"].sum(1) / 3**0.5
        found = [torch.autograd.grad(value, list(leaves.values()), create_graph=True) for value in logits]
        return torch.stack([torch.cat([slope.flatten() for slope in slopes]) for slopes in found])

    x, s = explicit(real).detach(), explicit(seen)
    y, labels = (torch.nn.functional.one_hot(side, 3).double() for side in (some.data.strata[rows], here.slots))
    gram = s @ s.mT
    predictions = x @ s.mT @ torch.linalg.solve(gram + 1e-4 * gram.trace() * torch.eye(6).double(), labels)
    expected = (predictions - y).square().sum(1).mean()
    torch.testing.assert_close(values.terms["tangent"], expected.detach())
    (slope,) = torch.autograd.grad(expected, mine)
    alone = problem(
        images(), Match(Risk(learner=learner), via=Jacobian(), by="none"), context=context, dtype=torch.float64
    )
    found = alone.engine(4).evaluate(decoded(alone), 0).gradients["points"]
    torch.testing.assert_close(found, slope, rtol=1e-7, atol=1e-9 * float(slope.abs().max()))


def test_a_table_by_a_perceptron():
    context = Fresh(network=MLP(width=7), batch=5)
    some = problem(table(), Match(Risk(learner=KernelRidge(penalty=1e-3)), via=Jacobian(), by="none"), context=context)
    engine = some.engine(2)
    bound = engine.bound_context
    assert bound.shapes["jacobian"] == (5 * 7 + 7 + 7 * 7 + 7 + 7 * 3 + 3,)
    assert bound.graph_bytes >= 4 * bound.shapes["jacobian"][0]
    assert bool(torch.isfinite(engine.evaluate(decoded(some), 0).total))


def test_batch_normalisation_is_refused():
    context = Fresh(network=ConvNet(width=4, depth=2, norm="batch"), batch=5)
    with pytest.raises(
        InvalidInput, match="takes the 'jacobian' of each example, but 'convnet' with batch normalisation"
    ):
        problem(images(), Match(Risk(learner=KernelRidge()), via=Jacobian(), by="none"), context=context).engine(2)


@pytest.mark.parametrize("on", ["real", "synthetic"])
def test_random_features_of_the_jacobian_of_a_network_in_training(on: Literal["real", "synthetic"]) -> None:
    """Its normalisations have factors and offsets then, which are among the weights."""
    via = RandomFourier(features=8, lengthscale=5.0, of=Jacobian())
    context = Trained(network=ConvNet(width=4, depth=2), training=Training(on=on, steps=1), batch=4)
    some = problem(images(), Match(MMD(), via=via, by="none"), context=context)
    engine = some.engine(2)
    weights = engine.networks.parameters(engine.networks.draw(0))
    assert engine.shapes["jacobian"] == (sum(value.numel() for value in weights.values()),)
    assert bool(torch.isfinite(engine.evaluate(decoded(some), 0).total))
