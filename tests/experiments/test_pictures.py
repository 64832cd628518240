"""Pictures: the pixels of the grid, and the data of the curves."""

import json
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from discrepancy.errors import InvalidInput
from experiments.metrics import read_metrics
from experiments.report import curves, grid
from experiments.report.figures import DPI
from objectives.data.labels import Labels
from objectives.data.units import Normalisation
from objectives.storage import StorageError
from objectives.synthetic.artefact import SyntheticSet


def synthetic(
    points: Tensor,
    labels: Tensor,
    classes: tuple[str, ...] = ("zero", "one", "two"),
    limits: tuple[float, float] | None = (0.0, 255.0),
) -> SyntheticSet:
    channels = points.shape[1]
    units = Normalisation((0.0,) * channels, (1.0,) * channels)
    own = Labels("hard" if labels.ndim == 1 else "soft", labels)
    return SyntheticSet(points, own, torch.ones(len(points)), classes, units, limits)


def pixels(made: SyntheticSet, folder: Path) -> np.ndarray:
    assert grid.save(made, folder / "a.png")
    with Image.open(folder / "a.png") as picture:
        return np.asarray(picture.convert("RGB"))


def holds(picture: np.ndarray, tile: np.ndarray) -> list[tuple[int, int]]:
    """Where in the picture the tile stands, exactly: (row, column) of its corners."""
    windows = np.lib.stride_tricks.sliding_window_view(picture, tile.shape)[:, :, 0]
    return [(int(y), int(x)) for y, x in np.argwhere((windows == tile).all(axis=(2, 3, 4)))]


# --- grid ---------------------------------------------------------------------------------------------------------------


def test_images_far_outside_of_the_range_are_shown_each_from_its_least_value_to_its_largest(tmp_path: Path) -> None:
    ramp = torch.linspace(0, 1, 16).reshape(1, 1, 4, 4)
    points, labels = torch.cat([4000 * ramp - 2000, 90 * ramp + 20, 8000 * ramp]), torch.arange(3)
    wild = synthetic(points, labels)
    assert grid.stretched(wild)
    shades = grid.tiles(wild)
    assert shades[0].equal(shades[1])
    assert shades[0].equal(shades[2])
    assert (int(shades.min()), int(shades.max())) == (0, 255)
    tame = synthetic(points.clamp(-200, 400), labels)
    assert not grid.stretched(tame)
    assert int(grid.tiles(tame)[1].max()) == 110
    assert not grid.stretched(synthetic(points, labels, limits=None))
    assert pixels(wild, tmp_path).shape[0] > pixels(tame, tmp_path).shape[0]  # a note below


def test_each_example_stands_in_the_row_of_its_class(tmp_path: Path, generator: torch.Generator) -> None:
    points = torch.randint(0, 256, (12, 3, 32, 32), generator=generator).float()
    labels = torch.tensor([2, 0, 1, 0, 2, 1, 0, 1, 2, 0, 1, 2])
    picture = pixels(synthetic(points, labels), tmp_path)
    images = grid.tiles(synthetic(points, labels)).numpy()
    places = [holds(picture, image[:16, :16]) for image in images]
    assert all(len(place) == 1 for place in places)
    rows = sorted({place[0][0] for place in places})
    assert [rows.index(place[0][0]) for place in places] == labels.tolist()
    for c in range(3):
        columns = [places[i][0][1] for i in range(12) if labels[i] == c]
        assert columns == sorted(columns)


def test_values_are_scaled_by_the_valid_range_and_clipped() -> None:
    points = torch.tensor([-4.0, 0.0, 8.0, 16.0, 17.0, torch.nan]).reshape(1, 1, 1, 6)
    shades = grid.tiles(synthetic(points, torch.zeros(1, dtype=torch.long), limits=(0.0, 16.0)))
    factor = shades.shape[1]
    assert shades.shape == (1, factor, 6 * factor, 3)
    assert shades[0, 0, ::factor].tolist() == [[v] * 3 for v in (0, 0, 128, 255, 255, 0)]


