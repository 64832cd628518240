"""Siamese augmentation against a loop over images and pixels, its derivatives, and what both sides share."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from discrepancy.errors import InvalidInput
from objectives.training.augmentation import Chain, Siamese

OPERATIONS = Siamese().operations
SHAPES = {"colour": (3, 8, 8), "grey": (1, 7, 7), "oblong": (3, 9, 5)}


def bilinear(image, y, x):
    """The value at a real position, pixel centres at whole numbers, zero outside."""
    total = np.zeros(image.shape[0])
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
                total += (1 - abs(y - row)) * (1 - abs(x - column)) * image[:, row, column]
    return total


def slow(part, operation, image, u):
    """One operation on one image (C, H, W), pixel by pixel, from its definition."""
    _, height, width = image.shape
    centre = np.array([(height - 1) / 2, (width - 1) / 2])
    if operation == "colour":
        image = image + (u[0] - 0.5) * part.brightness
        grey = image.mean(0, keepdims=True)
        image = grey + (image - grey) * u[1] * part.saturation
        return image.mean() + (image - image.mean()) * (u[2] + part.contrast)
    if operation == "flip":
        return image[:, :, ::-1] if u[0] < part.flip else image
    result = np.zeros_like(image)
    if operation == "crop":
        most = [int(side * part.crop + 0.5) for side in (height, width)]
        shift = [math.floor(number * (2 * m + 1)) - m for number, m in zip(u, most, strict=True)]
    if operation == "cutout":
        sizes = [int(side * part.cutout + 0.5) for side in (height, width)]
        middle = [
            math.floor(number * (side + 1 - size % 2))
            for number, side, size in zip(u, (height, width), sizes, strict=True)
        ]
        first = [m - size // 2 for m, size in zip(middle, sizes, strict=True)]
    for row in range(height):
        for column in range(width):
            place = np.array([row, column])
            if operation == "crop":
                result[:, row, column] = bilinear(image, row + shift[0], column + shift[1])
            elif operation == "cutout":
                inside = all(f <= p < f + s for f, p, s in zip(first, place, sizes, strict=True))
                result[:, row, column] = 0 if inside else image[:, row, column]
            elif operation == "scale":
                low, high = 1 / part.scale, part.scale
                factor = low + (high - low) * np.array([u[1], u[0]])  # the first number is the factor across
                result[:, row, column] = bilinear(image, *(centre + factor * (place - centre)))
            elif operation == "rotate":
                angle = math.radians(part.rotate) * (2 * u[0] - 1)
                y, x = place - centre
                y, x = y * math.cos(angle) + x * math.sin(angle), x * math.cos(angle) - y * math.sin(angle)
                result[:, row, column] = bilinear(image, centre[0] + y, centre[1] + x)
    return result


def drawn(part, generator, rows, shape):
    """A draw in double precision, so that numbers are those of the slow formulation."""
    draws = part.draw(generator, rows, shape)
    return {name: value if name == "operation" else value.double() for name, value in draws.items()}


def images(generator, n, shape):
    return torch.randn(n, *shape, generator=generator, dtype=torch.double)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_operation_is_its_definition(operation, shape, generator):
    part = Siamese(operations=(operation,))
    draws = drawn(part, generator, 13, shape)
    points = images(generator, 13, shape)
    result = part(points, draws, torch.arange(13))
    truth = [slow(part, operation, image.numpy(), u.numpy()) for image, u in zip(points, draws[operation], strict=True)]
    np.testing.assert_allclose(result.numpy(), np.stack(truth), rtol=1e-9, atol=1e-9)
    assert not torch.allclose(result, points)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_all_operations_follow_each_other(shape, generator):
    part = Siamese(mode="all", operations=("rotate", "colour", "crop", "flip"))
    draws = drawn(part, generator, 3, shape)
    points, rows = images(generator, 5, shape), torch.tensor([2, 0, 1, 1, 0])
    for row, image, result in zip(rows, points, part(points, draws, rows), strict=True):
        truth = image.numpy()
        for operation in part.operations:
            truth = slow(part, operation, truth, draws[operation][row].numpy())
        np.testing.assert_allclose(result.numpy(), truth, rtol=1e-9, atol=1e-9)


def test_one_operation_is_that_of_the_row(generator):
    part = Siamese()
    draws = drawn(part, generator, 23, (3, 8, 8))
    assert set(draws["operation"].tolist()) == set(range(6))
    points, rows = images(generator, 31, (3, 8, 8)), torch.randint(0, 23, (31,), generator=generator)
    result = part(points, draws, rows)
    for row, image, value in zip(rows, points, result, strict=True):
        operation = part.operations[draws["operation"][row]]
        truth = slow(part, operation, image.numpy(), draws[operation][row].numpy())
        np.testing.assert_allclose(value.numpy(), truth, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("mode", ["one", "all"])
def test_both_sides_see_the_same_transformation(mode, generator):
    part = Siamese(mode=mode)
    draws = part.draw(generator, 4, (3, 8, 8))
    image = torch.randn(3, 8, 8, generator=generator)
    real_rows, synthetic_rows = torch.tensor([0, 0, 1, 3, 2, 2]), torch.tensor([3, 2, 1, 0])
    real = part(image.expand(6, -1, -1, -1), draws, real_rows)
    synthetic = part(image.expand(4, -1, -1, -1), draws, synthetic_rows)
    for row in range(4):
        for value in real[real_rows == row]:
            torch.testing.assert_close(value, synthetic[synthetic_rows == row][0], rtol=0, atol=1e-5)


def test_images_of_their_own_rows_differ(generator):
    part = Siamese(per="image", operations=("crop", "cutout", "scale", "rotate", "colour"))
    image = torch.randn(3, 16, 16, generator=generator)
    values = part(image.expand(7, -1, -1, -1), part.draw(generator, 7, (3, 16, 16)), torch.arange(7))
    for first in range(7):
        for second in range(first):
            assert not torch.allclose(values[first], values[second])


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 4, 4)], ids=["colour", "grey"])
def test_gradient_of_each_operation(operation, shape, generator):
    part = Siamese(operations=(operation,))
    draws = part.draw(generator, 2, shape)
    points = images(generator, 3, shape).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: part(x, draws, torch.tensor([1, 0, 1])), points)


@pytest.mark.parametrize("mode", ["one", "all"])
def test_gradient_of_the_whole(mode, generator):
    part = Siamese(mode=mode)
    draws = part.draw(generator, 6, (2, 4, 4))
    points = images(generator, 6, (2, 4, 4)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: part(x, draws, torch.arange(6)), points)


NEUTRAL = {
    "colour": [0.5, 0.5, 0.5],
    "crop": [0.5, 0.5],
    "flip": [0.5],
    "scale": [(1 - 1 / 1.2) / (1.2 - 1 / 1.2)] * 2,
    "rotate": [0.5],
}


@pytest.mark.parametrize("operation", NEUTRAL)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_neutral_numbers_change_nothing(operation, shape, generator):
    part = Siamese(operations=(operation,))
    points = images(generator, 3, shape)
    draws = {
        "operation": torch.zeros(1, dtype=torch.long),
        operation: torch.tensor([NEUTRAL[operation]], dtype=torch.double),
    }
    result = part(points, draws, torch.zeros(3, dtype=torch.long))
    torch.testing.assert_close(result, points, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "part",
    [
        Siamese(operations=("cutout",), cutout=0),
        Siamese(operations=("crop",), crop=0),
        Siamese(operations=("flip",), flip=0),
        Siamese(operations=("scale",), scale=1),
        Siamese(operations=("rotate",), rotate=0),
    ],
    ids=lambda part: part.operations[0],
)
def test_strength_zero_changes_nothing(part, generator):
    points = images(generator, 5, (3, 7, 6))
    result = part(points, part.draw(generator, 5, (3, 7, 6)), torch.arange(5))
    torch.testing.assert_close(result, points, rtol=1e-12, atol=1e-12)


def test_saturation_leaves_a_grey_image(generator):
    part = Siamese(operations=("colour",))
    draws = part.draw(generator, 5, (1, 7, 7))
    other = draws | {"colour": draws["colour"] * torch.tensor([1.0, 0.1, 1.0])}
    points = images(generator, 5, (1, 7, 7))
    grey_in_colour = points.expand(-1, 3, -1, -1)
    torch.testing.assert_close(part(points, draws, torch.arange(5)), part(points, other, torch.arange(5)))
    torch.testing.assert_close(
        part(grey_in_colour, draws, torch.arange(5)), part(points, draws, torch.arange(5)).expand(-1, 3, -1, -1)
    )


def test_draws_are_a_function_of_the_generator():
    first, again, other = (Siamese().draw(torch.Generator().manual_seed(seed), 5, (3, 8, 8)) for seed in (1, 1, 2))
    assert first.keys() == {"operation", *OPERATIONS}
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in OPERATIONS)
    assert all(value.device.type == "cpu" for value in first.values())


def test_global_random_state_is_neither_read_nor_written():
    before = torch.get_rng_state()
    part = Siamese(mode="all")
    part(torch.zeros(2, 1, 8, 8), part.draw(torch.Generator(), 2, (1, 8, 8)), torch.arange(2))
    assert torch.equal(torch.get_rng_state(), before)


def test_leaving_out_an_operation_leaves_the_numbers_of_the_others():
    full, fewer = Siamese(), Siamese(operations=("rotate", "crop"))
    first, second = (part.draw(torch.Generator().manual_seed(1), 5, (3, 8, 8)) for part in (full, fewer))
    assert second.keys() == {"operation", "rotate", "crop"}
    assert torch.equal(first["crop"], second["crop"])
    assert torch.equal(first["rotate"], second["rotate"])


def test_operations_are_drawn_equally_often(generator):
    counts = torch.bincount(Siamese().draw(generator, 6000, (3, 8, 8))["operation"], minlength=6)
    assert counts.sum() == 6000
    assert (counts - 1000).abs().max() < 5 * math.sqrt(1000)


def test_shifts_reach_both_ends_and_no_further(generator):
    part = Siamese(operations=("crop",))
    image = torch.arange(1.0, 65.0).view(1, 1, 8, 8).expand(500, -1, -1, -1)
    result = part(image, part.draw(generator, 500, (1, 8, 8)), torch.arange(500))
    shifts = {divmod(int(value) - 1, 8) for value in result[:, 0, 3, 3]}
    assert shifts == {(row, column) for row in (2, 3, 4) for column in (2, 3, 4)}


def test_mirror_images_only_where_they_keep_the_label():
    part = Siamese(brightness=0.3)
    assert part.for_data(mirror=True) == part
    assert part.for_data(mirror=False) == replace(part, operations=("colour", "crop", "cutout", "scale", "rotate"))
    with pytest.raises(InvalidInput, match="'flip' is the only operation, but mirroring changes the labels"):
        Siamese(operations=("flip",)).for_data(mirror=False)


def test_no_images_give_no_images(generator):
    part = Siamese()
    empty = part(torch.zeros(0, 3, 8, 8), part.draw(generator, 2, (3, 8, 8)), torch.zeros(0, dtype=torch.long))
    assert empty.shape == (0, 3, 8, 8)


def test_examples_that_are_no_images_are_refused(generator):
    with pytest.raises(InvalidInput, match=r"augments images of shape \(C, H, W\), got examples of shape \(13,\)"):
        Siamese().draw(generator, 2, (13,))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("operations", (), "'operations' must be different names of colour, crop"),
        ("operations", ("crop", "crop"), r"'operations' must be different names .* got \('crop', 'crop'\)"),
        ("operations", ("color",), r"'operations' must be different names .* got \('color',\)"),
        ("mode", "some", "'mode' must be one of one, all; got 'some'"),
        ("per", "set", "'per' must be one of class, image; got 'set'"),
        ("brightness", -0.1, "'brightness' must be >= 0 and finite, got -0.1"),
        ("rotate", math.inf, "'rotate' must be >= 0 and finite, got inf"),
        ("cutout", 1.5, "'cutout' must be between 0 and 1 and finite, got 1.5"),
        ("flip", -1.0, "'flip' must be between 0 and 1 and finite, got -1.0"),
        ("scale", 0.9, "'scale' must be >= 1 and finite, got 0.9"),
    ],
    ids=lambda item: item if isinstance(item, str) and item.isidentifier() else "",
)
def test_bad_fields_are_refused(name, value, message):
    part = Siamese()
    object.__setattr__(part, name, value)  # past the constructor, where the shape-checking hook would refuse first
    with pytest.raises(InvalidInput, match=message):
        part.__post_init__()


def test_a_batch_has_one_operation_with_a_strength_for_each_image() -> None:
    seen = set()
    for seed in range(20):
        draws = Siamese().draw_batch(torch.Generator().manual_seed(seed), 7, (1, 8, 8))
        (operation,) = draws["operation"].unique().tolist()
        seen.add(operation)
        assert len(draws["rotate"].unique()) == 7
    assert len(seen) > 3


# --- chains ---------------------------------------------------------------------------------------------------------------


def test_a_chain_is_one_after_the_other() -> None:
    parts = Siamese(operations=("flip", "colour"), mode="all"), Siamese(operations=("crop", "scale", "rotate"))
    chain, x = Chain(of=parts), torch.randn(5, 3, 8, 8)
    rows = torch.tensor([0, 2, 1, 1, 0])
    for name, count in (("draw", 3), ("draw_batch", 5)):
        own, again = (torch.Generator().manual_seed(4) for _ in range(2))
        expected = x
        for part in parts:
            expected = part(expected, getattr(part, name)(again, count, (3, 8, 8)), rows)
        found = chain(x, getattr(chain, name)(own, count, (3, 8, 8)), rows)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_a_chain_leaves_out_what_the_data_forbid_and_refuses_mixtures() -> None:
    chain = Chain(of=(Siamese(operations=("flip", "crop")), Siamese(operations=("scale",))))
    assert chain.for_data(mirror=False) == Chain(of=(Siamese(operations=("crop",)), Siamese(operations=("scale",))))
    with pytest.raises(InvalidInput, match="'of' is empty"):
        Chain(of=())
    with pytest.raises(InvalidInput, match="'of' has 'siamese' with per: image in a chain with per: class"):
        Chain(of=(Siamese(per="image"),))
