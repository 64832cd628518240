"""Label noise."""

import numpy as np
import pytest
import torch

from discrepancy.errors import InvalidInput
from experiments.config import build, dump
from experiments.data import Diabetes, Digits, Mislabelled, Npz, Source, source_named


def test_a_share_of_each_class_has_the_label_of_another() -> None:
    data, plain = Mislabelled(of=Digits(), share=0.4, seed=3).load(), Digits().load()
    right, found = plain.train.labels.numbers, data.train.labels.numbers
    wrong = right != found
    sizes = torch.bincount(right)
    assert torch.bincount(right[wrong]).tolist() == [round(0.4 * size) for size in sizes.tolist()]
    assert torch.equal(data.train.rows().points, plain.train.rows().points)
    assert data.test is not None
    assert plain.test is not None
    assert torch.equal(data.test.labels.numbers, plain.test.labels.numbers)
    assert torch.equal(data.test.rows().points, plain.test.rows().points)
    assert data.normalisation == plain.normalisation
    assert data.train.fingerprint() != plain.train.fingerprint()


def test_wrong_labels_are_uniform_over_the_other_classes() -> None:
    """Chi square over the 90 pairs of classes, with 80 degrees of freedom."""
    right = torch.arange(10).repeat_interleave(4500)
    found = Mislabelled(of=Digits(), share=0.2).wrong(right, 10)
    table = torch.bincount(10 * right + found, minlength=100).reshape(10, 10)
    assert table.diagonal().tolist() == [3600] * 10
    others = table[~torch.eye(10, dtype=torch.bool)].double()
    assert 50 < float(((others - 100).square() / 100).sum()) < 120


def test_the_seed_is_all_that_chance_depends_on() -> None:
    labels = [Mislabelled(of=Digits(), share=0.2, seed=seed).load().train.labels.numbers for seed in (0, 0, 1)]
    assert torch.equal(labels[0], labels[1])
    assert not torch.equal(labels[0], labels[2])


def test_every_label_may_be_wrong() -> None:
    found = Mislabelled(of=Digits(), share=1.0).load().train.labels.numbers
    assert not bool((found == Digits().load().train.labels.numbers).any())


def test_it_is_written_and_read_like_any_source() -> None:
    source = Mislabelled(of=Digits(), share=0.4)
    assert source_named("{kind: mislabelled, of: digits, share: 0.4}") == source
    assert build(Source, dump(source)) == source
    assert source.title == "digits-mislabelled-40"
    assert source.original == Digits()


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan")])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(InvalidInput, match="'share' must be > 0 and at most 1"):
        Mislabelled(of=Digits(), share=share)


def test_data_without_class_numbers_are_refused(tmp_path) -> None:
    with pytest.raises(InvalidInput, match="'mislabelled' needs classes"):
        Mislabelled(of=Diabetes()).load()
    path, random = tmp_path / "own.npz", np.random.default_rng(0)
    np.savez(path, x=random.normal(size=(20, 3)), y=random.dirichlet(np.ones(3), 20))
    with pytest.raises(InvalidInput, match="labels that are class numbers, but those of 'own' are soft"):
        Mislabelled(of=Npz(path=str(path))).load()
