"""What LeNet, AlexNet, VGG, ResNet and ViT have in common, what each refuses, and ViT against the transformers of torch.

Properties by Hypothesis:

1. An image is either refused in one line that names a sufficient size, or every output is finite and not constant.
"""

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import SMALL, each
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from discrepancy.errors import InvalidInput
from discrepancy.networks import MLP, VGG, AlexNet, ConvNet, LeNet, Network, ResNet, ViT

ALL = ("features", "layers", "logits")


def transformer(network: ViT, parameters: dict[str, Tensor], shape: tuple[int, ...], classes: int) -> VisionTransformer:
    """torchvision's module, which takes the class token, with these weights."""
    module = VisionTransformer(
        shape[1], network.patch, network.depth, network.heads, network.width, 4 * network.width, num_classes=classes
    )
    module.conv_proj = nn.Conv2d(shape[0], network.width, network.patch, network.patch)
    state = {
        "class_token": parameters["token"][None, None],
        "encoder.pos_embedding": parameters["position"][None],
    }
    places = {"conv_proj": "patch", "encoder.ln": "norm", "heads.head": "linear"}
    parts = {"ln_1": "norm1", "self_attention.out_proj": "out", "ln_2": "norm2", "mlp.0": "up", "mlp.3": "down"}
    for layer in range(network.depth):
        inner, block = f"encoder.layers.encoder_layer_{layer}", f"block{layer + 1}"
        places |= {f"{inner}.{theirs}": f"{block}.{ours}" for theirs, ours in parts.items()}
        for what in ("weight", "bias"):
            state[f"{inner}.self_attention.in_proj_{what}"] = parameters[f"{block}.qkv.{what}"]
    state |= {
        f"{theirs}.{what}": parameters[f"{ours}.{what}"]
        for theirs, ours in places.items()
        for what in ("weight", "bias")
    }
    module.double().load_state_dict(state)
    return module


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 8, 8)], ids=["28", "8"])
def test_vit_with_a_class_token_is_torchvisions(shape, generator):
    network = ViT(width=12, depth=2, pooling="token")
    parameters = {
        name: value.double() + 0.3 * torch.rand(value.shape, generator=generator, dtype=torch.double)
        for name, value in network.initial(generator, shape, 5).items()
    }
    with torch.random.fork_rng():
        module = transformer(network, parameters, shape, 5)
    points = torch.randn(3, *shape, generator=generator, dtype=torch.double)
    torch.testing.assert_close(network(parameters, points)["logits"], module(points), rtol=1e-10, atol=1e-10)


def test_vit_with_mean_pooling_is_the_encoder_of_torch(generator):
    network = ViT(width=12, depth=2, patch=2)
    parameters = {
        name: value.double() + 0.3 * torch.rand(value.shape, generator=generator, dtype=torch.double)
        for name, value in network.initial(generator, (3, 4, 6), 5).items()
    }
    places = {
        "norm1": "norm1",
        "norm2": "norm2",
        "self_attn.out_proj": "out",
        "linear1": "up",
        "linear2": "down",
    }
    points = torch.randn(3, 3, 4, 6, generator=generator, dtype=torch.double)
    tokens = nn.functional.unfold(points, 2, stride=2).transpose(1, 2) @ parameters["patch.weight"].flatten(1).T
    x, outputs = tokens + parameters["patch.bias"] + parameters["position"], network(parameters, points, ALL)
    for number in (1, 2):
        with torch.random.fork_rng():
            layer = nn.TransformerEncoderLayer(
                12, 3, 48, 0.0, "gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True, dtype=torch.double
            )
        state = {
            f"{theirs}.{what}": parameters[f"block{number}.{ours}.{what}"]
            for theirs, ours in places.items()
            for what in ("weight", "bias")
        }
        for what in ("weight", "bias"):
            state[f"self_attn.in_proj_{what}"] = parameters[f"block{number}.qkv.{what}"]
        layer.load_state_dict(state)
        x = layer(x)
        torch.testing.assert_close(outputs[f"layer{number}"].flatten(2), x.transpose(1, 2), rtol=1e-10, atol=1e-10)
    features = nn.functional.layer_norm(x, (12,), parameters["norm.weight"], parameters["norm.bias"], 1e-6).mean(1)
    torch.testing.assert_close(outputs["features"], features, rtol=1e-10, atol=1e-10)


