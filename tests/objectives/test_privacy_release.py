"""The curator: what is released against sums written out, its sensitivity over pairs of data sets, what cannot be reached."""

import gc
import itertools
import math
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from discrepancy import MMD, CharacteristicFunction, InvalidInput, Sinkhorn
from discrepancy.embeddings import Features, Identity, Normalised, RandomFourier
from discrepancy.kernels import Gaussian, Linear, Median
from discrepancy.networks import MLP, ConvNet
from objectives import (
    CrossEntropy,
    Descent,
    Fresh,
    Herding,
    LabelledData,
    Match,
    Normalisation,
    Pixels,
    Pool,
    Privacy,
    Siamese,
    Teacher,
    Trained,
    Worst,
    condense,
)
from objectives.data.in_memory import InMemory
from objectives.data.released import Released
from objectives.privacy.curator import COUNTS, announced, private, sensitivity
from objectives.privacy.gaussian import gaussian_mu
from objectives.privacy.ledger import DataKey, Ledger
from objectives.privacy.storing import read_release, save_release
from objectives.solvers import Problem
from objectives.transforms import Corrupted
from tests.objectives.small import NETWORK, images, problem

NOISE_START = Pixels(per_class=2, start="noise")
MEANS = Match(MMD(kernel=Linear()), via=Normalised())
SOLVER = Descent(lr=0.5, steps=3)
PRIVACY = Privacy(epsilon=1.0, delta=1e-5)


def no_noise(shape: tuple[int, ...]) -> Tensor:
    return torch.zeros(shape, dtype=torch.float64)


def posed(data: LabelledData, objective: Any = MEANS, size: int = 2, **options: Any) -> Problem:
    context = options.pop("context", Pool(network=NETWORK, size=size))
    return problem(data, objective, context=context, synthetic=options.pop("synthetic", NOISE_START), **options)


def table(x: Any, y: Any) -> LabelledData:
    return LabelledData.of(x, y, normalisation=Normalisation((0.0,), (1.0,)), classes=("a", "b", "c"))


def sums_of(released: Any) -> dict[tuple[str, str, str], tuple[Tensor, Tensor]]:
    assert isinstance(released, Released)
    assert released.sums is not None
    return dict(released.sums)


# --- what is released -----------------------------------------------------------------------------------------------------


def test_without_noise_it_is_the_sums_of_the_clipped_vectors() -> None:
    """Written out: features of both networks of every image, cut to the length C together, added up by class."""
    data = images()
    some = posed(data, Match(MMD(kernel=Linear()), via=Features()))
    points = (data.train.points.double() - 127.5) / 127.5
    vectors = []
    for number in (0, 1):
        engine = some.engine(1)
        weights = {name: value.double() for name, value in engine.bound_context.initial(number).items()}
        vectors.append(NETWORK(weights, points, ("features",))["features"].flatten(1))
    lengths = torch.cat(vectors, 1).norm(dim=1)
    longest = float(lengths.median())  # half of them are cut, and half stay as they are
    made = private(some, Privacy(epsilon=1.0, clip=longest / math.sqrt(2)), SOLVER, noise=no_noise).data
    factors = (longest / lengths).clamp(max=1)
    assert 10 < int((factors < 1).sum()) < 20
    own = torch.nn.functional.one_hot(data.train.labels.numbers, 3).double()
    for number, vector in enumerate(vectors):
        total, mass = sums_of(made)[f"{number}/{number}", "mmd", ""]
        torch.testing.assert_close(total, own.T @ (vector * factors[:, None]), rtol=1e-4, atol=1e-5)
        assert mass.tolist() == [7, 11, 13]


