"""Learned frequencies: the adversary and its limits."""

from dataclasses import replace

import pytest
import torch
from frequencies_drawn import drawn, learned, sample, weights
from torch import Tensor

from discrepancy import Measure, Unsupported
from discrepancy.discrepancy import SampleSummary


def test_learned_frequencies_keep_the_points():
    one = learned()
    summary = one.summarise(Measure(sample(7)).as_groups(), drawn(one))
    assert isinstance(summary, SampleSummary)
    assert not one.mergeable
    assert one.bound is None


def test_the_adversary_starts_at_the_fixed_law_and_goes_uphill():
    one, mu, nu = learned(steps=25), Measure(sample(7)).as_groups(), Measure(sample(5, seed=1) + 1).as_groups()
    draws = drawn(one)
    fixed = replace(one, learned=False)
    summary = one.summarise(mu, draws)
    start, end = one.compare(summary, nu, draws), one.compare(summary, nu, one.sharpened(summary, nu, draws))
    torch.testing.assert_close(start, fixed.compare(fixed.summarise(mu, draws), nu, draws))
    assert end.item() > 1.1 * start.item()


def test_the_adversary_finds_the_feature_that_differs():
    x = sample(200, 2)
    y = x * torch.tensor([1.0, 3.0])
    one = learned(steps=30)
    mu, nu, draws = Measure(x).as_groups(), Measure(y).as_groups(), drawn(one, 2)
    moved = one.sharpened(one.summarise(mu, draws), nu, draws)
    scales = moved["scales"]  # pyright: ignore
    assert bool((scales[..., 1] > scales[..., 0]).all())


def test_the_adversary_stays_within_reach():
    one, mu, nu = learned(steps=5, rate=100.0), Measure(sample(7)).as_groups(), Measure(sample(5, seed=1)).as_groups()
    draws = drawn(one)
    summary = one.summarise(mu, draws)
    far = {**draws, "scales": torch.full_like(draws["scales"], 1e4)}
    stretched = {"frequencies": 10 * draws["frequencies"]}
    fixed = replace(one, learned=False)
    torch.testing.assert_close(
        one.compare(summary, nu, far),
        fixed.compare(fixed.summarise(mu, stretched), nu, stretched),
        atol=1e-5,
        rtol=1e-5,
    )


@pytest.mark.parametrize("grouped", [False, True], ids=["shared", "by-group"])
@pytest.mark.parametrize("root", [False, True], ids=["squared", "root"])
def test_is_differentiable_in_the_scales(grouped: bool, root: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("discrepancy.mean_embeddings.characteristic.SUMMARY_POINTS", 3)
    one = learned(root=root, amplitude=0.5)
    mu, nu = (Measure(sample(2 * n, seed=n).view(2, n, 3), weights(2, n)) for n in (7, 5))
    draws = drawn(one)
    summary = one.summarise(mu, draws)
    shape = (2, 2, 3) if grouped else (2, 3)
    scales = 0.3 * torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    function = lambda scales: one.compare(summary, nu, {**draws, "scales": scales})  # noqa: E731
    assert torch.autograd.gradcheck(function, scales.requires_grad_())
    (expected,) = torch.autograd.grad(function(scales).sum(), scales)
    torch.testing.assert_close(torch.func.grad(lambda scales: function(scales).sum())(scales.detach()), expected)


def test_a_second_derivative_in_the_scales_is_refused():
    one, mu, nu = learned(), Measure(sample(7)).as_groups(), Measure(sample(5, seed=1)).as_groups()
    draws = drawn(one)
    scales = draws["scales"].double().requires_grad_()
    value = one.compare(one.summarise(mu, draws), nu, {**draws, "scales": scales})
    (slope,) = torch.autograd.grad(value.sum(), scales, create_graph=True)
    with pytest.raises(Unsupported, match="'characteristic_function' has first derivatives only"):
        slope.sum().backward()


def test_nothing_of_size_n_is_kept_for_the_adversary():
    def saved(n: int) -> int:
        one, total = learned(), 0
        draws = drawn(one)
        summary = one.summarise(Measure(sample(n)).as_groups(), draws)
        scales = draws["scales"].requires_grad_()

        def pack(tensor: Tensor) -> Tensor:
            nonlocal total
            total += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            one.compare(summary, Measure(sample(5, seed=1)).as_groups(), {**draws, "scales": scales})
        return total

    assert saved(17) == saved(3001) > 0
