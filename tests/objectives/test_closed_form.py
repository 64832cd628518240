"""Closed forms, from the condensed sets alone: ridge regressions solved with numpy on their features give the weights that
numpy finds on the features of the real data."""

import math
import warnings
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from discrepancy import Parameters, Ridge
from discrepancy.embeddings import Embedding, Features, Identity, RandomCosine
from discrepancy.errors import InvalidInput, NumericalWarning
from discrepancy.learning.ridge import Validation
from discrepancy.networks import MLP, ConvNet, Coupling, Network
from objectives import LabelledData, Match, Pixels, Pool, SyntheticSet, condense
from objectives.condensation import solve
from objectives.engine.real_side import STREAMED_BYTES
from objectives.engine.runtime import Runtime
from objectives.rng import rng
from objectives.solvers import ClosedForm, Problem
from objectives.terms.match import BoundMatch

SIZES, PENALTY = (17, 30, 23), 0.02
DOUBLE = Runtime(dtype=torch.float64)
C, SHAPE = len(SIZES), (2, 4, 5)
D = math.prod(SHAPE)
LEAKY = MLP(width=None, depth=2, activation="leaky_relu", slope=0.1, bias=False)
SPACES: dict[str, tuple[Embedding, Network | None]] = {
    "linear": (Identity(), None),
    "leaky": (Features(), LEAKY),
    "convolution": (Features(), ConvNet(width=2, depth=2, norm="none", activation="leaky_relu", pooling="average")),
    "coupling": (Features(), Coupling(width=16)),
    "cosine": (RandomCosine(lengthscale=6.0), None),
    "fewer cosines": (RandomCosine(features=11, lengthscale=6.0), None),
    "deep linear, wide": (Features(), MLP(width=50, depth=3, activation="identity", bias=False)),
}
in_each_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())


@pytest.fixture
def data() -> LabelledData:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(C).repeat_interleave(torch.tensor(SIZES))
    means = torch.randn(C, *SHAPE, generator=generator, dtype=torch.float64)
    return LabelledData.of(means[labels] + torch.randn(len(labels), *SHAPE, generator=generator).double(), labels)


def match(via: Embedding | None = None, real: Ridge | None = None, own: float = 0.0, intercept: bool = False) -> Match:
    learner = real or Ridge(penalty=PENALTY, intercept=intercept)
    return Match(
        Parameters(learner=learner, synthetic=replace(learner, penalty=own, relative=False)),
        via=via or Identity(),
        by="none",
    )


def condensed(
    data: LabelledData, space: tuple[Embedding, Network | None], term: Match | None = None, **changes
) -> SyntheticSet:
    via, network = space
    solver = ClosedForm(
        **{key: changes.pop(key) for key in ("condense", "root", "precision", "nearest") if key in changes}
    )
    settings = {"per_class": 1, "start": "noise", **changes}
    return condense(
        data,
        term or match(via),
        context=Pool(size=1, network=network),
        synthetic=Pixels(**settings),
        solver=solver,
        dtype=torch.float64,
    )


def features(data: LabelledData, space: tuple[Embedding, Network | None], points: Tensor) -> np.ndarray:
    """Of points in the units of the source, by the weights and frequencies that the streams of the run say."""
    via, network = space
    normalised = data.normalisation.apply(points, torch.float64)
    taken, draws = {"points": normalised}, None
    if network is not None:
        initial = network.initial(rng(0, "network", 0), data.shape, data.outputs, affine=False)
        parameters = {name: value.double() for name, value in initial.items()}
        taken |= network(parameters, normalised, ("features",))
    if isinstance(via, RandomCosine):
        draws = via.draw(rng(0, "random", "parameters", "0", "0", "0", "1.0"), {"points": data.shape})
    found = via(taken, draws)
    assert isinstance(found, Tensor)
    return found.flatten(1).numpy()


def ridge(x: np.ndarray, y: np.ndarray, penalty: float, intercept: bool = False) -> np.ndarray:
    """min E ‖W x + b - y‖² + λ ‖W‖², of least norm for λ = 0."""
    if intercept:
        x, y = x - x.mean(0), y - y.mean(0)
    if penalty == 0:
        return np.linalg.lstsq(x, y, rcond=1e-11)[0].T
    d = x.shape[1]
    x, y = np.vstack([x, np.sqrt(penalty * len(x)) * np.eye(d)]), np.vstack([y, np.zeros((d, y.shape[1]))])
    return np.linalg.lstsq(x, y)[0].T