def test_an_objective_on_the_release_without_noise_is_that_on_the_data() -> None:
    """Where no vector is longer than C, private and plain matching are one problem."""
    data = images().changed(normalisation=images().normalisation)
    spec = private(posed(data), PRIVACY, SOLVER, noise=no_noise).data.spec
    public = LabelledData.made(spec, data.train.rows())
    for objective in (
        MEANS,
        Match(MMD(kernel=Linear()), via=Normalised(), by="none"),
        Match(CharacteristicFunction(frequencies=7)),
    ):
        some = posed(public, objective)
        solvings = [
            SOLVER.start(one) for one in (some, private(some, Privacy(epsilon=1.0, clip=1e3), SOLVER, noise=no_noise))
        ]
        losses = [[float(solving.advance().loss) for _ in range(3)] for solving in solvings]
        assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_the_noise_has_the_standard_deviation_that_the_budget_needs() -> None:
    some, drawn = posed(images(), size=3), list[Tensor]()

    def ones(shape: tuple[int, ...]) -> Tensor:
        drawn.append(torch.ones(shape, dtype=torch.float64))
        return drawn[-1]

    for privacy in (PRIVACY, Privacy(epsilon=8.0, adjacency="replace-one"), Privacy(epsilon=1.0, share=0.25)):
        drawn.clear()
        plain, noisy = (sums_of(private(some, privacy, SOLVER, noise=noise).data) for noise in (no_noise, ones))
        longest = math.sqrt(3)
        delta = longest * math.sqrt(4 + 2 * 0.2**2 if privacy.adjacency == "replace-one" else 1 + 0.2**2)
        sigma = delta / (gaussian_mu(privacy.epsilon, 1e-5) * math.sqrt(privacy.share))
        for key, (total, mass) in noisy.items():
            torch.testing.assert_close(total - plain[key][0], torch.full_like(total, sigma))
            torch.testing.assert_close(mass - plain[key][1], torch.full_like(mass, sigma / (0.2 * longest)))
        assert len(drawn) == 1 + len(noisy)  # once for the counts, once for each sum
        assert announced(some, privacy, SOLVER).noise == pytest.approx(sigma)


def test_the_noise_of_a_real_release_is_normal_and_of_that_size() -> None:
    some = posed(images(), size=4)
    plain, noisy = (sums_of(private(some, PRIVACY, SOLVER, **how).data) for how in ({"noise": no_noise}, {}))
    apart = torch.cat([(noisy[key][0] - plain[key][0]).flatten() for key in plain])
    sigma = 2 * math.sqrt(1.04) / gaussian_mu(1.0, 1e-5)
    assert stats.kstest(apart.numpy() / sigma, "norm").pvalue > 1e-6


def test_draws_of_an_augmentation_are_releases_too() -> None:
    context = Pool(network=NETWORK, size=2, augment=Siamese(), augmentations=3)
    some = posed(images(), context=context)
    made = private(some, PRIVACY, SOLVER, noise=no_noise).data
    assert {draw for draw, _, _ in sums_of(made)} == {f"{n // 3}/{n}" for n in range(6)}
    assert announced(some, PRIVACY, SOLVER).length == pytest.approx(math.sqrt(6))


# --- sensitivity ----------------------------------------------------------------------------------------------------------


def released_of(x: Tensor, y: list[int], objective: Any) -> np.ndarray:
    """All that is released of three blank examples and these, counts included, in the units in which it has one noise."""
    data = table(torch.cat([torch.zeros(3, 4, dtype=torch.float64), x]), torch.tensor([0, 1, 2, *y]))
    context = Pool(network=MLP(width=3), size=2)
    some = posed(data, objective, context=context, synthetic=Pixels(per_class=1, start="noise"))
    released = sums_of(private(some, PRIVACY, SOLVER, noise=no_noise).data)
    counts = [mass for _, mass in released.values() if len(mass) > 1][:1]
    numbers = [total.flatten() for total, _ in released.values()]
    numbers += [COUNTS * math.sqrt(len(released)) * mass for mass in counts]
    return torch.cat(numbers).numpy()


