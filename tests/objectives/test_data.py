from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from discrepancy.errors import DataWarning, InvalidInput
from objectives.data.examples import Examples
from objectives.data.labelled import LabelledData, Normalisation
from objectives.data.labels import Labels
from objectives.data.spec import DataSpec

LABELS = np.array([0, 1, 2, 0, 1, 2, 0])


def table(n: int = 7, d: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def images(n: int = 7, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 3, 5, 11), dtype=np.uint8)


def hard(*numbers: int) -> Labels:
    return Labels("hard", torch.tensor(numbers))


class TestNormalisation:
    @pytest.mark.parametrize(
        "points", [images(), images().astype(np.float64), table()], ids=["uint8", "float64", "table"]
    )
    def test_measured_is_mean_and_population_std_of_the_channel(self, points: np.ndarray) -> None:
        found = Normalisation.measured(torch.from_numpy(points))
        axes = (0, *range(2, points.ndim))
        np.testing.assert_allclose(found.mean, points.mean(axes, dtype=np.float64), rtol=1e-12)
        np.testing.assert_allclose(found.std, points.std(axes, dtype=np.float64), rtol=1e-12)

    def test_measured_by_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("objectives.data.units.CHUNK", 4)
        points = table(13) + 1e6
        found = Normalisation.measured(torch.from_numpy(points))
        np.testing.assert_allclose(found.std, points.std(0), rtol=1e-6)

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
    def test_constant_channel_is_centred_only(self, dtype: torch.dtype) -> None:
        points = torch.tensor([[7.0, 1.0], [7.0, 3.0]]).to(dtype) / (1 if dtype == torch.uint8 else 10)
        found = Normalisation.measured(points)
        assert found.std[0] == 1.0
        assert found.apply(points)[:, 0].abs().max() < 1e-6

    def test_rounding_errors_count_as_constant(self) -> None:
        points = torch.tensor([[1000.0, 1000.0], [1000.0 + 1e-9, 1000.1]], dtype=torch.float64)
        assert Normalisation.measured(points).std == (1.0, pytest.approx(0.05))

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
    def test_apply_gives_float32(self, dtype: torch.dtype) -> None:
        points = torch.from_numpy(images()).to(dtype)
        applied = Normalisation((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)).apply(points)
        expected = (points.double() - torch.tensor([1.0, 2, 3]).view(3, 1, 1)) / torch.tensor([4.0, 5, 6]).view(3, 1, 1)
        torch.testing.assert_close(applied, expected.float(), rtol=1e-6, atol=1e-6)

    def test_apply_subtracts_in_the_precision_of_the_points(self) -> None:
        points = torch.tensor([[1e9 + 1], [1e9 - 1]], dtype=torch.float64)
        torch.testing.assert_close(Normalisation.measured(points + 0).apply(points), torch.tensor([[1.0], [-1.0]]))

    def test_one_value_stands_for_all_channels(self) -> None:
        assert Normalisation((1.0,), (2.0,)).apply(torch.full((2, 3), 5.0)).tolist() == [[2.0] * 3] * 2

    def test_invert_undoes_apply_to_the_byte(self) -> None:
        points = torch.from_numpy(images())
        units = Normalisation.measured(points)
        torch.testing.assert_close(units.invert(units.apply(points)), points.float(), rtol=0, atol=1e-3)

    def test_invert_keeps_float64(self) -> None:
        assert Normalisation((1.0,), (3.0,)).invert(torch.ones(1, 1, dtype=torch.float64)).dtype == torch.float64

    @pytest.mark.parametrize(
        ("mean", "std", "message"),
        [
            ((0.0,), (1.0, 1.0), "one value, or one a channel, got 1 and 2"),
            ((0.0,), (0.0,), "'std' > 0"),
            ((float("nan"),), (1.0,), "'mean' must be finite"),
        ],
    )
    def test_refuses(self, mean: tuple[float, ...], std: tuple[float, ...], message: str) -> None:
        with pytest.raises(InvalidInput, match=message):
            Normalisation(mean, std)

    def test_refuses_other_channels(self) -> None:
        with pytest.raises(InvalidInput, match=r"has 2 channels, but points of shape \(7, 3\) have 3"):
            Normalisation((0.0, 0.0), (1.0, 1.0)).apply(torch.zeros(7, 3))