def test_without_limits_the_values_span_the_range() -> None:
    points = torch.tensor([-1.0, 0.0, 3.0]).reshape(1, 1, 1, 3)
    shades = grid.tiles(synthetic(points, torch.zeros(1, dtype=torch.long), limits=None))
    assert shades[0, 0, :: shades.shape[1], 0].tolist() == [0, 64, 255]
    constant = grid.tiles(synthetic(torch.full((1, 1, 2, 2), 5.0), torch.zeros(1, dtype=torch.long), limits=None))
    assert constant.unique().tolist() == [0]


def test_colours_keep_their_order_and_other_channels_are_left_out() -> None:
    red = torch.zeros(1, 3, 2, 2)
    red[:, 0] = 255
    label = torch.zeros(1, dtype=torch.long)
    assert grid.tiles(synthetic(red, label))[0, 0, 0].tolist() == [255, 0, 0]
    assert grid.tiles(synthetic(torch.cat([red, red], 1), label))[0, 0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("side", "tile"), [(1, 64), (8, 64), (28, 56), (32, 64), (64, 64), (96, 96), (224, 96)], ids=lambda side: str(side)
)
def test_images_are_shown_at_a_readable_size(side: int, tile: int) -> None:
    points = torch.full((1, 1, side, side), 255.0)
    shades = grid.tiles(synthetic(points, torch.zeros(1, dtype=torch.long)))
    assert shades.shape == (1, tile, tile, 3)
    assert shades.min() == 255


def test_soft_labels_and_missing_classes(tmp_path: Path, generator: torch.Generator) -> None:
    points = torch.randint(0, 256, (2, 1, 64, 64), generator=generator).float()
    soft = torch.tensor([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1]])
    picture = pixels(synthetic(points, soft), tmp_path)
    images = grid.tiles(synthetic(points, soft)).numpy()
    assert len(holds(picture, images[0])) == len(holds(picture, images[1])) == 1


def test_a_large_set_is_cut_with_a_note() -> None:
    points, labels = torch.zeros(60 * 21, 1, 2, 2), torch.arange(60).repeat(21)
    figure = grid.drawn(synthetic(points, labels, tuple(f"class {c}" for c in range(60))))
    texts = [text.get_text() for text in figure.texts]
    assert texts[-1] == "the first 20 of 21 examples a class, the first 50 of 60 classes"
    assert texts[:-1] == [f"class {c}" for c in range(50)]


def test_a_small_set_has_no_note() -> None:
    figure = grid.drawn(synthetic(torch.zeros(3, 1, 2, 2), torch.arange(3)))
    assert [text.get_text() for text in figure.texts] == ["zero", "one", "two"]


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    names = ("a $x$ _y_", "a name of far more than twenty-four letters", "犬")
    made = synthetic(torch.zeros(3, 1, 2, 2), torch.arange(3), names)
    assert grid.save(made, tmp_path / "a.png")
    with pytest.warns(UserWarning, match="Glyph"):
        first, second, _ = [text.get_text() for text in grid.drawn(made).texts]
    assert (first, second) == (r"a \$x\$ _y_", "a name of far more than…")


def test_examples_that_are_no_images_have_no_picture(tmp_path: Path) -> None:
    assert not grid.save(synthetic(torch.zeros(3, 5), torch.arange(3)), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"a\.png' could not be written"):
        grid.save(synthetic(torch.zeros(3, 1, 2, 2), torch.arange(3)), tmp_path / "gone" / "a.png")


