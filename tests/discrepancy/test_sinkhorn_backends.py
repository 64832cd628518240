"""Other libraries behind the Sinkhorn divergence: the same values, or a clear refusal."""

import importlib.util
import sys

import pytest
import torch
from entropic import sample, weights

from discrepancy import InvalidInput, Measure, Unsupported
from discrepancy.errors import NumericalWarning
from discrepancy.transport import backends
from discrepancy.transport.sinkhorn import Sinkhorn

# Other libraries


@pytest.mark.parametrize("debias", [True, False], ids=["debiased", "biased"])
def test_back_ends_agree_in_value_and_gradient(debias):
    """Two groups, weights that differ, a padded point in each."""
    x, y = torch.stack([sample(23), sample(23, seed=2)]), torch.stack([sample(7, seed=1), 2 * sample(7, seed=3)])
    w, v = torch.ones(2, 23).double(), torch.stack([weights(7, 1), weights(7, 2)])
    w[0, -1] = v[1, 0] = 0
    found = []
    for backend in ("own", "geomloss"):
        leaves = y.clone().requires_grad_(), v.clone().requires_grad_()
        discrepancy = Sinkhorn(blur=0.7, debias=debias, backend=backend, tolerance=1e-9, iterations=2000)
        value = discrepancy(Measure(x, w), Measure(*leaves))
        found.append((value.detach(), *torch.autograd.grad(value.sum(), leaves)))
    for own, other in zip(*found, strict=True):
        torch.testing.assert_close(other, own, atol=1e-8, rtol=1e-8)


def test_geomloss_that_stops_early_is_said():
    x, y = sample(31), sample(7, seed=1)
    with pytest.warns(
        NumericalWarning, match=r"stopped after 3 iterations with .* mass out of place .tolerance 0.0001"
    ):
        Sinkhorn(blur=0.1, iterations=3, debias=False, backend="geomloss")(Measure(x), Measure(y))


@pytest.mark.skipif(
    not torch.cuda.is_available() or importlib.util.find_spec("flash_sinkhorn") is None,
    reason="CUDA and flash-sinkhorn",
)
def test_flash_sinkhorn_agrees_in_value_and_gradient():
    x, y, v = sample(203, 5).float().cuda(), sample(31, 5, seed=1).float().cuda(), weights(31, 1).float().cuda()
    found = []
    for backend in ("own", "flash_sinkhorn"):
        leaf = y.clone().requires_grad_()
        value = Sinkhorn(blur=0.7, backend=backend)(Measure(x), Measure(leaf, v))
        found.append((value.detach(), torch.autograd.grad(value, leaf)[0]))
    for own, other in zip(*found, strict=True):
        torch.testing.assert_close(other, own, atol=1e-4, rtol=1e-3)


# Refusals


@pytest.mark.parametrize(("module", "pairs"), [("geomloss", 100), ("pykeops", 10)])
def test_a_library_that_is_not_there_is_named(module, pairs, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(backends, "DENSE_PAIRS", pairs)
    with pytest.raises(InvalidInput, match=rf"'{module}' does not import .*: pip install {module}; .*backend: own"):
        Sinkhorn(backend="geomloss")(Measure(sample(7)), Measure(sample(5)))


def test_flash_sinkhorn_takes_float32_on_cuda_only():
    with pytest.raises(
        Unsupported, match=r"'flash_sinkhorn' takes float32 on a CUDA device only, got torch.float64 on cpu"
    ):
        Sinkhorn(backend="flash_sinkhorn")(Measure(sample(7)), Measure(sample(5)))


def test_a_back_end_has_no_second_derivative_either():
    leaf = sample(5, seed=1).requires_grad_()
    value = Sinkhorn(blur=0.7, backend="geomloss")(Measure(sample(7)), Measure(leaf))
    (gradient,) = torch.autograd.grad(value, leaf, create_graph=True)
    with pytest.raises(Unsupported, match="'sinkhorn' has first derivatives only"):
        gradient.square().sum().backward()
