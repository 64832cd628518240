"""Joint MMD: the contract on hard and soft labels, loops over pairs, classes as measures of their own, work and memory.

Properties (Hypothesis):
1. equals the loops for any sizes, classes, weights, hard or soft labels.
"""

import math
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from contract import DiscrepancyContract, M, N
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from discrepancy import MMD, Discrepancy, Gaussian, InvalidInput, Measure
from discrepancy.discrepancy import MeanSummary
from discrepancy.kernels import Energy, Kernel, Laplace, Linear, Polynomial
from discrepancy.mean_embeddings.joint_mmd import ClassSummary, JointMMD


def loops(discrepancy: JointMMD, mu: Measure, nu: Measure) -> float:
    """Σ w w' k(x, x') ⟨a, a'⟩ pair by pair, by differences of points in float64."""

    def k(a: Tensor, b: Tensor) -> float:
        match discrepancy.kernel:
            case Gaussian(lengthscale=float(length)):
                return math.exp(-float((a - b).square().sum()) / (2 * length**2))
            case Laplace(lengthscale=float(length)):
                return math.exp(-float((a - b).norm()) / length)
            case Polynomial(power=power, offset=offset):
                return (float(a @ b) + offset) ** power
        return float(a @ b)

    def total(p: Measure, q: Measure, *, distinct: bool = False) -> float:
        (x, a, w), (y, b, v) = ((s.points.flatten(1), s.labels.double(), s.weights) for s in (p, q))  # pyright: ignore
        pairs = [(i, j) for i in range(len(x)) for j in range(len(y)) if not (distinct and i == j)]
        summed = sum(float(w[i] * v[j] * (a[i] @ b[j])) * k(x[i], y[j]) for i, j in pairs)
        return summed / sum(float(w[i] * v[j]) for i, j in pairs)

    value = total(mu, mu, distinct=discrepancy.estimator == "u") - 2 * total(mu, nu) + total(nu, nu)
    return math.sqrt(max(value, 0.0)) if discrepancy.root else value


class TestJointMMD(DiscrepancyContract):
    far_tolerance = 1e-4
    classes = 3
    instances = {  # noqa: RUF012
        "linear": JointMMD(),
        "linear-u": JointMMD(estimator="u"),
        "linear-root": JointMMD(root=True),
        "gaussian": JointMMD(kernel=Gaussian(lengthscale=1.5)),
        "gaussian-u": JointMMD(kernel=Gaussian(lengthscale=1.5), estimator="u"),
        "laplace-root": JointMMD(kernel=Laplace(lengthscale=1.5), root=True),
        "polynomial": JointMMD(kernel=Polynomial(offset=0.0)),
    }

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        assert isinstance(discrepancy, JointMMD)
        return loops(discrepancy, mu, nu)

    @staticmethod
    def rescaled(discrepancy: Discrepancy, factor: float) -> Discrepancy:
        assert isinstance(discrepancy, JointMMD)
        kernel: Any = discrepancy.kernel
        return replace(discrepancy, kernel=replace(kernel, lengthscale=factor * kernel.lengthscale))


class TestJointMMDOfSoftLabels(TestJointMMD):
    other_shapes = ()
    instances: ClassVar = {
        name: TestJointMMD.instances[name] for name in ("linear", "linear-u", "gaussian", "gaussian-u")
    }

    def sample(self, n: int, seed: int = 0, dtype: torch.dtype = torch.float64, shift: float = 0.0) -> Measure:
        side = super().sample(n, seed, dtype, shift)
        drawn = torch.rand(n, 3, generator=torch.Generator().manual_seed(seed + 50), dtype=torch.float64)
        return Measure(side.points, side.weights, (drawn / drawn.sum(1, keepdim=True)).to(dtype))


def side(n: int, seed: int = 0, *, soft: bool = False, classes: int = 3) -> Measure:
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes, (n,), generator=generator)
    vectors = torch.rand(n, classes, generator=generator, dtype=torch.float64)
    return Measure(points, labels=vectors if soft else labels).with_label_vectors(classes)


# Known answers


@pytest.mark.parametrize("kernel", [Linear(), Gaussian()], ids=["linear", "gaussian"])
def test_one_class_is_mmd(kernel: Kernel):
    mu, nu = side(7, classes=1), side(5, 1, classes=1)
    torch.testing.assert_close(JointMMD(kernel=kernel)(mu, nu), MMD(kernel=kernel)(mu, nu))


