"""Each pair's distance has a relative error at rounding level, whatever else is in the cloud: against longdouble.

So have the sums over pairs, their gradients and their Hessian products, by every way in which a tile is made.
"""

import numpy as np
import pytest
import torch
from torch import Tensor

from discrepancy.kernels import Energy, Gaussian, Kernel, squared_distances
from discrepancy.numerics import distances, tiles
from discrepancy.numerics.pairwise import cross_sum, self_sum

ROUNDINGS = 200
"""Of the points' own type: a few of the squared norms, over the least share of them that is not made by differences."""

CLOUDS = ("kind", "clusters", "codes", "offset", "coincident", "touching", "outlier")


def clouds(kind: str, n: int, m: int, d: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)

    def draw(size: int) -> Tensor:
        return torch.randn(1, size, d, generator=generator, dtype=torch.float64)

    x, y, far = draw(n), draw(m) + 0.3, 1e6 if dtype == torch.float32 else 1e12
    if kind == "clusters":
        x[:, ::2] += 1e4
        y[:, ::3] += 1e4
    elif kind == "codes":  # -9999 where nothing was measured
        x[:, ::4, 0] = y[:, ::3, 0] = -9999
    elif kind == "offset":
        x, y = x + far, y + far
    elif kind == "coincident":
        y = x[:, :m].clone()
    elif kind == "touching":
        y = x[:, :m] + 1e-4 * draw(m)
    elif kind == "outlier":
        x[:, 0] = far
    return x.to(dtype), y.to(dtype)


@pytest.fixture(params=["products", "direct", "crowded"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How a tile is made: by a product and some differences, or by differences from the start or for want of far pairs."""
    monkeypatch.setattr(distances, "DIRECT", 1 << 30 if request.param == "direct" else 0)
    monkeypatch.setattr(distances, "CROWDED", 0.0 if request.param == "crowded" else 1.0)
    return request.param


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("kind", CLOUDS)
def test_squared_distances(kind: str, dtype: torch.dtype, way: str):
    for d in (1, 3, 4, 17):
        x, y = clouds(kind, 57, 41, d, dtype)
        a, b = (side[0].numpy().astype(np.longdouble) for side in (x, y))
        exact = np.square(a[:, None] - b).sum(-1)
        error = np.abs(squared_distances(x, y)[0].numpy() - exact)
        assert (error <= ROUNDINGS * torch.finfo(dtype).eps * exact).all()


def terms(kernel: Kernel, x: Tensor, y: Tensor) -> Tensor:
    """The kernel from differences in float64."""
    gaps = x[0, :, None] - y[0]
    squared = gaps.square().sum(-1)
    if isinstance(kernel, Gaussian):
        return (squared / -8).exp()
    return -torch.where(squared > 0, torch.where(squared > 0, squared, 1.0).sqrt(), 0.0)


@pytest.mark.parametrize("kernel", [Gaussian(lengthscale=2.0), Energy()], ids=["gaussian", "energy"])
@pytest.mark.parametrize("kind", CLOUDS)
def test_sums_with_their_derivatives(kind: str, kernel: Kernel, way: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(distances.BLOCK_BYTES, "cpu", 4 * 40 * 19)  # some tiles
    eps = torch.finfo(torch.float32).eps
    for d in (2, 7):
        x, y = clouds(kind, 57, 41, d, torch.float32)
        generator = torch.Generator().manual_seed(3)
        w, v = torch.rand(1, 57, generator=generator), torch.rand(1, 41, generator=generator)
        move = torch.randn(y.shape, generator=generator)
        for own in (False, True):
            leaf, wide = y.clone().requires_grad_(), y.double().requires_grad_()
            value = self_sum(kernel, leaf, v) if own else cross_sum(kernel, x, w, leaf, v)
            each = terms(kernel, wide if own else x.double(), wide)
            weights = ((v if own else w)[0, :, None] * v[0]).double()
            exact = (weights * each).sum()
            size = float((weights * each).detach().abs().sum())
            assert abs(value.item() - exact.item()) <= ROUNDINGS * eps * size
            with torch.no_grad():
                torch.testing.assert_close(
                    self_sum(kernel, y, v) if own else cross_sum(kernel, x, w, y, v), value.detach(), rtol=1e-6, atol=0
                )
            slope, right = (
                torch.autograd.grad(total.sum(), at, create_graph=True)[0]
                for total, at in ((value, leaf), (exact, wide))
            )
            # What a pair adds is right to rounding; their sum is small where they pull to all sides.
            pulls = pull_sizes(kernel, weights, (y if own else x).double(), y.double())
            assert ((slope - right).abs().amax(-1)[0] <= ROUNDINGS * eps * pulls).all()
            (curve,), (bent,) = (
                torch.autograd.grad((found * move).sum(), at) for found, at in ((slope, leaf), (right, wide))
            )
            assert (curve - bent).abs().max() <= ROUNDINGS * eps * bent.abs().max() + eps * pulls.max()


def pull_sizes(kernel: Kernel, weights: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The sum of the lengths of all that pulls at each point."""
    lengths = (x[0, :, None] - y[0]).norm(dim=-1)
    slopes = lengths / 4 * (lengths.square() / -8).exp() if isinstance(kernel, Gaussian) else (lengths > 0).double()
    return 2 * (weights * slopes).sum(0)


@pytest.mark.parametrize("kind", ["clusters", "touching"])
def test_derivatives_of_squared_distances(kind: str, way: str):
    x, y = (side.requires_grad_() for side in clouds(kind, 5, 4, 4, torch.float64))
    assert torch.autograd.gradgradcheck(
        lambda x, y: squared_distances(x, y).div(1e8).square(), (x, y), atol=1e-4, fast_mode=True
    )

    def moved(x: Tensor, y: Tensor) -> Tensor:
        return torch.func.grad(lambda y: squared_distances(x, y).sqrt().sum())(y)

    near = x.detach() + 1e-7
    right = ((near[0][:, None] - x.detach()[0]) / (near[0][:, None] - x.detach()[0]).norm(dim=-1, keepdim=True)).sum(1)
    torch.testing.assert_close(moved(x.detach(), near)[0], right, rtol=1e-8, atol=1e-8)
    batch = torch.stack([near, near + 1])
    one_by_one = torch.stack([moved(x.detach(), side) for side in batch])
    torch.testing.assert_close(torch.vmap(lambda y: moved(x.detach(), y))(batch), one_by_one)


def test_only_near_pairs_are_made_from_differences(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(distances, "DIRECT", 0)
    x, y = clouds("kind", 300, 200, 20, torch.float32)
    assert distances.table(x, y).near is None
    y[:, :7] = x[:, 11:18]
    found = distances.table(x, y)
    assert found.near is not None
    assert found.near.row.tolist() == list(range(11, 18))
    assert found.near.column.tolist() == list(range(7))
    assert not found.squared[0, range(11, 18), range(7)].any()


def test_memory_is_that_of_a_tile(monkeypatch: pytest.MonkeyPatch):
    """Also where all pairs are near."""
    sizes: list[int] = []
    filled = tiles.Pairs.filled
    monkeypatch.setattr(
        tiles.Pairs, "filled", lambda self, tile: sizes.append(tile.argument.nbytes) or filled(self, tile)
    )
    monkeypatch.setitem(distances.BLOCK_BYTES, "cpu", 1 << 12)
    x, y = clouds("offset", 300, 200, 6, torch.float32)
    cross_sum(Gaussian(), x, torch.ones(1, 300), y, torch.ones(1, 200))
    assert max(sizes) <= 1 << 12