def vectors(data: LabelledData) -> np.ndarray:
    return np.eye(C)[data.train.strata.numpy()]


def labels_of(made: SyntheticSet) -> np.ndarray:
    assert made.labels is not None
    return made.labels.numpy() if made.labels.ndim == 2 else np.eye(C)[made.labels.numpy()]


def error(found: np.ndarray, sought: np.ndarray) -> float:
    return float(np.linalg.norm(found - sought) / np.linalg.norm(sought))


def tolerance(made: SyntheticSet) -> float:
    return 100 * float(np.finfo(np.float64).eps) * made.record["findings"]["condition"]


@in_each_space
@pytest.mark.parametrize(("per_class", "start"), [(1, "real"), (4, "noise"), (20, "noise")])  # 17 real examples
def test_the_same_weights_are_learned(data: LabelledData, space, per_class: int, start: str):
    made = condensed(data, space, per_class=per_class, start=start)
    sought = ridge(features(data, space, data.train.points), vectors(data), PENALTY)
    found = ridge(features(data, space, made.points), labels_of(made), 0.0) / made.record["findings"]["factor"]
    assert error(found, sought) < tolerance(made)
    assert made.record["findings"]["error"] < tolerance(made)
    sigma = np.linalg.svd(features(data, space, made.points), compute_uv=False)
    least, scale = sigma[sigma > 1e-12 * sigma[0]][-1], made.record["findings"]["factor"]
    own = np.linalg.norm(labels_of(made), 2) * sigma[0] / least**2 / np.linalg.norm(scale * sought, 2)
    assert made.record["findings"]["condition"] == pytest.approx(
        made.record["findings"]["condition_embedding"] * own, rel=1e-6
    )
    assert made.points.dtype == torch.float64


@in_each_space
@pytest.mark.parametrize(
    ("start", "labels"), [("noise", "hard"), ("real", "learned")], ids=["noise-hard", "real-learned"]
)
def test_from_any_number_of_points_on_from_one_a_class(data: LabelledData, space, start: str, labels: str):
    """One more than classes is what Theorem 5.3 has for deep linear networks."""
    for more in (0, 1, 5):
        made = condensed(data, space, examples=C + more, start=start, labels=labels)
        assert len(made) == C + more
        sought = ridge(features(data, space, data.train.points), vectors(data), PENALTY)
        found = ridge(features(data, space, made.points), labels_of(made), 0.0) / made.record["findings"]["factor"]
        assert error(found, sought) < tolerance(made)


@pytest.mark.parametrize("name", ["linear", "leaky", "coupling", "deep linear, wide"])
@pytest.mark.parametrize("few", [1, 2])
def test_from_fewer_points_than_classes_the_rows_of_theirs(data: LabelledData, name: str, few: int):
    """Hard labels of some classes tell the rows of W of these, and nothing of the others."""
    space = SPACES[name]
    with pytest.warns(NumericalWarning, match=rf"the nearest miss them by .*; use at least {C} examples"):
        made = condensed(data, space, examples=few)
    sought = ridge(features(data, space, data.train.points), vectors(data), PENALTY)
    found = ridge(features(data, space, made.points), labels_of(made), 0.0)
    nearest = np.where(np.arange(C)[:, None] < few, sought, 0)
    assert error(found, nearest) < tolerance(made)
    missed = np.linalg.norm(sought[few:]) / np.linalg.norm(sought)
    assert made.record["findings"]["error"] == pytest.approx(missed, rel=1e-9)


@pytest.mark.parametrize("root", ["small", "large"])
@pytest.mark.parametrize("name", ["linear", "leaky", "coupling"])
def test_with_a_penalty_on_the_synthetic_side(data: LabelledData, name: str, root):
    space, own = SPACES[name], 1e-4
    made = condensed(data, space, match(space[0], own=own), per_class=3, root=root)
    sought = ridge(features(data, space, data.train.points), vectors(data), PENALTY)
    found = ridge(features(data, space, made.points), labels_of(made), own)
    assert error(found, sought) < 1e-11