@pytest.mark.parametrize("by", ["class", "none"])
@pytest.mark.parametrize("kind", ["features", "points", "frequencies", "beside the whole"])
def test_no_pair_of_neighbours_is_further_apart_than_the_sensitivity(kind: str, by: Any) -> None:
    """The release is a sum over examples, so neighbours differ by the vector of one, or by the difference of two: 8 examples of
    every class, among them huge ones, and all pairs."""
    objective = {
        "features": Match(MMD(kernel=Linear()), via=Features(), by=by),
        "points": Match(MMD(kernel=Linear()), by=by),
        "frequencies": Match(MMD(kernel=Linear()), via=RandomFourier(features=8), by=by),
        "beside the whole": Match(MMD(kernel=Linear()), by="none").named("whole")
        + Match(MMD(kernel=Linear()), via=Normalised(of=Identity()), by=by),
    }[kind]
    generator = torch.Generator().manual_seed(4)
    points = torch.randn(8, 4, generator=generator, dtype=torch.float64)
    points *= torch.logspace(-3, 5, 8, dtype=torch.float64)[:, None]
    points[6] = -points[7]
    blank = released_of(points[:0], [], objective)
    vectors = np.stack([released_of(x[None], [y], objective) - blank for x in points for y in range(3)])
    length, classes = math.sqrt(2 if kind != "beside the whole" else 4), by == "class"
    add_remove = np.linalg.norm(vectors, axis=1)
    assert add_remove.max() <= sensitivity(length, PRIVACY, classes=classes) * (1 + 1e-9)
    replaced = max(np.linalg.norm(a - b) for a, b in itertools.combinations(vectors, 2))
    bound = sensitivity(length, Privacy(epsilon=1.0, adjacency="replace-one"), classes=classes)
    assert replaced <= bound * (1 + 1e-9)
    if kind != "frequencies":  # whose vectors are all of length one, and never opposite
        assert add_remove.max() >= 0.999 * sensitivity(length, PRIVACY, classes=classes)
    if kind in ("points", "beside the whole"):
        assert replaced >= 0.98 * bound


@settings(max_examples=200, deadline=None)
@given(
    same=st.booleans(),
    clip=st.floats(0.1, 10),
    vectors=st.lists(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3), min_size=2, max_size=2),
)
def test_the_two_bounds_by_arithmetic(same: bool, clip: float, vectors: list[list[float]]) -> None:
    """Vectors clipped to C in the row of their class, with s = C / 5 in the counts."""
    found = []
    for number, values in enumerate(vectors):
        v = np.array(values)
        v = v * min(1, clip / max(np.linalg.norm(v), 1e-300))
        row = 0 if same else number
        u = np.zeros((2, 4))
        u[row] = [*v, COUNTS * clip]
        found.append(u)
    assert np.linalg.norm(found[0]) <= sensitivity(clip, PRIVACY, classes=True) * (1 + 1e-9)
    replaced = Privacy(epsilon=1.0, adjacency="replace-one")
    assert np.linalg.norm(found[0] - found[1]) <= sensitivity(clip, replaced, classes=True) * (1 + 1e-9)


def test_an_example_whose_features_overflow_adds_nothing_but_its_count() -> None:
    x = torch.zeros(5, 4)
    x[3:] = torch.tensor([[3e38] * 4, [1.0, 2.0, 3.0, 4.0]])
    some = posed(
        table(x, torch.tensor([0, 1, 2, 0, 1])),
        Match(MMD(kernel=Linear()), via=Features()),
        context=Pool(network=MLP(width=3), size=2),
        synthetic=Pixels(per_class=1, start="noise"),
    )
    made = sums_of(private(some, PRIVACY, SOLVER, noise=no_noise).data)
    for total, mass in made.values():
        assert bool(total.isfinite().all())
        assert mass.tolist() == [2, 2, 1]


# --- what cannot be reached -----------------------------------------------------------------------------------------------


def reachable(start: object) -> list[Any]:
    """All objects that can be reached, but for modules and what functions see of them."""
    seen, todo, found = set[int](), [start], list[Any]()
    while todo:
        item = todo.pop()
        if id(item) in seen or isinstance(item, types.ModuleType | type):
            continue
        seen.add(id(item))
        found.append(item)
        skipped = id(item.__globals__) if isinstance(item, types.FunctionType) else None
        todo += [other for other in gc.get_referents(item) if id(other) != skipped]
        todo += [cell.cell_contents for cell in getattr(item, "__closure__", None) or () if cell is not None]
    return found


