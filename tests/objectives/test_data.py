"""Points and their normalisation: what is taken, and what is refused."""

from typing import Any

import numpy as np
import pytest
import torch
from tables import LABELS, images, table

from discrepancy.errors import InvalidInput
from objectives.data.labelled import LabelledData, Normalisation


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