class TestPoints:
    """What ``of`` accepts as points."""

    @pytest.mark.parametrize(
        ("given_", "shape"),
        [
            (images(), (3, 5, 11)),
            (images().transpose(0, 2, 3, 1), (3, 5, 11)),
            (torch.from_numpy(images()).permute(0, 2, 3, 1), (3, 5, 11)),
            (images()[:, :1].transpose(0, 2, 3, 1), (1, 5, 11)),
            (images()[:, 0], (1, 5, 11)),
            (images()[:, :, :, :3], (3, 5, 3)),
            (images()[::-1, :, ::2], (3, 3, 11)),
            (table(), (3,)),
            (table().tolist(), (3,)),
            (np.asfortranarray(table()), (3,)),
        ],
        ids=["nchw", "nhwc", "nhwc-tensor", "nhw1", "nhw", "3-wide", "strided", "table", "lists", "fortran"],
    )
    def test_shapes(self, given_: Any, shape: tuple[int, ...]) -> None:
        data = LabelledData.of(given_, LABELS)
        assert data.shape == shape
        assert data.train.points.is_contiguous()

    def test_channels_last_keeps_every_value(self) -> None:
        points = images()
        found = LabelledData.of(points.transpose(0, 2, 3, 1), LABELS).train.points
        np.testing.assert_array_equal(found, points)

    @pytest.mark.parametrize(
        ("given_", "kept"),
        [
            (np.uint8, torch.uint8),
            (np.float32, torch.float32),
            (np.float64, torch.float64),
            (np.float16, torch.float32),
            (np.int16, torch.float32),
            (np.uint16, torch.float32),
            (np.int64, torch.float64),
            (bool, torch.float32),
            (">f4", torch.float32),
        ],
        ids=str,
    )
    def test_types(self, given_: Any, kept: torch.dtype) -> None:
        points = np.arange(21).reshape(7, 3).astype(given_)
        found = LabelledData.of(points, LABELS).train.points
        assert found.dtype == kept
        np.testing.assert_array_equal(found.double(), points.astype(np.float64))

    def test_bfloat16_tensor(self) -> None:
        points = torch.arange(21.0).reshape(7, 3).bfloat16()
        assert torch.equal(LabelledData.of(points, LABELS).train.points, points.float())

    def test_read_only_array(self) -> None:
        points = table()
        points.flags.writeable = False
        assert LabelledData.of(points, LABELS).shape == (3,)

    def test_uint8_images_have_limits_and_tables_have_not(self) -> None:
        assert LabelledData.of(images(), LABELS).limits == (0.0, 255.0)
        assert LabelledData.of(images()[:, 0, 0], LABELS).limits is None

    @pytest.mark.parametrize(
        ("points", "message"),
        [
            (
                np.where(np.arange(21).reshape(7, 3) == 8, np.nan, 1),
                "1 values of the points are NaN .* first in example 2",
            ),
            (
                np.where(np.arange(21).reshape(7, 3) >= 19, np.inf, 1.0),
                "2 values of the points .* the first in example 6",
            ),
            (np.zeros((0, 3)), "there are no examples"),
            (np.zeros((7, 0)), "have no values"),
            (np.zeros(7), r"must have shape \(n, features\).*got \(7,\)"),
            (np.zeros((7, 2, 2, 2, 2)), r"got \(7, 2, 2, 2, 2\)"),
            (np.full((7, 3), None), "must hold numbers .* got an array of object"),
            (np.full((7, 3), "a"), "must hold numbers, got strings"),
            (np.ones((7, 3), complex), "got an array of complex128"),
            (np.ma.masked_less(np.arange(21).reshape(7, 3), 2), "points have 2 masked values"),
            ([np.ma.masked_less(np.arange(3), row) for row in range(7)], "points have 15 masked values"),
            (torch.eye(7).to_sparse(), "must be a dense tensor"),
            ([[1.0], [1.0, 2.0]], "give examples of one size"),
            (table(5), "7 labels do not fit 5 points"),
        ],
        ids=[
            "nan",
            "inf",
            "empty",
            "no-features",
            "1d",
            "5d",
            "object",
            "strings",
            "complex",
            "masked",
            "rows",
            "sparse",
            "ragged",
            "length",
        ],
    )
    def test_refuses(self, points: Any, message: str) -> None:
        with pytest.raises(InvalidInput, match=f"^training data: .*{message}"):
            LabelledData.of(points, LABELS if len(points) else LABELS[:0])


