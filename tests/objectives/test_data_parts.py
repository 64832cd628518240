"""Parts of the data: the test part, Datasets, batches of a class, a split."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tables import LABELS, hard, images, table
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from discrepancy.errors import InvalidInput
from objectives.data.examples import Examples
from objectives.data.labelled import LabelledData, Normalisation
from objectives.data.labels import Labels
from objectives.data.spec import DataSpec


class TestParts:
    def test_test_labels_get_the_numbers_of_training(self) -> None:
        data = LabelledData.of(table(), LABELS * 10, test=(table(2, seed=1), [20, 0]))
        assert data.test is not None
        assert data.test.labels.numbers.tolist() == [2, 0]

    @pytest.mark.parametrize(
        ("test", "message"),
        [
            (
                (table(2), [0, 3]),
                r"test data: labels contain '3' \(first at example 1\), which is none of the 3 classes",
            ),
            ((table(2), ["0", "1"]), "test data: labels contain '0'"),
            ((table(2, 4), [0, 1]), r"test points of shape \(4,\) do not fit training points of shape \(3,\)"),
            (
                (table(2).astype(np.float32), [0, 1]),
                "type float32 do not fit training points .* float64; convert them alike",
            ),
            ((table(2) * np.inf, [0, 1]), "test data: 6 values of the points are NaN or infinite"),
            ((table(2), np.eye(4)[:2]), "test data: labels have 4 columns for 3 classes"),
            (table(2), "'test' must be a pair .* got ndarray"),
        ],
        ids=["unseen", "text", "shape", "type", "inf", "columns", "no-pair"],
    )
    def test_refuses_a_test_part(self, test: Any, message: str) -> None:
        with pytest.raises(InvalidInput, match=message):
            LabelledData.of(table(), LABELS, test=test)

    def test_refuses_values_outside_of_the_limits(self) -> None:
        with pytest.raises(InvalidInput, match=r"training points lie in 0 .. 9, outside of the stated limits 0 .. 1"):
            LabelledData.of(np.arange(7.0)[:, None] * 1.5, LABELS, limits=(0.0, 1.0))

    def test_refuses_a_normalisation_of_other_channels(self) -> None:
        with pytest.raises(InvalidInput, match=r"normalisation of 'data' has 2 channels, .* shape \(3,\)"):
            LabelledData.of(table(), LABELS, normalisation=Normalisation((0.0, 0.0), (1.0, 1.0)))

    @pytest.mark.parametrize(
        ("examples", "message"),
        [
            (Examples(torch.zeros(2, 1), hard(0, -1)), "labels must be >= 0, got -1 at example 1"),
            (Examples(torch.zeros(2, 1), hard(0, 0, 0)), "3 labels do not fit 2 points"),
            (Examples(torch.zeros(2, 1), Labels("soft", torch.ones(3, 1))), "3 soft labels do not fit 2"),
            (Examples(torch.zeros(2, 1), hard(0, 1), torch.tensor([0])), "1 groups do not fit 2"),
        ],
        ids=["negative", "labels", "soft", "groups"],
    )
    def test_examples_refuse(self, examples: Examples, message: str) -> None:
        with pytest.raises(InvalidInput, match=message):
            examples.checked()

    def test_labels_out_of_range(self) -> None:
        train = Examples(torch.zeros(3, 1), hard(0, 1, 5))
        with pytest.raises(InvalidInput, match=r"training labels must lie in 0 .. 1, got 5 at example 2"):
            LabelledData.made(DataSpec("data", (1,), ("a", "b"), Normalisation((0.0,), (1.0,))), train)


class Pairs(Dataset):
    def __init__(self, *items: Any) -> None:
        self.items = items

    def __getitem__(self, index: int) -> Any:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[Any]:
        return iter(())


class TestDatasets:
    def test_tensors(self) -> None:
        train = TensorDataset(torch.from_numpy(table()), torch.from_numpy(LABELS))
        data = LabelledData.of(train, test=TensorDataset(torch.from_numpy(table(2)), torch.tensor([2, 1])))
        np.testing.assert_array_equal(data.train.points, table())
        assert data.test is not None
        assert data.test.labels.numbers.tolist() == [2, 1]

    def test_pictures(self) -> None:
        grey = [Image.fromarray(image[0]) for image in images(2)]
        found = LabelledData.of(Pairs((grey[0], "cat"), (grey[1], "dog")))
        np.testing.assert_array_equal(found.train.points, images(2)[:, :1])
        assert found.classes == ("cat", "dog")

    def test_palette_pictures_become_colour(self) -> None:
        picture = Image.new("P", (4, 5))
        picture.putpalette([10, 20, 30] * 256)
        found = LabelledData.of(Pairs((picture, 0), (picture, 1)))
        assert found.shape == (3, 5, 4)
        assert found.train.points[0, :, 0, 0].tolist() == [10, 20, 30]

    @pytest.mark.parametrize(
        ("dataset", "message"),
        [
            (Pairs(), "'x' is empty"),
            (Pairs((table(), 0), (table(5), 1)), r"items 0 and 1 of 'x' have shapes \(7, 3\) and \(5, 3\)"),
            (Pairs({"image": 1}), r"item 0 of 'x' must be a pair \(point, label\), got dict"),
            (Pairs((Image.new("I;16", (2, 2)), 0)), r"image 0 of 'x' has more than 8 bits a channel \(mode I;16\)"),
        ],
        ids=["empty", "sizes", "no-pair", "16-bit"],
    )
    def test_refuses(self, dataset: Dataset, message: str) -> None:
        with pytest.raises(InvalidInput, match=message):
            LabelledData.of(dataset)

    def test_refuses_an_iterable_dataset(self) -> None:
        with pytest.raises(InvalidInput, match=r"'x' is an iterable Dataset.*stack its items into arrays"):
            LabelledData.of(Stream())

    def test_refuses_points_without_labels(self) -> None:
        with pytest.raises(InvalidInput, match=r"'x' must be a pair \(x, y\) or a map-style Dataset, got ndarray"):
            LabelledData.of(table())


class TestClassBatch:
    sizes = (5, 2, 11)

    @pytest.fixture
    def data(self, generator: torch.Generator) -> LabelledData:
        labels = torch.arange(3).repeat_interleave(torch.tensor(self.sizes))
        order = torch.randperm(len(labels), generator=generator)
        return LabelledData.of(torch.arange(float(len(labels)))[:, None], labels[order])

    def test_members(self, data: LabelledData) -> None:
        assert data.train.per_class == self.sizes
        for label, rows in enumerate(data.train.members):
            assert rows.tolist() == (data.train.labels.numbers == label).nonzero()[:, 0].tolist()

    @pytest.mark.parametrize("size", [1, 2, 7, 100])
    def test_each_class_gives_what_it_can_without_repeats(
        self, data: LabelledData, generator: torch.Generator, size: int
    ) -> None:
        chosen = data.train.class_batch(generator, size)
        assert len(set(chosen.tolist())) == len(chosen)
        labels = data.train.labels.numbers[chosen]
        assert labels.tolist() == sorted(labels.tolist())
        assert labels.bincount().tolist() == [min(size, have) for have in self.sizes]

    def test_every_example_is_equally_likely(self, data: LabelledData, generator: torch.Generator) -> None:
        draws = 3000
        counts = torch.cat([data.train.class_batch(generator, 2) for _ in range(draws)]).bincount(minlength=18)
        expected = torch.tensor([2 * draws / len(data.train.members[label]) for label in data.train.labels.numbers])
        assert (counts - expected).abs().max() < 5 * expected.sqrt().max()

    def test_same_generator_same_batch(self, data: LabelledData) -> None:
        first, second = (data.train.class_batch(torch.Generator().manual_seed(3), 4) for _ in range(2))
        assert torch.equal(first, second)

    def test_a_smaller_batch_is_the_beginning_of_a_larger_one(self, data: LabelledData) -> None:
        small, large = (data.train.class_batch(torch.Generator().manual_seed(3), size) for size in (1, 5))
        assert small.tolist() == [large[0].item(), large[5].item(), large[7].item()]

    def test_require_names_the_smallest_class(self, data: LabelledData) -> None:
        data.train.require(2, "start: real")
        with pytest.raises(
            InvalidInput, match=r"^start: real needs 3 examples of each class, but '1' of 'data' has 2; ask"
        ):
            data.train.require(3, "start: real")

    def test_class_means(self, data: LabelledData) -> None:
        expected = [data.normalisation.apply(data.train.points[rows]).mean(0) for rows in data.train.members]
        torch.testing.assert_close(data.train.class_means(), torch.stack(expected))


class TestSplit:
    @given(sizes=st.lists(st.integers(1, 23), min_size=2, max_size=5), fraction=st.floats(0.01, 0.99))
    def test_stratified_and_a_partition(self, sizes: list[int], fraction: float) -> None:
        labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
        data = LabelledData.of(torch.arange(float(len(labels)))[:, None], labels)
        if max(sizes) == 1:
            with pytest.raises(InvalidInput, match="every class of 'data' has a single example"):
                data.split(fraction, torch.Generator())
            return
        parts = data.split(fraction, torch.Generator().manual_seed(1))
        assert parts.test is not None
        both = torch.cat([parts.train.points, parts.test.points])[:, 0]
        assert both.sort().values.tolist() == list(range(len(labels)))
        assert all(torch.equal(part.points, part.points.sort(0).values) for part in (parts.train, parts.test))
        held = parts.test.labels.numbers.bincount(minlength=len(sizes)).tolist()
        for have, out in zip(sizes, held, strict=True):
            assert out == min(max(round(fraction * have), 1), have - 1)

    def test_keeps_units_soft_labels_and_groups(self, generator: torch.Generator) -> None:
        rows = np.full((7, 3), 0.1) + 0.7 * np.eye(3)[LABELS]
        data = LabelledData.of(table(), rows, groups=LABELS, test=(table(2), [0, 1]))
        parts = data.split(0.5, generator)
        assert parts.normalisation == data.normalisation
        assert parts.train.labels.kind == "soft"
        assert parts.train.labels.rows.argmax(1).tolist() == parts.train.labels.numbers.tolist()
        assert parts.train.groups is not None
        assert parts.train.groups.tolist() == parts.train.labels.numbers.tolist()

    @pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1])
    def test_refuses(self, fraction: float, generator: torch.Generator) -> None:
        with pytest.raises(InvalidInput, match=f"'fraction' must lie strictly between 0 and 1, got {fraction}"):
            LabelledData.of(table(), LABELS).split(fraction, generator)
