"""What is compiled, what happens without a compiler, and how much memory a graph takes."""

import functools
import io
from dataclasses import replace
from typing import Any

import pytest
import torch
from small import NETWORK, decoded, images, problem, start
from torch import Tensor
from torch.nn import functional

from discrepancy import MMD, Measure
from discrepancy.embeddings import Features, LossGradient
from discrepancy.errors import InvalidInput, PerformanceWarning
from discrepancy.learning.gradients import MeanGradients, mean_loss_gradients
from discrepancy.networks import MLP, ConvNet, Network
from discrepancy.networks.chain import averaged
from discrepancy.numerics.blocks import padded
from objectives.condensation import condense
from objectives.contexts import Fresh, Pool, Trained
from objectives.engine.bound_context import BoundContext
from objectives.engine.compile import Compiled, Policy, eager_seconds
from objectives.engine.memory import available_bytes, chunk_examples, graph_bytes
from objectives.engine.runtime import Runtime
from objectives.solvers import Descent, Problem, Solving
from objectives.synthetic.pixels import Pixels
from objectives.terms.match import Match
from objectives.training.augmentation import Siamese
from objectives.training.training import Training

CPU = torch.device("cpu")


def with_policy(some: Problem, policy: Policy) -> Problem:
    return replace(some, runtime=replace(some.runtime, compile=policy))


def double(x: Tensor) -> Tensor:
    return 2 * x


