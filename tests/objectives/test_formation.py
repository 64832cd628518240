"""Multi-formation: cells cut out by hand and enlarged by torch's own interpolation; where it starts; what it refuses."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from small import decoded, images, problem, start, table
from torch.nn import functional

from discrepancy import MMD
from discrepancy.embeddings import Identity
from discrepancy.errors import InvalidInput
from objectives.contexts import Pool
from objectives.data.labelled import LabelledData, Normalisation
from objectives.rng import rng
from objectives.solvers import Descent, Random
from objectives.synthetic.artefact import SyntheticSet
from objectives.synthetic.formation import Formation
from objectives.synthetic.pixels import Pixels
from objectives.terms.match import Match


def oblong(height: int = 8, width: int = 12) -> LabelledData:
    x = torch.randint(0, 256, (24, 3, height, width), generator=rng(0, "oblong"))
    return LabelledData.of(x.to(torch.uint8), torch.arange(24) % 2)


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_cells_are_cut_out_in_the_order_of_reading_and_enlarged(factor: int) -> None:
    data, form = oblong(), Formation(per_class=2, factor=factor, start="noise")
    stored, (h, w) = form.initial(data.train, 0)["images"], (8 // factor, 12 // factor)
    expected = [
        functional.interpolate(image[None, :, top : top + h, left : left + w], (8, 12), mode="bilinear")
        for image in stored
        for top in range(0, 8, h)
        for left in range(0, 12, w)
    ]
    here = form.decode({"images": stored}, form.layout(data.train))
    assert here.points.equal(torch.cat(expected))
    assert here.slots.tolist() == [0] * 2 * factor**2 + [1] * 2 * factor**2
    assert here.labels.equal(here.slots)


def test_enlarging_by_hand() -> None:
    """Two by two pixels on four points: 0, ¼, ¾, 1 of the way from one to the other."""
    data, form = images(side=4), Formation(per_class=1)
    stored = torch.zeros(3, 1, 4, 4)
    stored[0, 0, :2, 3] = 4.0
    points = form.decode({"images": stored}, form.layout(data.train)).points
    assert points[1, 0].tolist() == [[0.0, 1.0, 3.0, 4.0]] * 4
    assert float(points.abs().sum()) == 32.0


def test_a_factor_of_one_is_pixels() -> None:
    data, form = images(), Formation(per_class=2, factor=1)
    pixels = Pixels(per_class=2)
    (mine,) = form.initial(data.train, 0).values()
    assert mine.equal(pixels.initial(data.train, 0)["points"])
    assert form.decode({"images": mine}, form.layout(data.train)).points.equal(mine)


@pytest.mark.parametrize(("begin", "mode"), [("real", "nearest"), ("averaged", "bilinear")])
def test_real_start_puts_another_example_of_the_class_in_every_cell(begin: Any, mode: str) -> None:
    data, form = images(sizes=(8, 11, 13)), Formation(per_class=2, start=begin)
    stored = form.initial(data.train, 3)["images"]
    small = functional.interpolate(data.normalisation.apply(data.train.points), scale_factor=0.5, mode=mode)
    found = []
    for image, slot in zip(stored, form.slots(data.train).tolist(), strict=True):
        for cell in (image[:, :4, :4], image[:, :4, 4:], image[:, 4:, :4], image[:, 4:, 4:]):
            (index,) = ((small - cell).abs() < 1e-5).flatten(1).all(1).nonzero()[:, 0].tolist()
            assert int(data.train.labels.numbers[index]) == slot
            found.append(index)
    assert len(set(found)) == 24


def test_noise_is_standard_normal() -> None:
    stored = Formation(per_class=50, start="noise").initial(images().train, 0)["images"]
    n = stored.numel()
    assert abs(float(stored.mean())) < 5 / n**0.5
    assert abs(float(stored.var()) - 1) < 5 * (2 / n) ** 0.5


def test_the_cells_of_an_image_have_label_weight_and_group_in_common() -> None:
    data = images(groups=torch.arange(31) % 2)
    form = Formation(per_class=2, start="noise", labels="soft", weights="learned")
    parameters = form.initial(data.train, 0)
    parameters |= {"weights": torch.linspace(-1, 1, 6), "labels": torch.randn(6, 3, generator=rng(0, "labels"))}
    here, layout = form.decode(parameters, form.layout(data.train)), form.layout(data.train)
    for k in range(24):
        assert here.labels[k].equal(parameters["labels"].softmax(-1)[k // 4])
        assert here.weights[k].equal(parameters["weights"].exp()[k // 4])
        assert (here.slots[k], here.groups[k]) == (layout.slots[k // 4], layout.groups[k // 4])
    assert set(here.groups.tolist()) == {0, 1}


def test_a_match_by_group_sees_the_groups_of_the_decoded() -> None:
    data = images(groups=torch.arange(31) % 2)
    objective, form = Match(MMD(), via=Identity(), by="group"), Formation(per_class=2, start="noise")
    some = problem(data, objective, context=Pool(), synthetic=form)
    here, real = decoded(some), data.normalisation.apply(data.train.points)
    expected = torch.zeros(())
    assert data.train.groups is not None
    for group in (0, 1):
        own = here.points.detach().unflatten(0, (6, 4))[some.groups == group].flatten(0, 1)
        expected += (real[data.train.groups == group].mean(0) - own.mean(0)).square().sum()
    torch.testing.assert_close(some.engine(1).evaluate(here, 0).total, expected, rtol=1e-5, atol=0)


def test_clip_of_the_stored_pixels_holds_the_decoded_ones_in_source_units() -> None:
    data = images()
    data = data.changed(limits=(0.0, 200.0))
    ranges = []
    for clip in (True, False):
        form = Formation(per_class=1, clip=clip)
        solving: Any = start(
            data, Match(MMD(), via=Identity()), Descent(lr=3e3, steps=1), context=Pool(), synthetic=form
        )
        solving.advance()
        points = form.decode(solving.parameters, form.layout(data.train)).points.double()
        source = data.normalisation.invert(points)
        ranges.append((float(source.min()), float(source.max())))
    assert -1e-3 < ranges[0][0] < 1e-3
    assert 200 - 1e-3 < ranges[0][1] < 200 + 1e-3
    assert ranges[1][0] < -100
    assert ranges[1][1] > 300


@pytest.mark.parametrize(
    ("form", "data", "message"),
    [
        (
            Formation(per_class=1, factor=3),
            images(),
            "'factor' must divide the sides of the images, 8 x 8, got 3; choose one of 1, 2, 4, 8$",
        ),
        (Formation(per_class=1, factor=8), oblong(), "8 x 12, got 8; choose one of 1, 2, 4$"),
        (Formation(per_class=1), table(), r"'formation' stores images \(C, H, W\), .* shape \(5,\); choose pixels"),
        (Formation(per_class=2), images(), "start: real needs 8 examples of each class, but '0' of 'data' has 7"),
        (
            Formation(per_class=1, clip=True, start="noise"),
            LabelledData.of(torch.rand(4, 1, 4, 4, generator=rng(0, "x")), torch.arange(4) % 2),
            "'clip' is true, but this data source states no range",
        ),
    ],
    ids=["factor", "oblong", "table", "too-few", "no-limits"],
)
def test_refused_for_the_data(form: Formation, data: LabelledData, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        form.initial(data.train, 0)


def test_refused_when_made() -> None:
    with pytest.raises(InvalidInput, match="'factor' must be at least 1, got 0"):
        Formation(factor=0)
    with pytest.raises(InvalidInput, match="'per_class' must be at least 1, got 0"):
        Formation(per_class=0)


@pytest.mark.parametrize("form", [Formation(per_class=2), Pixels(per_class=2, clip=True)], ids=["formation", "pixels"])
def test_in_units_of_the_range_a_step_is_one_of_the_rate_over_the_variance(form: Any) -> None:
    """u = (x - low) / (high - low) = z σ + c, so u ← u - η ∂/∂u is z ← z - (η / σ²) ∂/∂z, channel by channel."""
    data = LabelledData.of(*pair(), normalisation=Normalisation((90.0, 120.0, 100.0), (60.0, 40.0, 80.0)))
    ranged = replace(form, units="range")
    (name,) = form.initial(data.train, 0)
    z, u = (
        form.initial(data.train, 0)[name].requires_grad_(True),
        ranged.initial(data.train, 0)[name].requires_grad_(True),
    )
    sigma, mean = (torch.tensor(value)[:, None, None] / 255 for value in ((60.0, 40.0, 80.0), (90.0, 120.0, 100.0)))
    torch.testing.assert_close(u, z * sigma + mean)
    assert 0 <= float(u.detach().min()) <= float(u.detach().max()) <= 1
    some, same = (f.decode({name: value}, f.layout(data.train)).points for f, value in ((ranged, u), (form, z)))
    torch.testing.assert_close(some, same)
    for points in (some, same):
        points.pow(3).sum().backward()
    assert u.grad is not None
    assert z.grad is not None
    torch.testing.assert_close((u - 0.1 * u.grad).detach(), (z - 0.1 / sigma**2 * z.grad).detach() * sigma + mean)


def test_in_units_of_the_range_clip_is_to_0_and_1() -> None:
    form, data = Formation(per_class=1, clip=True, units="range"), images()
    stored = {"images": torch.linspace(-1, 2, 192).reshape(3, 1, 8, 8)}
    expected = stored["images"].clamp(0, 1)
    form.project(stored, data.train)
    assert stored["images"].equal(expected)


def test_the_artefact_says_in_which_units_its_parameters_are() -> None:
    data = images()
    for units, declared in (("normalised", False), ("range", True)):
        form = Pixels(per_class=1, units=units)  # pyright: ignore[reportArgumentType]
        parameters = form.initial(data.train, 0)
        made = SyntheticSet.of(form.decode(parameters, form.layout(data.train)), data.train, parameters, {}, form)
        assert ("decoder" in made.record) is declared
        assert made.stored_bytes == 3 * (64 * 4 + 8)
        torch.testing.assert_close(made.points, data.train.points[nearest(made.points, data)].float())


def test_a_selection_is_held_in_any_units() -> None:
    data = images()
    for units in ("normalised", "range"):
        form = Pixels(per_class=2, units=units)  # pyright: ignore[reportArgumentType]
        made = start(data, solver=Random(), synthetic=form)
        while made.step < made.steps:
            made.advance()
        points = form.decode(made.parameters, form.layout(data.train)).points
        torch.testing.assert_close(points, data.normalisation.apply(data.train.points[made.chosen]))


def test_units_of_the_range_need_one() -> None:
    with pytest.raises(InvalidInput, match="'units' is range, but this data source states no range of valid values"):
        Pixels(per_class=1, units="range").initial(table().train, 0)


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randint(0, 256, (24, 3, 8, 8), generator=rng(0, "range"))
    return x.to(torch.uint8), torch.arange(24) % 2


def nearest(points: torch.Tensor, data: LabelledData) -> torch.Tensor:
    return torch.cdist(points.flatten(1), data.train.points.float().flatten(1)).argmin(1)
