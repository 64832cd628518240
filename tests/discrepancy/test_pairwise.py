"""Sums over pairs against loops and dense autograd; memory; every way to differentiate them.

Properties (Hypothesis):
1. value and gradient equal the dense ones for any sizes (n, m, d >= 1), weights (zeros included), offsets, equal points;
2. the value does not depend on the block size.
"""

import math
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pair_sums import are_the_dense_ones, forms
from torch import Tensor
from torch.overrides import TorchFunctionMode

from discrepancy import Gaussian, InvalidInput, Unsupported
from discrepancy.kernels import Dot, Kernel, Linear, Radial
from discrepancy.numerics import distances, pairwise
from discrepancy.numerics.pairwise import cross_sum, self_sum


class Cauchy(Radial):
    """1 / (1 + s): derivatives that are not multiples of the value."""

    kind = "cauchy-for-tests"

    def profile(self, argument: Tensor, order: int):
        base = 1 / (1 + argument)
        return [(1.0, base), (-1.0, base**2), (2.0, base**3)][: order + 1]


class Square(Dot):
    """⟨x, y⟩²."""

    kind = "square-for-tests"

    def profile(self, argument: Tensor, order: int):
        return [(1.0, argument**2), (2.0, argument), (2.0, torch.ones_like(argument))][: order + 1]


KERNELS: dict[str, Kernel] = {
    "gaussian": Gaussian(lengthscale=1.3),
    "linear": Linear(),
    "cauchy": Cauchy(),
    "square": Square(),
}


@pytest.fixture(params=KERNELS.values(), ids=KERNELS.keys())
def kernel(request: pytest.FixtureRequest) -> Kernel:
    return request.param


