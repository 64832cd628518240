"""Backbones against the module itself, called in evaluation mode with the same weights."""

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from discrepancy.errors import InvalidInput, Unsupported
from discrepancy.networks import Backbone, register_module
from discrepancy.networks.modules import drawn

SHAPE = (3, 16, 16)


class Tiny(nn.Module):
    """A module that writes into its layers' outputs, with a table of indices and a buffer that is not saved."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.act, self.drop, self.head = nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(4, outputs)
        self.register_buffer("order", torch.tensor([2, 0, 3, 1]))
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0, 4.0]), persistent=False)
        self.unused = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x += 1
        return self.head(self.drop(self.act(x).mean((2, 3)))[:, self.order] * self.scale)


class Batchwise(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3, track_running_stats=False)


class Unseeded(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.noise = nn.Parameter(torch.native_dropout(torch.ones(8), 0.5, True)[0])


register_module("tiny", Tiny)
register_module("batchwise", Batchwise)
register_module("unseeded", Unseeded)


def theirs(module: nn.Module, points: Tensor, layer: str) -> tuple[Tensor, Tensor]:
    """What the layer gives, and the module's own output."""
    found = []
    handle = module.get_submodule(layer).register_forward_hook(
        lambda part, inputs, output: found.append(output.clone())
    )
    output = module(points)
    handle.remove()
    return found[-1].flatten(1), output


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A path, and the module whose state is there, with running statistics of some training."""

    def save(name: str, outputs: int):
        module = drawn(name, outputs, torch.Generator().manual_seed(3)).eval()
        generator = torch.Generator().manual_seed(4)
        for key, value in module.named_buffers():
            if value.is_floating_point() and "running" in key:
                value.uniform_(0.5, 1.5, generator=generator)
        path = tmp_path_factory.mktemp("weights") / f"{name}.safetensors"
        save_file({key: value.contiguous() for key, value in module.state_dict().items()}, path)
        return str(path), module

    return save


@pytest.mark.parametrize(
    ("name", "layer"),
    [("resnet18", "layer3.0.bn2"), ("squeezenet1_1", "features.3"), ("tiny", "first")],
)
def test_features_and_logits_are_the_modules(name, layer, saved, generator):
    path, module = saved(name, 5)
    network = Backbone(module=name, weights=path, layer=layer, outputs=5, side=32)
    parameters = network.initial(generator, SHAPE, 5)
    points = torch.randn(3, *SHAPE, generator=generator)
    outputs = network(parameters, points, ("features", "layers", "logits"))
    features, logits = theirs(module, nn.functional.interpolate(points, (32, 32), mode="bilinear"), layer)
    torch.testing.assert_close(outputs["features"], features, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(outputs["logits"], logits, rtol=1e-5, atol=1e-6)


def test_random_weights_are_those_of_the_constructor_under_the_same_seed():
    before = torch.get_rng_state()
    network = Backbone()
    parameters = network.initial(torch.Generator().manual_seed(7), SHAPE, 5)
    other = network.initial(torch.Generator().manual_seed(8), SHAPE, 5)
    network(parameters, torch.zeros(2, *SHAPE))
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(parameters["conv1.weight"], other["conv1.weight"])
    with torch.random.fork_rng():
        torch.manual_seed(7)
        truth = models.resnet18(num_classes=5).state_dict()
    assert all(torch.equal(value, truth[name]) and value.dtype == torch.float32 for name, value in parameters.items())
    assert {name for name in truth if name not in parameters} == {name for name in truth if "num_batches" in name}


def test_weights_do_not_depend_on_the_generator(saved):
    path, module = saved("tiny", 5)
    network = Backbone(module="tiny", weights=path, layer="first", outputs=5)
    first, other = (network.initial(torch.Generator().manual_seed(seed), SHAPE, 5) for seed in (1, 2))
    assert all(torch.equal(first[name], other[name]) for name in first)
    assert torch.equal(first["first.1.running_mean"], module.first[1].running_mean)
    assert torch.equal(first["scale"], torch.arange(1.0, 5))
    assert "order" not in first


def test_layers_are_the_outer_ones_or_those_that_are_named(saved, generator):
    path, module = saved("resnet18", 1000)
    points = torch.randn(2, *SHAPE, generator=generator)
    network = Backbone(weights=path)
    outputs = network(network.initial(generator, SHAPE, 5), points, ("layers",))
    steps = ["conv1", "bn1", "relu", "maxpool", *(f"layer{stage}.{block}" for stage in range(1, 5) for block in (0, 1))]
    assert len(outputs) == 13
    for number, step in enumerate([*steps, "avgpool"], 1):
        truth = theirs(module, points, step)[0]
        torch.testing.assert_close(outputs[f"layer{number}"].flatten(1), truth, rtol=1e-5, atol=1e-6)
    network = Backbone(weights=path, layers=("layer4", "layer1"))
    outputs = network(network.initial(generator, SHAPE, 5), points, ("layers",))
    assert outputs.keys() == {"layer1", "layer2"}
    torch.testing.assert_close(outputs["layer1"].flatten(1), theirs(module, points, "layer4")[0])
    torch.testing.assert_close(outputs["layer2"].flatten(1), theirs(module, points, "layer1")[0])


def test_single_channels_are_repeated(generator):
    network = Backbone(module="tiny", layer="first")
    parameters = network.initial(generator, (1, 28, 28), 5)
    points = torch.randn(2, 1, 28, 28, generator=generator)
    grey, colour = (network(parameters, x)["logits"] for x in (points, points.repeat(1, 3, 1, 1)))
    torch.testing.assert_close(grey, colour)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 64, 64), (1, 8, 8)], ids=str)
def test_shapes_and_work(shape):
    network = Backbone()
    shapes = network.shapes(shape, 5, ("features", "logits", "layers"))
    assert (shapes["features"], shapes["logits"]) == ((512,), (5,))
    side = -(-shape[1] // 2)
    assert shapes["layer1"] == (64, side, side)
    assert network.multiplications(shape, 5) > 1e6


def test_it_is_pointwise_and_takes_doubles(saved, generator):
    path, _ = saved("tiny", 5)
    network = Backbone(module="tiny", weights=path, layer="first", outputs=5)
    parameters = {name: value.double() for name, value in network.initial(generator, SHAPE, 5).items()}
    points = torch.randn(4, *SHAPE, generator=generator, dtype=torch.double)
    together, alone = (network(parameters, x)["logits"] for x in (points, points[:1]))
    assert network.pointwise
    assert together.dtype == torch.double
    torch.testing.assert_close(together[:1], alone, rtol=1e-12, atol=1e-12)


def test_gradients_reach_points_and_weights_but_no_buffer(saved, generator):
    path, module = saved("tiny", 5)
    network = Backbone(module="tiny", weights=path, layer="first", outputs=5)
    parameters = network.initial(generator, SHAPE, 5)
    points = torch.randn(3, *SHAPE, generator=generator, requires_grad=True)
    leaves = {name: value.clone().requires_grad_() for name, value in parameters.items()}
    network(leaves, points)["logits"].square().sum().backward()
    module.zero_grad()
    copy = points.detach().clone().requires_grad_()
    module(copy).square().sum().backward()
    torch.testing.assert_close(points.grad, copy.grad)
    for name, value in module.named_parameters():
        if value.grad is not None:
            torch.testing.assert_close(leaves[name].grad, value.grad)
    assert all(leaves[name].grad is None for name in ("first.1.running_mean", "first.1.running_var", "scale"))
    functional = torch.func.grad(lambda p: network(p, points.detach())["logits"].square().sum())(parameters)
    torch.testing.assert_close(functional["head.weight"], leaves["head.weight"].grad)
    assert not functional["first.1.running_var"].any()


def test_vmap_over_networks_is_a_loop(generator):
    network = Backbone(module="tiny", layer="first")
    several = [network.initial(generator, SHAPE, 3) for _ in range(3)]
    points = torch.randn(2, *SHAPE, generator=generator)
    stacked = {name: torch.stack([parameters[name] for parameters in several]) for name in several[0]}
    together = torch.func.vmap(lambda parameters: network(parameters, points, ("features",))["features"])(stacked)
    one_by_one = torch.stack([network(parameters, points, ("features",))["features"] for parameters in several])
    torch.testing.assert_close(together, one_by_one, rtol=1e-5, atol=1e-5)


def test_a_classifier_for_other_classes_gives_no_logits(saved, generator):
    path, module = saved("tiny", 7)
    network = Backbone(module="tiny", weights=path, layer="first", outputs=7)
    parameters = network.initial(generator, SHAPE, 5)
    points = torch.randn(2, *SHAPE, generator=generator)
    assert all(name.startswith("embedding.") for name in parameters)
    features = network(parameters, points, ("features",))["features"]
    torch.testing.assert_close(features, theirs(module, points, "first")[0])
    with pytest.raises(InvalidInput, match="'tiny' has no logits: its own classifier does not have as many outputs"):
        network(parameters, points)
    with pytest.raises(InvalidInput, match="'tiny' has no logits"):
        network.multiplications(SHAPE, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"module": "resnet81"},
            "'module' must be .* classifier of torchvision, .*, got 'resnet81', did you mean 'resnet",
        ),
        ({"outputs": 0}, "'outputs' must be >= 1 or None, got 0"),
        ({"side": -1}, "'side' must be >= 1 or None, got -1"),
    ],
    ids=["module", "outputs", "side"],
)
def test_settings_are_refused(change, message):
    with pytest.raises(InvalidInput, match=message):
        Backbone(**change)


@pytest.mark.parametrize(
    ("change", "shape", "message"),
    [
        (
            {"layer": "frist"},
            SHAPE,
            "part of 'tiny', got 'frist', did you mean 'first'.; it has first.0, .*, unused",
        ),
        ({"layer": ""}, SHAPE, "'layer' must be the name of a part of 'tiny', got ''; it has"),
        ({"layers": ("unused",)}, SHAPE, "'unused' of 'tiny' gives no tensor in evaluation mode; choose another layer"),
        ({}, (2, 8, 8), "'tiny' takes images of 3 channels, got 2; only single channels are repeated"),
        ({}, (3, 2, 2), r"'tiny' does not take examples of shape \(3, 2, 2\): .*; give 'side', for instance 224"),
        (
            {"module": "batchwise", "layer": "norm"},
            (3,),
            "'batchwise' has batch normalisation without running statistics",
        ),
        ({"weights": "nowhere.safetensors"}, SHAPE, "'weights' must be the path of a safetensors file, got 'nowhere.s"),
    ],
    ids=["layer", "nothing", "unused", "channels", "small", "batchwise", "nowhere"],
)
def test_what_does_not_fit_is_refused(change, shape, message):
    network = Backbone(**({"module": "tiny", "layer": "first"} | change))
    with pytest.raises(InvalidInput, match=message) as refusal:
        network.initial(torch.Generator(), shape, 5)
    assert "\n" not in str(refusal.value)


def test_random_numbers_that_no_generator_gives_are_refused():
    with pytest.raises(Unsupported, match=r"constructor draws by 'aten.*', which takes no generator"):
        Backbone(module="unseeded", layer="noise").initial(torch.Generator(), SHAPE, 5)


@pytest.mark.parametrize(
    ("change", "outputs", "message"),
    [
        (
            lambda state: state.pop("head.bias"),
            5,
            "not hold the state of 'tiny': missing head.bias; give the right 'module'",
        ),
        (lambda state: state.update(other=torch.ones(2)), 5, "unexpected other; give the right 'module'"),
        (lambda state: None, 6, r"of another shape head.weight \(5, 4\) for \(6, 4\), head.bias .*; give 'outputs'"),
        (lambda state: [state.pop(name) for name in list(state)], 5, "missing first.0.weight, .* and 4 more"),
    ],
    ids=["missing", "unexpected", "outputs", "empty"],
)
def test_a_file_with_other_tensors_is_refused(change, outputs, message, tmp_path):
    state = drawn("tiny", 5, torch.Generator()).state_dict()
    change(state)
    save_file(state, tmp_path / "a.safetensors")
    network = Backbone(module="tiny", weights=str(tmp_path / "a.safetensors"), layer="first", outputs=outputs)
    with pytest.raises(InvalidInput, match=message):
        network.initial(torch.Generator(), SHAPE, 5)


def test_a_file_of_another_format_is_refused(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt")
    with pytest.raises(
        InvalidInput, match=r"a.pt' is not a safetensors file .*; write it by safetensors.torch.save_file"
    ):
        Backbone(weights=str(tmp_path / "a.pt")).initial(torch.Generator(), SHAPE, 5)


def test_names_are_registered_once():
    register_module("tiny", Tiny)
    with pytest.raises(InvalidInput, match="a module 'tiny' is already registered; choose another name"):
        register_module("tiny", Batchwise)
