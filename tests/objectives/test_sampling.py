"""Representative real batches: the clustering against scikit-learn's, when it is made anew, and that a resumed run finds it.

Properties (Hypothesis): every cluster's example is the nearest to its centre, and centres are means.
"""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances_argmin
from small import NETWORK, images, numbers_of, problem, start, table
from torch import Tensor

from discrepancy import MMD, InvalidInput
from discrepancy.embeddings import Features, Identity
from discrepancy.networks import MLP
from objectives import ClusteredRows, Fresh, Interpolated, Match, Pool, Queue, RandomRows, Trained, Training
from objectives.contexts import Context
from objectives.data.sampling import centres, nearest
from objectives.rng import rng
from objectives.solvers import Descent
from objectives.synthetic.formation import Formation
from objectives.synthetic.pixels import Pixels

BY_TWO = ClusteredRows(interval=2)
ON_REAL = Training(on="real", steps=2, batch=8, lr=0.05)
CONTEXTS: dict[str, Context] = {
    "fresh": Fresh(network=NETWORK, batch=8, keep=5, sampling=BY_TWO),
    "trained": Trained(network=NETWORK, training=ON_REAL, keep=5, batch=8, sampling=BY_TWO),
    "queue": Queue(network=NETWORK, size=2, first=2, every=4, training=ON_REAL, batch=8, sampling=BY_TWO),
    "interpolated": Interpolated(network=NETWORK, size=2, training=ON_REAL, trained=2, batch=8, sampling=BY_TWO),
}


def solving(context: Context, steps: int = 8, via: Any = None) -> Any:
    solver = Descent(lr=0.5, momentum=0.5, steps=steps)
    return start(images((7, 40, 50)), Match(MMD(), via=via or Features()), solver, context=context)


def batch(run: Any, step: int) -> Tensor:
    """The real examples of a step."""
    return numbers_of(run.engine, run.engine.real_side.at(step))


def represents(run: Any, step: int, rows: Tensor) -> bool:
    """Whether each of the examples is as near to its centre as any, by scikit-learn's clustering of each class from the same
    start; a class with fewer examples gives them all."""
    data, generator, first = run.problem.data, rng(0, "batch", step), 0
    points = data.normalisation.apply(data.points)
    networks = run.engine.networks
    weights = networks.parameters(networks.draw(step)) or run.engine.bound_context.initial(0)
    features = NETWORK(weights, points, ("features",))["features"].flatten(1).double().numpy()
    for members in data.members:
        began, mine = torch.randperm(len(members), generator=generator)[:8], rows[first : first + min(8, len(members))]
        first += len(mine)
        if len(members) <= 8:
            if not mine.equal(members):
                return False
            continue
        own = features[members]
        found = KMeans(8, init=own[began], n_init=1, tol=0.0).fit(own).cluster_centers_  # pyright: ignore[reportArgumentType]
        apart = np.linalg.norm(own[None] - found[:, None], axis=2).min(1)
        if not np.allclose(np.linalg.norm(features[mine] - found, axis=1), apart, rtol=1e-4):
            return False
    return first == len(rows)


@given(seed=st.integers(0, 10**6), n=st.integers(5, 40), k=st.integers(1, 5), d=st.integers(1, 4))
def test_centres_are_means_and_have_their_nearest_points(seed: int, n: int, k: int, d: int):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    found = centres(x, x[:k], 1000)
    apart = np.linalg.norm(x.numpy()[:, None] - found.numpy()[None], axis=2)
    for number in range(k):
        mine = x[torch.tensor(apart.argmin(1) == number)]
        torch.testing.assert_close(found[number], mine.mean(0))
    torch.testing.assert_close(apart[nearest(x, found), range(k)] ** 2, apart.min(0) ** 2)