@pytest.fixture(params=[4 << 20, 256], ids=["one-block", "some-blocks"])
def budget(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Small enough for differences of all pairs in one block, else by products."""
    monkeypatch.setitem(pairwise.BLOCK_BYTES, "cpu", request.param)
    if request.param < 1 << 10:
        monkeypatch.setattr(distances, "DIRECT", 0)
    return request.param


def inputs(g: int = 2, n: int = 11, m: int = 5, d: int = 5, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(3)

    def draw(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64).to(dtype)

    return draw(g, n, d), draw(g, n).abs(), draw(g, m, d), draw(g, m)


def test_gaussian_sums_are_the_loops(budget: int):
    x, w, y, v = inputs()

    def k(a: Tensor, b: Tensor) -> float:
        return math.exp(-sum((p - q) ** 2 for p, q in zip(a.tolist(), b.tolist(), strict=True)) / (2 * 1.3**2))

    def loops(x: Tensor, w: Tensor, y: Tensor, v: Tensor) -> float:
        return sum(float(w[i] * v[j]) * k(x[i], y[j]) for i in range(len(x)) for j in range(len(y)))

    kernel = Gaussian(lengthscale=1.3)
    cross = torch.tensor([loops(x[g], w[g], y[g], v[g]) for g in range(2)]).double()
    own = torch.tensor([loops(y[g], v[g], y[g], v[g]) for g in range(2)]).double()
    torch.testing.assert_close(cross_sum(kernel, x, w, y, v), cross, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(self_sum(kernel, y, v), own, atol=1e-6, rtol=1e-6)


def test_value_and_derivatives_are_the_dense_ones(kernel: Kernel, budget: int):
    are_the_dense_ones(kernel, *inputs())


def test_derivatives_are_finite_differences(kernel: Kernel):
    x, w, y, v = inputs()
    leaves = y.requires_grad_(), v.requires_grad_()
    for function, _ in forms(kernel, x, w).values():
        assert torch.autograd.gradcheck(function, leaves, fast_mode=True)
        assert torch.autograd.gradgradcheck(function, leaves, fast_mode=True)


def test_gradient_of_a_gradient_norm(kernel: Kernel):
    x, w, y, v = inputs()

    def nested(f):
        return torch.func.grad(lambda y: torch.func.grad(lambda y: f(y, v).sum())(y).square().sum())(y)

    for function, dense in forms(kernel, x, w).values():
        torch.testing.assert_close(nested(function), nested(dense))


@pytest.mark.parametrize("which", ["cross", "self"])
def test_third_derivative_is_refused_by_autograd(which: str):
    x, w, y, v = inputs()
    function, _ = forms(Gaussian(), x, w)[which]
    y.requires_grad_()
    (first,) = torch.autograd.grad(function(y, v).sum(), y, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), y, create_graph=True)
    with pytest.raises(Unsupported, match="no third derivative"):
        torch.autograd.grad(second.sum(), y)


@pytest.mark.parametrize("which", ["cross", "self"])
def test_third_derivative_is_refused_by_func(which: str):
    x, w, y, v = inputs()
    derivative = lambda y: forms(Gaussian(), x, w)[which][0](y, v).sum()  # noqa: E731
    for _ in range(3):
        inner = derivative
        derivative = lambda y, inner=inner: torch.func.grad(inner)(y).sum()  # noqa: E731
    with pytest.raises(Unsupported, match="no third derivative"):
        derivative(y)


@pytest.mark.parametrize("which", ["cross", "self"])
@pytest.mark.parametrize(
    ("axes", "some", "pairs"),
    [
        ((0, 0), "gaussian", 64),
        ((0, None), "gaussian", 256),
        ((None, 0), "gaussian", 256),
        ((2, 1), "gaussian", 4 << 20),
        ((2, 1), "square", 256),
        ((0, None), "cauchy", 256),
    ],
    ids=["both", "points", "weights", "inner-axes", "of-products", "of-distances"],
)
def test_vmap_over_the_synthetic_side(which: str, axes, some: str, pairs: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(pairwise.BLOCK_BYTES, "cpu", pairs)
    x, w, y, v = inputs()
    function, dense = forms(KERNELS[some], x, w)[which]
    batch = torch.Generator().manual_seed(4)

    def stacked(tensor: Tensor, axis: int | None) -> Tensor:
        if axis is None:
            return tensor
        return (tensor + torch.randn(3, *tensor.shape, generator=batch, dtype=torch.float64)).movedim(0, axis)

    y, v = stacked(y, axes[0]), stacked(v, axes[1])
    for derived in (
        lambda f: f,
        lambda f: torch.func.grad(lambda y, v: f(y, v).sum(), (0, 1)),
        lambda f: torch.func.grad(lambda y, v: torch.func.grad(lambda y: f(y, v).sum())(y).square().sum(), (0, 1)),
    ):
        torch.testing.assert_close(torch.vmap(derived(function), axes)(y, v), torch.vmap(derived(dense), axes)(y, v))
    with torch.no_grad():
        torch.testing.assert_close(torch.vmap(function, axes)(y, v), torch.vmap(dense, axes)(y, v))


def test_vmap_over_the_real_side(kernel: Kernel):
    x, w, y, v = inputs()
    x = torch.stack([x, x + 0.5, x.flip(1)])

    def gradient(f):
        return torch.vmap(torch.func.grad(lambda y, x: f(x, y).sum()), (None, 0))(y, x)

    torch.testing.assert_close(
        gradient(lambda x, y: cross_sum(kernel, x, w, y, v)),
        gradient(lambda x, y: torch.einsum("gn,gm,gnm->g", w, v, kernel(x, y))),
    )


def test_gradient_through_vmap():
    x, w, y, v = inputs()
    batch = torch.stack([y, y + 1]).requires_grad_()
    torch.vmap(lambda y: cross_sum(Gaussian(), x, w, y, v))(batch).sum().backward()
    expected = torch.func.grad(lambda b: sum(cross_sum(Gaussian(), x, w, y, v).sum() for y in b))(batch.detach())
    torch.testing.assert_close(batch.grad, expected)


def test_points_that_coincide_have_finite_derivatives():
    x = torch.ones(1, 4, 2, dtype=torch.float64)
    w = torch.ones(1, 4, dtype=torch.float64)
    y = torch.ones(1, 3, 2, dtype=torch.float64, requires_grad=True)
    v = torch.ones(1, 3, dtype=torch.float64)
    for value, pairs in ((cross_sum(Gaussian(), x, w, y, v), 12.0), (self_sum(Gaussian(), y, v), 9.0)):
        torch.testing.assert_close(value.item(), pairs)
        (first,) = torch.autograd.grad(value.sum(), y, create_graph=True)
        torch.testing.assert_close(first, torch.zeros_like(first))
        (second,) = torch.autograd.grad(first.square().sum() + first.sum(), y)
        assert bool(torch.isfinite(second).all())


def test_distance_of_a_point_to_itself_is_exactly_zero():
    # A kernel that is 1 at distance zero and 0 elsewhere sees the smallest error.
    class Delta(Radial):
        kind = "delta-for-tests"

        def profile(self, argument: Tensor, order: int):
            assert order == 0
            return [(1.0, (argument == 0).to(argument.dtype))]

    y = torch.randn(1, 13, 5, generator=torch.Generator().manual_seed(0)) + 100
    with torch.no_grad():
        assert self_sum(Delta(), y, torch.ones(1, 13)).item() == 13


def test_squared_distances_are_never_negative():
    class Watching(Radial):
        kind = "watching-for-tests"
        lowest: ClassVar[float] = math.inf

        def profile(self, argument: Tensor, order: int):
            Watching.lowest = min(Watching.lowest, float(argument.min()))
            return [(1.0, argument)]

    x = torch.randn(1, 41, 7, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        cross_sum(Watching(), x, torch.ones(1, 41), x, torch.ones(1, 41))
    assert Watching.lowest == 0


def test_small_tiles_are_accumulated_in_float64(monkeypatch: pytest.MonkeyPatch):
    # One pair a tile: 1 + 1000 * 2⁻²⁵, where each addend alone is lost in float32.
    monkeypatch.setitem(pairwise.BLOCK_BYTES, "cpu", 4)
    w = torch.cat([torch.ones(1, 1), torch.full((1, 1000), 2.0**-25)], 1)
    y, v = torch.zeros(1, 1, 1, requires_grad=True), torch.ones(1, 1)
    value = cross_sum(Gaussian(), torch.zeros(1, 1001, 1), w, y, v)
    assert value.item() == 1 + 1000 * 2.0**-25


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_float32_is_close_to_float64(offset: float):
    x, w, y, v = inputs(1, 301, 53, 31, torch.float32)
    x, y, w, v = x + offset, y + offset, w / w.sum(), torch.full_like(v, 1 / 53)
    kernel = Gaussian(lengthscale=5.0)
    y.requires_grad_()
    value = cross_sum(kernel, x, w, y, v)
    (gradient,) = torch.autograd.grad(value.sum(), y)
    exact_y = y.detach().double().requires_grad_()
    exact = torch.einsum("gn,gm,gnm->g", w.double(), v.double(), kernel(x.double(), exact_y))
    (exact_gradient,) = torch.autograd.grad(exact.sum(), exact_y)
    assert value.dtype == torch.float64
    torch.testing.assert_close(value, exact, atol=0, rtol=1e-6)
    torch.testing.assert_close(gradient.double(), exact_gradient, atol=1e-6 * float(exact_gradient.abs().max()), rtol=0)


def saved_bytes(n: int) -> int:
    x, w, y, v = inputs(1, n, 5, 3, torch.float32)
    y.requires_grad_()
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        seen[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = cross_sum(Gaussian(), x, w, y, v) + self_sum(Gaussian(), y, v)
    kept.sum().backward()
    return sum(seen.values())


def test_what_is_saved_for_backward_does_not_grow_with_n():
    assert saved_bytes(17) == saved_bytes(1009)
    assert saved_bytes(17) < 20 * 5 * 5 * 8


class Watch(TorchFunctionMode):
    """Notes the bytes behind every tensor that is made."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.sizes.append(result.untyped_storage().nbytes())
        return result


def test_vmap_shares_the_real_side(monkeypatch: pytest.MonkeyPatch):
    shapes, profile = [], Gaussian.profile
    monkeypatch.setattr(Gaussian, "profile", lambda *args: shapes.append(tuple(args[1].shape)) or profile(*args))
    x, w, y, v = inputs(1, 11, 2, 3)
    torch.vmap(lambda y: cross_sum(Gaussian(), x, w, y, v))(torch.stack([y, y + 1, y - 1]))
    assert shapes == [(1, 11, 3 * 2)]  # replicas are columns; no copy of x for each


def test_working_memory_is_bounded(monkeypatch: pytest.MonkeyPatch):
    x, w, y, v = inputs(1, 503, 301)
    y.requires_grad_()
    budget, inherent = 1 << 12, x.nbytes  # of the tile, of the largest input
    monkeypatch.setitem(pairwise.BLOCK_BYTES, "cpu", budget)
    with Watch() as watch:
        (first,) = torch.autograd.grad(cross_sum(Gaussian(), x, w, y, v).sum(), y, create_graph=True)
        torch.autograd.grad(first.square().sum(), y)
    assert max(watch.sizes) == inherent
    assert watch.sizes.count(budget // 8 // 22 * 22 * 8) > 20 * 13  # the tiles were seen
    assert 40 * inherent < 503 * 301 * 8


def test_real_side_that_asks_for_a_gradient_is_refused():
    x, w, y, v = inputs()
    with pytest.raises(InvalidInput, match=r"real side .* gets no gradient; detach\(\) it"):
        cross_sum(Gaussian(), x.requires_grad_(), w, y, v)


def test_mixed_dtypes_are_refused():
    x, w, y, v = inputs()
    with pytest.raises(InvalidInput, match=r"one dtype, got torch.float32 and torch.float64; convert one"):
        cross_sum(Gaussian(), x.float(), w, y, v)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 9),
    m=st.integers(1, 6),
    d=st.integers(1, 6),
    offset=st.sampled_from([0.0, -3.0, 1e3]),
    repeat=st.booleans(),
    zeros=st.booleans(),
    direct=st.booleans(),
    budget=st.sampled_from([8, 100, 1000, 1 << 22]),
    seed=st.integers(0, 99),
)
def test_any_size(
    n: int, m: int, d: int, offset: float, repeat: bool, zeros: bool, direct: bool, budget: int, seed: int
):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, n, d, generator=generator, dtype=torch.float64) + offset
    y = torch.randn(2, m, d, generator=generator, dtype=torch.float64) + offset
    w, v = torch.rand(2, n, generator=generator).double(), torch.rand(2, m, generator=generator).double()
    if repeat:
        y[:] = x[:, :1]
    if zeros:
        w[:, 0], v[:, 0] = 0, 0
    before = pairwise.BLOCK_BYTES["cpu"], distances.DIRECT
    pairwise.BLOCK_BYTES["cpu"], distances.DIRECT = budget, distances.DIRECT * direct
    try:
        for function, dense in forms(Gaussian(lengthscale=0.7), x, w).values():
            torch.testing.assert_close(function(y, v), dense(y, v), atol=1e-9, rtol=1e-9)
            gradients = [torch.func.grad(lambda y, v, f=f: f(y, v).sum(), (0, 1))(y, v) for f in (function, dense)]
            torch.testing.assert_close(*gradients, atol=1e-9, rtol=1e-9)
    finally:
        pairwise.BLOCK_BYTES["cpu"], distances.DIRECT = before
