"""Networks against modules assembled from torch.nn with the same weights."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from discrepancy.errors import InvalidInput
from discrepancy.networks import MLP, ConvNet

ALL = ("features", "layers", "logits")
NORMS = ["instance", "batch", "layer", "group", "none"]
ACTIVATIONS = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "sigmoid": nn.Sigmoid, "swish": nn.SiLU}
POOLINGS = {"average": lambda: nn.AvgPool2d(2), "max": lambda: nn.MaxPool2d(2), "none": nn.Identity}
SHAPES = {"colour": (3, 13, 11), "grey 28 x 28": (1, 28, 28)}


def module(network: ConvNet, shape: tuple[int, ...], classes: int) -> tuple[nn.Sequential, nn.Linear]:
    """The same architecture written with modules, weights as PyTorch draws them."""
    norms = {
        "instance": lambda c, h, w: nn.GroupNorm(c, c),
        "batch": lambda c, h, w: nn.BatchNorm2d(c),
        "layer": lambda c, h, w: nn.LayerNorm((c, h, w)),
        "group": lambda c, h, w: nn.GroupNorm(4, c),
        "none": lambda c, h, w: nn.Identity(),
    }
    channels, height, width = shape
    border = 3 if (height, width) == (28, 28) else 1
    height, width = height + 2 * border - 2, width + 2 * border - 2
    blocks = nn.Sequential()
    for layer in range(network.depth):
        blocks.append(
            nn.Sequential(
                nn.Conv2d(channels, network.width, 3, padding=border if layer == 0 else 1),
                norms[network.norm](network.width, height, width),
                ACTIVATIONS[network.activation](),
                POOLINGS[network.pooling](),
            )
        )
        channels = network.width
        if network.pooling != "none":
            height, width = height // 2, width // 2
    return blocks.double(), nn.Linear(channels * height * width, classes).double()


def loaded(network: ConvNet, shape: tuple[int, ...], classes: int, generator: torch.Generator):
    """Random parameters (scales and shifts too), and the module holding the same."""
    parameters = {
        name: value.double() + 0.3 * torch.rand(value.shape, generator=generator, dtype=torch.double)
        for name, value in network.initial(generator, shape, classes).items()
    }
    blocks, linear = module(network, shape, classes)
    for layer, (convolution, norm, _, _) in enumerate(blocks, 1):
        for name, part in (("conv", convolution), ("norm", norm)):
            for key, value in part.named_parameters():
                if f"{name}{layer}.{key}" in parameters:
                    value.data = parameters[f"{name}{layer}.{key}"].clone()
    linear.weight.data, linear.bias.data = parameters["linear.weight"].clone(), parameters["linear.bias"].clone()
    return parameters, blocks, linear


def of_module(blocks: nn.Sequential, linear: nn.Linear, x: Tensor) -> dict[str, Tensor]:
    outputs = {}
    for layer, block in enumerate(blocks, 1):
        x = block(x)
        outputs[f"layer{layer}"] = x
    return outputs | {"features": x.flatten(1), "logits": linear(x.flatten(1))}


LAYERS = [
    *itertools.product(SHAPES, NORMS, ["relu"], ["average"]),
    *itertools.product(["grey 28 x 28"], ["instance"], ACTIVATIONS, POOLINGS),
]


@pytest.mark.parametrize(("shape", "norm", "activation", "pooling"), dict.fromkeys(LAYERS))
def test_convnet_is_the_module_with_the_same_weights(shape, norm, activation, pooling, generator):
    network, shape = ConvNet(width=8, depth=2, norm=norm, activation=activation, pooling=pooling), SHAPES[shape]
    parameters, blocks, linear = loaded(network, shape, 5, generator)
    points = torch.randn(3, *shape, generator=generator, dtype=torch.double)
    outputs, truth = network(parameters, points, ALL), of_module(blocks, linear, points)
    assert outputs.keys() == truth.keys()
    for name, value in truth.items():
        torch.testing.assert_close(outputs[name], value, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("norm", NORMS)
def test_convnet_gradients_are_those_of_the_module(norm, generator):
    network = ConvNet(width=8, depth=2, norm=norm)
    parameters, blocks, linear = loaded(network, (3, 8, 8), 5, generator)
    points = torch.randn(3, 3, 8, 8, generator=generator, dtype=torch.double)
    gradient = torch.func.grad(lambda p: network(p, points)["logits"].square().sum())(parameters)
    of_module(blocks, linear, points)["logits"].square().sum().backward()
    torch.testing.assert_close(gradient["conv1.weight"], blocks[0][0].weight.grad, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(gradient["linear.weight"], linear.weight.grad, rtol=1e-8, atol=1e-8)
    if norm != "none":
        torch.testing.assert_close(gradient["norm2.weight"], blocks[1][1].weight.grad, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
def test_convnet_has_two_derivatives(norm, affine, generator):
    network = ConvNet(width=4, depth=1, norm=norm, activation="swish")
    parameters = {
        name: value.double() for name, value in network.initial(generator, (1, 4, 4), 2, affine=affine).items()
    }
    points = torch.randn(2, 1, 4, 4, generator=generator, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: network(parameters, x)["logits"], points, fast_mode=True)


@pytest.mark.parametrize("network", [ConvNet(width=4, depth=2), MLP(width=7)], ids=["convnet", "mlp"])
def test_vmap_over_networks_is_a_loop(network, generator):
    several = [network.initial(generator, (1, 8, 8), 3) for _ in range(3)]
    points = torch.randn(2, 1, 8, 8, generator=generator)
    stacked = {name: torch.stack([parameters[name] for parameters in several]) for name in several[0]}
    together = torch.func.vmap(lambda parameters: network(parameters, points)["logits"])(stacked)
    one_by_one = torch.stack([network(parameters, points)["logits"] for parameters in several])
    torch.testing.assert_close(together, one_by_one, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_without_affine_a_random_network_computes_the_same(norm):
    network = ConvNet(width=8, depth=2, norm=norm)
    full = network.initial(torch.Generator().manual_seed(3), (3, 8, 8), 5)
    bare = network.initial(torch.Generator().manual_seed(3), (3, 8, 8), 5, affine=False)
    assert {name for name in full if name not in bare} == {name for name in full if name.startswith("norm")}
    for name, value in bare.items():
        assert torch.equal(value, full[name])
    points = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(network(full, points)["logits"], network(bare, points)["logits"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_a_bias_before_the_normalisation_changes_nothing(norm, generator):
    network = ConvNet(width=8, depth=1, norm=norm)
    parameters = {name: value.double() for name, value in network.initial(generator, (3, 8, 8), 5).items()}
    assert "conv1.bias" not in parameters
    points = torch.randn(3, 3, 8, 8, generator=generator, dtype=torch.double)
    shifted = parameters | {"conv1.bias": torch.randn(8, generator=generator, dtype=torch.double)}
    torch.testing.assert_close(
        network(shifted, points)["logits"], network(parameters, points)["logits"], rtol=1e-9, atol=1e-9
    )


def test_initial_weights_fill_the_range_of_pytorch(generator):
    parameters = ConvNet(width=32, depth=2, norm="none").initial(generator, (3, 8, 8), 10)
    bounds = {"conv1": 27, "conv2": 9 * 32, "linear": 32 * 2 * 2}
    for name, value in parameters.items():
        bound = 1 / math.sqrt(bounds[name.split(".")[0]])
        assert value.dtype == torch.float32
        assert value.abs().max() <= bound
        if value.numel() > 500:
            assert value.abs().max() > 0.99 * bound
            assert value.std() == pytest.approx(bound / math.sqrt(3), rel=0.05)
            assert abs(value.mean()) < 0.1 * bound


@pytest.mark.parametrize("network", [ConvNet(width=4, depth=1), MLP(width=5)], ids=["convnet", "mlp"])
def test_initial_is_a_function_of_the_generator(network):
    first, again = (network.initial(torch.Generator().manual_seed(1), (1, 4, 4), 2) for _ in range(2))
    other = network.initial(torch.Generator().manual_seed(2), (1, 4, 4), 2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["linear.weight"], other["linear.weight"])


def test_only_what_is_taken_is_returned(generator):
    network = ConvNet(width=4, depth=2)
    parameters = network.initial(generator, (1, 8, 8), 3)
    del parameters["linear.weight"], parameters["linear.bias"]  # so that computing logits would fail
    assert network(parameters, torch.zeros(2, 1, 8, 8), ("features",)).keys() == {"features"}
    assert network(parameters, torch.zeros(2, 1, 8, 8), ("layers",)).keys() == {"layer1", "layer2"}


def test_batch_statistics_are_those_of_the_module(generator):
    network = ConvNet(width=4, depth=2, norm="batch")
    parameters, blocks, linear = loaded(network, (3, 8, 8), 5, generator)
    points = torch.randn(5, 3, 8, 8, generator=generator, dtype=torch.double)
    for block in blocks:
        block[0].bias.data.zero_()
    outputs = network(parameters, points, ("logits", "statistics"))
    of_module(blocks, linear, points)
    for layer, (_, norm, _, _) in enumerate(blocks, 1):
        count = outputs[f"layer{layer}.count"]
        assert count == 5 * (8 >> (layer - 1)) ** 2
        torch.testing.assert_close(0.1 * outputs[f"layer{layer}.mean"], norm.running_mean)
        unbiased = outputs[f"layer{layer}.variance"] * count / (count - 1)
        torch.testing.assert_close(0.1 * unbiased + 0.9, norm.running_var)


def test_given_statistics_replace_those_of_the_batch(generator):
    network = ConvNet(width=4, depth=1, norm="batch")
    parameters, blocks, linear = loaded(network, (3, 8, 8), 5, generator)
    points = torch.randn(5, 3, 8, 8, generator=generator, dtype=torch.double)
    mean = torch.randn(4, generator=generator, dtype=torch.double)
    variance = torch.rand(4, generator=generator, dtype=torch.double) + 0.5
    blocks[0][0].bias.data.zero_()
    blocks[0][1].running_mean, blocks[0][1].running_var = mean, variance
    outputs = network(parameters, points, statistics={"layer1": (mean, variance)})["logits"]
    truth = of_module(blocks.eval(), linear, points)["logits"]
    torch.testing.assert_close(outputs, truth, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(outputs, network(parameters, points)["logits"])


@pytest.mark.parametrize("norm", NORMS)
def test_pointwise_networks_look_at_one_example_at_a_time(norm, generator):
    network = ConvNet(width=4, depth=1, norm=norm)
    parameters = network.initial(generator, (3, 8, 8), 5)
    points = torch.randn(5, 3, 8, 8, generator=generator)
    alone = torch.allclose(
        network(parameters, points)["logits"][:1], network(parameters, points[:1])["logits"], atol=1e-5
    )
    assert alone == network.pointwise == (norm != "batch")


@pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
def test_instance_normalisation_of_single_pixels_is_the_shift(affine, generator):
    network = ConvNet(width=4, depth=1, pooling="none", activation="leaky_relu")
    parameters = network.initial(generator, (3, 1, 1), 2, affine=affine)
    if affine:
        parameters["norm1.bias"] = torch.arange(4.0)
    features = network(parameters, torch.randn(1, 3, 1, 1, generator=generator), ("features",))["features"]
    torch.testing.assert_close(features, torch.arange(4.0)[None] * affine, atol=1e-5, rtol=0)


def test_shapes_and_work_of_the_published_network():
    network = ConvNet()
    shapes = network.shapes((3, 32, 32), 10, ALL)
    assert shapes["features"] == (2048,)
    assert shapes["logits"] == (10,)
    assert [shapes[f"layer{layer}"] for layer in (1, 2, 3)] == [(128, 16, 16), (128, 8, 8), (128, 4, 4)]
    convolutions = 9 * 128 * (3 * 32**2 + 128 * 16**2 + 128 * 8**2)
    assert network.multiplications((3, 32, 32), 10) == convolutions + 2048 * 10
    assert network.shapes((1, 28, 28), 10, ("features",)) == {"features": (2048,)}
    same = ConvNet(padding="same").shapes((1, 28, 28), 10, ("layers", "features"))
    assert [same[f"layer{layer}"] for layer in (1, 2, 3)] == [(128, 14, 14), (128, 7, 7), (128, 3, 3)]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(13,), (1, 3, 5)], ids=["table", "images"])
def test_mlp_is_the_module_with_the_same_weights(activation, shape, generator):
    network = MLP(width=7, depth=3, activation=activation)
    parameters = network.initial(generator, shape, 5)
    assert all(
        value.abs().max() <= 1 / math.sqrt(7 if "1" not in name else math.prod(shape))
        for name, value in parameters.items()
    )
    hidden = [nn.Linear(math.prod(shape), 7), nn.Linear(7, 7), nn.Linear(7, 7)]
    last = nn.Linear(7, 5)
    for name, layer in zip(["hidden1", "hidden2", "hidden3", "linear"], [*hidden, last], strict=True):
        layer.weight.data, layer.bias.data = parameters[f"{name}.weight"], parameters[f"{name}.bias"]
    points = torch.randn(3, *shape, generator=generator)
    outputs, x = network(parameters, points, ALL), points.flatten(1)
    for number, layer in enumerate(hidden, 1):
        x = ACTIVATIONS[activation]()(layer(x))
        torch.testing.assert_close(outputs[f"layer{number}"], x)
    torch.testing.assert_close(outputs["features"], x)
    torch.testing.assert_close(outputs["logits"], last(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, "'width' must be >= 1, got 0"),
        ({"depth": -1}, "'depth' must be >= 1, got -1"),
        ({"norm": "instanc"}, "'norm' must be one of instance, batch, layer, group, none; got 'instanc'"),
        ({"activation": "gelu"}, "'activation' must be one of relu, leaky_relu, sigmoid, swish, identity; got 'gelu'"),
        ({"pooling": "sum"}, "'pooling' must be one of average, max, none; got 'sum'"),
        ({"norm": "group", "width": 6}, "'width' must be a multiple of 4 with norm 'group', got 6"),
    ],
    ids=lambda item: "-".join(item) if isinstance(item, dict) else "",
)
def test_convnet_refuses(change, message):
    network = ConvNet()
    for name, value in change.items():  # past the constructor, where the shape-checking hook would refuse first
        object.__setattr__(network, name, value)
    with pytest.raises(InvalidInput, match=message):
        network.__post_init__()


@pytest.mark.parametrize("change", [{"width": 0}, {"depth": 0}], ids=["width", "depth"])
def test_mlp_refuses(change):
    with pytest.raises(InvalidInput, match=f"'{next(iter(change))}' must be >= 1, got 0"):
        MLP(**change)


@pytest.mark.parametrize(
    ("network", "shape", "message"),
    [
        (
            ConvNet(depth=4),
            (1, 8, 8),
            "8 x 8 are too small for a convnet; use 16 x 16 or more, or a convnet with depth 3 or less, or pooling",
        ),
        (ConvNet(depth=1), (1, 9, 1), "9 x 1 are too small for a convnet; use 2 x 2 or more, .* with pooling 'none'$"),
        (ConvNet(), (13,), r"needs examples of shape \(channels, height, width\), got \(13,\); use an mlp"),
    ],
    ids=["small", "thin", "table"],
)
def test_convnet_refuses_examples_that_do_not_fit(network, shape, message, generator):
    with pytest.raises(InvalidInput, match=message):
        network.initial(generator, shape, 10)


@pytest.mark.parametrize("network", [ConvNet(width=4, depth=1), MLP(width=4)], ids=["convnet", "mlp"])
def test_an_unknown_output_is_refused(network, generator):
    parameters = network.initial(generator, (1, 4, 4), 2)
    with pytest.raises(
        InvalidInput, match="'take' must be one of features, logits, layers, activations, statistics; got"
    ):
        network(parameters, torch.zeros(1, 1, 4, 4), ("feature",))


@pytest.mark.compiled
@pytest.mark.parametrize(
    ("network", "affine", "backend"),
    [
        (ConvNet(width=8, depth=2), False, "inductor"),
        (ConvNet(width=8, depth=2, norm="batch"), True, "inductor"),
        *((ConvNet(width=8, depth=2, norm=norm), True, "aot_eager") for norm in ("instance", "layer", "group")),
        (ConvNet(width=8, depth=2, norm="none"), False, "aot_eager"),
        (MLP(), False, "aot_eager"),
    ],
    ids=["instance-plain", "batch", "instance", "layer", "group", "none", "mlp"],
)
def test_compiled_networks_compute_the_same(network, affine, backend, generator):
    """Tracing and differentiation are the network's part, and cost little; what follows is the same for all."""
    parameters = network.initial(generator, (3, 8, 8), 5, affine=affine)
    points = torch.randn(7, 3, 8, 8, generator=generator, requires_grad=True)
    weights = {"features": 1.0, "logits": 2.0, "layer1": 0.5, "layer2": 3.0}

    torch.compiler.reset()

    def loss(parameters, points):
        outputs = network(parameters, points, ALL)
        return sum(weights[name] * value.square().mean() for name, value in outputs.items())

    fast = torch.compile(loss, fullgraph=True, backend=backend)
    value, truth = fast(parameters, points), loss(parameters, points)
    torch.testing.assert_close(value, truth, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        torch.autograd.grad(value, points)[0], torch.autograd.grad(truth, points)[0], rtol=1e-3, atol=1e-5
    )
