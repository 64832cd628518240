"""Gradient matching: the contract, the loss of DC by hand, per-example and mean gradients against autograd loops.

Properties (Hypothesis):
1. mean gradients of a network are the weighted means of its per-example gradients, for any sizes, weights and labels.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from contract import DiscrepancyContract
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from discrepancy import Discrepancy, Grouping, InvalidInput, Measure, Unsupported
from discrepancy.learning.gradients import MeanGradients, loss_gradients, mean_loss_gradients
from discrepancy.networks import MLP, ConvNet, Network


class TestMeanGradients(DiscrepancyContract):
    instances = {  # noqa: RUF012
        "cosine": MeanGradients(),
        "mse": MeanGradients(form="mse"),
        "l1": MeanGradients(form="l1"),
    }
    shape = (2, 3)
    other_shapes = (2, 3, 1, 2), (3,)  # of convolutions and of vectors

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        assert isinstance(discrepancy, MeanGradients)
        a, b = (np.average(side.points.numpy(), 0, side.weights.numpy()) for side in (mu, nu))  # pyright: ignore
        if discrepancy.form != "cosine":
            return float((np.abs(a - b) ** (2 if discrepancy.form == "mse" else 1)).sum())
        a, b = (side.reshape(len(side) if side.ndim > 1 else 1, -1) for side in (a, b))
        rows = zip(a, b, strict=True)
        return sum(1 - p @ q / (np.linalg.norm(p) * np.linalg.norm(q) + discrepancy.epsilon) for p, q in rows)

    @staticmethod
    def rescaled(discrepancy: Discrepancy, factor: float) -> Discrepancy:
        assert isinstance(discrepancy, MeanGradients)
        return replace(discrepancy, epsilon=factor**2 * discrepancy.epsilon)


CONVNET = ConvNet(width=4, depth=1, norm="instance", activation="swish")
GROUPED = ConvNet(width=4, depth=1, norm="group", activation="swish", pooling="max")
PERCEPTRON = MLP(width=5, depth=1, activation="sigmoid")
CLASSES = 3
networks = pytest.mark.parametrize("network", [CONVNET, GROUPED, PERCEPTRON], ids=["convnet", "group-norm", "mlp"])


def setting(network: Network, n: int = 7, seed: int = 0) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """Parameters, images and class numbers."""
    generator = torch.Generator().manual_seed(seed)
    parameters = {name: value.double() for name, value in network.initial(generator, (2, 6, 6), CLASSES).items()}
    points = torch.randn(n, 2, 6, 6, generator=generator, dtype=torch.float64)
    return parameters, points, torch.arange(n) % CLASSES


def by_hand(network, parameters, points, labels, weights=None) -> dict[str, torch.Tensor]:
    """The gradient of the (weighted) mean of the losses, by plain autograd."""
    leaves = {name: value.clone().requires_grad_() for name, value in parameters.items()}
    losses = functional.cross_entropy(network(leaves, points)["logits"], labels, reduction="none")
    loss = losses.mean() if weights is None else (losses * weights).sum() / weights.sum()
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values()), create_graph=True), strict=True))


@networks
@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_each_gradient_is_that_of_its_example(network: Network, chunk: int):
    parameters, points, labels = setting(network)
    each = loss_gradients(network, parameters, points, labels, chunk)
    assert each.keys() == parameters.keys()
    for i in range(len(points)):
        expected = by_hand(network, parameters, points[i : i + 1], labels[i : i + 1])
        for name, gradient in expected.items():
            torch.testing.assert_close(each[name][i], gradient)


@networks
@pytest.mark.parametrize("soft", [False, True], ids=["classes", "soft"])
def test_mean_gradient_is_the_weighted_mean(network: Network, soft: bool):
    parameters, points, labels = setting(network)
    if soft:
        labels = torch.rand(len(points), CLASSES, generator=torch.Generator().manual_seed(4)).double()
    weights = torch.rand(len(points), generator=torch.Generator().manual_seed(3)).double()
    mean = mean_loss_gradients(network, parameters, Measure(points, weights, labels))
    each = loss_gradients(network, parameters, points, labels)
    by_autograd = by_hand(network, parameters, points, labels, weights)
    for name in parameters:
        torch.testing.assert_close(mean[name], torch.einsum("n,n...->...", weights / weights.sum(), each[name]))
        torch.testing.assert_close(mean[name], by_autograd[name])


@networks
def test_mean_gradients_of_groups(network: Network):
    parameters, points, labels = setting(network)
    measure, grouping = Measure(points, labels=labels), Grouping.of(labels, CLASSES)
    together = mean_loss_gradients(network, parameters, measure.conditioned(grouping))
    for group in range(CLASSES):
        alone = Measure(points[labels == group], labels=labels[labels == group])
        for name, gradient in mean_loss_gradients(network, parameters, alone).items():
            torch.testing.assert_close(together[name][group], gradient)


@pytest.mark.parametrize("network", [CONVNET, PERCEPTRON], ids=["convnet", "mlp"])
def test_mean_gradient_is_differentiable_in_points_and_weights(network: Network):
    parameters, points, labels = setting(network, 2)
    points = points.requires_grad_()
    weights = torch.tensor([0.3, 0.9], dtype=torch.float64, requires_grad=True)

    def function(points: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(mean_loss_gradients(network, parameters, Measure(points, weights, labels)).values())

    assert torch.autograd.gradcheck(function, (points, weights), fast_mode=True)


def loss_of_dc(real: dict[str, torch.Tensor], synthetic: dict[str, torch.Tensor]) -> torch.Tensor:
    """Layer by layer and row by row, vectors left out; 1e-6 is added to the product of the norms."""
    total = torch.zeros((), dtype=torch.float64)
    for name, a in real.items():
        b = synthetic[name]
        if a.ndim < 2:
            continue
        for row in range(len(a)):
            p, q = a[row].flatten(), b[row].flatten()
            total = total + 1 - (p @ q) / (p.norm() * q.norm() + 1e-6)
    return total


@networks
def test_is_the_loss_of_dc(network: Network):
    """From per-example gradients, and from mean gradients as single points; values and gradients at the synthetic points."""
    parameters, points, labels = setting(network)
    _, start, classes = setting(network, 3, seed=1)
    leaf = start.clone().requires_grad_()
    expected = loss_of_dc(by_hand(network, parameters, points, labels), by_hand(network, parameters, leaf, classes))
    (slope,) = torch.autograd.grad(expected, leaf)

    def matrices(gradients: dict[str, torch.Tensor], ndim: int) -> dict[str, torch.Tensor]:
        return {name: value for name, value in gradients.items() if value.ndim >= ndim}

    def means(points: torch.Tensor, labels: torch.Tensor) -> Measure:
        gradients = mean_loss_gradients(network, parameters, Measure(points, labels=labels))
        return Measure({name: value[None] for name, value in matrices(gradients, 2).items()})

    leaf = start.clone().requires_grad_()
    value = MeanGradients()(means(points, labels), means(leaf, classes))
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(torch.autograd.grad(value, leaf)[0], slope)
    each = [loss_gradients(network, parameters, *side) for side in ((points, labels), (start, classes))]
    value = MeanGradients()(*(Measure(matrices(side, 3)) for side in each))
    torch.testing.assert_close(value, expected.detach())


def test_cosine_is_blind_to_length():
    x, y = torch.randn(2, 1, 2, 3, generator=torch.Generator().manual_seed(0)).double()
    values = [MeanGradients(epsilon=1e-15)(Measure(x), Measure(factor * y)) for factor in (1.0, 7.0)]
    torch.testing.assert_close(*values)
    assert MeanGradients()(Measure(x), Measure(5 * x)).item() < 1e-5
    assert MeanGradients()(Measure(x), Measure(-x)).item() == pytest.approx(4, abs=1e-5)


def test_a_row_of_zeros_counts_one():
    x = torch.ones(1, 2, 3)
    x[0, 1] = 0
    assert MeanGradients()(Measure(x), Measure(x)).item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("form", ["cosine", "mse", "l1"])
def test_only_the_mean_matters(form):
    x, y = torch.randn(7, 2, 3, generator=torch.Generator().manual_seed(0)), torch.ones(1, 2, 3)
    discrepancy, mean = MeanGradients(form=form), x.mean(0, keepdim=True)
    torch.testing.assert_close(discrepancy(Measure(x), Measure(y)), discrepancy(Measure(mean), Measure(y)))


def test_batch_normalisation_has_no_gradient_of_one_example():
    network = ConvNet(width=4, depth=1, norm="batch")
    with pytest.raises(Unsupported, match="use mean_loss_gradients"):
        loss_gradients(network, *setting(network))


def test_missing_labels_are_asked_for():
    parameters, points, _ = setting(PERCEPTRON)
    with pytest.raises(InvalidInput, match="a loss looks at labels"):
        mean_loss_gradients(PERCEPTRON, parameters, Measure(points))


@pytest.mark.parametrize("epsilon", [0.0, -1.0, float("nan")])
def test_bad_epsilon_is_refused(epsilon):
    with pytest.raises(InvalidInput, match="'epsilon' must be finite and > 0"):
        MeanGradients(epsilon=epsilon)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 5), network=st.sampled_from([CONVNET, PERCEPTRON]), seed=st.integers(0, 99), data=st.data())
def test_means_of_gradients(n: int, network: Network, seed: int, data: st.DataObject):
    some = data.draw(st.lists(st.sampled_from([0.0, 0.5, 3.0]), min_size=n - 1, max_size=n - 1))
    weights = torch.tensor([*some, 1.0], dtype=torch.float64)
    parameters, points, _ = setting(network, n, seed)
    labels = torch.tensor(data.draw(st.lists(st.integers(0, CLASSES - 1), min_size=n, max_size=n)))
    each = loss_gradients(network, parameters, points, labels, 2)
    for name, mean in mean_loss_gradients(network, parameters, Measure(points, weights, labels)).items():
        torch.testing.assert_close(mean, torch.einsum("n,n...->...", weights / weights.sum(), each[name]))
