"""Shared bases: against the product of matrices and numpy's singular vectors."""

import numpy as np
import pytest
import torch
from small import images, table

from discrepancy.errors import InvalidInput
from objectives.data.labelled import LabelledData
from objectives.synthetic.bases import Bases
from objectives.synthetic.pixels import Pixels


@pytest.mark.parametrize("data", [images(channels=3), table()], ids=["images", "table"])
def test_examples_are_sums_of_bases(data: LabelledData) -> None:
    form = Bases(per_class=2, number=4, start="noise")
    stored = {name: value.double() for name, value in form.initial(data.train, 0).items()}
    codes, bases = stored["codes"].numpy(), stored["bases"].numpy()
    expected = np.zeros((6, *data.shape))
    for i in range(6):
        for k in range(4):
            expected[i] += codes[i, k] * bases[k]
    found = form.decode(stored, form.layout(data.train)).points
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("data", "number"), [(images(), 5), (table(), 3)], ids=["wide", "tall"])
def test_real_start_projects_onto_the_principal_directions(data: LabelledData, number: int) -> None:
    """The whole of so small a data set is its sample."""
    form = Bases(per_class=2, number=number)
    stored = form.initial(data.train, 1)
    everything = data.normalisation.apply(data.train.points).flatten(1).double().numpy()
    right = np.linalg.svd(everything)[2][:number]
    d = right.shape[1]
    bases = stored["bases"].flatten(1).double().numpy()
    np.testing.assert_allclose(bases @ bases.T, d * np.eye(number), rtol=0, atol=1e-4 * d)
    np.testing.assert_allclose(np.abs(bases @ right.T), np.sqrt(d) * np.eye(number), rtol=0, atol=1e-3)
    real = Pixels(per_class=2).initial(data.train, 1)["points"].flatten(1).double().numpy()
    found = form.decode(stored, form.layout(data.train)).points.flatten(1).double().numpy()
    np.testing.assert_allclose(found, real @ right.T @ right, rtol=0, atol=1e-4)


def test_as_many_bases_as_examples_lose_nothing() -> None:
    data, form = images(), Bases(per_class=2, number=31)
    found = form.decode(form.initial(data.train, 1), form.layout(data.train)).points
    torch.testing.assert_close(found, Pixels(per_class=2).initial(data.train, 1)["points"], rtol=0, atol=1e-4)


def test_the_sample_has_as_many_of_each_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("objectives.synthetic.bases.SAMPLE", 9)
    data = images(sizes=(7, 40, 13))
    with pytest.raises(InvalidInput, match="'number' is 10, but 9 real examples span 9 dimensions"):
        Bases(per_class=2, number=10).initial(data.train, 0)
    assert Bases(per_class=2, number=9).initial(data.train, 0)["bases"].shape == (9, 1, 8, 8)


def test_both_starts_have_entries_of_size_one() -> None:
    for start in ("real", "noise"):
        form = Bases(per_class=7, number=20, start=start)  # pyright: ignore[reportArgumentType]
        stored = form.initial(images().train, 0)
        assert float(stored["bases"].square().mean()) == pytest.approx(1, rel=0.15)
        assert float(stored["codes"].square().sum(1).mean()) == pytest.approx(1, rel=0.35)


def test_the_start_follows_the_seed() -> None:
    for start in ("real", "noise"):
        form = Bases(per_class=2, number=3, start=start)  # pyright: ignore[reportArgumentType]
        first, again, other = (form.initial(images().train, seed)["codes"] for seed in (0, 0, 1))
        assert first.equal(again)
        assert not first.equal(other)


@pytest.mark.parametrize(
    ("form", "data", "message"),
    [
        (Bases(per_class=2), images(), "'number' is 32, but 31 real examples span 31 .* at most 31, or start: noise"),
        (Bases(per_class=2, number=6), table(), "'number' is 6, but 31 real examples span 5 dimensions"),
        (Bases(per_class=8), images(), "start: real needs 8 examples of each class, but '0' of 'data' has 7"),
    ],
    ids=["examples", "dimensions", "too-few"],
)
def test_refused_for_the_data(form: Bases, data: LabelledData, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        form.initial(data.train, 0)


def test_refused_when_made() -> None:
    with pytest.raises(InvalidInput, match="'number' must be at least 1, got 0"):
        Bases(number=0)
    with pytest.raises(InvalidInput, match="'per_class' must be at least 1, got 0"):
        Bases(per_class=0)
