"""Any discrepancy on features and labels together.

Property (Hypothesis): Joint equals its discrepancy on points with labels appended by hand.
"""

import math
from dataclasses import replace

import pytest
import torch
from contract import DiscrepancyContract
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_sides import Witness, labelled, normal

from discrepancy import (
    MMD,
    Discrepancy,
    Gaussian,
    InvalidInput,
    Joint,
    Measure,
)
from discrepancy.discrepancy import MeanSummary
from discrepancy.divergences import SmoothedTotalVariation
from discrepancy.kernels import Median


def appended(scale: float, side: Measure) -> Measure:
    assert side.labels is not None
    return Measure(torch.cat([side.rows, scale * side.labels.to(side.rows)], -1), side.weights)


# Joint


class TestJoint(DiscrepancyContract):
    classes = 3
    instances = {  # noqa: RUF012
        "linear": Joint(of=MMD()),
        "gaussian": Joint(of=MMD(kernel=Gaussian(lengthscale=1.5)), scale=0.7),
        "draws": Joint(of=SmoothedTotalVariation(noises=2), scale=2.0, classes=3),
    }

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        assert isinstance(discrepancy, Joint)
        assert isinstance(discrepancy.scale, float)
        first, second = appended(discrepancy.scale, mu), appended(discrepancy.scale, nu)
        draws = discrepancy.of.draw(torch.Generator().manual_seed(5), (math.prod(mu.points.shape[1:]) + 3,))  # pyright: ignore
        return discrepancy.of(first, second, draws).item()

    @staticmethod
    def rescaled(discrepancy: Discrepancy, factor: float) -> Discrepancy | None:
        assert isinstance(discrepancy, Joint)
        assert isinstance(discrepancy.scale, float)
        if isinstance(discrepancy.of, SmoothedTotalVariation):
            of = replace(discrepancy.of, lengthscale=factor)
        elif discrepancy.of == MMD():
            return None
        else:
            of = MMD(kernel=Gaussian(lengthscale=factor * 1.5))
        return replace(discrepancy, of=of, scale=factor * discrepancy.scale)


def test_joint_sees_labels_that_the_points_do_not_show():
    x = normal(12)
    first, second = Measure(x, labels=torch.arange(12) % 2), Measure(x, labels=torch.arange(12) // 6)
    kernel = Gaussian(lengthscale=1.0)
    assert MMD(kernel=kernel)(first, second).item() == pytest.approx(0, abs=1e-12)
    assert Joint(of=MMD(kernel=kernel))(first, second).item() > 0.01


def test_joint_takes_class_numbers_with_a_class_that_one_side_lacks():
    x, y = (
        Measure(normal(4), labels=torch.tensor([0, 1, 1, 0])),
        Measure(normal(3, seed=1), labels=torch.tensor([2, 0, 0])),
    )
    expected = (x.rows.mean(0) - y.rows.mean(0)).square().sum() + (1 / 2 - 2 / 3) ** 2 + 1 / 4 + 1 / 9
    torch.testing.assert_close(Joint(of=MMD())(x, y), expected)


def test_joint_streams_and_keeps_a_bound_where_its_discrepancy_does():
    assert Joint(of=MMD()).mergeable
    assert isinstance(Joint(of=MMD()).summarise(labelled(5).as_groups()), MeanSummary)
    assert not Joint(of=MMD(kernel=Gaussian())).mergeable
    assert Joint(of=MMD()).bound == MMD().bound


def test_joint_is_differentiable_in_soft_labels():
    mu, nu = labelled(7), labelled(5, 1)
    assert nu.labels is not None
    leaf = nu.labels.clone().requires_grad_()
    discrepancy = Joint(of=MMD(kernel=Gaussian()))
    summary = discrepancy.summarise(mu.as_groups())
    function = lambda labels: discrepancy.compare(summary, Measure(nu.points, nu.weights, labels).as_groups())  # noqa: E731
    assert torch.autograd.gradcheck(function, leaf, fast_mode=True)


def test_joint_resolves_its_scale_its_discrepancy_and_the_number_of_classes():
    real = Measure(normal(30), labels=torch.arange(30) % 4)
    discrepancy = Joint(of=SmoothedTotalVariation(lengthscale=Median(factor=0.3)), scale=Median())
    assert not discrepancy.resolved
    resolved = discrepancy.resolve(real)
    scale = Median().measured(real)
    wide = appended(scale, real.with_label_vectors(4))
    assert resolved == Joint(
        of=SmoothedTotalVariation(lengthscale=Median(factor=0.3).measured(wide)), scale=scale, classes=4
    )
    assert resolved.resolved
    draws = resolved.draw(torch.Generator(), (2,))
    assert draws is not None
    assert draws["noise"].shape == (8, 6)
    assert resolved(real, real, draws).item() == pytest.approx(0, abs=1e-12)


def test_joint_with_random_parts_needs_the_number_of_classes():
    discrepancy = Joint(of=SmoothedTotalVariation())
    assert not discrepancy.resolved
    assert Joint(of=MMD()).resolved
    with pytest.raises(
        InvalidInput, match=r"'smoothed_total_variation' has random parts .* give 'classes', or call resolve"
    ):
        discrepancy.draw(torch.Generator(), (2,))


def test_joint_passes_the_adversary_on():
    discrepancy = Joint(of=Witness(), classes=3)
    mu, nu = labelled(9), labelled(5, 1)
    draws = discrepancy.draw(torch.Generator().manual_seed(0), (2,))
    assert draws is not None
    assert discrepancy.adversary == Witness().adversary
    expected = Witness()(appended(1.0, mu), appended(1.0, nu), draws)
    torch.testing.assert_close(discrepancy(mu, nu, draws), expected)
    still = discrepancy.compare(discrepancy.summarise(mu.as_groups(), draws), nu.as_groups(), draws)
    assert expected > still[0]


def test_joint_refuses_what_it_cannot_read():
    with pytest.raises(InvalidInput, match="'scale' must be finite and > 0, got 0"):
        Joint(of=MMD(), scale=0.0)
    with pytest.raises(InvalidInput, match="'classes' must be at least 1, got 0"):
        Joint(of=MMD(), classes=0)
    with pytest.raises(InvalidInput, match="'classes' is 4, and the label vectors have length 3"):
        Joint(of=MMD(), classes=4)(labelled(5), labelled(4))
    with pytest.raises(InvalidInput, match=r"'scale' is the rule 'median' .* resolve\(sample\)"):
        Joint(of=MMD(), scale=Median())(labelled(5), labelled(4))
    with pytest.raises(InvalidInput, match="looks at labels, and a measure has none"):
        Joint(of=MMD()).summarise(Measure(normal(3)).as_groups())
    with pytest.raises(InvalidInput, match="a measure has none"):
        Joint(of=MMD())(Measure(normal(3)), labelled(4))


# Properties


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 7),
    m=st.integers(1, 5),
    d=st.integers(1, 4),
    classes=st.integers(1, 4),
    scale=st.sampled_from([0.1, 3.0]),
    offset=st.sampled_from([0.0, -100.0]),
)
def test_joint_equals_its_discrepancy_on_longer_points(n, m, d, classes, scale, offset):
    mu, nu = (
        Measure(side.rows + offset, side.weights, side.labels)
        for side in (labelled(n, 0, d, classes), labelled(m, 1, d, classes))
    )
    of = MMD(kernel=Gaussian(lengthscale=1.3))
    torch.testing.assert_close(Joint(of=of, scale=scale)(mu, nu), of(appended(scale, mu), appended(scale, nu)))
