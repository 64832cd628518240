"""Contexts: which draw is current at a step, and what is refused."""

from collections import Counter

import pytest
from small import NETWORK, decoded, images, problem, unchecked

from discrepancy.errors import InvalidInput
from objectives.contexts import Context, Draw, Fresh, Pool
from objectives.training.augmentation import Siamese


def test_fresh_is_new_in_everything() -> None:
    draws = [Fresh().at(step, 0) for step in range(5)]
    for part in ("network", "augmentation", "batch"):
        assert len({getattr(draw, part) for draw in draws}) == 5


def test_fresh_keeps_the_network_only() -> None:
    draws = [Fresh(keep=3).at(step, 0) for step in range(7)]
    assert [draw.network for draw in draws] == [0, 0, 0, 1, 1, 1, 2]
    assert len({draw.batch for draw in draws}) == len({draw.augmentation for draw in draws}) == 7


def test_a_kept_network_on_all_data_is_one_draw() -> None:
    draws = [Fresh(network=NETWORK, keep=3, batch="all").at(step, 0) for step in range(6)]
    assert draws == [draws[0]] * 3 + [draws[3]] * 3
    assert draws[0] != draws[3]


def test_pool_draws_pairs_uniformly() -> None:
    pool = Pool(network=NETWORK, size=3, augment=Siamese(), augmentations=2)
    counts = Counter(pool.at(step, 0) for step in range(3000))
    assert sorted((draw.network, draw.augmentation) for draw in counts) == [
        (n, 2 * n + a) for n in range(3) for a in (0, 1)
    ]
    assert pool.n_draws == len(counts) == 6
    assert all(abs(count - 500) < 5 * (3000 * 5 / 36) ** 0.5 for count in counts.values())


def test_pool_follows_the_seed() -> None:
    pool = Pool(size=20)
    first, again, other = ([pool.at(step, seed) for step in range(30)] for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_draws_of_equal_numbers_are_equal() -> None:
    assert Draw(1, 2, 3) == Draw(1, 2, 3)
    assert hash(Draw(1, 2, 3)) == hash(Draw(1, 2, 3))


@pytest.mark.parametrize("kind", [Fresh, Pool])
@pytest.mark.parametrize("batch", [0, -3, "every"])
def test_batch(kind: type[Context], batch: int | str) -> None:
    with (
        unchecked(),
        pytest.raises(InvalidInput, match=f"'batch' must be at least 1 real example a class, or 'all', got {batch}"),
    ):
        kind(batch=batch)  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Fresh(keep=0), "'keep' must be at least 1, got 0"),
        (lambda: Fresh(batch="all", augment=Siamese()), "'batch' cannot be 'all' while every step augments anew"),
        (lambda: Pool(size=0), "'size' must be at least 1, got 0"),
        (lambda: Pool(augmentations=0), "'augmentations' must be at least 1, got 0"),
        (lambda: Pool(augmentations=3), "'augmentations' is 3 but 'augment' is not given"),
    ],
)
def test_refused(make: object, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        make()  # pyright: ignore[reportCallIssue]


def test_networks_of_a_draw_are_the_same_each_time_and_differ_by_number_and_seed() -> None:
    contexts = [problem(images(), seed=seed).engine(1).bound_context for seed in (0, 0, 1)]
    first, again, other = (context.initial(4)["conv1.weight"] for context in contexts)
    assert first.equal(again)
    assert not first.equal(other)
    assert not first.equal(contexts[0].initial(5)["conv1.weight"])


def test_one_network_a_draw_in_a_pool_of_augmentations() -> None:
    some = problem(images(), context=Pool(network=NETWORK, size=1, augment=Siamese(), augmentations=3, batch=4))
    engine = some.engine(9)
    for step in range(9):
        engine.evaluate(decoded(some), step)
    real_side = [engine.real_side.at(step) for step in range(9)]
    assert len({view.draw for view in real_side}) == 3
    assert len({float(view.parameters["conv1.weight"].sum()) for view in real_side}) == 1
    assert len({tuple(view.augmentation["colour"].flatten().tolist()) for view in real_side}) == 3