@each(SMALL)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 64, 64), (1, 8, 8)], ids=str)
def test_shapes_and_work(network, shape):
    least = {"lenet": 16, "vgg": 32, "resnet": 9 if getattr(network, "norm", "") == "instance" else 8}
    if shape[1] == 8 < least.get(network.kind, 8):
        with pytest.raises(
            InvalidInput, match=f"8 x 8 are too small for a {network.kind}; use {least[network.kind]} x"
        ):
            network.initial(torch.Generator(), shape, 5)
        return
    shapes = network.shapes(shape, 5, ALL)
    assert shapes["logits"] == (5,)
    assert len(shapes["features"]) == 1
    assert "layer1" in shapes
    assert network.multiplications(shape, 5) > 5 * shapes["features"][0]


@pytest.mark.parametrize(
    ("network", "features", "parameters", "multiplications"),
    [
        (LeNet(), 84, 62006, None),
        (AlexNet(), 3072, 1_872_202, None),
        (VGG(), 512, 9_228_362, 152_764_416 + 5_120),
        (ResNet(), 512, 11_173_962, 555_417_600 + 5_120),
        (ViT(), 192, 2_693_194, None),
    ],
    ids=lambda item: item.kind if isinstance(item, Network) else "",
)
def test_sizes_of_the_published_networks(network, features, parameters, multiplications):
    """11,173,962 and 9,231,114 are the parameters of ResNet18 and VGG11 of the public code; its VGG11 has 2,752 biases more,
    before normalisations."""
    initial = network.initial(torch.Generator(), (3, 32, 32), 10)
    assert network.shapes((3, 32, 32), 10, ("features",))["features"] == (features,)
    assert sum(value.numel() for value in initial.values()) == parameters
    if multiplications is not None:
        assert network.multiplications((3, 32, 32), 10) == multiplications


@each(SMALL)
def test_pointwise_networks_look_at_one_example_at_a_time(network, generator):
    parameters = network.initial(generator, (3, 32, 32), 5)
    points = torch.randn(5, 3, 32, 32, generator=generator)
    together, alone = (network(parameters, x, ("features",))["features"] for x in (points, points[:1]))
    assert torch.allclose(together[:1], alone, atol=1e-5) == network.pointwise


@each(SMALL)
def test_gradients_reach_every_parameter_and_the_points(network, generator):
    initial = network.initial(generator, (3, 32, 32), 5)
    parameters = {
        name: (value.double() + 0.1 * torch.rand(value.shape, generator=generator)).requires_grad_()
        for name, value in initial.items()
    }
    points = torch.randn(3, 3, 32, 32, generator=generator, dtype=torch.double, requires_grad=True)
    logits = network(parameters, points)["logits"]
    assert logits.dtype == torch.double
    gradients = torch.autograd.grad(logits.square().sum(), [points, *parameters.values()])
    for name, gradient in zip(["points", *parameters], gradients, strict=True):
        assert gradient.isfinite().all()
        assert gradient.any(), name


@pytest.mark.parametrize(
    "network",
    [ViT(width=6, depth=1, heads=2), ResNet(width=4, depth=10, norm="group", activation="swish")],
    ids=lambda network: network.kind,
)
def test_there_are_two_derivatives(network, generator):
    parameters = {name: value.double() for name, value in network.initial(generator, (1, 8, 8), 2).items()}
    points = torch.randn(2, 1, 8, 8, generator=generator, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: network(parameters, x)["logits"], points, fast_mode=True)