# --- the decision -----------------------------------------------------------------------------------------------------


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler is there, whatever this machine has."""
    monkeypatch.setattr("objectives.engine.compile._missing_compiler", lambda device: None)


@pytest.mark.parametrize(
    ("policy", "seconds", "compiles"),
    [("never", 1e6, False), ("auto", 10.0, False), ("auto", 1000.0, True), ("always", 0.0, True)],
)
def test_policy(compiler: None, policy: Any, seconds: float, compiles: bool) -> None:
    assert Runtime(compile=policy).compiles(seconds) == compiles


def test_seconds_grow_with_the_work() -> None:
    assert eager_seconds(2e12) == pytest.approx(2 * eager_seconds(1e12))
    assert eager_seconds(1e12, "cuda") < eager_seconds(1e12)


@pytest.mark.parametrize(("steps", "compiles"), [(10, False), (200_000_000, True)])
def test_long_runs_are_compiled_and_short_ones_are_not(compiler: None, steps: int, compiles: bool) -> None:
    some = problem(images())
    assert with_policy(some, "auto").engine(steps).bound_context.compiles == compiles


def test_the_work_of_a_run() -> None:
    def work(context: Any, steps: int) -> int:
        return problem(images(), context=context).engine(steps).bound_context.images(steps, 6)

    assert work(Fresh(network=NETWORK, batch=9), 10) == 10 * (7 + 9 + 9) + 10 * 3 * 6
    assert work(Pool(network=NETWORK, size=4), 10) == 4 * 31 + 10 * 3 * 6
    assert work(Pool(network=NETWORK, size=40), 10) == 10 * 31 + 10 * 3 * 6


# --- without a compiler -----------------------------------------------------------------------------------------------


def test_a_missing_compiler_is_a_warning_and_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", ("/nowhere/g++",))
    options: dict[str, Any] = {"context": Fresh(network=NETWORK, batch=5), "per_class": 2, "steps": 2}
    with pytest.warns(PerformanceWarning, match="running without compilation, .* install a C\\+\\+ compiler") as seen:
        fallen = condense(images(), Match(MMD(), via=Features()), compile="always", **options)
    assert len([item for item in seen if item.category is PerformanceWarning]) == 1
    plain = condense(images(), Match(MMD(), via=Features()), compile="never", **options)
    assert fallen.points.equal(plain.points)


def test_a_compiler_that_fails_is_a_warning_and_the_same_result() -> None:
    def broken(x: Tensor) -> Tensor:
        raise torch._dynamo.exc.TorchDynamoException("no such instruction")

    function = Compiled(double)
    function.fast = broken
    with pytest.warns(PerformanceWarning, match="running without compilation, .*no such instruction"):
        assert function(torch.ones(2)).tolist() == [2, 2]
    assert function(torch.ones(2)).tolist() == [2, 2]  # and no second warning


def test_an_error_of_the_function_is_no_compiler_failure() -> None:
    def broken(x: Tensor) -> Tensor:
        raise InvalidInput("mine")

    function = Compiled(double)
    function.fast = broken
    with pytest.raises(InvalidInput, match="mine"):
        function(torch.ones(2))


# --- padding ----------------------------------------------------------------------------------------------------------


def test_padding_repeats_the_first_row() -> None:
    x = torch.arange(6.0).reshape(3, 2)
    assert padded(x, 5).tolist() == [[0, 1], [2, 3], [4, 5], [0, 1], [0, 1]]
    assert padded(x, 3) is x


@pytest.mark.parametrize(("n", "size"), [(1, 1), (8, 8), (9, 5), (17, 6), (64, 8)])
def test_chunks_are_alike(n: int, size: int) -> None:
    extractor = problem(images()).engine(1).bound_context.extractor
    extractor.chunk = 8
    assert extractor.size(n) == size


# --- memory -----------------------------------------------------------------------------------------------------------


def saved_bytes(network: Network, shape: tuple[int, ...], take: tuple[str, ...], n: int) -> float:
    """What autograd really keeps for an example: the storages of the saved tensors, without the weights."""
    parameters = network.initial(torch.Generator().manual_seed(0), shape, 3, affine=False)
    points = torch.randn(n, *shape, generator=torch.Generator().manual_seed(1)).requires_grad_(True)
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    twice = take == ("gradient",)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        if twice:
            outputs: Any = mean_loss_gradients(network, parameters, Measure(points, labels=torch.arange(n) % 3))
        else:
            outputs = network(parameters, points, take)
    weights = {value.untyped_storage().data_ptr() for value in parameters.values()}
    total = sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in weights)
    del outputs
    return total / n


@pytest.mark.parametrize("take", [("features",), ("layers", "logits"), ("gradient",)], ids="-".join)
@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (ConvNet(width=8), (3, 16, 16)),
        (ConvNet(width=8, norm="batch"), (3, 16, 16)),
        (ConvNet(width=8, norm="none", pooling="max"), (3, 16, 16)),
        (ConvNet(width=8, norm="group", activation="swish"), (3, 16, 16)),
        (ConvNet(width=8, norm="layer", pooling="none"), (1, 28, 28)),
        (MLP(width=16), (3, 5, 5)),
    ],
    ids=["instance", "batch", "none-max", "group-swish", "layer", "mlp"],
)
def test_memory_of_a_graph(network: Network, shape: tuple[int, ...], take: tuple[str, ...]) -> None:
    truth = (9 * saved_bytes(network, shape, take, 9) - 5 * saved_bytes(network, shape, take, 5)) / 4
    assert graph_bytes(network, shape, 3, take) == pytest.approx(truth, rel=0.2)


def test_chunks_shrink_as_images_grow() -> None:
    sizes = [chunk_examples(ConvNet(width=128), (3, side, side), 10, CPU) for side in (8, 32, 64)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1] >= 16


def test_little_memory_means_recomputing(monkeypatch: pytest.MonkeyPatch) -> None:
    def context() -> BoundContext:
        many, few = Pixels(per_class=40), Fresh(network=NETWORK, batch=2)
        return problem(images(), context=few, synthetic=many).engine(1).bound_context

    assert available_bytes(CPU) > 1 << 20
    assert not context().recompute
    needed = context().examples * context().graph_bytes
    for free, recompute in ((2 * needed, False), (2 * needed - 2, True)):
        monkeypatch.setattr("objectives.engine.runtime.available_bytes", lambda device, free=free: free)
        assert context().recompute == recompute


# --- compiled ---------------------------------------------------------------------------------------------------------


TRACING = "ignore:The .grad attribute of a Tensor that is not a leaf"  # torch hides it, unless warnings are errors


def compiled_problem() -> Problem:
    context = Fresh(network=NETWORK, batch=5, augment=Siamese())
    return problem(images(), Match(MMD(), via=Features()), context=context, synthetic=Pixels(per_class=2))


@pytest.mark.compiled
@pytest.mark.filterwarnings(TRACING)
def test_compiled_equals_eager_and_resumes_bit_for_bit() -> None:
    eager = compiled_problem()
    fast = with_policy(eager, "always")
    engine = fast.engine(4)
    assert engine.bound_context.compiles
    engine.bound_context.extractor.chunk = 4  # a ragged last chunk on both sides
    plain = eager.engine(4)
    for step in (0, 1):
        first, second = (item.evaluate(decoded(eager), step) for item in (engine, plain))
        torch.testing.assert_close(first.total, second.total, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(first.gradients["points"], second.gradients["points"], rtol=1e-5, atol=1e-5)

    solver = Descent(lr=0.5, momentum=0.5, steps=4)

    def begin() -> Solving:
        return solver.start(fast)

    whole, part, rest = begin(), begin(), begin()
    for _ in range(4):
        whole.advance()
    for _ in range(2):
        part.advance()
    buffer = io.BytesIO()
    torch.save(part.state(), buffer)
    buffer.seek(0)
    rest.restore(torch.load(buffer, weights_only=True))
    for _ in range(2):
        rest.advance()
    assert rest.parameters["points"].equal(whole.parameters["points"])
    slow = start(images(), Match(MMD(), via=Features()), solver, context=eager.context)
    for _ in range(4):
        slow.advance()
    torch.testing.assert_close(whole.parameters["points"], slow.parameters["points"], rtol=1e-4, atol=1e-4)


@pytest.mark.compiled
@pytest.mark.filterwarnings(TRACING)
@pytest.mark.parametrize("sides", [(6, 8), (7, 5)], ids=["even", "odd"])
def test_compiled_averages_over_squares_are_those_of_pooling(sides: tuple[int, int]) -> None:
    x, slope = torch.randn(2, 3, *sides, requires_grad=True), torch.randn(2, 3, *(side // 2 for side in sides))
    found, expected = torch.compile(averaged, backend="aot_eager", fullgraph=True)(x), functional.avg_pool2d(x, 2)
    gradients = [torch.autograd.grad(value, x, slope)[0] for value in (found, expected)]
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*gradients)


@pytest.mark.compiled
@pytest.mark.filterwarnings(TRACING)
def test_compiled_gradient_matching_equals_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compiled there is the network in training, and that of the real side."""
    monkeypatch.setattr("torch.compile", functools.partial(torch.compile, backend="aot_eager"))  # traced all the same
    training = Training(on="synthetic", steps=2, lr=0.1)
    context = Trained(network=NETWORK, training=training, keep=3, batch=9, augment=Siamese())
    eager = problem(images(), Match(MeanGradients(), via=LossGradient()), context=context)
    solver = Descent(lr=0.1, momentum=0.5, steps=3)
    slow, fast = (solver.start(with_policy(eager, policy)) for policy in ("never", "always"))
    engine: Any = fast
    context = engine.engine.bound_context
    context.extractor.chunk = 4  # classes of 7 and 9 in ragged chunks
    for _ in range(3):
        torch.testing.assert_close(slow.advance().loss, fast.advance().loss, rtol=1e-5, atol=1e-5)
    assert context.training_gradient.loss.fast is not None
    assert context.logits_extractor._differentiable.fast is not None
    torch.testing.assert_close(slow.parameters["points"], fast.parameters["points"], rtol=1e-4, atol=1e-4)


@pytest.mark.compiled
@pytest.mark.filterwarnings(TRACING)
def test_a_sweep_over_sizes_stays_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.compile", functools.partial(torch.compile, backend="eager"))  # traced all the same

    def swept(sizes: range) -> list[bool]:
        stayed = []
        for size in sizes:
            some = problem(images(sizes=(20, 20)), synthetic=Pixels(per_class=size))
            engine = with_policy(some, "always").engine(2)
            engine.evaluate(decoded(some), 0)
            forward = engine.bound_context.extractor._differentiable
            assert isinstance(forward, Compiled)
            stayed.append(forward.fast is not None)
        return stayed

    assert all(swept(range(1, 13)))
    monkeypatch.setattr("objectives.engine.compile.VERSIONS", 4)
    with pytest.warns(PerformanceWarning, match="running without compilation"):
        assert not all(swept(range(13, 16)))