def test_the_clustering_is_that_of_scikit_learn():
    x = torch.randn(300, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    theirs = KMeans(11, init=x[:11].numpy(), n_init=1, tol=0.0).fit(x.numpy())  # pyright: ignore[reportArgumentType]
    found = centres(x, x[:11], 300)
    torch.testing.assert_close(found, torch.from_numpy(theirs.cluster_centers_))
    assert nearest(x, found).tolist() == pairwise_distances_argmin(theirs.cluster_centers_, x.numpy()).tolist()


def test_near_pairs_are_told_apart_beside_points_far_away():
    """Two clusters a thousandth wide, and as far from one another, beside one a thousand away: expanded squares in float32 are
    off by more than that."""
    generator = torch.Generator().manual_seed(0)
    near = torch.cat([torch.randn(20, 5, generator=generator) / 1e4 + shift for shift in (0.0, 1e-3)])
    x = torch.cat([near, torch.full((2, 5), 1e3), torch.full((2, 5), -1e3)])
    found = centres(x, x[[0, 20, 40, 42]], 20)
    torch.testing.assert_close(found[:2], torch.stack([near[:20].mean(0), near[20:].mean(0)]), rtol=0, atol=1e-6)
    apart = torch.cdist(x.double(), found.double(), compute_mode="donot_use_mm_for_euclid_dist")
    assert nearest(x, found).tolist() == apart.argmin(0).tolist()


def test_a_cluster_without_points_keeps_its_centre():
    x = torch.tensor([[0.0], [1.0], [4.0]])
    assert centres(x, torch.tensor([[0.5], [9.0], [4.0]]), 10).flatten().tolist() == [0.5, 9.0, 4.0]


def test_other_threads_make_no_other_choice():
    x = torch.randn(2000, 64, generator=torch.Generator().manual_seed(0))
    threads, chosen = torch.get_num_threads(), []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            chosen.append(nearest(x, centres(x, x[:50], 20)))
    finally:
        torch.set_num_threads(threads)
    assert chosen[0].equal(chosen[1])
    assert chosen[0].equal(chosen[2])


def test_a_common_offset_makes_no_other_choice():
    data = images((7, 40, 50)).train
    x = (
        torch.randint(-64, 64, (97, 5), generator=torch.Generator().manual_seed(0)) / 64
    )  # with 4096 added, float32 holds them
    near, far = (BY_TWO.rows(data, 8, rng(0), lambda members, by=by: x[members] + by) for by in (0, 4096))
    assert far.equal(near)


@pytest.mark.parametrize("name", ["fresh", "trained"])
def test_a_choice_is_made_at_every_interval_and_for_every_network(name: str):
    run, kept = solving(CONTEXTS[name]), torch.zeros(0)
    for step, made in enumerate([True, False, True, False, True, True, False, True]):
        if made:
            kept = batch(run, step)
            assert represents(run, step, kept)
        assert batch(run, step).equal(kept)
        run.advance()
    assert not represents(run, 8, kept)


def test_each_network_that_takes_turns_has_its_own_choice():
    run, kept, taken = solving(CONTEXTS["queue"], steps=12), {}, {}
    for step in range(12):
        number = run.engine.networks.draw(step).network
        if taken.get(number, 0) % 2 == 0:
            kept[number] = batch(run, step)
            assert represents(run, step, kept[number])
        taken[number] = taken.get(number, 0) + 1
        assert batch(run, step).equal(kept[number])
        run.advance()
    assert max(taken.values()) > 2
    present = set(run.engine.context.present(12))
    assert set(run.engine.batches.state()) <= present
    assert set(taken) - present


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS.keys())
@pytest.mark.parametrize("done", [3, 4])
def test_a_run_resumed_within_an_interval_continues_bit_for_bit(context: Context, done: int, tmp_path: Any):
    whole, first, second = (solving(context) for _ in range(3))
    for _ in range(8):
        whole.advance()
    for _ in range(done):
        first.advance()
    torch.save(first.state(), tmp_path / "state.pt")
    second.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    for _ in range(8 - done):
        second.advance()
    assert torch.equal(whole.parameters["points"], second.parameters["points"])


