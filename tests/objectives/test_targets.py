"""Regression: targets in place of classes, in the objectives that need no classes; and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import start

from discrepancy import MMD, JointMMD, KernelRidge, Ridge, Risk
from discrepancy.embeddings import Features, LossGradient
from discrepancy.errors import InvalidInput
from discrepancy.kernels import Gaussian
from discrepancy.networks import MLP
from objectives.condensation import condense
from objectives.contexts import Fresh, Pool, Trained
from objectives.data.labelled import LabelledData, Normalisation
from objectives.rng import rng
from objectives.solvers import (
    Descent,
    ExactCover,
    Forgetting,
    GreedyMMD,
    Herding,
    KCentre,
    KernelThinning,
    Random,
    Solver,
)
from objectives.solvers.base import decoded
from objectives.synthetic.artefact import SyntheticSet
from objectives.synthetic.formation import Formation
from objectives.synthetic.pixels import Pixels
from objectives.teacher import Teacher
from objectives.terms.match import Match
from objectives.terms.objective import Objective, Summand
from objectives.terms.penalties import CrossEntropy

N, D = 23, 4


def regression(columns: int = 1, n: int = N, shape: tuple[int, ...] = (D,)) -> LabelledData:
    generator = torch.Generator().manual_seed(11)
    x = torch.randn(n, *shape, generator=generator)
    noise = torch.randn(n, columns, generator=generator)
    y = 100 + 20 * x.flatten(1)[:, :1] * torch.arange(1, columns + 1) + 5 * noise
    return LabelledData.with_targets(x, y[:, 0] if columns == 1 else y, test=(x[:6], y[:6]))


def standardised(values: torch.Tensor) -> np.ndarray:
    plain = values.double().numpy()
    return (plain - plain.mean(0)) / plain.std(0)


# --- data -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [1, 3])
def test_targets_have_units_of_their_own(columns: int) -> None:
    data = regression(columns)
    assert data.train.labels.kind == "targets"
    assert data.target_units == Normalisation.measured(data.train.labels.rows)
    rows = torch.tensor([3, 1])
    vectors = data.train.label_vectors(rows)
    assert vectors is not None
    np.testing.assert_allclose(vectors.numpy(), standardised(data.train.labels.rows)[rows.numpy()], atol=1e-6)
    assert (data.classes, data.count, data.outputs, data.train.per_class) == ((), 1, columns, (N,))


def test_targets_are_in_the_fingerprint_and_stay_with_their_examples() -> None:
    data = regression()
    assert data.train.labels.kind == "targets"
    other = LabelledData.with_targets(data.train.points, data.train.labels.rows + 1)
    assert (
        other.train.fingerprint()
        != LabelledData.with_targets(data.train.points, data.train.labels.rows).train.fingerprint()
    )
    part = data.split(0.3, torch.Generator().manual_seed(0))
    assert part.test is not None
    assert part.test.labels.kind == "targets"
    assert (len(part.train), len(part.test)) == (16, 7)
    for point, target in zip(part.test.points, part.test.labels.rows, strict=True):
        (row,) = (data.train.points == point).all(1).nonzero()[:, 0]
        assert data.train.labels.rows[row].equal(target)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (torch.full((N,), torch.nan), "targets must be finite, got NaN or infinity at example 0"),
        (torch.zeros(N, 2, 2), r"targets must have shape \(n,\) or \(n, k\), got \(23, 2, 2\)"),
        (torch.zeros(N + 1), "24 targets do not fit 23 points"),
    ],
    ids=["nan", "shape", "length"],
)
def test_bad_targets_are_refused(targets: torch.Tensor, message: str) -> None:
    with pytest.raises(InvalidInput, match=f"training data: {message}"):
        LabelledData.with_targets(torch.zeros(N, D), targets)


def test_real_labels_say_how_a_regression_is_meant() -> None:
    with pytest.raises(InvalidInput, match=r"LabelledData\.with_targets"):
        LabelledData.of(torch.zeros(3, 2), [0.5, 1.0, 2.0])
    spec = replace(regression().spec, classes=("a", "b"))
    with pytest.raises(InvalidInput, match="do not fit its classes or targets; give labels with classes, targets with"):
        LabelledData.made(spec, regression().train.rows())


# --- where targets start, and what moves ------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [1, 2])
def test_a_real_start_has_the_targets_of_its_examples(columns: int) -> None:
    data = regression(columns)
    made = condense(data, Match(MMD(), by="none"), context=Pool(), examples=5, steps=1, solver=Descent(lr=1e-9))
    assert made.labels is not None
    assert made.labels.shape == ((5,) if columns == 1 else (5, 2))
    assert data.train.labels.kind == "targets"
    for point, label in zip(made.points, made.labels, strict=True):
        row = (data.train.points - point).norm(dim=1).argmin()
        torch.testing.assert_close(label.reshape(-1), data.train.labels.rows[row], rtol=1e-5, atol=1e-4)


def test_a_start_from_noise_has_quantiles() -> None:
    data = regression()
    assert data.train.labels.kind == "targets"
    labels = Pixels(examples=4, start="noise").initial(data.train, 0)["labels"]
    levels = np.quantile(data.train.labels.rows[:, 0].numpy(), [0.125, 0.375, 0.625, 0.875])
    units = data.target_units
    assert units is not None
    np.testing.assert_allclose(units.invert(labels)[:, 0].numpy(), levels, rtol=1e-5)
    assert Pixels(examples=4, start="noise").initial(regression(2).train, 0)["labels"].shape == (4, 2)


def test_what_decodes_to_several_has_the_mean_of_their_neighbouring_targets() -> None:
    data = regression(shape=(1, 4, 4))
    form = Formation(examples=3)
    parameters, layout = form.initial(data.train, 1), form.layout(data.train)
    assert parameters["images"].shape == (3, 1, 4, 4)
    rows = form.decode(parameters, layout)
    assert rows.labels.shape == (12, 1)
    targets = parameters["labels"][:, 0]
    assert bool((targets.diff() > 0).all())
    drawn = data.train.label_vectors(data.train.class_batch(rng(1, "start"), 12))
    assert drawn is not None
    torch.testing.assert_close(targets, drawn[:, 0].sort().values.unflatten(0, (3, 4)).mean(1))


@pytest.mark.parametrize("labels", ["hard", "learned"])
def test_targets_move_only_where_they_are_learned(labels: Any) -> None:
    data, synthetic = regression(), Pixels(examples=5, labels=labels)
    objective, context = Match(Risk(learner=Ridge(penalty=0.1)), by="none"), Pool()
    rates = (("labels", 0.5),) if labels == "learned" else ()
    solving = start(data, objective, Descent(lr=0.01, steps=3, rates=rates), synthetic=synthetic, context=context)
    before = solving.parameters["labels"].clone()
    while solving.step < solving.steps:
        solving.advance()
    assert solving.parameters["labels"].equal(before) == (labels == "hard")
    again = start(data, objective, Descent(lr=0.01, steps=3, rates=rates), synthetic=synthetic, context=context)
    again.restore(solving.state())
    assert again.parameters["labels"].equal(solving.parameters["labels"])


def test_a_rate_for_targets_that_stay_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"'rates' name \['labels'\], but the learned parameters are \['points'\]"):
        start(
            regression(),
            Match(MMD(), by="none"),
            Descent(rates=(("labels", 1.0),)),
            synthetic=Pixels(examples=2),
            context=Pool(),
        )


# --- objectives -------------------------------------------------------------------------------------------------------


def value(data: LabelledData, match: Any, synthetic: Pixels) -> tuple[float, np.ndarray, np.ndarray]:
    """The loss at the start, and points and targets there."""
    solving = start(data, Match(match, by="none"), Descent(lr=1e-9, steps=1), synthetic=synthetic, context=Pool())
    at = decoded(solving.problem, solving.parameters)  # pyright: ignore[reportAttributeAccessIssue]
    points, labels = at.points.double().numpy(), at.labels.double().numpy()
    return float(solving.advance().loss), points, labels


@pytest.mark.parametrize("columns", [1, 2])
def test_risk_of_ridge_on_targets_is_that_of_numpy(columns: int) -> None:
    data = regression(columns)
    found, s, t = value(data, Risk(learner=Ridge(penalty=0.3)), Pixels(examples=7))
    x, y = standardised(data.train.points), standardised(data.train.labels.rows)
    w = np.linalg.solve(s.T @ s / 7 + 0.3 * np.eye(D), s.T @ t / 7)
    assert found == pytest.approx(np.square(x @ w - y).sum(1).mean(), rel=1e-5)


def test_risk_of_kernel_ridge_on_targets_is_that_of_numpy() -> None:
    data = regression()
    kernel = Gaussian(lengthscale=2.0)
    found, s, t = value(data, Risk(learner=KernelRidge(kernel=kernel, penalty=0.1)), Pixels(examples=6, start="noise"))
    x, y = standardised(data.train.points), standardised(data.train.labels.rows)
    gram = lambda a, b: np.exp(-np.square(a[:, None] - b[None]).sum(-1) / 8)  # noqa: E731
    coefficients = np.linalg.solve(gram(s, s) + 0.1 * 6 * np.eye(6), t)
    assert found == pytest.approx(np.square(gram(x, s) @ coefficients - y).sum(1).mean(), rel=1e-5)


def test_joint_mmd_takes_targets_as_label_vectors() -> None:
    data = regression(2)
    found, s, t = value(data, JointMMD(kernel=Gaussian(lengthscale=2.0)), Pixels(examples=5))
    x, y = standardised(data.train.points), standardised(data.train.labels.rows)
    gram = lambda a, b, p, q: (np.exp(-np.square(a[:, None] - b[None]).sum(-1) / 8) * (p @ q.T)).mean()  # noqa: E731
    assert found == pytest.approx(gram(x, x, y, y) - 2 * gram(x, s, y, t) + gram(s, s, t, t), rel=1e-4)


def test_features_are_matched_without_classes() -> None:
    data = regression()
    made = condense(
        data, Match(MMD(), via=Features(), by="none"), context=Fresh(network=MLP(width=8)), examples=3, steps=3
    )
    assert made.points.shape == (3, D)


def test_groups_need_no_classes() -> None:
    plain = regression()
    data = LabelledData.with_targets(plain.train.points, plain.train.labels.rows, groups=[i % 2 for i in range(N)])
    made = condense(data, Match(MMD(), by="group"), context=Pool(), examples=4, steps=2)
    assert len(made) == 4


# --- selections -------------------------------------------------------------------------------------------------------

SELECTIONS = [Random(), Herding(), KCentre(), ExactCover(time_limit=None), GreedyMMD(weights="equal"), KernelThinning()]


@pytest.mark.parametrize("solver", SELECTIONS, ids=lambda solver: solver.kind)
def test_selections_take_all_the_examples_for_one_group(solver: Solver, tmp_path: Path) -> None:
    data = regression()
    match = Match(MMD(kernel=Gaussian(lengthscale=2.0)), by="none")
    made = condense(data, match, context=Pool(), solver=solver, examples=6)
    rows = torch.tensor(made.record["chosen"])
    assert len(set(rows.tolist())) == 6
    assert data.train.labels.kind == "targets"
    assert made.points.equal(data.train.points[rows])
    assert made.labels is not None
    assert made.labels.equal(data.train.labels.rows[rows, 0])
    made.save(tmp_path / "a.safetensors")
    assert SyntheticSet.load(tmp_path / "a.safetensors").stored_bytes == 6 * (4 * D + 4)


def test_selecting_is_that_within_a_class() -> None:
    """The same examples, once as the only group, once as a class beside another: the same choice."""
    data = regression()
    x = torch.cat([data.train.points, data.train.points + 9])
    both = LabelledData.of(x, [0] * N + [1] * N, normalisation=data.normalisation)
    kernel = MMD(kernel=Gaussian(lengthscale=2.0))
    alone = condense(data, Match(kernel, by="none"), context=Pool(), solver=Herding(), examples=5)
    beside = condense(both, Match(kernel), context=Pool(), solver=Herding(), per_class=5)
    assert alone.record["chosen"] == beside.record["chosen"][:5]


# --- artefact ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [1, 3])
def test_the_artefact_has_targets_in_their_own_units(tmp_path: Path, columns: int) -> None:
    data = regression(columns)
    synthetic = Pixels(examples=4, labels="learned")
    made = condense(
        data, Match(Risk(), by="none"), context=Pool(), synthetic=synthetic, solver=Descent(lr=0.01, steps=2)
    )
    made.save(tmp_path / "a.safetensors")
    read = SyntheticSet.load(tmp_path / "a.safetensors")
    assert made.labels is not None
    assert read.labels is not None
    assert read.labels.equal(made.labels)
    assert (read.labelling.kind, read.classes, read.labelling.units) == ("targets", (), data.target_units)
    assert read.stored_bytes == 4 * 4 * (D + columns)
    vectors = read.labelling.vectors(1)
    assert vectors is not None
    torch.testing.assert_close(vectors, read.parameters["labels"], rtol=1e-4, atol=1e-4)
    assert read[0][1].equal(made.labels[0])


# --- what needs classes is refused ------------------------------------------------------------------------------------

NETWORK = Pool(network=MLP(width=4))


@pytest.mark.parametrize(
    ("objective", "options", "message"),
    [
        (Match(MMD()), {}, "term 'mmd' is by: class, which needs classes, but 'data' has targets and no classes"),
        (
            Match(MMD(), via=LossGradient(), by="none"),
            {"context": NETWORK},
            "takes the gradient of a cross-entropy, which needs",
        ),
        (
            CrossEntropy().as_objective(),
            {"context": NETWORK},
            "term 'cross_entropy' is a cross_entropy, which needs classes",
        ),
        (
            Match(MMD(), by="none"),
            {"synthetic": Pixels(examples=2, labels="soft")},
            "'labels' is soft, .*which needs classes",
        ),
        (
            Match(MMD(), by="none"),
            {"synthetic": Pixels(examples=2, start="class-mean")},
            "start: class-mean needs classes",
        ),
        (
            Match(MMD(), by="none"),
            {"synthetic": Pixels(per_class=2)},
            "'data' has no classes; say how many .* with 'examples'",
        ),
        (
            Match(MMD(), by="none"),
            {"synthetic": Pixels(examples=99)},
            "start: real needs 99 examples, but 'data' has 23",
        ),
        (Match(MMD(), by="none"), {"solver": Forgetting()}, "solver: forgetting needs classes"),
        (
            Match(MMD(), via=Features(), by="none"),
            {"context": Trained(network=MLP())},
            "learn by cross-entropy, needs classes",
        ),
        (Match(MMD(), by="none"), {"teacher": Teacher(network=MLP())}, "a teacher needs classes"),
    ],
    ids=[
        "by",
        "gradient",
        "penalty",
        "soft",
        "class-mean",
        "per-class",
        "too-many",
        "forgetting",
        "training",
        "teacher",
    ],
)
def test_what_needs_classes_is_refused(objective: Summand, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        condense(regression(), objective, **{"context": Pool(), "synthetic": Pixels(examples=2), **options})


@pytest.mark.parametrize("solver", SELECTIONS[1:], ids=lambda solver: solver.kind)
def test_a_selection_by_class_is_refused(solver: Solver) -> None:
    with pytest.raises(InvalidInput, match=r"selects from all the examples; term 'mmd' must be a match with by: none"):
        condense(regression(), Match(MMD()), context=Pool(), solver=solver, examples=3)


def test_an_objective_of_points_alone_cannot_learn_targets() -> None:
    objective = Objective((("points", Match(MMD(), by="none")),))
    with pytest.raises(InvalidInput, match="'labels' are learned, but no term depends on them"):
        condense(regression(), objective, context=Pool(), synthetic=Pixels(examples=2, labels="learned"), steps=1)


def test_examples_may_be_counted_in_a_replaced_form() -> None:
    assert replace(Pixels(), examples=4).each(regression().train) == 4
    with pytest.raises(InvalidInput, match="'examples' must be at least 1, got 0"):
        Pixels(examples=0)