def test_drawing_leaves_the_global_state_of_matplotlib_alone(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    grid.save(synthetic(torch.zeros(3, 1, 2, 2), torch.arange(3)), tmp_path / "a.png")
    curves.drawn(lines([1.0, 2.0]))
    assert dict(mpl.rcParams) == before


# --- curves -------------------------------------------------------------------------------------------------------------


def lines(losses: list[float], **terms: list[float]) -> list[dict]:
    named = terms or {"features": losses}
    return [
        {"step": 10 * i, "loss": loss, "terms": {name: values[i] for name, values in named.items()}}
        for i, loss in enumerate(losses)
    ]


def metrics(folder: Path, text: str) -> Path:
    path = folder / "metrics.jsonl"
    path.write_text(text)
    return path


def test_a_cut_last_line_is_left_out(tmp_path: Path) -> None:
    whole = [json.dumps({**line, "seconds": 0.5}) for line in lines([3.0, 2.0, 1.0])]
    path = metrics(tmp_path, "\n".join(whole) + '\n{"step": 30, "lo')
    assert read_metrics(path) == [{**line, "seconds": 0.5} for line in lines([3.0, 2.0, 1.0])]
    assert curves.save(path, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (960, 540)


@pytest.mark.parametrize("damaged", ['{"step": 0}', "[1]", '{"step": "0", "loss": 1, "terms": {}}', "\\xff"])
def test_a_damaged_line_is_named(tmp_path: Path, damaged: str) -> None:
    path = metrics(tmp_path, damaged + '\n{"step": 1, "loss": 1.0, "terms": {}}\n')
    with pytest.raises(InvalidInput, match=r"metrics\.jsonl' is damaged at line 1; remove that line"):
        read_metrics(path)


def test_one_measurement_makes_no_curve(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "gone.jsonl") == []
    path = metrics(tmp_path, json.dumps(lines([3.0])[0]) + "\n")
    assert not curves.save(path, tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


def test_each_term_has_a_curve_and_its_name_at_the_end() -> None:
    figure = curves.drawn(lines([3.0, 2.5], near=[1.0, 1.25], far=[2.0, 1.25]))
    (axes,) = figure.axes
    assert [line.get_ydata().tolist() for line in axes.lines] == [[3.0, 2.5], [1.0, 1.25], [2.0, 1.25]]
    assert axes.lines[0].get_xdata().tolist() == [0, 10]
    assert sorted(text.get_text() for text in axes.texts) == ["far", "near", "total"]
    heights = sorted(text.xy[1] for text in axes.texts)
    tall = axes.get_window_extent().height
    assert min(np.diff(heights)) * tall > 11 * DPI / 72  # the two that end together are moved apart
    assert heights[-1] <= 1


def test_a_single_term_is_its_own_total() -> None:
    (axes,) = curves.drawn(lines([3.0, 2.5])).axes
    assert len(axes.lines) == 1
    assert axes.get_ylabel() == "loss, features"
    assert not axes.texts


@pytest.mark.parametrize(
    ("losses", "scale"),
    [([3.0, 2.0], "log"), ([300.0, 2e-4], "log"), ([3.0, 0.0], "linear"), ([3.0, -1.0], "linear")],
    ids=["narrow", "wide", "zero", "negative"],
)
def test_the_scale_is_logarithmic_where_all_is_positive(losses: list[float], scale: str) -> None:
    figure = curves.drawn(lines(losses))
    figure.canvas.draw()
    (axes,) = figure.axes
    low, high = axes.get_ylim()
    assert axes.get_yscale() == scale
    assert sum(low <= tick <= high for tick in axes.get_yticks()) >= 3


def test_long_runs_show_a_running_mean() -> None:
    losses = (1.0 + torch.arange(200) % 2).tolist()
    (axes,) = curves.drawn(lines(losses)).axes
    raw, smooth = (line.get_ydata() for line in axes.lines)
    assert raw.tolist() == losses
    expected = [np.mean(losses[max(i - 2, 0) : i + 3]) for i in range(200)]
    np.testing.assert_allclose(smooth, expected, rtol=1e-12)
    assert axes.get_title("left") == "bold: mean of 5 measurements   pale: single measurements"