def holds_private(items: list[Any], secret: Tensor) -> bool:
    rows = secret.flatten(1).double()
    for item in items:
        if isinstance(item, InMemory):
            return True
        if isinstance(item, Tensor) and item.numel() and item[..., :1].numel() and item.numel() % rows.shape[1] == 0:
            values = item.detach().double().reshape(-1, rows.shape[1])
            if bool((torch.cdist(values, rows) < 1e-6).any()):
                return True
    return False


def test_nothing_leads_from_what_solves_to_an_example() -> None:
    """A walk over every object: the same walk over the problem without privacy finds the examples."""
    data = images()
    some = posed(data)
    secret, units = data.train.points, (data.train.points.double() - 127.5) / 127.5
    plain = SOLVER.start(some)
    plain.advance()
    assert holds_private(reachable(plain), secret)
    solving = SOLVER.start(private(some, PRIVACY, SOLVER))
    solving.advance()
    items = reachable(solving)
    assert len(items) > 200
    assert not holds_private(items, secret)
    assert not holds_private(items, units)
    assert any(isinstance(item, Released) for item in items)


def test_what_is_public_is_told_and_the_rest_refused() -> None:
    made = private(posed(images()), PRIVACY, SOLVER).data
    assert len(made) == 31
    assert made.per_class == (11, 10, 10)  # as if classes were equally large
    assert made.sizes("class").sum() == 31
    assert made.normalisation.mean == (127.5,)
    for asked in (made.rows, lambda: made.labels, lambda: made.strata, lambda: made.require_rows("a start")):
        with pytest.raises(InvalidInput, match="'data' is private: noisy sums"):
            asked()


