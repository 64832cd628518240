"""Real-valued labels of data with classes: they start one-hot, are learned, and are taken for scores and not for shares."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import NETWORK, decoded, images, problem, start, table
from torch.nn import functional

from discrepancy import MMD, ClassMeans, JointMMD, KernelRidge, MeanGradients, Parameters, Ridge, Risk
from discrepancy.embeddings import Features, LossGradient
from discrepancy.errors import InvalidInput
from discrepancy.kernels import Gaussian
from objectives.condensation import condense
from objectives.contexts import Fresh, Pool, Trained
from objectives.solvers import Descent
from objectives.synthetic.artefact import SyntheticSet
from objectives.synthetic.formation import Formation
from objectives.synthetic.pixels import Pixels
from objectives.terms.match import Match
from objectives.terms.penalties import CrossEntropy
from objectives.terms.penalty import Penalised
from objectives.training.training import Training

SCORED = Pixels(per_class=2, labels="learned")
RIDGE = Match(Risk(learner=Ridge(penalty=0.1)), by="none")


def condensed(steps: int = 4, **options: Any) -> SyntheticSet:
    solver = Descent(lr=0.01, rates=(("labels", 2.0),), steps=steps)
    return condense(table(), RIDGE, context=Pool(), synthetic=SCORED, solver=solver, **options)


# --- the parameter ----------------------------------------------------------------------------------------------------


def test_scores_start_one_hot_and_are_decoded_as_they_are() -> None:
    data = table()
    parameters = SCORED.initial(data.train, 0)
    assert parameters["labels"].equal(functional.one_hot(torch.tensor([0, 0, 1, 1, 2, 2])).float())
    moved = {**parameters, "labels": parameters["labels"] - 0.3}
    here = SCORED.decode(moved, SCORED.layout(data.train))
    assert here.labels.equal(moved["labels"])
    assert here.slots.tolist() == [0, 0, 1, 1, 2, 2]


def test_what_decodes_to_several_has_one_score_for_all_of_them() -> None:
    form = Formation(per_class=1, labels="learned")
    data = images()
    here = form.decode(form.initial(data.train, 0), form.layout(data.train))
    assert here.labels.equal(functional.one_hot(here.slots).float())
    assert len(here.labels) == 3 * form.copies


def test_given_points_and_scores_are_held() -> None:
    data, scores = table(), torch.randn(6, 3, dtype=torch.float64)
    held = SCORED.from_points(torch.zeros(6, 5), data.train, scores)
    assert held["labels"] is scores
    assert SCORED.from_points(torch.zeros(6, 5), data.train)["labels"].sum(1).equal(torch.ones(6))


# --- objectives -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("match", ["ridge", "kernel_ridge", "parameters"])
def test_the_value_is_that_of_numpy(match: str) -> None:
    """The learner's fit to the scores, written out; the real side has one-hot labels,."""
    data = table()
    kernel = Gaussian(lengthscale=2.0)
    of = {
        "ridge": Risk(learner=Ridge(penalty=0.3)),
        "kernel_ridge": Risk(learner=KernelRidge(kernel=kernel, penalty=0.1)),
        "parameters": Parameters(learner=Ridge(penalty=0.3)),
    }[match]
    some = problem(data, Match(of, by="none"), context=Pool(), synthetic=SCORED, dtype=torch.float64)
    scores = torch.randn(6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = some.engine(1).evaluate(decoded(some, labels=scores), 0).total.item()
    s, t = some.initial()["points"].numpy(), scores.numpy()
    x = data.normalisation.apply(data.train.points, torch.float64).numpy()
    y = np.eye(3)[data.train.labels.numbers.numpy()]
    gram = lambda a, b: np.exp(-np.square(a[:, None] - b[None]).sum(-1) / 8)  # noqa: E731
    ridge = lambda a, b: np.linalg.solve(a.T @ a / len(a) + 0.3 * np.eye(5), a.T @ b / len(a))  # noqa: E731
    truth = {
        "ridge": lambda: np.square(x @ ridge(s, t) - y).sum(1).mean(),
        "kernel_ridge": lambda: (
            np.square(gram(x, s) @ np.linalg.solve(gram(s, s) + 0.6 * np.eye(6), t) - y).sum(1).mean()
        ),
        "parameters": lambda: np.square(ridge(s, t) - ridge(x, y)).sum(),
    }[match]()
    assert found == pytest.approx(truth, rel=1e-9)


@pytest.mark.parametrize(
    "match",
    [
        Match(Risk(learner=Ridge(penalty=0.1)), via=Features(), by="none"),
        Match(Risk(learner=KernelRidge(kernel=Gaussian(lengthscale=3.0), penalty=0.1)), by="none"),
        Match(JointMMD(), by="none"),
        Match(Risk(learner=Ridge(penalty=0.1), loss="cross_entropy"), by="none"),
    ],
    ids=["features", "kernel_ridge", "joint_mmd", "cross_entropy of real labels"],
)
def test_the_gradient_at_scores_by_finite_differences(match: Match) -> None:
    some = problem(images(), match, context=Fresh(network=NETWORK, batch=5), synthetic=SCORED, dtype=torch.float64)
    engine = some.engine(1)
    scores = torch.randn(6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradient = engine.evaluate(decoded(some, labels=scores.clone().requires_grad_(True)), 0).gradients["labels"]
    direction = torch.randn(6, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    ends = [engine.evaluate(decoded(some, labels=scores + h * direction), 0).total.item() for h in (1e-5, -1e-5)]
    assert (ends[0] - ends[1]) / 2e-5 == pytest.approx((gradient * direction).sum().item(), rel=1e-5)


def test_grouping_goes_by_what_an_example_was_made_for() -> None:
    """Scores that all point at the first class leave the classes of the examples alone."""
    data = table()
    some = problem(data, Match(MMD()) + RIDGE, context=Pool(), synthetic=SCORED)
    turned = torch.zeros(6, 3)
    turned[:, 0] = 5
    found, known = (
        some.engine(1).evaluate(decoded(some, **given), 0).terms["mmd"] for given in ({"labels": turned}, {})
    )
    assert found.equal(known)


@pytest.mark.parametrize(
    ("objective", "context", "what"),
    [
        (RIDGE + CrossEntropy(), Fresh(network=NETWORK), "term 'cross_entropy' is a cross_entropy"),
        (
            RIDGE + Penalised(CrossEntropy(), by="class").named("own"),
            Fresh(network=NETWORK),
            "term 'own' is a cross_entropy",
        ),
        (
            Match(Risk(learner=ClassMeans(), loss="cross_entropy"), by="none"),
            Pool(),
            "term 'risk' learns by classes",
        ),
        (
            Match(MeanGradients(), via=LossGradient()),
            Fresh(network=NETWORK),
            "term 'mean_gradients' takes the gradient of a cross-entropy",
        ),
        (
            RIDGE,
            Trained(network=NETWORK, training=Training(on="synthetic")),
            "the context 'trained' trains its networks on the synthetic set by cross-entropy",
        ),
    ],
    ids=["penalty", "penalty by class", "class means", "gradient", "training"],
)
def test_what_takes_labels_for_shares_of_classes_refuses_scores(objective: Any, context: Any, what: str) -> None:
    remedy = "a training with loss: squared" if "trained" in what else "a risk of ridge"
    message = rf"\(any real numbers\), but {what}, which needs classes .*; use labels: soft, or {remedy}"
    with pytest.raises(InvalidInput, match=message):
        condense(images(), objective, context=context, synthetic=SCORED, steps=1)


def test_scores_that_no_term_looks_at_are_refused() -> None:
    with pytest.raises(InvalidInput, match="'labels' are learned, but no term depends on them"):
        condense(table(), Match(MMD()), context=Pool(), synthetic=SCORED, steps=1)


# --- descent ----------------------------------------------------------------------------------------------------------


def test_scores_are_learned_and_leave_the_simplex() -> None:
    made = condensed(steps=40)
    assert made.labels is not None
    assert bool((made.labels.sum(1) - 1).abs().max() > 0.01)
    assert bool((made.labels < 0).any())
    solving = start(table(), RIDGE, Descent(lr=0.01, steps=40), synthetic=SCORED, context=Pool())
    losses = []
    while solving.step < solving.steps:
        losses.append(solving.advance().loss.item())
    assert losses[-1] < losses[0]


def test_a_run_goes_on_from_its_state() -> None:
    solving = start(table(), RIDGE, Descent(lr=0.1, momentum=0.9, steps=6), synthetic=SCORED, context=Pool())
    for _ in range(3):
        solving.advance()
    again = start(table(), RIDGE, Descent(lr=0.1, momentum=0.9, steps=6), synthetic=SCORED, context=Pool())
    again.restore(solving.state())
    for one in (solving, again):
        while one.step < one.steps:
            one.advance()
    assert again.parameters["labels"].equal(solving.parameters["labels"])


# --- artefact ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_the_artefact_keeps_scores(tmp_path: Path, dtype: torch.dtype) -> None:
    made = condensed(dtype=dtype)
    made.save(tmp_path / "a.safetensors")
    read = SyntheticSet.load(tmp_path / "a.safetensors")
    assert read.labels is not None
    assert made.labels is not None
    assert read.labels.equal(made.labels)
    assert read.labels.equal(made.parameters["labels"])
    assert (read.labels.dtype, read.labels.shape, read.labelling.kind) == (dtype, (6, 3), "scores")
    assert read.stored_bytes == made.stored_bytes == 6 * (5 + 3) * dtype.itemsize


def test_the_class_is_the_one_that_an_example_was_made_for(tmp_path: Path) -> None:
    made = condensed()
    assert made.labels is not None
    made = replace(made, labelling=replace(made.labelling, values=-made.labels))
    made.save(tmp_path / "a.safetensors")
    read = SyntheticSet.load(tmp_path / "a.safetensors")
    assert read.numbers.tolist() == [0, 0, 1, 1, 2, 2]
    hard = read.hardened()
    assert (hard.labelling.kind, hard.labelling.slots) == ("hard", None)
    assert hard.labels is not None
    assert hard.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_labels_that_are_learned_distributions_are_none_of_it() -> None:
    soft = replace(SCORED, labels="soft")
    made = condense(table(), RIDGE, context=Pool(), synthetic=soft, steps=2)
    assert (made.labelling.kind, made.labelling.slots) == ("soft", None)
