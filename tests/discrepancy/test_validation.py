"""Penalties chosen on held-out examples, beside ridge regressions solved one by one with numpy."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from discrepancy import Measure, Parameters, Ridge, Risk
from discrepancy.errors import InvalidInput
from discrepancy.learning.learned import fitted
from discrepancy.learning.ridge import Validation, second_moments

N, D, C = 203, 6, 2
GRID = Validation(lowest=1e-4, highest=10.0, per_decade=3, share=0.1)


def noisy(seed: int = 0) -> tuple[Tensor, Tensor]:
    """So much noise that neither the smallest nor the largest penalty is best."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(N, D, generator=generator, dtype=torch.float64) + 0.7
    truth = torch.randn(D, C, generator=generator, dtype=torch.float64)
    return x, 0.5 * x @ truth + 8 * torch.randn(N, C, generator=generator, dtype=torch.float64) + 3.0


def held_by_hand(count: int, before: int = 0) -> np.ndarray:
    return np.array([math.fmod(n * (math.sqrt(5) - 1) / 2, 1) < 0.1 for n in range(before + 1, before + count + 1)])


def best_by_hand(
    x: np.ndarray, y: np.ndarray, intercept: bool, relative: bool, held: np.ndarray | None = None
) -> tuple[float, list[float]]:
    held = held_by_hand(len(x)) if held is None else held
    errors = []
    for number in GRID.candidates:
        rest_x, rest_y = x[~held], y[~held]
        mean_x, mean_y = (rest_x.mean(0), rest_y.mean(0)) if intercept else (0.0, 0.0)
        a, b = rest_x - mean_x, rest_y - mean_y
        scale = (a**2).sum() / len(a) if relative else 1.0
        weights = np.linalg.solve(a.T @ a / len(a) + number * scale * np.eye(D), a.T @ b / len(a))
        found = (x[held] - mean_x) @ weights + mean_y
        errors.append(float(((found - y[held]) ** 2).sum()))
    return GRID.candidates[int(np.argmin(errors))], errors


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("seed", [3, 7, 12])
def test_the_penalty_is_the_best_of_all_on_what_was_held_out(intercept: bool, relative: bool, seed: int):
    x, y = noisy(seed)
    match = Parameters(learner=Ridge(penalty=GRID, intercept=intercept, relative=relative))
    summary = match.summarise(Measure(x, labels=y).as_groups())
    truth, errors = best_by_hand(x.numpy(), y.numpy(), intercept, relative)
    assert min(errors) < 0.999 * min(errors[0], errors[-1])
    assert summary.chosen.penalty == pytest.approx(truth)
    # and then it is learned from all the examples
    plain = Ridge(penalty=truth, intercept=intercept, relative=relative)
    torch.testing.assert_close(summary.predictor.table, plain.fit(Measure(x, labels=y).as_groups()).table)


def test_summaries_of_batches_merge():
    """Each holds out its own share."""
    x, y = noisy(3)
    match = Parameters(learner=Ridge(penalty=GRID))
    merged, *rest = (match.summarise(part) for part in Measure(x, torch.ones(N), y).as_groups().split(70))
    for summary in rest:
        merged = match.merge(merged, summary)
    held = np.concatenate([held_by_hand(70), held_by_hand(70), held_by_hand(63)])
    truth, _ = best_by_hand(x.numpy(), y.numpy(), False, False, held)
    assert merged.chosen.penalty == pytest.approx(truth)
    plain = Ridge(penalty=truth).fit(Measure(x, labels=y).as_groups())
    torch.testing.assert_close(merged.predictor.table, plain.table)
    chosen = merged.select(torch.tensor([0]))
    torch.testing.assert_close(chosen.predictor.table, plain.table)
    assert chosen.chosen == merged.chosen


def test_functions_are_compared_on_what_was_held_out_too():
    x, y = noisy(3)
    few = Measure(x[:9], labels=y[:9])
    match = Parameters(learner=Ridge(penalty=GRID), space="function", synthetic=Ridge(penalty=0.3))
    sought = match.summarise(Measure(x, labels=y).as_groups()).predictor.table
    apart = x @ (Ridge(penalty=0.3).fit(few.as_groups()).table - sought)[0].mT
    torch.testing.assert_close(match(Measure(x, labels=y), few), apart.square().sum(1).mean())


