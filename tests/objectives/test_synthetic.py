"""The synthetic side: where it starts, how it decodes, where it may be; and the laws of all its forms."""

from dataclasses import replace

import pytest
import torch
from small import images, table, unchecked
from torch import Tensor

from discrepancy import MMD
from discrepancy.errors import InvalidInput
from objectives.condensation import condense
from objectives.contexts import Pool
from objectives.data.labelled import LabelledData
from objectives.rng import rng
from objectives.solvers import Herding, Random, Solver
from objectives.synthetic.bases import Bases
from objectives.synthetic.formation import Formation
from objectives.synthetic.frequencies import Frequencies
from objectives.synthetic.parameterisation import Parameterisation
from objectives.synthetic.pixels import Pixels
from objectives.terms.match import Match

LEARNED = {"labels": "soft", "weights": "learned", "start": "noise"}
FORMS: dict[str, Parameterisation] = {
    "pixels": Pixels(per_class=2, **LEARNED),  # pyright: ignore[reportArgumentType]
    "formation": Formation(per_class=2, **LEARNED),  # pyright: ignore[reportArgumentType]
    "frequencies": Frequencies(per_class=2, keep=3, **LEARNED),  # pyright: ignore[reportArgumentType]
    "bases": Bases(per_class=2, number=4, **LEARNED),  # pyright: ignore[reportArgumentType]
}

# --- the laws of all forms --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_every_parameter_is_shared_or_has_a_row_for_each_stored_example(form: str) -> None:
    data, synthetic = images(), FORMS[form]
    parameters, layout = synthetic.initial(data.train, 0), synthetic.layout(data.train)
    assert len(layout) == 6
    assert synthetic.shared <= parameters.keys()
    for name, value in parameters.items():
        assert value.dtype == torch.float32
        assert (len(value) == 6) == (name not in synthetic.shared)
    decoded = synthetic.decode(parameters, layout)
    assert decoded.points.shape == (6 * synthetic.copies, *data.shape)
    assert decoded.slots.equal(layout.slots.repeat_interleave(synthetic.copies))