def test_equal_shares_of_classes_make_it_the_mean_over_squared_shares():
    """Every class has the share 1/3 on both sides: Σ_c MMD²(μ_c, ν_c) / 9."""
    labels = torch.arange(9) % 3
    x, y = side(9).points, side(9, 1).points
    assert isinstance(x, Tensor)
    assert isinstance(y, Tensor)
    each = [MMD(kernel=Gaussian())(Measure(x[labels == c]), Measure(y[labels == c])) for c in range(3)]
    value = JointMMD(kernel=Gaussian())(Measure(x, labels=labels), Measure(y, labels=labels))
    torch.testing.assert_close(value, torch.stack(each).sum() / 9)


@pytest.mark.parametrize("kernel", [Linear(), Gaussian()], ids=["linear", "gaussian"])
def test_sees_what_mmd_does_not(kernel: Kernel):
    """Labels of two classes exchanged: the points are distributed alike."""
    mu = side(8, classes=2)
    swapped = Measure(mu.points, mu.weights, mu.labels.flip(1))  # pyright: ignore[reportOptionalMemberAccess]
    torch.testing.assert_close(MMD(kernel=kernel)(mu, swapped).item(), 0.0, atol=1e-14, rtol=0)
    assert JointMMD(kernel=kernel)(mu, swapped) > 0.01


@pytest.mark.parametrize("kernel", [Linear(), Gaussian(), Laplace()], ids=["linear", "gaussian", "laplace"])
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_derivatives_of_labels(kernel: Kernel, soft: bool):
    discrepancy, nu = JointMMD(kernel=kernel), side(4, 1, soft=True)
    summary = discrepancy.summarise(side(6, soft=soft).as_groups())
    assert nu.labels is not None

    def function(labels: Tensor) -> Tensor:
        return discrepancy.compare(summary, Measure(nu.points, nu.weights, labels).as_groups())[0]

    leaf = nu.labels.clone().requires_grad_()
    assert torch.autograd.gradcheck(function, leaf, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, leaf, fast_mode=True)


# Work and memory


def test_hard_labels_make_every_pair_once(monkeypatch: pytest.MonkeyPatch):
    discrepancy, pairs, profile = JointMMD(kernel=Gaussian()), [], Gaussian.profile
    mu = side(101).as_groups()
    assert mu.labels is not None
    monkeypatch.setattr(Gaussian, "profile", lambda *a: pairs.append(a[1].numel()) or profile(*a))
    summary = discrepancy.summarise(mu)
    assert sum(pairs) == int(mu.labels.sum(1).square().sum())
    pairs.clear()
    discrepancy.compare(summary, side(5, 1).as_groups())
    assert sum(pairs) == 101 * 5 + 3 * 5 * 5


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_the_summary_is_as_large_as_the_real_side(soft: bool):
    summary = JointMMD(kernel=Gaussian()).summarise(side(101, soft=soft).as_groups())
    assert isinstance(summary, ClassSummary)
    assert summary.nbytes == 101 * 2 * 8 + (3 if soft else 1) * 101 * 8 + 2 * 8


def test_linear_summary_does_not_know_n():
    small, large = (JointMMD().summarise(side(n).as_groups()) for n in (7, 701))
    assert isinstance(small, MeanSummary)
    assert small.nbytes == large.nbytes


def test_a_class_that_the_real_side_lacks():
    mu, nu = Measure(side(4).points, labels=torch.tensor([0, 0, 2, 2])), side(5, 1)
    discrepancy = JointMMD(kernel=Gaussian())
    expected = loops(discrepancy, mu.with_label_vectors(3), nu)
    assert discrepancy(mu, nu).item() == pytest.approx(expected, rel=1e-12)


# Misuse


@pytest.mark.parametrize("kernel", [Energy(), Energy() + Gaussian()], ids=["energy", "sum"])
def test_kernels_for_balanced_masses_are_refused(kernel: Kernel):
    with pytest.raises(InvalidInput, match=r"'kernel' must be positive definite, got .* use 'laplace'"):
        JointMMD(kernel=kernel)


def test_root_of_the_unbiased_estimate_is_refused():
    with pytest.raises(InvalidInput, match="'root' needs estimator 'v', got 'u'"):
        JointMMD(root=True, estimator="u")


# Properties


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, N),
    m=st.integers(1, M),
    classes=st.integers(1, 4),
    soft=st.booleans(),
    kernel=st.sampled_from([Linear(), Gaussian(lengthscale=0.7), Laplace(lengthscale=2.0)]),
    seed=st.integers(0, 99),
)
def test_equals_the_loops(n: int, m: int, classes: int, soft: bool, kernel: Kernel, seed: int):
    discrepancy = JointMMD(kernel=kernel)
    mu, nu = side(n, seed, soft=soft, classes=classes), side(m, seed + 1, soft=not soft, classes=classes)
    assert discrepancy(mu, nu).item() == pytest.approx(loops(discrepancy, mu, nu), abs=1e-9)
