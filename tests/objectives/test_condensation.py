"""The one call, from Python: shorthands, callbacks, continuation, the record, and losses that are not finite."""

import re
from typing import Any

import pytest
import torch
from small import NETWORK, images, unchecked

from discrepancy import MMD, Gaussian
from discrepancy.embeddings import Features
from discrepancy.errors import InvalidInput, NonFinite
from discrepancy.kernels import Median
from objectives.condensation import Progress, condense
from objectives.contexts import Fresh, Pool
from objectives.solvers import Descent, Random
from objectives.synthetic.artefact import SyntheticSet
from objectives.synthetic.pixels import Pixels
from objectives.terms.match import Match
from objectives.terms.penalties import TotalVariation

DM: dict[str, Any] = {"context": Fresh(network=NETWORK, batch=5), "compile": "never"}
FEATURES = Match(MMD(), via=Features())


def made(**options: Any) -> SyntheticSet:
    return condense(images(), FEATURES, **{**DM, "per_class": 2, "steps": 4, **options})


@pytest.mark.parametrize("form", ["pair", "dataset"])
def test_plain_data(form: str) -> None:
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(1))
    y = torch.arange(20) % 2
    data: Any = (x, y) if form == "pair" else torch.utils.data.TensorDataset(x, y)
    synthetic = condense(data, Match(MMD()), per_class=3, steps=2)
    assert synthetic.points.shape == (6, 3)
    assert synthetic.labelling.rows.tolist() == [0, 0, 0, 1, 1, 1]


def test_the_defaults_match_the_means() -> None:
    x = 5 + 2 * torch.randn(40, 3, generator=torch.Generator().manual_seed(1))
    y = torch.arange(40) % 2
    synthetic = condense((x, y), Match(MMD()), context=Pool(), solver=Descent(lr=0.3), per_class=2, steps=100)
    for c in (0, 1):
        torch.testing.assert_close(
            synthetic.points[synthetic.labels == c].mean(0), x[y == c].mean(0), rtol=0, atol=1e-4
        )


def test_shorthands_set_the_fields() -> None:
    assert made().points.equal(
        made(per_class=None, steps=None, synthetic=Pixels(per_class=2), solver=Descent(steps=4)).points
    )


def test_steps_mean_nothing_to_a_selection() -> None:
    with pytest.raises(InvalidInput, match="'steps' has no meaning for the solver 'random'; leave it out"):
        made(solver=Random())


def test_a_callback_sees_every_step() -> None:
    seen: list[Progress] = []
    made(on_step=seen.append)
    assert [progress.step for progress in seen] == [1, 2, 3, 4]
    assert {progress.steps for progress in seen} == {4}
    assert all(progress.loss == pytest.approx(sum(progress.terms.values())) for progress in seen)
    assert list(seen[0].terms) == ["mmd"]


def test_continuing_from_a_callback_equals_not_stopping() -> None:
    states: dict[int, dict[str, Any]] = {}

    def keep(progress: Progress) -> None:
        states[progress.step] = progress.state()

    whole = made(on_step=keep, solver=Descent(optimizer="adam", lr=0.1))
    again = made(state=states[2], solver=Descent(optimizer="adam", lr=0.1))
    assert whole.points.equal(again.points)


def test_an_exception_in_a_callback_comes_through() -> None:
    def stop(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(on_step=stop)


def test_the_record_says_how_it_came_to_be() -> None:
    data = images()
    objective = Match(MMD(kernel=Gaussian(lengthscale=Median(factor=2.0))), via=Features()) + 0.5 * TotalVariation()
    record = condense(data, objective, **DM, per_class=2, steps=3, seed=7).record
    assert record["seed"] == 7
    assert record["fingerprint"] == data.train.fingerprint()
    assert record["config"]["solver"] == {"kind": "descent", "steps": 3}
    assert record["config"]["synthetic"] == {"kind": "pixels", "per_class": 2}
    assert record["config"]["context"] == {
        "kind": "fresh",
        "network": {"kind": "convnet", "width": 8, "depth": 2},
        "batch": 5,
    }
    assert record["config"]["objective"]["terms"]["total_variation"]["weight"] == 0.5
    lengthscale = record["resolved"]["mmd"]["match"][""]["kernel"]["lengthscale"]
    assert isinstance(lengthscale, float)
    assert lengthscale > 0


@pytest.mark.parametrize("steps", [30, 1], ids=["in-a-term", "in-the-last-step"])
def test_not_finite(steps: int) -> None:
    message = "term 'mmd' became (inf|nan) at step [1-9]; lower" if steps > 1 else "the parameter 'points' became NaN"
    rate = 1e15 if steps > 1 else 3e38
    with pytest.raises(NonFinite, match=message):
        condense(
            images(), Match(MMD()), context=Pool(), per_class=2, solver=Descent(lr=rate, momentum=0.9), steps=steps
        )


def test_the_term_that_broke_is_named() -> None:
    objective = Match(MMD()).named("fine") + Match(MMD(), weight=1e38).named("huge")
    with pytest.raises(NonFinite, match=r"term 'huge' became (inf|nan) at step"):
        condense(images(), objective, context=Pool(), per_class=2, solver=Descent(lr=1.0), steps=5)


def test_no_callback_after_a_loss_that_is_not_finite() -> None:
    steps: list[int] = []
    with pytest.raises(NonFinite, match="term 'mmd'"):
        condense(
            images(),
            Match(MMD()),
            context=Pool(),
            per_class=2,
            solver=Descent(lr=1e15, momentum=0.9),
            steps=30,
            on_step=lambda progress: steps.append(int(torch.isfinite(progress.record.loss))),
        )
    assert steps
    assert all(steps)


def test_unknown_policy() -> None:
    with (
        unchecked(),
        pytest.raises(InvalidInput, match="'compile' must be one of auto, always, never; got 'sometimes'"),
    ):
        made(compile="sometimes")


@pytest.mark.parametrize(
    ("options", "named"),
    [({"dtype": "float32"}, "'dtype'"), ({"dtype": torch.float16}, "'dtype'"), ({"per_class": 1.5}, "'per_class'")],
)
def test_arguments_of_the_wrong_kind_are_named(options: dict[str, Any], named: str) -> None:
    with unchecked(), pytest.raises(InvalidInput, match=named):
        made(**options)


def test_what_is_no_objective_is_refused() -> None:
    objective: Any = MMD()
    with unchecked(), pytest.raises(InvalidInput, match="'objective' must be a match"):
        condense(images(), objective)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: MMD(kernel="gaussian"),
            "'kernel' of 'mmd' must be of type Kernel, got 'gaussian'; write Gaussian(...)",
        ),
        (lambda: MMD(kernel=MMD()), "'kernel' of 'mmd' must be of type Kernel, got MMD(kernel=Linear()"),
        (
            lambda: Gaussian(lengthscale="medium"),
            "'lengthscale' of 'gaussian' must be of type Length or a number, got 'medium'",
        ),
        (
            lambda: Fresh(network="mlp"),
            "'network' of 'fresh' must be of type Network or None, got 'mlp'; write MLP(...)",
        ),
        (
            lambda: Match(MMD(), reduce="max"),
            "'reduce' of 'match' must be of type Reduction, got 'max'; write Max(...)",
        ),
    ],
)
def test_a_field_that_holds_a_part_refuses_other_families_and_names(make: Any, message: str) -> None:
    with unchecked(), pytest.raises(InvalidInput, match=re.escape(message)):
        make()
    assert Gaussian(lengthscale=2).lengthscale == 2