@each(SMALL)
def test_vmap_over_networks_is_a_loop(network, generator):
    several = [network.initial(generator, (1, 32, 32), 3) for _ in range(2)]
    points = torch.randn(2, 1, 32, 32, generator=generator)
    stacked = {name: torch.stack([parameters[name] for parameters in several]) for name in several[0]}
    together = torch.func.vmap(lambda parameters: network(parameters, points)["logits"])(stacked)
    one_by_one = torch.stack([network(parameters, points)["logits"] for parameters in several])
    torch.testing.assert_close(together, one_by_one, rtol=1e-4, atol=1e-4)


@each(SMALL)
def test_initial_is_a_function_of_the_generator(network):
    before = torch.get_rng_state()
    first, again = (network.initial(torch.Generator().manual_seed(1), (3, 32, 32), 5) for _ in range(2))
    bare = network.initial(torch.Generator().manual_seed(1), (3, 32, 32), 5, affine=False)
    other = network.initial(torch.Generator().manual_seed(2), (3, 32, 32), 5)
    assert torch.equal(before, torch.get_rng_state())
    assert all(value.dtype == torch.float32 and torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(first["linear.weight"], other["linear.weight"])
    assert {name for name in first if name not in bare} == {name for name in first if "norm" in name}
    points = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(network(first, points)["logits"], network(bare, points)["logits"], rtol=1e-4, atol=1e-5)


def test_initial_weights_of_vit(generator):
    parameters = ViT().initial(generator, (3, 32, 32), 10)
    assert parameters["position"].shape == (64, 192)
    assert parameters["block1.up.weight"].std() == pytest.approx(0.02, rel=0.02)
    assert parameters["position"].std() == pytest.approx(0.02, rel=0.02)
    assert not parameters["block1.qkv.bias"].any()
    assert parameters["patch.weight"].abs().max() <= 1 / math.sqrt(48)


@pytest.mark.parametrize(
    ("network", "change", "message"),
    [
        (AlexNet(), {"width": 7}, "'width' must be even and >= 2, got 7"),
        (AlexNet(), {"norm": "group", "width": 12}, "'width' must be a multiple of 8 with norm 'group', got 12"),
        (VGG(), {"depth": 12}, "'depth' must be one of 11, 13, 16, 19; got 12"),
        (VGG(), {"norm": "layers"}, "'norm' must be one of instance, batch, layer, group, none; got 'layers'"),
        (VGG(), {"width": 0}, "'width' must be >= 1, got 0"),
        (ResNet(), {"depth": 50}, "'depth' must be one of 10, 18, 34; got 50"),
        (ResNet(), {"norm": "layer"}, "'norm' must be one of instance, batch, group, none; got 'layer'"),
        (ResNet(), {"halving": "max"}, "'halving' must be one of stride, average; got 'max'"),
        (ResNet(), {"norm": "group", "width": 6}, "'width' must be a multiple of 4 with norm 'group', got 6"),
        (ViT(), {"heads": 5}, "'width' must be a multiple of 'heads', got 192 and 5"),
        (ViT(), {"patch": 0}, "'patch' must be >= 1, got 0"),
        (ViT(), {"pooling": "max"}, "'pooling' must be one of mean, token; got 'max'"),
        (
            LeNet(),
            {"activation": "gelu"},
            "'activation' must be one of relu, leaky_relu, sigmoid, swish, identity; got 'gelu'",
        ),
    ],
    ids=lambda item: "-".join(item) if isinstance(item, dict) else "",
)
def test_settings_are_refused(network, change, message):
    changed = object.__new__(type(network))
    for name, value in (vars(network) | change).items():  # past the constructor, where the hook would refuse first
        object.__setattr__(changed, name, value)
    with pytest.raises(InvalidInput, match=message):
        changed.__post_init__()


@pytest.mark.parametrize(
    ("network", "shape", "message"),
    [
        (
            LeNet(),
            (3, 15, 40),
            "images of 15 x 40 are too small for a lenet; use 16 x 16 or more, or a convnet with depth 3 or less",
        ),
        (VGG(), (3, 31, 31), "images of 31 x 31 are too small for a vgg; use 32 x 32 or more"),
        (
            ResNet(),
            (3, 8, 8),
            r"too small for a resnet; use 9 x 9 or more \(instance normalisation makes maps of 1 x 1",
        ),
        (ResNet(halving="average", norm="batch"), (3, 7, 9), "too small for a resnet; use 8 x 8 or more$"),
        (ViT(), (3, 30, 32), "images of 30 x 32 do not divide into patches of 4 x 4; use another 'patch'"),
        *((network, (13,), f"a {network.kind} needs examples of shape .*; use an mlp") for network in SMALL.values()),
    ],
    ids=lambda item: item.kind if isinstance(item, Network) else "",
)
def test_examples_that_do_not_fit_are_refused(network, shape, message):
    with pytest.raises(InvalidInput, match=message) as refusal:
        network.initial(torch.Generator(), shape, 5)
    assert "\n" not in str(refusal.value)


@settings(max_examples=25, deadline=None, database=None)
@given(
    network=st.sampled_from([network for network in SMALL.values() if network.pointwise]),
    channels=st.integers(1, 3),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
)
def test_images_of_any_size_are_used_or_refused(network, channels, height, width):
    generator = torch.Generator().manual_seed(height * 41 + width)
    try:
        parameters = network.initial(generator, (channels, height, width), 3)
    except InvalidInput as refusal:
        remedy = re.search(r"use (\d+) x", str(refusal))
        if remedy is not None:
            assert min(height, width) < int(remedy[1])
            network.initial(generator, (channels, int(remedy[1]), int(remedy[1])), 3)
        return
    points = torch.randn(2, channels, height, width, generator=generator)
    outputs = network(parameters, points, ALL)
    assert all(value.isfinite().all() for value in outputs.values())
    assert not torch.equal(outputs["logits"][0], outputs["logits"][1])


@each(SMALL | {"convnet": ConvNet(width=4, depth=3, pooling="max"), "mlp": MLP(width=7, depth=2)})
def test_activations_are_the_layers_before_they_are_pooled(network, generator):
    parameters = network.initial(generator, (3, 32, 32), 2)
    found = network(parameters, torch.randn(2, 3, 32, 32, generator=generator), ("layers", "activations"))
    layers = [name for name in found if name.startswith("layer")]
    assert len(found) == 2 * len(layers)
    for name in layers:
        layer, activation = found[name], found[name.replace("layer", "activation")]
        if activation.shape != layer.shape:
            activation = nn.functional.max_pool2d(activation, 2)
        torch.testing.assert_close(layer, activation)
    pooled = sum(found[name].shape != found[name.replace("layer", "activation")].shape for name in layers)
    assert pooled == {LeNet: 2, AlexNet: 3, VGG: 5, ConvNet: 3}.get(type(network), 0)


@each(SMALL)
def test_an_unknown_output_is_refused(network, generator):
    parameters = network.initial(generator, (3, 32, 32), 2)
    with pytest.raises(
        InvalidInput, match="'take' must be one of features, logits, layers, activations, statistics; got"
    ):
        network(parameters, torch.zeros(1, 3, 32, 32), ("feature",))


def test_networks_are_values():
    assert len({ResNet(), ResNet(depth=18), VGG(), AlexNet(), LeNet(), ViT(), ConvNet(), MLP()}) == 7
    assert ResNet(norm="batch").describe() == {"kind": "resnet", "norm": "batch"}


@pytest.mark.compiled
@each({name: SMALL[name] for name in ("alexnet", "vgg", "resnet batch", "vit token")})
def test_compiled_networks_compute_the_same(network, generator):
    parameters = network.initial(generator, (3, 32, 32), 5)
    points = torch.randn(3, 3, 32, 32, generator=generator)
    torch.compiler.reset()
    backend = "inductor" if network.kind == "vit" else "aot_eager"  # which traces alike
    fast = torch.compile(lambda parameters, points: network(parameters, points, ALL), fullgraph=True, backend=backend)
    for name, value in network(parameters, points, ALL).items():
        torch.testing.assert_close(fast(parameters, points)[name], value, rtol=1e-3, atol=1e-4)
