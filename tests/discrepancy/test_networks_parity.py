"""LeNet, AlexNet, VGG and ResNet against modules assembled from torch.nn with the same weights."""

import math

import pytest
import torch
from small_networks import SMALL, each
from torch import Tensor, nn

from discrepancy.networks import VGG, AlexNet, LeNet, Network, ResNet

ALL = ("features", "layers", "logits")
NORMS = {
    "instance": lambda c: nn.GroupNorm(c, c),
    "batch": nn.BatchNorm2d,
    "group": lambda c: nn.GroupNorm(4, c),
    "none": lambda c: nn.Identity(),
}
BATCHED = {name: network for name, network in SMALL.items() if not network.pointwise}


class Residual(nn.Module):
    def __init__(self, inputs: int, channels: int, halves: bool, norm, average: bool) -> None:
        super().__init__()
        stride = 2 if halves and not average else 1
        pool = nn.AvgPool2d(2) if halves and average else nn.Identity()
        self.main = nn.Sequential(
            nn.Conv2d(inputs, channels, 3, stride, 1, bias=False),
            norm(channels),
            nn.ReLU(),
            pool,
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            norm(channels),
        )
        self.shortcut = nn.Identity()
        if inputs != channels or halves:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, channels, 1, stride, bias=False), pool, norm(channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.main(x) + self.shortcut(x))