def test_cosines_with_a_penalty_are_made_smaller_until_they_are_reached(data: LabelledData):
    space, own = SPACES["cosine"], 1e-3
    made = condensed(data, space, match(space[0], own=own), per_class=3, root="small")
    sought = ridge(features(data, space, data.train.points), vectors(data), PENALTY)
    found = ridge(features(data, space, made.points), labels_of(made), own) / made.record["findings"]["factor"]
    assert error(found, sought) < 1e-9


@pytest.mark.parametrize("name", ["linear", "leaky", "coupling", "deep linear, wide"])
@pytest.mark.parametrize("labels", ["hard", "learned"])
@pytest.mark.parametrize("start", ["noise", "real"])
def test_an_intercept_is_learned_too(data: LabelledData, name: str, labels: str, start: str):
    space = SPACES[name]
    made = condensed(data, space, match(space[0], intercept=True), per_class=4, labels=labels, start=start)
    x, y = features(data, space, data.train.points), vectors(data)
    synthetic, own = features(data, space, made.points), labels_of(made)
    sought, found = ridge(x, y, PENALTY, intercept=True), ridge(synthetic, own, 0.0, intercept=True)
    assert error(found, sought) < tolerance(made)
    offsets = [b.mean(0) - w @ a.mean(0) for a, b, w in ((x, y, sought), (synthetic, own, found))]
    np.testing.assert_allclose(*offsets, atol=1e-8)


@pytest.mark.parametrize("name", ["linear", "cosine"])
@pytest.mark.parametrize("labels", ["hard", "learned"])
@pytest.mark.parametrize("per_class", [1, 4])
def test_centred_labels(data: LabelledData, name: str, labels: str, per_class: int):
    """1/c is taken off the labels of both sides; W then has one rank less than there are classes."""
    space = SPACES[name]
    term = match(space[0], real=Ridge(penalty=PENALTY, centred=True))
    made = condensed(data, space, term, per_class=per_class, start="real", labels=labels)
    sought = ridge(features(data, space, data.train.points), vectors(data) - 1 / C, PENALTY)
    found = ridge(features(data, space, made.points), labels_of(made) - 1 / C, 0.0) / made.record["findings"]["factor"]
    assert error(found, sought) < tolerance(made)
    assert made.record["findings"]["error"] < tolerance(made)


@pytest.mark.parametrize("name", ["linear", "leaky", "convolution", "cosine", "fewer cosines"])
def test_predictions_as_labels_keep_points_near_their_start(data: LabelledData, name: str):
    """With labels that are the predictions of W, the points stay nearer to the real ones; and no factor is left."""
    space, moved = SPACES[name], []
    start = None
    for labels in ("hard", "learned"):
        made = condensed(data, space, per_class=15, start="real", labels=labels)
        problem_start = Pixels(per_class=15, start="real").initial(data.train, 0)["points"]
        start = data.normalisation.invert(problem_start.double())
        moved.append(float((made.points - start).norm() / start.norm()))
        sought = ridge(features(data, space, data.train.points), vectors(data), PENALTY)
        found = ridge(features(data, space, made.points), labels_of(made), 0.0)
        if labels == "learned":
            assert made.record["findings"]["factor"] == 1.0
            assert error(found, sought) < tolerance(made)
    assert moved[1] < 0.6 * moved[0]


@pytest.mark.parametrize("per_class", [4, 15])
@pytest.mark.parametrize("name", ["linear", "leaky", "cosine"])
def test_how_far_points_move_is_recorded(data: LabelledData, name: str, per_class: int):
    """With as many points as features their predictions are exact, and nothing that is reached has to move."""
    made = condensed(data, SPACES[name], per_class=per_class, start="real", labels="learned")
    start = Pixels(per_class=per_class, start="real").initial(data.train, 0)["points"].double()
    moved = data.normalisation.apply(made.points, torch.float64) - start
    assert made.record["findings"]["moved"] == pytest.approx(float(moved.norm() / start.norm()), abs=1e-12)
    assert (made.record["findings"]["moved"] < 1e-9) == (per_class * C >= D)
    assert "moved" not in condensed(data, SPACES[name], per_class=1).record["findings"]


