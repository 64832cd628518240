"""The benchmark of transport runs, in a tiny setting; what it measures is not judged here."""

import pytest
import torch

from experiments.benchmarks import memory, transport

TINY = transport.Sizes(
    n=60,
    m=10,
    d=3,
    exact=((20, 7),),
    warm=(700, 150),
    library=(30, 8),
    classes=(3, 20, 5),
    error=(30, 8),
    directions=5,
    growth=(20, 200),
    rounds=1,
    peer_rounds=1,
)


def test_rows():
    rows = transport.rows(TINY, memory=False)
    assert all(row["seconds"] > 0 for row in rows if "error" not in row)
    assert len({row["what"] for row in rows}) == len(rows) - 1  # two rows are sums of a summary and a step


def test_errors_are_those_of_the_same_quantity():
    errors = {row["what"]: row["error"] for row in transport.error_rows(TINY)}
    assert all(error < 1e-3 for what, error in errors.items() if "ours" in what)
    assert all(error < 0.1 for what, error in errors.items() if "value, geomloss, scaling 0.9" in what)


@pytest.mark.parametrize("peer", ["exact", "sliced"])
def test_peers_have_the_same_gradient(peer):
    x, y = transport.clouds(20, 7, 3)
    if peer == "exact":
        ours, theirs = transport.step(transport.Wasserstein(), x, y), transport.pot_exact_step(x, y)
    else:
        sliced = transport.SlicedWasserstein(directions=5)
        ours, theirs = transport.step(sliced, x, y), transport.pot_sliced_step(x, y, 5)
    torch.testing.assert_close(ours(), theirs(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("which", ["geomloss", "sinkhorn", "summary", "pot exact", "exact", "pot sliced", "sliced"])
def test_memory_of_each(which):
    assert transport.peak_of(which, 400, 120, 3) >= 0


def test_memory_is_measured_in_a_process_of_its_own():
    assert memory.extra_megabytes(transport.MODULE, "sinkhorn", 50, 10, 3) >= 0


def test_peak_is_seen():
    # 64 MB, written to so that they are resident
    assert memory.peak_megabytes(lambda: torch.ones(16 << 20)) > 60