class TestLabels:
    """What ``of`` accepts as labels."""

    @pytest.mark.parametrize(
        ("labels", "classes"),
        [
            (LABELS, ("0", "1", "2")),
            (torch.from_numpy(LABELS), ("0", "1", "2")),
            (LABELS.astype(np.uint8), ("0", "1", "2")),
            (LABELS[:, None], ("0", "1", "2")),
            (LABELS.astype(np.float32), ("0", "1", "2")),
            (LABELS * 4 + 3, ("3", "7", "11")),
            (np.array(["a", "b", "c"])[LABELS], ("a", "b", "c")),
            (np.array(["a", "b", "c"], dtype=object)[LABELS], ("a", "b", "c")),
            (np.array([b"a", b"b", b"c"])[LABELS], ("a", "b", "c")),
            (["abc"[k] for k in LABELS], ("a", "b", "c")),
            (np.eye(3)[LABELS], ("0", "1", "2")),
        ],
        ids=[
            "int",
            "tensor",
            "uint8",
            "column",
            "whole-float",
            "gaps",
            "text",
            "object-text",
            "bytes",
            "list",
            "one-hot",
        ],
    )
    def test_hard(self, labels: Any, classes: tuple[str, ...]) -> None:
        data = LabelledData.of(table(), labels)
        assert set(data.classes) == set(classes)
        assert [data.classes[k] for k in data.train.labels.numbers] == [classes[k] for k in LABELS]
        assert data.train.labels.kind == "hard"

    def test_bool(self) -> None:
        data = LabelledData.of(table(), LABELS == 1)
        assert data.classes == ("False", "True")
        assert data.train.labels.numbers.tolist() == (LABELS == 1).astype(int).tolist()

    def test_noncontiguous(self) -> None:
        assert LabelledData.of(table(), np.repeat(LABELS, 2)[::2]).train.labels.numbers.tolist() == LABELS.tolist()

    def test_soft(self) -> None:
        rows = np.full((7, 3), 0.1) + 0.7 * np.eye(3)[LABELS]
        data = LabelledData.of(table(), rows.astype(np.float16))
        assert data.train.labels.numbers.tolist() == LABELS.tolist()
        assert data.train.labels.kind == "soft"
        torch.testing.assert_close(data.train.labels.rows, torch.from_numpy(rows).float(), rtol=0, atol=1e-3)
        torch.testing.assert_close(data.train.labels.rows.sum(1), torch.ones(7))

    @pytest.mark.parametrize("labels", [LABELS, np.array(["x", "y", "z"])[LABELS]], ids=["positions", "names"])
    def test_given_class_names(self, labels: np.ndarray) -> None:
        data = LabelledData.of(table(), labels, classes=["x", "y", "z"])
        assert data.classes == ("x", "y", "z")
        assert data.train.labels.numbers.tolist() == LABELS.tolist()

    def test_given_names_need_not_be_sorted(self) -> None:
        data = LabelledData.of(table(), np.array(["x", "y", "z"])[LABELS], classes=["z", "y", "x"])
        assert data.train.labels.numbers.tolist() == (2 - LABELS).tolist()

    def test_groups(self) -> None:
        data = LabelledData.of(table(), LABELS, groups=["b", "a", "b", "a", "b", "a", "c"])
        assert data.train.groups is not None
        assert data.train.groups.tolist() == [1, 0, 1, 0, 1, 0, 2]

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (LABELS + 0.5, "must be whole numbers, class names or distributions, got 0.5 at example 0"),
            (np.where(LABELS == 2, np.nan, LABELS), "got nan at example 2"),
            (LABELS[:5], "5 labels do not fit 7 points"),
            (np.zeros((7, 2, 2)), r"must have shape \(n,\), or \(n, classes\)"),
            (np.full((7, 3), 0.5), "rows that sum to 1, got 1.5 with least value 0.5 in row 0"),
            (np.tile([1.5, -0.5], (7, 1)), "got 1 with least value -0.5 in row 0"),
            (np.array([None, 1, 2, 3, 4, 5, 6]), "got an array of object"),
            (np.full((7, 2), "a"), r"must have shape \(n,\)"),
        ],
        ids=["fractional", "nan", "length", "3d", "sum", "negative-soft", "object", "text-rows"],
    )
    def test_refuses(self, labels: Any, message: str) -> None:
        with pytest.raises(InvalidInput, match=f"^training data: .*{message}"):
            LabelledData.of(table(), labels)

    @pytest.mark.parametrize(
        ("labels", "classes", "expected"),
        [
            ([-1, 1, -1, 1], None, [0, 1, 0, 1]),
            ([-1.0, 1.0, -7.0, 1.0], None, [1, 2, 0, 2]),
            ([-1, 1, -1, 1], ["-1", "1"], [0, 1, 0, 1]),
            ([-1, 1, -1, 1], ["1", "-1"], [1, 0, 1, 0]),
            ([3, 70, 3, 900], ["900", "70", "3"], [2, 1, 2, 0]),
            ([0, 1, 0, 1], ["1", "0"], [0, 1, 0, 1]),
        ],
        ids=["minus-one", "floats", "named", "named-otherwise", "gaps", "positions"],
    )
    def test_whole_numbers(self, labels: list[Any], classes: list[str] | None, expected: list[int]) -> None:
        data = LabelledData.of(table(4), np.array(labels), classes=classes)
        assert data.train.labels.numbers.tolist() == expected

    def test_minus_one_beside_zero_may_mean_no_label(self) -> None:
        with pytest.warns(DataWarning, match="labels have -1 beside 0: it is taken for a class, of 3 examples"):
            assert LabelledData.of(table(), LABELS - 1).classes == ("-1", "0", "1")

    @pytest.mark.parametrize(
        ("labels", "classes", "message"),
        [
            (LABELS * 0, None, "must have at least two classes with different names, got '0'"),
            (LABELS, ["a", "b", "a"], "at least two classes with different names, got 'a', 'b', 'a'"),
            (LABELS, ["a", "b", "c", "d"], "has no training example of class 'd'"),
            (LABELS, ["a", "b"], r"contain '2' \(first at example 2\), which is none of the 2 classes a, b"),
            (np.eye(3)[LABELS], ["a", "b"], "labels have 3 columns for 2 classes"),
        ],
        ids=["one-class", "same-name", "empty-class", "out-of-range", "columns"],
    )
    def test_refuses_classes(self, labels: Any, classes: list[str] | None, message: str) -> None:
        with pytest.raises(InvalidInput, match=message):
            LabelledData.of(table(), labels, classes=classes)


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