@pytest.mark.parametrize("form", FORMS)
def test_decoding_some_rows_gives_some_rows(form: str) -> None:
    data, synthetic = images(), FORMS[form]
    parameters, layout = synthetic.initial(data.train, 0), synthetic.layout(data.train)
    mine = layout.slots == 1
    rows = {name: value if name in synthetic.shared else value[mine] for name, value in parameters.items()}
    whole, part = synthetic.decode(parameters, layout), synthetic.decode(rows, layout.rows(mine))
    assert part.slots.tolist() == [1] * 2 * synthetic.copies
    for name in ("points", "weights", "labels"):
        torch.testing.assert_close(getattr(part, name), getattr(whole, name)[whole.slots == 1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("examples", "sizes"), [(3, [1, 1, 1]), (5, [2, 2, 1]), (7, [3, 2, 2])])
def test_classes_share_so_many_examples_out(form: str, examples: int, sizes: list[int]) -> None:
    data, synthetic = images((13, 17, 23)), replace(FORMS[form], examples=examples, start="real")
    parameters, layout = synthetic.initial(data.train, 0), synthetic.layout(data.train)
    assert layout.slots.tolist() == [label for label, size in enumerate(sizes) for _ in range(size)]
    decoded = synthetic.decode(parameters, layout)
    assert decoded.labels.argmax(1).equal(layout.slots.repeat_interleave(synthetic.copies))
    own = replace(synthetic, examples=None, per_class=max(sizes))
    kept = torch.cat([torch.arange(max(sizes)) < size for size in sizes])
    for name, value in own.initial(data.train, 0).items():
        expected = value if name in synthetic.shared else value[kept]
        torch.testing.assert_close(parameters[name], expected)
    hard = replace(synthetic, labels="hard")
    made = condense(data, Match(MMD()), context=Pool(), synthetic=hard, steps=2)
    assert len(made) == examples * synthetic.copies
    assert made.numbers.equal(layout.slots.repeat_interleave(synthetic.copies))
    assert torch.bincount(made.numbers).tolist() == [size * synthetic.copies for size in sizes]


@pytest.mark.parametrize("form", ["formation", "frequencies", "bases"])
def test_bytes_of_examples_shared_out(form: str) -> None:
    data = images()
    synthetic = replace(FORMS[form], examples=5, labels="hard", weights="equal")
    made = condense(data, Match(MMD()), context=Pool(), synthetic=synthetic, steps=1)
    floats = sum(value.numel() for value in synthetic.initial(data.train, 0).values())
    assert made.stored_bytes == 4 * floats + 8 * 5


def test_class_means_of_examples_shared_out() -> None:
    data, synthetic = images(), Pixels(examples=4, start="class-mean")
    points = synthetic.initial(data.train, 0)["points"]
    nearest = torch.cdist(points.flatten(1), data.train.class_means().flatten(1)).argmin(1)
    assert nearest.tolist() == synthetic.slots(data.train).tolist() == [0, 0, 1, 2]


def test_a_class_without_examples_cannot_be_compared() -> None:
    data = images()
    message = r"term 'mmd' is by: class, but 2 synthetic examples leave some of the 3 classes of 'data' without any"
    with pytest.raises(InvalidInput, match=message):
        condense(data, Match(MMD()), context=Pool(), examples=2)
    with pytest.raises(InvalidInput, match=message):
        condense(data, Match(MMD()), context=Pool(), examples=2, solver=Herding())
    made = condense(data, Match(MMD(), by="none"), context=Pool(), examples=2, steps=1)
    assert made.numbers.tolist() == [0, 1]
    with pytest.raises(InvalidInput, match="give 'per_class' or 'examples', one of them"):
        condense(data, Match(MMD()), context=Pool(), examples=6, per_class=2)


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_through_decoding_is_that_of_finite_differences(form: str) -> None:
    data, synthetic = images(channels=3, side=4), FORMS[form]
    names, values = zip(*synthetic.initial(data.train, 0).items(), strict=True)
    layout = synthetic.layout(data.train)

    def decode(*leaves: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        decoded = synthetic.decode(dict(zip(names, leaves, strict=True)), layout)
        return decoded.points, decoded.labels, decoded.weights

    assert set(names) >= {"labels", "weights"}
    torch.autograd.gradcheck(decode, [value.double().requires_grad_(True) for value in values])


@pytest.mark.parametrize("solver", [Random(), Herding()], ids=lambda item: item.kind)
@pytest.mark.parametrize("form", ["formation", "frequencies", "bases"])
def test_only_pixels_hold_a_selection(form: str, solver: Solver) -> None:
    with pytest.raises(InvalidInput, match=f"^'{form}' cannot hold given examples as they are; choose pixels$"):
        condense(images(), Match(MMD()), context=Pool(), synthetic=FORMS[form], solver=solver)


# --- pixels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["noise", "real", "class-mean"])
def test_start_follows_the_seed(start: str) -> None:
    pixels, data = Pixels(per_class=2, start=start), images()  # pyright: ignore[reportArgumentType]
    first, again, other = (pixels.initial(data.train, seed)["points"] for seed in (0, 0, 1))
    assert first.shape == (6, 1, 8, 8)
    assert first.dtype == torch.float32
    assert first.equal(again)
    assert not first.equal(other)


def test_noise_is_standard_normal() -> None:
    points = Pixels(per_class=50, start="noise").initial(images().train, 0)["points"]
    n = points.numel()
    assert abs(float(points.mean())) < 5 / n**0.5
    assert abs(float(points.var()) - 1) < 5 * (2 / n) ** 0.5


def test_real_start_is_distinct_examples_of_the_class() -> None:
    data = images()
    pixels = Pixels(per_class=7)
    points, slots = pixels.initial(data.train, 3)["points"], pixels.slots(data.train)
    real = data.normalisation.apply(data.train.points).flatten(1)
    equal = (points.flatten(1)[:, None] == real[None]).all(-1)
    assert equal.sum(1).tolist() == [1] * 21
    found = equal.int().argmax(1)
    assert len(set(found.tolist())) == 21
    assert data.train.labels.numbers[found].equal(slots)


def test_class_mean_start() -> None:
    data = images()
    points = Pixels(per_class=40, start="class-mean").initial(data.train, 0)["points"].unflatten(0, (3, 40))
    for c in range(3):
        own = data.normalisation.apply(data.train.points[data.train.labels.numbers == c]).double().mean(0)
        rest = points[c].double() - own
        assert abs(float(rest.std()) - 0.1) < 0.01
        assert abs(float(rest.mean())) < 5 * 0.1 / rest.numel() ** 0.5


def test_too_few_real_examples() -> None:
    with pytest.raises(InvalidInput, match="start: real needs 8 examples of each class, but '0' of 'data' has 7"):
        Pixels(per_class=8).initial(images().train, 0)


def test_slots_and_hard_labels() -> None:
    data, pixels = images(), Pixels(per_class=2)
    slots = pixels.slots(data.train)
    assert slots.tolist() == [0, 0, 1, 1, 2, 2]
    decoded = pixels.decode(pixels.initial(data.train, 0), pixels.layout(data.train))
    assert decoded.labels.equal(slots)
    assert decoded.weights.tolist() == [1.0] * 6


def test_soft_labels_start_confident() -> None:
    data, pixels = images(), Pixels(per_class=2, labels="soft")
    parameters = pixels.initial(data.train, 0)
    labels = pixels.decode(parameters, pixels.layout(data.train)).labels
    torch.testing.assert_close(labels.sum(1), torch.ones(6))
    torch.testing.assert_close(labels[:, 0], torch.tensor([0.9, 0.9, 0.05, 0.05, 0.05, 0.05]))


def test_learned_weights_start_at_one_and_stay_positive() -> None:
    data, pixels = images(), Pixels(per_class=2, weights="learned")
    parameters = pixels.initial(data.train, 0)
    assert parameters["weights"].tolist() == [0.0] * 6
    parameters["weights"] = torch.linspace(-5, 5, 6)
    weights = pixels.decode(parameters, pixels.layout(data.train)).weights
    torch.testing.assert_close(weights, torch.exp(torch.linspace(-5, 5, 6)))


def test_rows_of_a_decoded_set() -> None:
    data, pixels = images(), Pixels(per_class=2, labels="soft", weights="learned")
    whole = pixels.decode(pixels.initial(data.train, 0), pixels.layout(data.train))
    part = whole.rows(torch.tensor([4, 1]))
    assert part.slots.tolist() == [2, 0]
    for name in ("points", "weights", "labels"):
        assert getattr(part, name).equal(getattr(whole, name)[[4, 1]])


def test_groups_take_turns_largest_first() -> None:
    y = torch.tensor([0] * 6 + [1] * 4)
    groups = torch.tensor([2, 2, 2, 0, 0, 1, 1, 1, 1, 0])
    data = LabelledData.of(torch.randn(10, 3, generator=torch.Generator()), y, groups=groups)
    assert Pixels(per_class=4).groups(data.train).tolist() == [2, 0, 1, 2, 1, 0, 1, 0]
    assert Pixels(examples=7).groups(data.train).tolist() == [2, 0, 1, 2, 1, 0, 1]
    assert Pixels(examples=1).groups(data.train).tolist() == [2]


def test_no_groups_is_one_group() -> None:
    assert Pixels(per_class=2).groups(images().train).tolist() == [0] * 6


def test_clip_keeps_the_limits() -> None:
    data, pixels = images(), Pixels(per_class=2, start="noise", clip=True)
    parameters = {"points": 30 * torch.randn(6, 1, 8, 8, generator=rng(0, "test"))}
    pixels.project(parameters, data.train)
    source = data.normalisation.invert(parameters["points"].double())
    assert -1e-4 < float(source.min()) < 1e-4
    assert 255 - 1e-4 < float(source.max()) < 255 + 1e-4


def test_clip_holds_at_the_start() -> None:
    data = images()
    data = data.changed(limits=(0.0, 200.0))
    free, kept = (
        data.normalisation.invert(Pixels(per_class=5, start="noise", clip=clip).initial(data.train, 0)["points"])
        for clip in (False, True)
    )
    assert float(free.max()) > 210
    assert float(kept.max()) < 200.001


def test_clip_needs_limits() -> None:
    with pytest.raises(InvalidInput, match="'clip' is true, but this data source states no range of valid values"):
        Pixels(clip=True, per_class=1).initial(table().train, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per_class": 0}, "'per_class' must be at least 1, got 0"),
        ({"start": "nosie"}, "'start' must be one of noise, real, class-mean; got 'nosie'"),
        ({"labels": "learnt"}, "'labels' must be one of hard, soft, learned; got 'learnt'"),
        ({"weights": "soft"}, "'weights' must be one of equal, learned; got 'soft'"),
    ],
    ids=["per_class", "start", "labels", "weights"],
)
def test_refused(options: dict[str, object], message: str) -> None:
    with unchecked(), pytest.raises(InvalidInput, match=message):
        Pixels(**options)  # pyright: ignore[reportArgumentType]