def plain(network: Network, shape: tuple[int, ...], classes: int) -> tuple[list[nn.Module], list[str]]:
    """The layers and at last the classifier as modules; and the names of our parameters in the order of theirs."""
    channels, grey = shape[0], shape[1:] == (28, 28)
    names: list[str] = []

    def conv(inputs: int, outputs: int, kernel: int, border: int, *after: nn.Module) -> nn.Module:
        number = sum(name.startswith("conv") and name.endswith("weight") for name in names) + 1
        norm = NORMS[getattr(network, "norm", "none")](outputs)
        biased = isinstance(norm, nn.Identity) or getattr(network, "norm", "") == "group"
        names.extend([f"conv{number}.weight"] + [f"conv{number}.bias"] * biased)
        names.extend(f"norm{number}.{key}" for key, _ in norm.named_parameters())
        return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=border, bias=biased), norm, nn.ReLU(), *after)

    def tail(features: int) -> nn.Module:
        names.extend(["linear.weight", "linear.bias"])
        return nn.Linear(features, classes)

    if isinstance(network, LeNet):
        side = ((shape[1] + 4 * grey - 4) // 2 - 4) // 2
        layers = [
            conv(channels, 6, 5, 2 if grey else 0, nn.MaxPool2d(2)),
            conv(6, 16, 5, 0, nn.MaxPool2d(2)),
            nn.Sequential(nn.Flatten(), nn.Linear(16 * side**2, 120), nn.ReLU()),
            nn.Sequential(nn.Linear(120, 84), nn.ReLU()),
        ]
        names += [f"hidden{layer}.{key}" for layer in (1, 2) for key in ("weight", "bias")]
        return [*layers, tail(84)], names
    if isinstance(network, AlexNet):
        w, last = network.width, (32 if grey else shape[1]) // 8
        layers = [
            conv(channels, w, 5, 4 if grey else 2, nn.MaxPool2d(2)),
            conv(w, 3 * w // 2, 5, 2, nn.MaxPool2d(2)),
            conv(3 * w // 2, 2 * w, 3, 1),
            conv(2 * w, 3 * w // 2, 3, 1),
            conv(3 * w // 2, 3 * w // 2, 3, 1, nn.MaxPool2d(2)),
        ]
        return [*layers, tail(3 * w // 2 * last**2)], names
    if isinstance(network, VGG):
        w = network.width
        plan = {
            11: "1p2p44p88p88p",
            13: "11p22p44p88p88p",
            16: "11p22p444p888p888p",
            19: "11p22p4444p8888p8888p",
        }[network.depth]
        layers = []
        for now, after in zip(plan, plan[1:] + " ", strict=True):
            if now != "p":
                pool = [nn.MaxPool2d(2)] if after == "p" else []
                layers.append(conv(channels, int(now) * w, 3, 3 if grey and not layers else 1, *pool))
                channels = int(now) * w
        return [*layers, tail(channels * ((32 if grey else shape[1]) // 32) ** 2)], names
    assert isinstance(network, ResNet)
    norm, average, w = NORMS[network.norm], network.halving == "average", network.width
    counts = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}[network.depth]
    stem = nn.Sequential(nn.Conv2d(channels, w, 3, padding=1, bias=False), norm(w), nn.ReLU())
    layers, inputs = [stem], w
    for stage, count in enumerate(counts):
        blocks = []
        for block in range(count):
            blocks.append(Residual(inputs, w << stage, stage > 0 and block == 0, norm, average))
            inputs = w << stage
        layers.append(nn.Sequential(*blocks))
    places = {"main.0": "conv1", "main.1": "norm1", "main.4": "conv2", "main.5": "norm2", "shortcut.0": "shortcut"}
    places |= {"shortcut.2": "norm3"}
    names += [f"layer1.{'conv' if key[0] == '0' else 'norm'}1.{key[2:]}" for key, _ in stem.named_parameters()]
    for number, stage in enumerate(layers[1:], 2):
        for key, _ in stage.named_parameters():
            block, side, index, what = key.split(".")
            names.append(f"layer{number}.block{int(block) + 1}.{places[f'{side}.{index}']}.{what}")
    positions = ((28 if grey else shape[1]) // 8) ** 2 if average else 1
    return [*layers, tail(8 * w * positions)], names


def loaded(network: Network, shape: tuple[int, ...], classes: int, generator: torch.Generator):
    """Random parameters (scales and shifts too), and modules holding the same."""
    layers, names = plain(network, shape, classes)
    parameters = {
        name: value.double() + 0.1 * torch.rand(value.shape, generator=generator, dtype=torch.double)
        for name, value in network.initial(generator, shape, classes).items()
    }
    theirs = [value for layer in layers for value in layer.parameters()]
    assert sorted(parameters) == sorted(names)
    for name, value in zip(names, theirs, strict=True):
        assert value.shape == parameters[name].shape
        value.data = parameters[name].clone()
    return parameters, [layer.double() for layer in layers]


def of_modules(network: Network, layers: list[nn.Module], x: Tensor) -> dict[str, Tensor]:
    outputs = {}
    for number, layer in enumerate(layers[:-1], 1):
        x = outputs[f"layer{number}"] = layer(x)
    if isinstance(network, ResNet) and network.halving == "stride":
        x = nn.functional.adaptive_avg_pool2d(x, 1)
    return outputs | {"features": x.flatten(1), "logits": layers[-1](x.flatten(1))}


PUBLISHED = {
    "lenet": LeNet(),
    **{f"alexnet {norm}": AlexNet(width=8, norm=norm) for norm in NORMS},
    **{f"vgg {norm}": VGG(width=4, norm=norm) for norm in NORMS},
    **{f"vgg-{depth}": VGG(width=4, depth=depth) for depth in (13, 16, 19)},
    **{f"resnet {norm}": ResNet(width=4, norm=norm) for norm in NORMS},
    **{f"resnet-{depth}": ResNet(width=4, depth=depth) for depth in (10, 34)},
    **{f"resnet average {norm}": ResNet(width=4, depth=10, norm=norm, halving="average") for norm in NORMS},
}


@each(PUBLISHED)
def test_networks_are_the_modules_with_the_same_weights(network, generator):
    for shape in ((1, 28, 28), (3, 32, 32), (3, 64, 64)):
        parameters, layers = loaded(network, shape, 5, generator)
        points = torch.randn(3, *shape, generator=generator, dtype=torch.double)
        outputs, truth = network(parameters, points, ALL), of_modules(network, layers, points)
        assert outputs.keys() == truth.keys()
        for name, value in truth.items():
            torch.testing.assert_close(outputs[name], value, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("network", [AlexNet(width=8), VGG(width=4), ResNet(width=4, depth=10)], ids=lambda n: n.kind)
def test_gradients_are_those_of_the_modules(network, generator):
    parameters, layers = loaded(network, (3, 32, 32), 5, generator)
    points = torch.randn(3, 3, 32, 32, generator=generator, dtype=torch.double)
    gradient = torch.func.grad(lambda p: network(p, points)["logits"].square().sum())(parameters)
    of_modules(network, layers, points)["logits"].square().sum().backward()
    _, names = plain(network, (3, 32, 32), 5)
    for name, value in zip(names, (v for layer in layers for v in layer.parameters()), strict=True):
        torch.testing.assert_close(gradient[name], value.grad, rtol=1e-6, atol=1e-6)


@each(BATCHED)
def test_batch_statistics_are_returned_and_replaced(network, generator):
    parameters, layers = loaded(network, (3, 32, 32), 5, generator)
    points = torch.randn(5, 3, 32, 32, generator=generator, dtype=torch.double)
    outputs = network(parameters, points, ("logits", "statistics"))
    found = [name.removesuffix(".mean") for name in outputs if name.endswith(".mean")]
    norms = [part for layer in layers for part in layer.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    of_modules(network, layers, points)
    assert len(found) == len(norms)
    assert all(name.startswith("layer") for name in found)
    given = {name: (outputs[f"{name}.mean"], outputs[f"{name}.variance"]) for name in found}
    torch.testing.assert_close(network(parameters, points, statistics=given)["logits"], outputs["logits"])
    for name, norm in zip(found, norms, strict=True):
        count = outputs[f"{name}.count"]
        torch.testing.assert_close(outputs[f"{name}.mean"], norm.running_mean)
        torch.testing.assert_close(outputs[f"{name}.variance"] * count / (count - 1), norm.running_var)
    unbiased = {name: (norm.running_mean, norm.running_var) for name, norm in zip(found, norms, strict=True)}
    truth = of_modules(network, [layer.eval() for layer in layers], points[:2])["logits"]
    torch.testing.assert_close(network(parameters, points[:2], statistics=unbiased)["logits"], truth)
    swapped = {name: (mean + 1, variance) for name, (mean, variance) in given.items()}
    assert not torch.allclose(network(parameters, points, statistics=swapped)["logits"], outputs["logits"])


@pytest.mark.parametrize("network", [LeNet(), AlexNet(width=16), VGG(width=8), ResNet(width=8)], ids=lambda n: n.kind)
def test_initial_weights_fill_the_range_of_pytorch(network, generator):
    """Those of each layer as its module would have drawn them: U(-1/√fan_in, 1/√fan_in)."""
    layers, names = plain(network, (3, 32, 32), 10)
    initial = network.initial(generator, (3, 32, 32), 10)
    kernels = {name for name, value in initial.items() if value.ndim > 1}
    assert kernels
    for name in kernels:
        bound = 1 / math.sqrt(initial[name][0].numel())
        assert initial[name].abs().max() <= bound
        if initial[name].numel() > 500:
            assert initial[name].abs().max() > 0.98 * bound
            assert initial[name].std() == pytest.approx(bound / math.sqrt(3), rel=0.08)
    theirs = dict(zip(names, (value for layer in layers for value in layer.parameters()), strict=True))
    for name in set(names) - kernels:
        if "norm" in name:
            assert torch.equal(initial[name], theirs[name].detach())
        else:
            bound = 1 / math.sqrt(initial[name.replace("bias", "weight")][0].numel())
            assert initial[name].abs().max() <= bound