def test_without_clusters_a_batch_is_what_its_stream_says():
    run = solving(Fresh(network=NETWORK, batch=5))
    for step in range(3):
        assert batch(run, step).equal(run.problem.data.class_batch(rng(0, "batch", step), 5))


def test_a_pool_chooses_once_for_a_summary():
    context = Pool(network=NETWORK, size=2, batch=8, sampling=BY_TWO)
    run, again = (solving(context) for _ in range(2))
    steps = [next(step for step in range(50) if context.at(step, 0).network == number) for number in (0, 1)]
    for step in steps:
        assert batch(run, step).equal(batch(again, step))
    assert not batch(run, steps[0]).equal(batch(run, steps[1]))


def test_terms_that_need_no_network_may_have_representative_batches():
    run = solving(Fresh(network=NETWORK, batch=8, sampling=ClusteredRows()), via=Identity())
    assert represents(run, 0, batch(run, 0))


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        (Fresh(network=NETWORK), 0),
        (Fresh(network=NETWORK, sampling=ClusteredRows()), 25),
        (Trained(network=NETWORK, keep=12, sampling=ClusteredRows()), 6),
        (Trained(network=NETWORK, keep=100, sampling=ClusteredRows()), 3),
        (Pool(network=NETWORK, size=3, batch=4, sampling=ClusteredRows()), 3),
        (Queue(network=NETWORK, sampling=ClusteredRows()), 3),
    ],
    ids=["random", "fresh", "short", "long", "pool", "queue"],
)
def test_looking_at_all_the_examples_is_counted_as_work(context: Context, expected: int):
    assert context.choices(25) == expected


def test_looks_are_forward_passes():
    random, clustered = (
        solving(Fresh(network=NETWORK, batch=5, sampling=sampling)).engine.bound_context.images(6, 6)
        for sampling in (RandomRows(), ClusteredRows())
    )
    assert clustered == random + 6 * 97


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ClusteredRows(interval=0), "'interval' must be at least 1, got 0"),
        (lambda: ClusteredRows(iterations=0), "'iterations' must be at least 1, got 0"),
        (lambda: Fresh(network=NETWORK, batch="all", sampling=ClusteredRows()), "is clustered, but 'batch' is all"),
        (lambda: Fresh(sampling=ClusteredRows()), "'sampling' is clustered, by features of the context's network"),
    ],
)
def test_refused(make: Any, message: str):
    with pytest.raises(InvalidInput, match=message):
        make()


def test_tables_have_features_too():
    network = MLP(width=8, depth=2)
    run = start(table(), Match(MMD(), via=Features()), context=Fresh(network=network, batch=8, sampling=BY_TWO))
    assert len(batch(run, 0)) == 7 + 8 + 8


@pytest.mark.parametrize(
    "form", [Pixels(per_class=8), Formation(per_class=2, start="averaged")], ids=lambda form: form.kind
)
def test_a_set_that_starts_at_real_examples_starts_at_representative_ones(form: Any):
    data = images((8, 40, 50))
    some = problem(data, context=CONTEXTS["trained"], synthetic=form)
    weights = NETWORK.initial(rng(0, "network", 0), data.shape, 3)
    points, rows, generator = data.normalisation.apply(data.train.points), [], rng(0, "start")
    features = NETWORK(weights, points, ("features",))["features"].flatten(1)
    for members in data.train.members:
        began = torch.randperm(len(members), generator=generator)[:8]
        own = features[members] - features[members].mean(0)
        rows.append(members if len(members) == 8 else members[nearest(own, centres(own, own[began], 20))])
    expected = form.initial(data.train, 0, lambda each: torch.cat(rows))
    (name,) = expected
    assert some.initial()[name].equal(expected[name])
    assert not form.initial(data.train, 0)[name].equal(expected[name])
