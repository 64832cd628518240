"""Groups by k-means."""

import pytest
import torch

from discrepancy.errors import InvalidInput
from experiments.config import build, dump
from experiments.data import Clustered, Digits, Npz, Source


def test_clusters_divide_each_class_and_the_test_examples_go_to_the_nearest() -> None:
    data, plain = Clustered(of=Digits(), clusters=3).load(), Digits().load()
    groups, labels = data.train.groups, data.train.labels.numbers
    assert groups is not None
    assert data.test is not None
    assert data.test.groups is not None
    assert torch.equal(groups // 3, labels)
    assert torch.equal(data.test.groups // 3, data.test.labels.numbers)
    assert torch.equal(data.train.rows().points, plain.train.rows().points)
    sizes = torch.bincount(groups, minlength=30).reshape(10, 3)
    assert bool((sizes > 0).all())
    assert bool((sizes[:, :-1] >= sizes[:, 1:]).all())
    points = data.train.normalised(torch.arange(len(data.train))).flatten(1)
    spread = sum(float((points[groups == g] - points[groups == g].mean(0)).square().sum()) for g in range(30))
    whole = sum(float((points[labels == c] - points[labels == c].mean(0)).square().sum()) for c in range(10))
    assert spread < 0.8 * whole
    centres = torch.stack([points[groups == g].mean(0) for g in range(30)])
    tests = data.test.normalised(torch.arange(len(data.test))).flatten(1)
    apart = torch.cdist(tests, centres)
    own = apart.reshape(len(tests), 10, 3)[torch.arange(len(tests)), data.test.labels.numbers]
    nearest = own.argmin(1)
    assert float((nearest == data.test.groups % 3).double().mean()) > 0.99


def test_it_is_written_and_read_like_any_source() -> None:
    source = Clustered(of=Digits(), clusters=4)
    assert build(Source, {"kind": "clustered", "of": "digits", "clusters": 4}) == source
    assert build(Source, dump(source)) == source
    assert source.title == "digits-clustered"
    first, second = source.load().train.groups, source.load().train.groups
    assert torch.equal(first, second)


def test_what_is_refused(tmp_path) -> None:
    import numpy as np

    with pytest.raises(InvalidInput, match="'clusters' must be at least 2"):
        Clustered(of=Digits(), clusters=1)
    path = tmp_path / "own.npz"
    np.savez(path, x=np.random.default_rng(0).normal(size=(20, 3)), y=np.arange(20) % 2, groups=np.arange(20) % 3)
    with pytest.raises(InvalidInput, match="has groups of its own"):
        Clustered(of=Npz(path=str(path))).load()