# --- refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"context": Fresh(network=NETWORK)}, "context 'fresh' has no end of draws"),
        ({"context": Pool(network=NETWORK, batch=4)}, "takes a batch of the data"),
        ({"context": Pool(network=NETWORK, augment=Siamese(per="image"))}, "an augmentation per: image"),
        ({"context": Trained(network=NETWORK)}, "context 'trained' has no end of draws"),
        ({"synthetic": Pixels(per_class=2, start="real")}, "start: real needs the examples"),
        ({"synthetic": Pixels(per_class=2, start="class-mean")}, "start: class-mean needs the examples"),
        ({"objective": Match(Sinkhorn(blur=0.1))}, r"term 'sinkhorn' \(match: sinkhorn\) does not compare means"),
        ({"objective": Match(MMD(kernel=Gaussian(lengthscale=1.0)))}, r"\(match: mmd\) does not compare means"),
        ({"objective": Match(MMD(kernel=Linear()), via=RandomFourier(lengthscale=Median()))}, "measured on them"),
        ({"objective": Match(MMD(kernel=Linear()), by="group")}, "by: group, and how many examples a group has is private"),
        ({"objective": Match(MMD(), transform=Corrupted(corruption="contrast"))}, "a transform of the real side needs"),
        ({"objective": Worst(MEANS, eps=0.1)}, "a supremum over real inputs, needs the examples"),
        ({"solver": Herding()}, "solver: herding needs the examples"),
        ({"privacy": Privacy(epsilon=1.0, delta=0.04)}, r"'delta' is 0.04, and must be less than 1 / n = 0.0323"),
    ],
    ids=lambda item: next(iter(item)) if isinstance(item, dict) else "",
)  # fmt: skip
def test_what_needs_more_than_a_release_is_refused_before_anything_is_charged(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    given = {"solver": SOLVER, "privacy": PRIVACY, **changes}
    solver, privacy, objective = given.pop("solver"), given.pop("privacy"), given.pop("objective", MEANS)
    stated = Privacy(epsilon=privacy.epsilon, delta=privacy.delta, ledger=str(tmp_path / "ledger.jsonl"))
    with pytest.raises(InvalidInput, match=said):
        private(posed(images(groups=torch.arange(31) % 2), objective, **given), stated, solver)
    assert not (tmp_path / "ledger.jsonl").exists()


def test_units_that_were_measured_are_refused_where_no_limits_are_known() -> None:
    data = LabelledData.of(torch.randn(30, 4), torch.arange(30) % 3)
    with pytest.raises(InvalidInput, match=r"normalisation of 'data' is measured on its examples, .* limits=\.\.\.\)"):
        private(posed(data, MEANS), PRIVACY, SOLVER)
    targets = LabelledData.with_targets(torch.rand(30, 4), torch.rand(30), limits=(0, 1))
    some = posed(targets, Match(MMD(kernel=Linear()), by="none"), synthetic=Pixels(examples=3, start="noise"))
    with pytest.raises(InvalidInput, match="'data' has targets, whose units are measured"):
        private(some, PRIVACY, SOLVER)


def test_teachers_and_states_are_refused_in_python() -> None:
    options: dict[str, Any] = {"context": Pool(network=NETWORK, size=1), "synthetic": NOISE_START, "privacy": PRIVACY}
    teacher = Teacher(network=ConvNet(width=4, depth=2))
    with pytest.raises(InvalidInput, match="a 'teacher' learns from the private data"):
        condense(images(), MEANS, solver=SOLVER, teacher=teacher, **options)
    with pytest.raises(InvalidInput, match="a state belongs to a release that is gone"):
        condense(images(), MEANS, solver=SOLVER, state={"step": 1}, **options)


# --- in Python, and in a file ---------------------------------------------------------------------------------------------


def test_penalties_on_the_synthetic_side_compose_with_it() -> None:
    made = condense(
        images(),
        MEANS + 0.1 * CrossEntropy(),
        context=Pool(network=NETWORK, size=2),
        synthetic=NOISE_START,
        solver=SOLVER,
        privacy=PRIVACY,
    )
    assert made.record["privacy"]["private"]
    assert made.record["config"]["privacy"]["epsilon"] == 1.0
    assert "fingerprint" not in made.record
    assert "sketch" not in made.record


def test_a_second_release_over_the_budget_is_refused(tmp_path: Path) -> None:
    privacy = Privacy(epsilon=1.0, share=0.5, ledger=str(tmp_path / "ledger.jsonl"))
    some = posed(images())
    first = private(some, privacy, SOLVER).data
    assert isinstance(first, Released)
    assert first.about["release"] == Ledger(tmp_path / "ledger.jsonl").charges(DataKey.of(images().train))[0].release
    assert announced(some, privacy, SOLVER).spent == pytest.approx(first.about["epsilon"])
    private(some, Privacy(epsilon=1.0, ledger=privacy.ledger), SOLVER)
    with pytest.raises(InvalidInput, match=r"budget of \(ε, δ\) = \(1, 1e-05\) is spent: .* 2 releases"):
        private(some, privacy, SOLVER)


def test_a_release_is_read_again_as_it_was_written(tmp_path: Path) -> None:
    kept: list[Released] = []
    made = private(posed(images()), PRIVACY, SOLVER, keep=kept.append).data
    assert kept == [made]
    assert isinstance(made, Released)
    save_release(made, tmp_path / "release.safetensors")
    again = read_release(tmp_path / "release.safetensors", made.spec, len(made))
    assert again.fingerprint() == made.fingerprint()
    assert again.about == made.about
    assert again.fingerprint() != images().train.fingerprint()
    content = (tmp_path / "release.safetensors").read_bytes()
    for broken in (content[:-9], b"", content.replace(b"keys", b"kees")):
        (tmp_path / "release.safetensors").write_bytes(broken)
        with pytest.raises(InvalidInput):
            read_release(tmp_path / "release.safetensors", made.spec, len(made))


def test_any_other_noise_is_told_by_the_record() -> None:
    about = private(posed(images()), PRIVACY, SOLVER, noise=no_noise).data.provenance()["privacy"]
    assert about["private"] is False
    assert "not private" in about["warning"]
