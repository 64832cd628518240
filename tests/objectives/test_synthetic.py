"""The synthetic side: where it starts, how it decodes, where it may be."""

import pytest
import torch
from small import images, table, unchecked

from discrepancy.errors import InvalidInput
from objectives.data import LabelledData
from objectives.streams import stream
from objectives.synthetic import Pixels


@pytest.mark.parametrize("start", ["noise", "real", "class-mean"])
def test_start_follows_the_seed(start: str) -> None:
    pixels, data = Pixels(per_class=2, start=start), images()  # pyright: ignore[reportArgumentType]
    first, again, other = (pixels.initial(data, seed)["points"] for seed in (0, 0, 1))
    assert first.shape == (6, 1, 8, 8)
    assert first.dtype == torch.float32
    assert first.equal(again)
    assert not first.equal(other)


def test_noise_is_standard_normal() -> None:
    points = Pixels(per_class=50, start="noise").initial(images(), 0)["points"]
    n = points.numel()
    assert abs(float(points.mean())) < 5 / n**0.5
    assert abs(float(points.var()) - 1) < 5 * (2 / n) ** 0.5


def test_real_start_is_distinct_examples_of_the_class() -> None:
    data = images()
    pixels = Pixels(per_class=7)
    points, slots = pixels.initial(data, 3)["points"], pixels.slots(data)
    real = data.normalisation.apply(data.train.points).flatten(1)
    equal = (points.flatten(1)[:, None] == real[None]).all(-1)
    assert equal.sum(1).tolist() == [1] * 21
    found = equal.int().argmax(1)
    assert len(set(found.tolist())) == 21
    assert data.train.labels[found].equal(slots)


def test_class_mean_start() -> None:
    data = images()
    points = Pixels(per_class=40, start="class-mean").initial(data, 0)["points"].unflatten(0, (3, 40))
    for c in range(3):
        own = data.normalisation.apply(data.train.points[data.train.labels == c]).double().mean(0)
        rest = points[c].double() - own
        assert abs(float(rest.std()) - 0.1) < 0.01
        assert abs(float(rest.mean())) < 5 * 0.1 / rest.numel() ** 0.5


def test_too_few_real_examples() -> None:
    with pytest.raises(InvalidInput, match="start: real needs 8 examples of each class, but '0' of 'data' has 7"):
        Pixels(per_class=8).initial(images(), 0)


def test_slots_and_hard_labels() -> None:
    data, pixels = images(), Pixels(per_class=2)
    slots = pixels.slots(data)
    assert slots.tolist() == [0, 0, 1, 1, 2, 2]
    decoded = pixels.decode(pixels.initial(data, 0), pixels.layout(data))
    assert decoded.labels.equal(slots)
    assert decoded.weights.tolist() == [1.0] * 6


def test_soft_labels_start_confident() -> None:
    data, pixels = images(), Pixels(per_class=2, labels="soft")
    parameters = pixels.initial(data, 0)
    labels = pixels.decode(parameters, pixels.layout(data)).labels
    torch.testing.assert_close(labels.sum(1), torch.ones(6))
    torch.testing.assert_close(labels[:, 0], torch.tensor([0.9, 0.9, 0.05, 0.05, 0.05, 0.05]))


def test_learned_weights_start_at_one_and_stay_positive() -> None:
    data, pixels = images(), Pixels(per_class=2, weights="learned")
    parameters = pixels.initial(data, 0)
    assert parameters["weights"].tolist() == [0.0] * 6
    parameters["weights"] = torch.linspace(-5, 5, 6)
    weights = pixels.decode(parameters, pixels.layout(data)).weights
    torch.testing.assert_close(weights, torch.exp(torch.linspace(-5, 5, 6)))


def test_rows_of_a_decoded_set() -> None:
    data, pixels = images(), Pixels(per_class=2, labels="soft", weights="learned")
    whole = pixels.decode(pixels.initial(data, 0), pixels.layout(data))
    part = whole.rows(torch.tensor([4, 1]))
    assert part.slots.tolist() == [2, 0]
    for name in ("points", "weights", "labels"):
        assert getattr(part, name).equal(getattr(whole, name)[[4, 1]])


def test_groups_take_turns_largest_first() -> None:
    y = torch.tensor([0] * 6 + [1] * 4)
    groups = torch.tensor([2, 2, 2, 0, 0, 1, 1, 1, 1, 0])
    data = LabelledData.of(torch.randn(10, 3, generator=torch.Generator()), y, groups=groups)
    assert Pixels(per_class=4).groups(data).tolist() == [2, 0, 1, 2, 1, 0, 1, 0]


def test_no_groups_is_one_group() -> None:
    assert Pixels(per_class=2).groups(images()).tolist() == [0] * 6


def test_clip_keeps_the_limits() -> None:
    data, pixels = images(), Pixels(per_class=2, start="noise", clip=True)
    parameters = {"points": 30 * torch.randn(6, 1, 8, 8, generator=stream(0, "test"))}
    pixels.project(parameters, data)
    source = data.normalisation.invert(parameters["points"].double())
    assert -1e-4 < float(source.min()) < 1e-4
    assert 255 - 1e-4 < float(source.max()) < 255 + 1e-4


def test_clip_holds_at_the_start() -> None:
    data = images()
    data = LabelledData(data.name, data.train, None, data.classes, data.normalisation, limits=(0.0, 200.0))
    free, kept = (
        data.normalisation.invert(Pixels(per_class=5, start="noise", clip=clip).initial(data, 0)["points"])
        for clip in (False, True)
    )
    assert float(free.max()) > 210
    assert float(kept.max()) < 200.001


def test_clip_needs_limits() -> None:
    with pytest.raises(InvalidInput, match="'clip' is true, but this data source states no range of valid values"):
        Pixels(clip=True, per_class=1).initial(table(), 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per_class": 0}, "'per_class' must be at least 1, got 0"),
        ({"start": "nosie"}, "'start' must be one of noise, real, class-mean; got 'nosie'"),
        ({"labels": "learned"}, "'labels' must be one of hard, soft; got 'learned'"),
        ({"weights": "soft"}, "'weights' must be one of equal, learned; got 'soft'"),
    ],
    ids=["per_class", "start", "labels", "weights"],
)
def test_refused(options: dict[str, object], message: str) -> None:
    with unchecked(), pytest.raises(InvalidInput, match=message):
        Pixels(**options)  # pyright: ignore[reportArgumentType]
