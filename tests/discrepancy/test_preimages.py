"""Networks that are undone: points have the features that were asked for, the least of all where there are several."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from discrepancy.embeddings import Features, Within
from discrepancy.errors import InvalidInput, Unsupported
from discrepancy.networks import MLP, ConvNet, Coupling, LeNet, Network
from discrepancy.networks.preimages import least, least_convolved

SHAPE = (2, 3, 2)
NETWORKS: dict[str, Network] = {
    "one layer": MLP(width=7, depth=1, activation="leaky_relu", slope=0.1, bias=False),
    "square": MLP(width=12, depth=3, activation="leaky_relu"),
    "narrowing": MLP(width=9, depth=2, activation="leaky_relu", slope=0.3),
    "as wide as the examples": MLP(width=None, depth=2, activation="leaky_relu", slope=0.2, bias=False),
    "linear": MLP(width=8, depth=4, activation="identity", bias=False),
    "coupling": Coupling(width=6, depth=5),
}
CONVNETS: dict[str, Network] = {
    "square": ConvNet(width=2, depth=2, norm="none", activation="leaky_relu", pooling="none"),
    "pooled": ConvNet(width=2, depth=2, norm="none", activation="leaky_relu", pooling="average"),
    "narrowing": ConvNet(width=1, depth=1, norm="none", activation="identity", pooling="none"),
}
each = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())


def weights(network: Network, shape: tuple[int, ...] = SHAPE) -> dict[str, Tensor]:
    initial = network.initial(torch.Generator().manual_seed(1), shape, 4)
    return {name: value.double() for name, value in initial.items()}


def features(network: Network, parameters: dict[str, Tensor], points: Tensor) -> Tensor:
    return network(parameters, points, ("features",))["features"]


@each
@pytest.mark.parametrize("shape", [SHAPE, (13,)], ids=["images", "odd"])
def test_points_have_the_features(network: Network, shape: tuple[int, ...]):
    parameters = weights(network, shape)
    (size,) = network.shapes(shape, 4, ("features",))["features"]
    wanted = 3 * torch.randn(5, size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = network.preimage(parameters, wanted, shape)
    again = features(network, parameters, found.points.reshape(-1, *shape))
    assert float((again - wanted).norm() / wanted.norm()) < 100 * torch.finfo(torch.float64).eps * found.condition


@pytest.mark.parametrize("network", CONVNETS.values(), ids=CONVNETS.keys())
@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 7, 9)], ids=["even", "odd"])
def test_images_have_the_features(network: Network, shape: tuple[int, ...]):
    parameters = weights(network, shape)
    size = network.shapes(shape, 4, ("features",))["features"][0]
    wanted = torch.randn(3, size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = network.preimage(parameters, wanted, shape)
    again = features(network, parameters, found.points.reshape(-1, *shape))
    assert float((again - wanted).norm() / wanted.norm()) < 100 * torch.finfo(torch.float64).eps * found.condition


def test_28_by_28_keeps_its_size_where_it_is_undone():
    network, shape = ConvNet(width=1, depth=1, norm="none", activation="leaky_relu", pooling="none"), (1, 28, 28)
    kept = replace(network, padding="same")
    points = torch.randn(2, *shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    wanted = features(kept, weights(kept, shape), points)
    found = kept.preimage(weights(kept, shape), wanted, shape).points
    torch.testing.assert_close(found, points.flatten(1), rtol=0, atol=1e-10)
    enlarged = features(network, weights(network, shape), points)
    with pytest.raises(InvalidInput, match=r"1024 x 784, has rank 784 at most, .*padding: same keeps 28 x 28"):
        network.preimage(weights(network, shape), enlarged, shape)


def test_a_convolution_gives_the_least_of_all_images():
    """Beside the pseudo-inverse of its dense matrix, made column by column; and the estimated condition beside the true one."""
    network, shape = CONVNETS["narrowing"], (2, 5, 6)
    parameters = weights(network, shape)
    basis = torch.eye(60, dtype=torch.float64).reshape(60, *shape)
    bias = features(network, parameters, torch.zeros(1, *shape, dtype=torch.float64))
    matrix = (features(network, parameters, basis) - bias).mT
    wanted = torch.randn(3, 30, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = network.preimage(parameters, wanted, shape)
    torch.testing.assert_close(found.points, (wanted - bias) @ torch.linalg.pinv(matrix).mT)
    assert 0.5 < found.condition / float(torch.linalg.cond(matrix)) < 10


def test_a_narrowing_layer_moves_a_point_no_further_than_it_must():
    """Beside the pseudo-inverse of a dense matrix, of a linear perceptron and of a convolution with pooling."""
    cases = [
        (MLP(width=5, depth=1, activation="identity"), (11,)),
        (ConvNet(width=1, depth=1, norm="none", activation="identity", pooling="average"), (2, 5, 6)),
    ]
    for network, shape in cases:
        parameters, d = weights(network, shape), math.prod(shape)
        bias = features(network, parameters, torch.zeros(1, *shape, dtype=torch.float64))
        matrix = (features(network, parameters, torch.eye(d, dtype=torch.float64).reshape(d, *shape)) - bias).mT
        near = torch.randn(3, d, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        wanted = torch.randn(3, len(matrix), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        truth = near + (wanted - bias - near @ matrix.mT) @ torch.linalg.pinv(matrix).mT
        found = network.preimage(parameters, wanted, shape, near=near)
        if isinstance(network, MLP):
            torch.testing.assert_close(found.points, truth)
        again = features(network, parameters, found.points.reshape(-1, *shape))
        torch.testing.assert_close(again, wanted)
        least_ = network.preimage(parameters, wanted, shape)
        assert float((found.points - near).norm()) < float((least_.points - near).norm())


@pytest.mark.parametrize(
    "network", [*NETWORKS.values(), *CONVNETS.values()], ids=[*NETWORKS, *map("convnet {}".format, CONVNETS)]
)
def test_a_point_that_has_the_features_already_stays(network: Network):
    shape = (2, 8, 7)
    parameters = weights(network, shape)
    points = torch.randn(3, *shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    wanted = features(network, parameters, points)
    found = network.preimage(parameters, wanted, shape, near=points.flatten(1))
    torch.testing.assert_close(found.points, points.flatten(1), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", ["square", "coupling"])
def test_what_loses_nothing_gives_the_points_back(name: str):
    network = NETWORKS[name]
    parameters = weights(network)
    points = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = network.preimage(parameters, features(network, parameters, points), SHAPE)
    torch.testing.assert_close(found.points, points.flatten(1), rtol=1e-8, atol=1e-8)


def test_the_layer_of_a_perceptron_without_biases():
    network = NETWORKS["one layer"]
    parameters = weights(network)
    points = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    product = points.flatten(1) @ parameters["hidden1.weight"].mT
    torch.testing.assert_close(features(network, parameters, points), torch.maximum(product, 0.1 * product))
    assert set(parameters) == {"hidden1.weight", "linear.weight", "linear.bias"}


def test_couplings_are_those_of_the_docstring():
    network = Coupling(width=6, depth=2, reach=0.7)
    parameters = weights(network, (5,))
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for layer, kept, changed in ((1, [0, 2, 4], [1, 3]), (2, [1, 3], [0, 2, 4])):
        inner = parameters[f"coupling{layer}.inner.weight"], parameters[f"coupling{layer}.inner.bias"]
        hidden = (x[:, kept] @ inner[0].mT + inner[1]).clamp(min=0)
        both = hidden @ parameters[f"coupling{layer}.outer.weight"].mT
        s, t = both[:, : len(changed)], both[:, len(changed) :]
        x = x.clone()
        x[:, changed] = x[:, changed] * (0.7 * s.tanh()).exp() + t
    start = torch.randn(3, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    torch.testing.assert_close(features(network, parameters, start), x)


def test_one_layer_gives_the_least_of_all_points():
    network = NETWORKS["one layer"]
    parameters = weights(network)
    points = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = network.preimage(parameters, features(network, parameters, points), SHAPE).points
    span = torch.linalg.pinv(parameters["hidden1.weight"]) @ parameters["hidden1.weight"]
    torch.testing.assert_close(found, points.flatten(1) @ span.mT)


def test_condition_is_that_of_the_weights():
    linear = NETWORKS["linear"]
    parameters = weights(linear)
    found = linear.preimage(parameters, torch.ones(1, 8, dtype=torch.float64), SHAPE)
    each = [float(torch.linalg.cond(parameters[f"hidden{layer}.weight"])) for layer in range(1, 5)]
    assert found.condition == pytest.approx(math.prod(each), rel=0.1)
    bent = NETWORKS["one layer"]
    parameters = weights(bent)
    found = bent.preimage(parameters, torch.ones(1, 7, dtype=torch.float64), SHAPE)
    assert found.condition == pytest.approx(float(torch.linalg.cond(parameters["hidden1.weight"])) / 0.1)


def test_condition_of_couplings_is_that_of_the_slope():
    network = NETWORKS["coupling"]
    parameters = weights(network)
    point = torch.randn(1, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def forward(x: Tensor) -> Tensor:
        return features(network, parameters, x[None])[0]

    slope = torch.autograd.functional.jacobian(forward, point[0])
    found = network.preimage(parameters, forward(point[0])[None], (12,))
    truth = float(torch.linalg.cond(slope))  # pyright: ignore[reportArgumentType]
    assert 0.9 * truth <= found.condition <= 1.001 * truth


@pytest.mark.parametrize(
    ("network", "error", "message"),
    [
        (
            MLP(width=5, activation="relu"),
            InvalidInput,
            "'activation' must be one of leaky_relu, identity, .* got 'relu'",
        ),
        (LeNet(), Unsupported, "is not known of 'lenet'; use an mlp"),
        (ConvNet(width=4, depth=1), InvalidInput, "with norm 'none' and pooling .* got 'instance' and 'average'"),
        (
            ConvNet(width=3, depth=1, norm="none", activation="identity", pooling="none"),
            InvalidInput,
            "'conv1.weight', as a matrix 768 x 512, has rank 512 at most, .* more channels than it takes",
        ),
    ],
    ids=["relu", "lenet", "normalised", "more channels"],
)
def test_what_cannot_be_undone_is_refused(network: Network, error: type[Exception], message: str):
    shape = SHAPE if isinstance(network, MLP) else (2, 16, 16)
    parameters = weights(network, shape)
    wanted = features(network, parameters, torch.ones(1, *shape, dtype=torch.float64))
    with pytest.raises(error, match=message):
        Features().preimage(wanted, Within(shape, network=network, parameters=parameters))


def test_a_convolution_that_lost_its_rank_is_refused():
    network, shape = CONVNETS["square"], (2, 6, 6)
    parameters = weights(network, shape)
    parameters["conv2.weight"][1] = parameters["conv2.weight"][0]
    with pytest.raises(InvalidInput, match=r"'conv2\.weight', as a matrix 72 x 72, has no full row rank"):
        network.preimage(parameters, torch.ones(1, 72, dtype=torch.float64), shape)


@pytest.mark.parametrize("activation", ["identity", "leaky_relu"])
def test_a_layer_that_widens_gives_back_what_it_was_given_and_refuses_the_rest(activation):
    network = MLP(width=17, depth=2, activation=activation, bias=False)
    parameters = weights(network)
    points = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = network.preimage(parameters, features(network, parameters, points), SHAPE)
    torch.testing.assert_close(found.points, points.flatten(1))
    wanted = torch.randn(4, 17, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    with pytest.raises(
        InvalidInput, match=r"'hidden1\.weight', 17 x 12, reaches only a part .* use a width of at most 12"
    ):
        network.preimage(parameters, wanted, SHAPE)


def test_the_nearest_of_a_layer_that_widens():
    """By numpy's least squares; and with an activation it is undone first."""
    network = MLP(width=17, depth=1, activation="identity", bias=False)
    parameters = weights(network)
    wanted = torch.randn(4, 17, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    found = network.preimage(parameters, wanted, SHAPE, nearest=True).points
    truth = np.linalg.lstsq(parameters["hidden1.weight"].numpy(), wanted.numpy().T, rcond=None)[0].T
    torch.testing.assert_close(found, torch.from_numpy(truth))


@pytest.mark.parametrize("shape", [(7, 12), (12, 12), (17, 12)])
def test_the_condition_of_a_layer_beside_that_of_its_singular_values(shape: tuple[int, int]):
    weight = torch.randn(*shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    condition = least("weight", weight, torch.zeros(1, shape[0]))[1]
    assert 0.8 < condition / np.linalg.cond(weight.numpy()) < 1 + 1e-9


@pytest.mark.parametrize("columns", [200, 260], ids=["square", "narrowing"])
def test_what_is_left_is_the_rounding_of_the_points(columns: int):
    """‖W x - y‖ is below ε ‖W‖ ‖x‖; a single solution leaves several times that."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(200, columns, generator=generator, dtype=torch.float64)
    wanted = torch.randn(3, 200, generator=generator, dtype=torch.float64)
    found, _ = least("weight", weight, wanted)
    scale = torch.finfo(torch.float64).eps * torch.linalg.matrix_norm(weight, 2) * found.norm()
    assert float((found @ weight.mT - wanted).norm() / scale) < 1


@pytest.mark.parametrize(("name", "rows"), [("one layer", 7), ("square", 12)])
def test_a_layer_that_lost_its_rank_is_refused(name: str, rows: int):
    network = NETWORKS[name]
    parameters = weights(network)
    parameters["hidden1.weight"][3] = parameters["hidden1.weight"][2]
    with pytest.raises(InvalidInput, match=rf"'hidden1\.weight', {rows} x 12, has rank {rows - 1}"):
        network.preimage(parameters, torch.ones(1, rows, dtype=torch.float64), SHAPE)


def test_a_coupling_needs_two_numbers():
    with pytest.raises(InvalidInput, match="needs examples of two numbers or more"):
        weights(Coupling(), (1,))


def test_a_convolution_of_nearly_equal_channels_keeps_its_digits():
    """The square of its matrix has nearly no digits left; what is found by it is refined."""
    generator = torch.Generator().manual_seed(4)
    weight = torch.randn(2, 2, 3, 3, generator=generator, dtype=torch.float64)
    weight[1] = weight[0] + 1e-4 * weight[1]
    found = torch.randn(3, 2, 6, 6, generator=generator, dtype=torch.float64)
    wanted = torch.nn.functional.conv2d(found, weight, padding=1)
    again, condition = least_convolved("convolution", weight, 1, wanted, (6, 6))
    assert condition > 1e5
    error = float((torch.nn.functional.conv2d(again, weight, padding=1) - wanted).norm() / wanted.norm())
    assert error < 1e-13