def test_labels_for_points_as_they_are(data: LabelledData):
    """Theorem 4.2: exact from as many points as features on; below the residual is that of the projection."""
    sought = ridge(features(data, SPACES["linear"], data.train.points), vectors(data), PENALTY)
    for per_class, exact in ((14, True), (3, False)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            made = condensed(data, SPACES["linear"], per_class=per_class, labels="learned", condense="labels")
        x = features(data, SPACES["linear"], made.points)
        missed = error(ridge(x, labels_of(made), 0.0), sought)
        span = np.linalg.pinv(x) @ x
        assert missed == pytest.approx(np.linalg.norm(sought @ (np.eye(D) - span)) / np.linalg.norm(sought), abs=1e-10)
        assert made.record["findings"]["error"] == pytest.approx(missed, abs=1e-10)
        assert (missed < 1e-10) == exact
        assert bool([item for item in caught if issubclass(item.category, NumericalWarning)]) != exact
        kept = Pixels(per_class=per_class, start="noise").initial(data.train, 0)["points"].double()
        torch.testing.assert_close(data.normalisation.apply(made.points, torch.float64), kept)


def test_labels_for_points_as_they_are_with_an_intercept(data: LabelledData):
    """Their means are what the real side predicts at the means of the features."""
    space = SPACES["linear"]
    made = condensed(data, space, match(space[0], intercept=True), per_class=14, labels="learned", condense="labels")
    x, y, own = features(data, space, data.train.points), vectors(data), features(data, space, made.points)
    sought = ridge(x, y, PENALTY, intercept=True)
    assert error(ridge(own, labels_of(made), 0.0, intercept=True), sought) < 1e-9
    expected = y.mean(0) + (own.mean(0) - x.mean(0)) @ sought.T
    np.testing.assert_allclose(labels_of(made).mean(0), expected, atol=1e-9)


@pytest.mark.parametrize("kept", [0, 2**30])
def test_mixed_precision_finds_the_weights_of_double_precision(
    data: LabelledData, monkeypatch: pytest.MonkeyPatch, kept: int
):
    """Those of features in float32, to the last digits; with and without an intercept, and with a penalty over the spread;
    features kept or made again."""
    monkeypatch.setattr("objectives.solvers.closed_form.closed_form.KEPT_BYTES", kept)
    for learner in (
        Ridge(penalty=PENALTY),
        Ridge(penalty=1e-4, intercept=True),
        Ridge(penalty=1e-3, relative=True, centred=True),
    ):
        made = condensed(data, SPACES["linear"], match(real=learner), per_class=4, precision="mixed")
        x = data.normalisation.apply(data.train.points).flatten(1).double().numpy()
        spread = ((x - x.mean(0)) ** 2).sum() / len(x) if learner.intercept else (x**2).sum() / len(x)
        penalty = learner.number * (spread if learner.relative else 1.0)
        shift = 1 / C if learner.centred else 0.0
        sought = ridge(x, vectors(data) - shift, penalty, learner.intercept)
        found = ridge(features(data, SPACES["linear"], made.points), labels_of(made) - shift, 0.0, learner.intercept)
        assert error(found, sought) < 1e-11


@pytest.mark.parametrize("nbytes", [1, 5 * 8 * 64, 1 << 30])
def test_the_real_side_comes_in_parts_of_bounded_size(data: LabelledData, monkeypatch: pytest.MonkeyPatch, nbytes: int):
    monkeypatch.setitem(STREAMED_BYTES, "cpu", nbytes)
    some = Problem(data.train, match().named("ridge"), Pool(size=1), Pixels(per_class=1), DOUBLE)
    engine = some.engine(1)
    bound = engine.terms["ridge"]
    assert isinstance(bound, BoundMatch)
    parts = [measure.rows[0] for measure in engine.real_side.streamed(0, bound)]
    size = max(1, nbytes // (8 * D))
    assert [len(part) for part in parts[:-1]] == [size] * (len(parts) - 1)
    assert len(parts[-1]) <= size
    together, every = torch.cat(parts), data.normalisation.apply(data.train.points, torch.float64).flatten(1)
    torch.testing.assert_close(together.sort(0).values, every.sort(0).values)


def test_the_penalty_is_chosen_once_and_recorded(data: LabelledData):
    learner = Ridge(penalty=Validation(lowest=1e-4, highest=1.0, share=0.2))
    made = condensed(data, SPACES["linear"], match(real=learner))
    number = made.record["findings"]["penalty"]
    assert 1e-4 <= number <= 1.0
    sought = ridge(features(data, SPACES["linear"], data.train.points), vectors(data), number)
    assert error(ridge(features(data, SPACES["linear"], made.points), labels_of(made), 0.0), sought) < 1e-12


def test_the_artefact_is_exact_and_one_of_float32_is_not(data: LabelledData, tmp_path):
    sought = ridge(features(data, SPACES["linear"], data.train.points), vectors(data), PENALTY)
    made = condensed(data, SPACES["linear"], per_class=2)
    made.save(tmp_path / "exact.safetensors")
    again = SyntheticSet.load(tmp_path / "exact.safetensors")
    assert error(ridge(features(data, SPACES["linear"], again.points), labels_of(again), 0.0), sought) < 1e-13
    assert again.record["findings"] == made.record["findings"]
    rounded = condense(
        data,
        match(),
        context=Pool(size=1),
        synthetic=Pixels(per_class=2, start="noise"),
        solver=ClosedForm(),
        dtype=torch.float32,
    )
    assert rounded.points.dtype == torch.float32
    assert 1e-9 < rounded.record["findings"]["error"] < 1e-5


@pytest.mark.parametrize(
    "trouble",
    [
        "collinear",
        "constant",
        "fewer examples than features",
        "no penalty",
        "neither examples nor penalty",
        "a chosen penalty",
        "soft labels",
        "an empty feature",
    ],
)
@pytest.mark.parametrize(("name", "intercept"), [("linear", True), ("leaky", False)])
def test_troubled_data(data: LabelledData, trouble: str, name: str, intercept: bool):
    points, labels, learner, y = data.train.points.clone(), data.train.strata, Ridge(penalty=PENALTY), vectors(data)
    flat = points.flatten(1)
    given: Tensor = labels
    if trouble == "collinear":
        flat[:, 3] = 2 * flat[:, 4]
    if trouble == "constant":
        flat[:, 5] = 3.0
    if trouble == "an empty feature":
        flat[:, 0] = 0.0
    if trouble in ("fewer examples than features", "neither examples nor penalty"):
        flat, given, y = flat[::5], labels[::5], y[::5]
    if trouble == "no penalty":
        flat[:, 3], learner = 2 * flat[:, 4], Ridge(penalty=0.0)
    if trouble == "neither examples nor penalty":
        learner = Ridge(penalty=0.0)
    if trouble == "a chosen penalty":
        flat[:, 3], learner = 2 * flat[:, 4], Ridge(penalty=Validation())
    if trouble == "soft labels":
        given = torch.rand(len(flat), C, generator=torch.Generator().manual_seed(1)).softmax(1)
    troubled, space = LabelledData.of(flat, given), SPACES[name]
    if troubled.train.labels.kind == "soft":
        y = troubled.train.labels.rows.double().numpy()
    rounded = trouble == "soft labels" and intercept  # to float32: their sum is not quite 1, but that of hard ones is
    says = pytest.warns(NumericalWarning, match="use labels: learned") if rounded else nullcontext()
    with says:
        made = condensed(troubled, space, match(space[0], replace(learner, intercept=intercept)), per_class=2)
    sought = ridge(features(troubled, space, flat), y, made.record["findings"]["penalty"], intercept)
    found = ridge(features(troubled, space, made.points), labels_of(made), 0.0, intercept)
    assert error(found, sought) < (1e-6 if rounded else max(tolerance(made), 1e-12))


def test_nothing_is_learned_where_nothing_differs(data: LabelledData):
    """Of constant features an intercept is all, W is zero, and so is its error."""
    same = LabelledData.of(torch.full((20, 4), 3.0, dtype=torch.float64), torch.arange(20) % 2)
    made = condensed(same, SPACES["linear"], match(intercept=True), per_class=2)
    assert made.record["findings"]["norm"] == 0
    assert made.record["findings"]["error"] < 1e-14
    found = ridge(made.points.numpy(), np.eye(2)[np.array([0, 0, 1, 1])], 0.0, intercept=True)
    assert np.abs(found).max() < 1e-14


def with_targets(columns: int) -> LabelledData:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 6, generator=generator, dtype=torch.float64)
    y = x @ torch.randn(6, columns, generator=generator).double() + torch.randn(40, columns, generator=generator)
    return LabelledData.with_targets(x, y)


def test_targets_of_a_regression():
    """One example is enough for one target; for two targets it is not, and then it is said by how much they are missed."""
    one = with_targets(1)
    settings = {
        "synthetic": Pixels(examples=1),
        "context": Pool(size=1),
        "solver": ClosedForm(),
        "dtype": torch.float64,
    }
    made = condense(one, match(), **settings)
    assert one.target_units is not None
    assert one.train.labels.kind == "targets"
    x = one.normalisation.apply(one.train.points, torch.float64).numpy()
    sought = ridge(x, one.target_units.apply(one.train.labels.rows, torch.float64).numpy(), PENALTY)
    targets = made.labelling.vectors(1)
    assert targets is not None
    kept = one.normalisation.apply(made.points, torch.float64).numpy()
    assert error(ridge(kept, targets.double().numpy(), 0.0), sought) < 1e-6  # targets are kept in float32
    assert made.record["findings"]["error"] < 1e-13
    with pytest.warns(
        NumericalWarning, match=r"the labels of the 1 synthetic examples have rank 1, .* miss them by 0\."
    ):
        condense(with_targets(2), match(), **settings)


def test_what_is_not_reached_is_taken_from_nearby_where_asked_for(data: LabelledData):
    space = (Features(), MLP(width=D + 9, depth=1, activation="leaky_relu"))
    with pytest.raises(InvalidInput, match="reaches only a part of all the features"):
        condensed(data, space, per_class=2)
    with pytest.warns(NumericalWarning, match="weights are learned that differ from those of the real data by"):
        made = condensed(data, space, per_class=2, nearest=True)
    sought = ridge(features(data, space, data.train.points), vectors(data), PENALTY)
    found = ridge(features(data, space, made.points), labels_of(made), 0.0)
    assert made.record["findings"]["error"] == pytest.approx(error(found, sought), rel=1e-6)


def test_a_solution_is_restored(data: LabelledData):
    problem = Problem(data.train, match().as_objective(), Pool(size=1), Pixels(per_class=2, start="noise"), DOUBLE)
    first, second = ClosedForm().start(problem), ClosedForm().start(problem)
    solve(first)
    second.restore(first.state())
    assert second.step == second.steps == 1
    torch.testing.assert_close(second.parameters, first.parameters, rtol=0, atol=0)
    assert second.findings == first.findings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": match() + match().named("other")}, "solves one match of 'parameters' with learner 'ridge'"),
        ({"objective": replace(match(), by="class")}, "term 'parameters' must be by: none"),
        ({"context": Pool(size=2)}, "give the context kind: pool, size: 1, batch: all"),
        ({"context": Pool(size=1, batch=4)}, "give the context kind: pool, size: 1, batch: all"),
        ({"synthetic": Pixels(weights="learned")}, "pixels with equal weights and without 'clip'"),
        ({"synthetic": Pixels(clip=True)}, "pixels with equal weights and without 'clip'"),
        (
            {"solver": ClosedForm(condense="labels")},
            "'condense' is labels, so the synthetic set must have labels: learned",
        ),
        (
            {"objective": Match(Parameters(learner=Ridge(penalty=0.1, relative=True)), by="none")},
            "'relative' multiplies the penalty of the synthetic side by what is yet to be found",
        ),
        ({"objective": match(own=1e3)}, r"must be at most 1/\(4 σ²\) = .* lower it"),
        (
            {"objective": match(Features()), "context": Pool(size=1, network=MLP())},
            "'activation' must be one of leaky_relu, identity",
        ),
    ],
)
def test_what_cannot_be_solved_is_refused(data: LabelledData, changes, message: str):
    settings = {"objective": match(), "context": Pool(size=1), "synthetic": Pixels(), "solver": ClosedForm(), **changes}
    with pytest.raises(InvalidInput, match=message):
        condense(data, **settings)


def test_a_bounded_embedding_cannot_have_an_intercept(data: LabelledData):
    term = match(RandomCosine(lengthscale=6.0), intercept=True)
    with pytest.raises(InvalidInput, match="which with an 'intercept' cannot be divided"):
        condensed(data, SPACES["cosine"], term, per_class=2)
