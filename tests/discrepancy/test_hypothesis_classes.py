"""The discrepancy of linear hypotheses: the contract, numpy, the supremum itself, its gradient, bad input.

Properties (Hypothesis):
1. no pair of hypotheses of norm <= Λ exceeds the value, and the pair ±Λ v of the extreme eigenvector attains it.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from contract import DiscrepancyContract
from hypothesis import given, settings
from hypothesis import strategies as st

from discrepancy import Discrepancy, InvalidInput, Measure
from discrepancy.moments.hypothesis_classes import LinearHypotheses


def second_moment(discrepancy: LinearHypotheses, side: Measure) -> np.ndarray:
    x, w = side.points.flatten(1).numpy(), side.weights.numpy()  # pyright: ignore
    x = np.hstack([x, np.ones((len(x), 1))]) if discrepancy.intercept else x
    return sum(w[i] * np.outer(x[i], x[i]) for i in range(len(x))) / w.sum()


class TestLinearHypotheses(DiscrepancyContract):
    instances = {  # noqa: RUF012
        "unit": LinearHypotheses(),
        "wide": LinearHypotheses(norm=1.7),
        "intercept": LinearHypotheses(intercept=True),
    }

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        assert isinstance(discrepancy, LinearHypotheses)
        difference = second_moment(discrepancy, mu) - second_moment(discrepancy, nu)
        return 4 * discrepancy.norm**2 * float(np.abs(np.linalg.eigvalsh(difference)).max())


def sample(n: int, d: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_known_answer():
    """M_μ = diag(4, 0), M_ν = diag(0, 9): the difference has eigenvalues 4 and -9, so 4 Λ² 9."""
    mu, nu = Measure(torch.tensor([[2.0, 0]])), Measure(torch.tensor([[0.0, 3]]))
    assert LinearHypotheses(norm=0.5)(mu, nu).item() == pytest.approx(9.0)


def test_mirrored_points_look_the_same():
    x = sample(7)
    assert LinearHypotheses()(Measure(x), Measure(-x)).item() == pytest.approx(0, abs=1e-12)
    assert LinearHypotheses(intercept=True)(Measure(x), Measure(-x)).item() > 0.1


def test_is_a_lipschitz_constant_times_transport():
    """disc <= sup |∇ ⟨u, x⟩²| W₁ <= 8 Λ² B W₁ for points of norm <= B; here for two Diracs, W₁ = ‖x - y‖."""
    for seed in range(20):
        x, y = sample(1, seed=seed), sample(1, seed=seed + 20)
        bound = 8 * max(float(x.norm()), float(y.norm())) * float((x - y).norm())
        assert LinearHypotheses()(Measure(x), Measure(y)).item() <= bound


def test_ties_have_a_finite_gradient_that_descends():
    """M_μ - M_ν = diag(1, -1): either eigenvector gives a subgradient."""
    real, leaf = torch.eye(2)[:1].double(), torch.eye(2)[1:].double().requires_grad_()
    value = LinearHypotheses()(Measure(real), Measure(leaf))
    value.backward()
    assert value.item() == pytest.approx(4)
    assert bool(torch.isfinite(leaf.grad).all())  # pyright: ignore
    with torch.no_grad():
        assert LinearHypotheses()(Measure(real), Measure(leaf - 0.01 * leaf.grad)) <= value  # pyright: ignore


def test_gradient_at_equality_is_zero():
    x = sample(5)
    leaf = x.clone().requires_grad_()
    LinearHypotheses()(Measure(x), Measure(leaf)).backward()
    torch.testing.assert_close(leaf.grad, torch.zeros_like(x), atol=1e-9, rtol=0)


def test_summary_does_not_grow_with_n():
    sizes = {LinearHypotheses().summarise(Measure(sample(n, 11)).as_groups()).nbytes for n in (3, 3001)}
    assert sizes == {8 * (121 + 1)}


@pytest.mark.parametrize("norm", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_norm_is_refused(norm):
    with pytest.raises(InvalidInput, match="'norm' must be finite and > 0"):
        LinearHypotheses(norm=norm)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 7),
    m=st.integers(1, 5),
    d=st.integers(1, 5),
    norm=st.sampled_from([0.5, 1.0, 3.0]),
    intercept=st.booleans(),
    seed=st.integers(0, 99),
)
def test_is_the_supremum_over_pairs(n: int, m: int, d: int, norm: float, intercept: bool, seed: int):
    discrepancy = LinearHypotheses(norm=norm, intercept=intercept)
    mu, nu = Measure(sample(n, d, seed)), Measure(sample(m, d, seed + 100))
    value = discrepancy(mu, nu).item()
    difference = second_moment(discrepancy, mu) - second_moment(discrepancy, nu)
    rng = np.random.default_rng(seed)
    pairs = rng.standard_normal((200, 2, len(difference)))
    pairs *= norm / np.linalg.norm(pairs, axis=-1, keepdims=True)
    apart = pairs[:, 0] - pairs[:, 1]
    assert np.abs(np.einsum("kd,de,ke->k", apart, difference, apart)).max() <= value * (1 + 1e-12)
    values, vectors = np.linalg.eigh(difference)
    best = 2 * norm * vectors[:, np.abs(values).argmax()]
    assert abs(best @ difference @ best) == pytest.approx(value)
    assert replace(discrepancy, norm=2 * norm)(mu, nu).item() == pytest.approx(4 * value)
