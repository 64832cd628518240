"""Summaries of the real side: made once, kept in a cache, in chunks."""

from typing import Any

import pytest
import torch
from small import NETWORK, SIZES, decoded, images, problem
from torch import Tensor

from discrepancy import MMD, Gaussian
from discrepancy.embeddings import Features, Identity
from discrepancy.errors import InvalidInput
from discrepancy.kernels import Median
from objectives.contexts import Fresh, Pool
from objectives.data.labelled import LabelledData
from objectives.engine.engine import Engine, Values
from objectives.synthetic.pixels import Pixels
from objectives.terms.match import BoundMatch, Match
from objectives.terms.penalties import CrossEntropy, TotalVariation
from objectives.training.augmentation import Siamese


def assert_same(first: Values, second: Values, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    torch.testing.assert_close(first.total, second.total, rtol=rtol, atol=atol)
    torch.testing.assert_close(dict(first.terms), dict(second.terms), rtol=rtol, atol=atol)
    torch.testing.assert_close(dict(first.gradients), dict(second.gradients), rtol=rtol, atol=atol)


def counting(engine: Engine) -> list[int]:
    """How many real examples pass through the network, call by call."""
    calls: list[int] = []
    extractor = engine.bound_context.extractor
    forward = extractor._plain

    def counted(parameters: Any, points: Tensor) -> Any:
        calls.append(len(points))
        return forward(parameters, points)

    extractor._plain = counted
    return calls


def test_a_pool_summarises_each_draw_once() -> None:
    some = problem(images(), context=Pool(network=NETWORK, size=3))
    engine, here = some.engine(40), decoded(some)
    calls = counting(engine)
    for step in range(40):
        engine.evaluate(here, step)
    assert sum(calls) == 3 * sum(SIZES)


def test_a_network_that_is_kept_on_all_data_is_summarised_once() -> None:
    some = problem(images(), context=Fresh(network=NETWORK, batch="all", keep=4))
    engine, here = some.engine(8), decoded(some)
    calls = counting(engine)
    for step in range(8):
        engine.evaluate(here, step)
    assert sum(calls) == 2 * sum(SIZES)
    assert len(engine.real_side.kept) == 1


def test_fresh_summarises_at_every_step_but_once_a_step() -> None:
    some = problem(images(), context=Fresh(network=NETWORK, batch=4))
    engine, here = some.engine(3), decoded(some)
    calls = counting(engine)
    for step in (0, 0, 1, 1, 2):
        engine.evaluate(here, step)
    assert sum(calls) == 3 * 12


def test_a_cached_summary_equals_a_new_one() -> None:
    some = problem(images(), context=Pool(network=NETWORK, size=2, augment=Siamese(), augmentations=2))
    used, here = some.engine(20), decoded(some)
    for step in range(20):
        used.evaluate(here, step)
    for step in (3, 19):
        old, new = used.evaluate(here, step), some.engine(20).evaluate(here, step)
        assert old.total.equal(new.total)
        assert old.gradients["points"].equal(new.gradients["points"])


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    some = problem(images(), context=Pool(network=NETWORK, size=4))
    engine, here = some.engine(30), decoded(some)
    size = engine.real_side.at(0).nbytes
    monkeypatch.setattr("objectives.engine.real_side.CACHE_BYTES", 2 * size)
    for step in range(30):
        engine.evaluate(here, step)
        assert len(engine.real_side.kept) <= 2
        assert engine.context.at(step, 0) in engine.real_side.kept


def test_what_was_used_last_stays_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    some = problem(images(), context=Pool(network=NETWORK, size=3))
    engine, here = some.engine(200), decoded(some)
    first = {some.context.at(step, 0).network: step for step in range(30)}
    monkeypatch.setattr("objectives.engine.real_side.CACHE_BYTES", 2 * engine.real_side.at(first[0]).nbytes)
    calls = counting(engine)
    for network in (1, 0, 2, 0):  # 0 was used after 1, so 2 takes the place of 1
        engine.evaluate(here, first[network])
    assert sum(calls) == 2 * sum(SIZES)


def test_chunks_do_not_matter_where_every_image_has_its_own_row() -> None:
    context = Pool(network=NETWORK, size=1, augment=Siamese(per="image"))
    some = problem(images(), context=context)
    here, at_once, in_chunks = decoded(some), some.engine(1), some.engine(1)
    in_chunks.bound_context.extractor.chunk = 4
    assert_same(at_once.evaluate(here, 0), in_chunks.evaluate(here, 0))


@pytest.mark.parametrize("kernel", [None, Gaussian(lengthscale=2.0)], ids=["means", "points"])
@pytest.mark.parametrize(("batch", "chunk"), [(9, 4), ("all", 1), ("all", 31)])
def test_chunks_do_not_matter(kernel: Gaussian | None, batch: Any, chunk: int) -> None:
    match = Match(MMD() if kernel is None else MMD(kernel=kernel), via=Features())
    context = Pool(network=NETWORK, size=1, batch=batch, augment=Siamese())
    some = problem(images(), match + CrossEntropy(), context=context)
    here = decoded(some)
    at_once, in_chunks = some.engine(1), some.engine(1)
    in_chunks.bound_context.extractor.chunk = chunk
    assert_same(at_once.evaluate(here, 0), in_chunks.evaluate(here, 0))


@pytest.mark.parametrize(("via", "part"), [(Identity(), 14), (Features(), 20)], ids=["points", "features"])
def test_parts_hold_the_classes_in_proportion(via: Any, part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("objectives.engine.bound_context.PART_EXAMPLES", part)  # of features whole chunks, of 14
    data = images(sizes=(16, 32, 64)).train
    some = problem(LabelledData(data), Match(MMD(), via=via), context=Pool(network=NETWORK, size=1))
    engine = some.engine(1)
    engine.bound_context.extractor.chunk = 14
    parts, taken = [], data.rows
    monkeypatch.setattr(data, "rows", lambda numbers: parts.append(numbers) or taken(numbers))
    engine.real_side.at(0)
    labels = [torch.bincount(data.labels.numbers[rows], minlength=3).tolist() for rows in parts]
    assert labels == [[2, 4, 8]] * 8
    assert torch.cat(parts).sort().values.tolist() == list(range(112))


def test_the_network_sees_chunks_of_one_shape() -> None:
    some = problem(images(sizes=(5, 9, 3)), Match(MMD(), via=Features()), context=Pool(network=NETWORK, size=1))
    engine = some.engine(1)
    engine.bound_context.extractor.chunk = 4
    seen = counting(engine)
    engine.real_side.at(0)
    assert seen == [4, 4, 4, 4, 4]


def test_learned_labels_that_no_term_looks_at_are_refused() -> None:
    synthetic = Pixels(per_class=2, labels="soft")
    some = problem(images(), Match(MMD(), via=Identity()), context=Fresh(batch=5), synthetic=synthetic)
    with pytest.raises(InvalidInput, match="'labels' are learned, but no term depends on them"):
        some.engine(1).evaluate(decoded(some), 0)


def test_a_large_sample_is_embedded_only_where_something_is_to_be_resolved() -> None:
    data = images(sizes=(300, 300, 300))
    plain = problem(data, Match(MMD(), via=Identity()), context=Fresh(batch=5)).engine(1)
    median = Match(MMD(kernel=Gaussian(lengthscale=Median())), via=Identity())
    ruled = problem(data, median, context=Fresh(batch=5)).engine(1)
    assert len(plain.sample[0].tensors["points"]) == 3
    assert len(ruled.sample[0].tensors["points"]) == 900
    bound = ruled.terms["mmd"]
    assert isinstance(bound, BoundMatch)
    assert bound.discrepancies[""].resolved


@pytest.mark.parametrize("chunk", [4, 5, 64], ids=["even", "ragged", "whole"])
def test_recomputing_gives_the_same(chunk: int) -> None:
    objective = (
        Match(MMD(), via=Features())
        + Match(MMD(kernel=Gaussian(lengthscale=3.0)), via=Identity(), by="none").named("pixels")
        + 0.3 * TotalVariation()
        + CrossEntropy()
    )
    synthetic = Pixels(per_class=3, labels="soft", weights="learned")
    some = problem(images(), objective, context=Fresh(network=NETWORK, batch=5, augment=Siamese()), synthetic=synthetic)
    engine, here = some.engine(1), decoded(some)
    plain = engine.evaluate(here, 0)
    engine.bound_context.recompute, engine.bound_context.extractor.chunk = True, chunk
    assert_same(plain, engine.evaluate(here, 0))


@pytest.mark.parametrize("augment", [None, Siamese(), Siamese(per="image")], ids=["plain", "class", "image"])
def test_recomputing_one_class_gives_the_same(augment: Siamese | None) -> None:
    some = problem(images(), context=Fresh(network=NETWORK, batch=5, augment=augment), synthetic=Pixels(per_class=5))
    engine, here = some.engine(1), decoded(some).rows(torch.arange(5, 10))
    plain = engine.evaluate(here, 0, only=1)
    engine.bound_context.recompute, engine.bound_context.extractor.chunk = True, 2
    assert_same(plain, engine.evaluate(here, 0, only=1))
