"""Labels of given points with which the risk is least, and labels that are centred."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from discrepancy import InvalidInput, Measure, Risk, Unsupported
from discrepancy.kernels import NTK, Gaussian
from discrepancy.learning.learners import ClassMeans, KernelRidge, Learner
from discrepancy.learning.ridge import Ridge

LEARNERS: dict[str, Learner] = {
    "ridge": Ridge(penalty=1e-2),
    "ridge-intercept": Ridge(penalty=1e-2, intercept=True, relative=True),
    "ridge-centred": Ridge(penalty=1e-2, centred=True),
    "least-squares": Ridge(penalty=0.0),
    "kernel": KernelRidge(kernel=Gaussian(lengthscale=1.5), penalty=1e-2),
    "kernel-ntk": KernelRidge(kernel=NTK(), penalty=1e-3, relative=True, centred=True),
}


@pytest.fixture(params=LEARNERS.values(), ids=list(LEARNERS))
def learner(request: pytest.FixtureRequest) -> Learner:
    return request.param


def measure(n: int, d: int, seed: int, groups: int = 2, c: int = 3) -> Measure:
    generator = torch.Generator().manual_seed(seed)
    points, labels = (torch.randn(groups, n, size, generator=generator).double() for size in (d, c))
    return Measure(points, 0.1 + torch.rand(groups, n, generator=generator).double(), labels)


@pytest.mark.parametrize(("n", "m", "d"), [(11, 3, 5), (5, 7, 3)], ids=["fewer", "more"])
def test_no_other_labels_have_a_smaller_risk(learner: Learner, n: int, m: int, d: int):
    risk, real, mine = Risk(learner=learner), measure(n, d, 0), measure(m, d, 1)
    summary = risk.summarise(real)
    best = risk.best_labels(summary, mine)
    assert best.shape == (2, m, 3)
    labels = best.clone().requires_grad_(True)
    least = risk.compare(summary, replace(mine, labels=labels))
    (slope,) = torch.autograd.grad(least.sum(), labels)
    torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-8, rtol=0)
    assert bool((least <= risk.compare(summary, mine) + 1e-12).all())


def test_of_kernel_ridge_by_numpy():
    """Y = (K_ts A)⁺ y_t with A = (K_ss + m λ)⁻¹, weights aside: the label solve of KIP."""
    kernel, x, s = Gaussian(lengthscale=1.5), measure(11, 4, 0, 1), measure(3, 4, 1, 1)
    x, s = replace(x, weights=torch.ones(1, 11).double()), replace(s, weights=torch.ones(1, 3).double())
    assert x.labels is not None
    k_ss, k_ts = kernel(s.rows, s.rows)[0].numpy(), kernel(x.rows, s.rows)[0].numpy()
    factors = k_ts @ np.linalg.inv(k_ss + 3 * 1e-2 * np.eye(3))
    expected = np.linalg.lstsq(factors, x.labels[0].numpy(), rcond=None)[0]
    risk = Risk(learner=KernelRidge(kernel=kernel, penalty=1e-2))
    np.testing.assert_allclose(risk.best_labels(risk.summarise(x), s)[0], expected, rtol=1e-8)


def test_gradient_at_the_best_labels_is_that_of_the_least_risk():
    risk, real = Risk(learner=LEARNERS["kernel-ntk"]), measure(11, 4, 0)
    summary, mine = risk.summarise(real), measure(3, 4, 1)
    assert isinstance(mine.points, torch.Tensor)

    def least(points: torch.Tensor) -> torch.Tensor:
        moved = replace(mine, points=points)
        return risk.compare(summary, replace(moved, labels=risk.best_labels(summary, moved))).sum()

    points = mine.points.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(least(points), points)
    step = 1e-5 * torch.randn(points.shape, generator=torch.Generator().manual_seed(2)).double()
    with torch.no_grad():
        change = least(points + step) - least(points - step)
    assert float(change) == pytest.approx(2 * float((slope * step).sum()), rel=1e-5)


@pytest.mark.parametrize("name", ["ridge", "ridge-intercept", "kernel"])
def test_centred_labels_are_labels_less_one_over_c_on_both_sides(name: str):
    plain, real, mine = LEARNERS[name], measure(11, 5, 0), measure(3, 5, 1)
    centred = replace(plain, centred=True)  # pyright: ignore[reportCallIssue]
    assert real.labels is not None
    assert mine.labels is not None
    less = replace(real, labels=real.labels - 1 / 3), replace(mine, labels=mine.labels - 1 / 3)
    torch.testing.assert_close(Risk(learner=centred)(real, mine), Risk(learner=plain)(less[0], less[1]))
    where = measure(4, 5, 2).rows
    torch.testing.assert_close(centred.fit(mine)(where), plain.fit(less[1])(where))


def test_points_without_mass_have_labels_of_zero():
    risk, real, mine = Risk(learner=LEARNERS["kernel"]), measure(11, 4, 0), measure(4, 4, 1)
    mine = replace(mine, weights=mine.weights * torch.tensor([1.0, 0.0, 1.0, 1.0]).double())
    found = risk.best_labels(risk.summarise(real), mine)
    assert float(found[:, 1].abs().max()) < 1e-12
    rest = Measure(mine.rows[:, [0, 2, 3]], mine.weights[:, [0, 2, 3]], found[:, [0, 2, 3]])
    torch.testing.assert_close(found[:, [0, 2, 3]], risk.best_labels(risk.summarise(real), rest))


def test_refused():
    real, mine = measure(5, 2, 0), measure(3, 2, 1)
    entropy = Risk(loss="cross_entropy")
    with pytest.raises(InvalidInput, match="closed form for loss 'squared' only, got 'cross_entropy'"):
        entropy.best_labels(entropy.summarise(real), mine)
    with pytest.raises(Unsupported, match="'class_means' predicts is not linear in the labels"):
        Risk(learner=ClassMeans()).best_labels(Risk(learner=ClassMeans()).summarise(real), mine)