@pytest.mark.parametrize("size", [1, 20, 170])
def test_what_is_held_out_of_a_stream_does_not_depend_on_its_parts(size: int):
    x, y = noisy(3)
    whole = Measure(x, torch.ones(N), y).as_groups()
    of_parts, at_once = fitted(Ridge(penalty=GRID), whole.split(size)), fitted(Ridge(penalty=GRID), [whole])
    assert of_parts.held is not None
    assert at_once.held is not None
    torch.testing.assert_close(of_parts.held.mean, at_once.held.mean)
    torch.testing.assert_close(of_parts.moments.mean, at_once.moments.mean)


@pytest.mark.parametrize("classes", [2, 10, 20, 100])
def test_classes_that_take_turns_are_held_out_alike(classes: int):
    """As those of a stream do; every so many-th example would be of the same few classes."""
    labels = torch.arange(40_000) % classes
    shares = Validation(share=0.05).held(len(labels)).double()
    of_class = torch.stack([shares[labels == label].mean() for label in range(classes)])
    torch.testing.assert_close(of_class, torch.full_like(of_class, 0.05), atol=0.008, rtol=0)


def test_the_synthetic_side_may_have_a_learner_of_its_own():
    x, y = noisy(3)
    few = Measure(x[:9], labels=y[:9])
    match = Parameters(learner=Ridge(penalty=GRID), synthetic=Ridge(penalty=0.3))
    value = match(Measure(x, labels=y), few)
    sought = match.summarise(Measure(x, labels=y).as_groups()).predictor.table
    found = Ridge(penalty=0.3).fit(few.as_groups()).table
    torch.testing.assert_close(value, (sought - found).square().sum().to(value))
    assert "symmetric" not in match.tags
    assert "zero-at-equality" not in match.tags


def test_the_numbers_are_equally_spaced():
    assert Validation(lowest=1e-2, highest=1.0, per_decade=2).candidates == pytest.approx(
        [1e-2, math.sqrt(10) * 1e-2, 1e-1, math.sqrt(10) * 1e-1, 1.0]
    )
    assert Validation(lowest=0.5, highest=0.5).candidates == pytest.approx([0.5])


def test_products_in_float32_lose_seven_digits_and_no_more():
    x, y = noisy(3)
    measure = Measure(x, labels=y).as_groups()
    exact, rough = (
        second_moments(fitted(Ridge(), [measure], dtype).moments) for dtype in (torch.float64, torch.float32)
    )
    z = np.concatenate([x.numpy(), y.numpy()], 1)
    np.testing.assert_allclose(exact[0].numpy(), z.T @ z / N, rtol=1e-12)
    error = float((rough - exact).abs().max() / exact.abs().max())
    assert 1e-10 < error < 1e-6


@pytest.mark.parametrize("seed", [3, 7, 12])
def test_the_choice_is_the_same_in_float32_and_of_singular_moments(seed: int):
    x, y = noisy(seed)
    x[:, 1] = x[:, 2]
    measure, learner = Measure(x, labels=y).as_groups(), Ridge(penalty=GRID)
    exact, rough = (fitted(learner, [measure], dtype).chosen for dtype in (torch.float64, torch.float32))
    assert exact == rough
    truth, _ = best_by_hand(x.numpy(), y.numpy(), intercept=False, relative=False)
    assert exact.penalty == pytest.approx(truth)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Validation(lowest=0.0), "'lowest' must be > 0 and at most 'highest'"),
        (lambda: Validation(lowest=2.0, highest=1.0), "'lowest' must be > 0 and at most 'highest', got 2.0 and 1.0"),
        (lambda: Validation(per_decade=0), "'per_decade' must be at least 1, got 0"),
        (lambda: Validation(share=0.7), "'share' must be > 0 and at most 0.5, got 0.7"),
        (lambda: Risk(learner=Ridge(penalty=Validation())), "'learner' of 'risk' learns from the synthetic side"),
        (lambda: Parameters(synthetic=Ridge(penalty=Validation())), "'synthetic' needs a number as its 'penalty'"),
        (
            lambda: Parameters(synthetic=Ridge(intercept=True)),
            "'intercept' of 'synthetic' must be as that of 'learner', False",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, message: str):
    with pytest.raises(InvalidInput, match=message):
        make()


def test_nothing_is_learned_before_the_penalty_is_chosen_or_held_out_of_too_few():
    x, y = noisy(3)
    with pytest.raises(InvalidInput, match="'penalty' is to be chosen by validation"):
        Ridge(penalty=Validation()).fit(Measure(x, labels=y).as_groups())
    summary = Parameters(learner=Ridge(penalty=Validation())).summarise(Measure(x[:9], labels=y[:9]).as_groups())
    with pytest.raises(InvalidInput, match=r"'share' 0\.05 of the real examples holds none out"):
        _ = summary.predictor
