"""The engine against the published loss written out in plain torch: groups, embeddings, terms that are added."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from engines import batch_of, means, module
from small import NETWORK, decoded, images, problem, table
from torch import Tensor

from discrepancy import MMD, Gaussian
from discrepancy.embeddings import Features, Identity, Layers, RandomFourier, Standardised
from discrepancy.kernels import Median
from discrepancy.reductions import CVaR, Max, Mean, Proportional, Reduction, Sum
from objectives.contexts import Context, Fresh, Pool
from objectives.engine.engine import Engine
from objectives.synthetic.parameterisation import Decoded
from objectives.synthetic.pixels import Pixels
from objectives.terms.match import Match
from objectives.terms.penalties import CrossEntropy, TotalVariation
from objectives.training.augmentation import Siamese


def published(engine: Engine, here: Decoded, step: int, rows: dict[int, Tensor]) -> tuple[Tensor, Tensor]:
    """Σ_c ‖mean f(A(real of class c)) - mean f(A(synthetic of class c))‖² and its gradient, class by class as published."""
    data, view, augment = engine.data, engine.real_side.at(step), engine.bound_context.augment
    network = module(dict(view.parameters), data.shape[0])
    points = here.points.detach().clone().requires_grad_(True)
    loss = torch.zeros(())
    for c, chosen in rows.items():
        real = data.normalisation.apply(data.rows(chosen).points)
        own = points[here.slots == c]
        if augment is not None:
            only = {name: value[c : c + 1] for name, value in view.augmentation.items()}
            real, own = (augment(x, only, torch.zeros(len(x), dtype=torch.long)) for x in (real, own))
        loss = loss + ((network(real).detach().mean(0) - network(own).mean(0)) ** 2).sum()
    (gradient,) = torch.autograd.grad(loss, points)
    return loss.detach(), gradient


# --- the published loss ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("augment", [None, Siamese(), Siamese(mode="all")], ids=["plain", "siamese", "siamese-all"])
@pytest.mark.parametrize(("channels", "seed"), [(1, 0), (3, 11)], ids=["grey", "colour"])
def test_fresh_distribution_matching_is_as_published(augment: Siamese | None, channels: int, seed: int) -> None:
    data = images(channels=channels, side=12)  # classes of 7, 11, 13: a batch of 9 is short in one
    some = problem(data, context=Fresh(network=NETWORK, batch=9, augment=augment), seed=seed)
    engine, here = some.engine(4), decoded(some)
    for step in (0, 3):
        loss, gradient = published(engine, here, step, batch_of(data, 9, seed, step))
        values = engine.evaluate(here, step)
        torch.testing.assert_close(values.total, loss, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(values.gradients["points"], gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("augment", [None, Siamese()], ids=["plain", "siamese"])
def test_a_pool_on_all_data_matches_the_full_class_means(augment: Siamese | None) -> None:
    data = images()
    context = Pool(network=NETWORK, size=2, augment=augment, augmentations=2 if augment else 1)
    some = problem(data, context=context)
    engine, here = some.engine(4), decoded(some)
    everything = {c: (data.train.labels.numbers == c).nonzero()[:, 0] for c in range(3)}
    for step in range(3):
        loss, gradient = published(engine, here, step, everything)
        values = engine.evaluate(here, step)
        torch.testing.assert_close(values.total, loss, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(values.gradients["points"], gradient, rtol=1e-5, atol=1e-6)


def test_without_mirror_symmetry_nothing_is_flipped() -> None:
    flip = Siamese(operations=("flip", "crop"), flip=1.0)
    with_, without = (
        problem(images(mirror=mirror), context=Fresh(network=NETWORK, augment=flip)) for mirror in (True, False)
    )
    assert with_.engine(1).bound_context.augment == flip
    assert without.engine(1).bound_context.augment == Siamese(operations=("crop",), flip=1.0)


def test_augmentation_by_image_gives_every_image_its_own_row() -> None:
    data = images(side=12)
    some = problem(data, Match(MMD(), via=Identity()), context=Fresh(batch=9, augment=Siamese(per="image")))
    engine, here = some.engine(1), decoded(some)
    view, augment = engine.real_side.at(0), engine.bound_context.augment
    assert augment is not None
    rows = len(view.augmentation["operation"])
    assert rows == 7 + 9 + 9 + 6
    points = augment(here.points.detach(), view.augmentation, torch.arange(rows - 6, rows))
    own = points.unflatten(0, (3, 2)).mean(1).flatten(1).double()
    expected = (view.summaries["mmd"][""].mean - own).square().sum()
    torch.testing.assert_close(engine.evaluate(here, 0).total.double(), expected, rtol=1e-5, atol=0)


# --- groups and reductions ------------------------------------------------------------------------------------------------


GROUPS = torch.tensor([0, 1] * 15 + [1])


REDUCTIONS = [Sum(), Mean(), Proportional(), Max(), CVaR(fraction=0.3)]
DIVIDED = [
    (by, reduce) for by in ("class", "group", "none") for reduce in REDUCTIONS if by != "none" or reduce.separable
]


@pytest.mark.parametrize(("by", "reduce"), DIVIDED, ids=[f"{reduce.kind}-{by}" for by, reduce in DIVIDED])
def test_grouping_and_reduction(by: Any, reduce: Reduction) -> None:
    data = images(groups=GROUPS)
    some = problem(data, Match(MMD(), by=by, reduce=reduce, weight=0.5), context=Pool())
    here = decoded(some)
    assert data.train.groups is not None
    real, own, count = {
        "class": (data.train.labels.numbers, here.slots, 3),
        "group": (data.train.groups, here.groups, 2),
        "none": (torch.zeros(31).long(), torch.zeros(6).long(), 1),
    }[by]
    x = data.normalisation.apply(data.train.points)
    values = (means(x, real, count) - means(here.points.detach(), own, count)).square().sum(1)
    share = torch.bincount(real).double() / 31
    expected = 0.5 * reduce(values, share)
    torch.testing.assert_close(some.engine(1).evaluate(here, 0).total.double(), expected, rtol=1e-5, atol=0)


def test_layers_are_added_up_by_their_weights() -> None:
    data = images()
    some = problem(
        data, Match(MMD(), via=Layers(), layer_weights=(("layer2", 3.0),)), context=Pool(network=NETWORK, size=1)
    )
    engine, here = some.engine(1), decoded(some)
    parameters = engine.real_side.at(0).parameters
    real, own = (
        NETWORK(parameters, x, ("layers",)) for x in (data.normalisation.apply(data.train.points), here.points.detach())
    )
    expected = sum(
        weight * (means(real[name], data.train.labels.numbers, 3) - means(own[name], here.slots, 3)).square().sum()
        for name, weight in (("layer1", 1.0), ("layer2", 3.0))
    )
    torch.testing.assert_close(engine.evaluate(here, 0).total.double(), expected, rtol=1e-5, atol=0)


def test_the_weights_of_the_synthetic_side_count() -> None:
    data = images()
    some = problem(data, Match(MMD(), via=Identity()), context=Pool(), synthetic=Pixels(per_class=2, weights="learned"))
    logarithms = torch.tensor([0.0, 1.0, -1.0, 0.5, 2.0, 2.0], requires_grad=True)
    here = decoded(some, weights=logarithms)
    values = some.engine(1).evaluate(here, 0)
    w, x = (
        here.weights.detach().double().unflatten(0, (3, 2)),
        here.points.detach().double().flatten(1).unflatten(0, (3, 2)),
    )
    own = (w[:, :, None] * x).sum(1) / w.sum(1, keepdim=True)
    real = means(data.normalisation.apply(data.train.points), data.train.labels.numbers, 3)
    torch.testing.assert_close(values.total.double(), (real - own).square().sum(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("learned", ["weights", "labels"])
def test_gradient_at_weights_and_labels_by_finite_differences(learned: Any) -> None:
    options: dict[str, Any] = {"weights": {"weights": "learned"}, "labels": {"labels": "soft"}}[learned]
    some = problem(
        images(), Match(MMD(), via=Features()) + CrossEntropy(), synthetic=Pixels(per_class=2, start="noise", **options)
    )
    engine, here = some.engine(1), decoded(some)
    gradient = engine.evaluate(here, 0).gradients[learned]
    value = getattr(here, learned).detach()
    direction = torch.randn(value.shape, generator=torch.Generator().manual_seed(1))

    def at(step: float) -> float:
        moved = replace(here, **{learned: value + step * direction})
        return float(engine.evaluate(moved, 0).total)

    numerical = (at(0.05) - at(-0.05)) / 0.1
    assert float((gradient * direction).sum()) == pytest.approx(numerical, rel=2e-3, abs=1e-3)
    assert abs(numerical) > 1e-2


# --- sample sort, random features -------------------------------------------------------------------------------------


def gaussian_mmd(x: Tensor, y: Tensor, lengthscale: float) -> Tensor:
    def k(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-torch.cdist(a, b).square() / (2 * lengthscale**2)).mean()

    return k(x, x) - 2 * k(x, y) + k(y, y)


@pytest.mark.parametrize("by", ["class", "none"])
@pytest.mark.parametrize(
    "context", [Fresh(network=NETWORK, batch=9), Pool(network=NETWORK, size=2)], ids=["fresh", "pool"]
)
def test_gaussian_mmd_of_features(by: Any, context: Context) -> None:
    data = images()
    some = problem(data, Match(MMD(kernel=Gaussian(lengthscale=2.0)), via=Features(), by=by), context=context)
    engine, here = some.engine(2), decoded(some)
    engine.bound_context.extractor.chunk = 4
    parameters = engine.real_side.at(1).parameters
    rows = batch_of(data, 9, 0, 1) if isinstance(context, Fresh) else dict(enumerate(data.train.members))
    real, own = (
        {c: NETWORK(parameters, x, ("features",))["features"].double() for c, x in pieces.items()}
        for pieces in (
            {c: data.normalisation.apply(data.train.points[index]) for c, index in rows.items()},
            {c: here.points.detach()[here.slots == c] for c in range(3)},
        )
    )
    if by == "none":
        real, own = ({0: torch.cat(list(pieces.values()))} for pieces in (real, own))
    expected = sum(gaussian_mmd(real[c], own[c], 2.0) for c in real)
    torch.testing.assert_close(engine.evaluate(here, 1).total.double(), expected, rtol=1e-4, atol=1e-6)


def test_resolved_numbers_replace_rules() -> None:
    data = table()
    some = problem(data, Match(MMD(kernel=Gaussian(lengthscale=Median(factor=0.5))), by="none"), context=Pool())
    part = some.engine(1).resolved["mmd"]["match"][""]
    assert isinstance(part, MMD)
    assert isinstance(part.kernel, Gaussian)
    x = data.normalisation.apply(data.train.points).double()
    expected = 0.5 * torch.nn.functional.pdist(x).quantile(0.5)
    assert part.kernel.lengthscale == pytest.approx(float(expected), rel=0.05)


def test_random_features_are_kept_with_the_network() -> None:
    data = images()
    match = Match(MMD(), via=RandomFourier(features=16, lengthscale=3.0, of=Features()))
    some = problem(data, match, context=Pool(network=NETWORK, size=2))
    engine, here = some.engine(6), decoded(some)
    real_side = {engine.real_side.at(step).draw.network: engine.real_side.at(step) for step in range(6)}
    assert len(real_side) == 2
    first, second = (next(iter(view.random["mmd"].embedding.values())) for view in real_side.values())  # pyright: ignore
    assert not first.equal(second)
    view = engine.real_side.at(0)
    via, draws = engine.resolved["mmd"]["via"], view.random["mmd"].embedding
    real, own = (
        via(NETWORK(view.parameters, x, ("features",)), draws)
        for x in (data.normalisation.apply(data.train.points), here.points.detach())
    )
    expected = (means(real, data.train.labels.numbers, 3) - means(own, here.slots, 3)).square().sum()
    torch.testing.assert_close(engine.evaluate(here, 0).total.double(), expected, rtol=1e-4, atol=1e-7)


def test_standardised_features_use_real_numbers() -> None:
    data = table()
    some = problem(data, Match(MMD(), via=Standardised(), by="none"), context=Pool())
    engine, here = some.engine(1), decoded(some)
    x = data.normalisation.apply(data.train.points).double()
    expected = ((x.mean(0) - here.points.detach().double().mean(0)) / x.std(0, correction=0)).square().sum()
    torch.testing.assert_close(engine.evaluate(here, 0).total.double(), expected, rtol=1e-4, atol=0)


# --- one class at a time, adding terms --------------------------------------------------------------------------------


@pytest.mark.parametrize("reduce", [Sum(), Mean(), Proportional()], ids=lambda item: item.kind)
def test_the_classes_add_up(reduce: Reduction) -> None:
    objective = Match(MMD(), via=Features(), reduce=reduce) + 0.3 * TotalVariation() + CrossEntropy()
    some = problem(images(), objective)
    engine, here = some.engine(1), decoded(some)
    joint = engine.evaluate(here, 0)
    parts = [engine.evaluate(here.rows((here.slots == c).nonzero()[:, 0]), 0, only=c) for c in range(3)]
    torch.testing.assert_close(torch.stack([part.total for part in parts]).sum(), joint.total, rtol=1e-5, atol=0)
    gradient = torch.cat([part.gradients["points"] for part in parts])
    torch.testing.assert_close(gradient, joint.gradients["points"], rtol=1e-5, atol=1e-6)


def test_adding_a_term_leaves_the_others_as_they_were() -> None:
    match = Match(MMD(), via=RandomFourier(features=16, lengthscale=3.0, of=Features())).named("first")
    context = Fresh(network=NETWORK, batch=5, augment=Siamese())
    alone, joined = (
        problem(images(), objective, context=context)
        for objective in (match, Match(MMD(), via=RandomFourier(features=6)) + match + CrossEntropy())
    )
    for step in (0, 2):
        values = [some.engine(3).evaluate(decoded(some), step).terms["first"] for some in (alone, joined)]
        assert values[0].equal(values[1])


def test_terms_have_random_parts_of_their_own() -> None:
    match = Match(MMD(), via=RandomFourier(features=16))
    engine = problem(images(), match.named("a") + match.named("b"), context=Fresh()).engine(1)
    drawn = engine.real_side.at(0).random.values()
    first, second = (next(iter(random.embedding.values())) for random in drawn)  # pyright: ignore
    assert not first.equal(second)


@pytest.mark.parametrize("other", [1, 2])
def test_seeds_differ(other: int) -> None:
    some = problem(images(), context=Fresh(network=NETWORK, batch=5))
    here = decoded(some)
    first, second = (problem(images(), seed=seed).engine(1).evaluate(here, 0).total for seed in (0, other))
    assert not first.equal(second)
