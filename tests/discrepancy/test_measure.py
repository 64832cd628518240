"""Measures: construction, conditioning, merging, and what is refused."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from discrepancy import MMD, Grouping, InvalidInput, Measure


def points(n: int, *shape: int) -> torch.Tensor:
    return torch.arange(n * math.prod(shape), dtype=torch.float64).view(n, *shape)


def test_weights_are_equal_by_default():
    torch.testing.assert_close(Measure(points(4, 2)).weights, torch.full((4,), 0.25, dtype=torch.float64))


def test_default_weights_of_integer_points_are_floating():
    assert Measure(torch.zeros(4, 2, dtype=torch.uint8)).weights.dtype == torch.get_default_dtype()


def test_conditioning_pads_with_weight_zero():
    measure = Measure(points(3, 2), torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0, 1, 0]))
    grouped = measure.conditioned(Grouping.of(torch.tensor([0, 1, 0]), 2))
    assert grouped.grouped
    assert grouped.weights.tolist() == [[1.0, 3.0], [2.0, 0.0]]
    torch.testing.assert_close(grouped.tensors[""][0], measure.tensors[""][[0, 2]])
    assert grouped.labels is not None
    assert grouped.labels[0].tolist() == [0, 0]


@settings(max_examples=40, deadline=None)
@given(groups=st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_conditioning_keeps_every_point_and_its_weight(groups: list[int]):
    of, weights = torch.tensor(groups), torch.arange(1.0, len(groups) + 1)
    grouped = Measure(points(len(groups), 1), weights).conditioned(Grouping.of(of, 4))
    for group in range(4):
        members = grouped.weights[group] > 0
        assert grouped.weights[group][members].tolist() == weights[of == group].tolist()
        assert grouped.tensors[""][group][members].flatten().tolist() == [
            i for i, at in enumerate(groups) if at == group
        ]


def test_conditioning_is_differentiable():
    leaf, weights = points(3, 2).requires_grad_(), torch.ones(3, dtype=torch.float64, requires_grad=True)
    grouped = Measure(leaf, weights).conditioned(Grouping.of(torch.tensor([1, 0, 1]), 2))
    (grouped.weights[..., None] * grouped.tensors[""]).sum().backward()
    torch.testing.assert_close(leaf.grad, torch.ones_like(leaf))
    torch.testing.assert_close(weights.grad, leaf.detach().sum(1))


def test_a_flat_measure_becomes_one_group_without_copying():
    measure = Measure({"a": points(3, 2), "b": points(3, 4)}, labels=torch.tensor([0, 1, 1]))
    one = measure.as_groups()
    assert one.weights.shape == (1, 3)
    assert one.tensors["a"].data_ptr() == measure.tensors["a"].data_ptr()
    assert one.labels is not None
    assert one.labels.tolist() == [[0, 1, 1]]
    assert one.as_groups() is one


def test_single_grouping_holds_all_points():
    grouped = Measure(points(3, 2)).conditioned(Grouping.single(3))
    torch.testing.assert_close(grouped.tensors[""], Measure(points(3, 2)).as_groups().tensors[""])
    assert Grouping.single(3).count == 1


def test_blocks_share_weights_and_labels():
    measure = Measure({"a": points(3, 2), "b": points(3, 4)}, torch.tensor([1.0, 2, 3]), torch.tensor([0, 1, 1]))
    blocks = dict(measure.blocks())
    assert list(blocks) == ["a", "b"]
    assert blocks["b"].weights is measure.weights
    assert blocks["b"].labels is measure.labels
    torch.testing.assert_close(blocks["b"].tensors[""], points(3, 4))


@pytest.mark.parametrize("grouped", [False, True], ids=["flat", "grouped"])
def test_merging_is_a_union(grouped: bool):
    first = Measure(points(3, 2), torch.tensor([1.0, 2, 3]), torch.tensor([0, 1, 1]))
    second = Measure(points(2, 2) + 10, torch.tensor([4.0, 5]), torch.tensor([1, 0]))
    if grouped:
        first, second = first.as_groups(), second.as_groups()
    merged = Measure.merged([first, second])
    assert merged.weights.flatten().tolist() == [1, 2, 3, 4, 5]
    assert merged.labels is not None
    assert merged.labels.flatten().tolist() == [0, 1, 1, 1, 0]
    torch.testing.assert_close(merged.tensors[""].view(5, 2), torch.cat([points(3, 2), points(2, 2) + 10]))


def test_merging_keeps_block_names():
    part = Measure({"a": points(3, 2), "b": points(3, 1)})
    assert {name: len(tensor) for name, tensor in Measure.merged([part, part]).tensors.items()} == {"a": 6, "b": 6}


# What is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"points": torch.tensor(1.0)}, "'points' must have at least one axis"),
        ({"points": {}}, "got a scalar or no block"),
        ({"points": torch.ones(3, 2), "weights": torch.ones(4)}, r"'points' of shape \(3, 2\) does not fit weights"),
        ({"points": {"a": torch.ones(3), "b": torch.ones(2)}}, r"block 'b' of shape \(2,\) does not fit weights"),
        (
            {"points": torch.ones(3), "weights": torch.ones(3, 1, 1)},
            r"'weights' must have shape \(n,\) or \(groups, n\)",
        ),
        ({"points": torch.ones(3, 2), "labels": torch.ones(4)}, r"'labels' of shape \(4,\) do not fit 3 points"),
    ],
    ids=["scalar", "no-block", "weights", "block", "weights-rank", "labels"],
)
def test_sizes_that_do_not_fit_are_refused(arguments: dict, message: str):
    with pytest.raises(InvalidInput, match=message):
        Measure(**arguments)


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (Measure(torch.ones(0, 2)), "'real' has no points; give at least one"),
        (Measure(torch.tensor([[1.0], [math.nan]])), "'real' has points that are not finite"),
        (Measure({"a": torch.ones(2), "b": torch.tensor([1, math.inf])}), "'real', block 'b' has points that are not"),
        (Measure(torch.ones(2), torch.tensor([1.0, -1.0])), "'real' has weights that are negative or not finite"),
        (Measure(torch.ones(2), torch.tensor([1.0, math.nan])), "negative or not finite; they must be >= 0"),
        (Measure(torch.ones(2), torch.zeros(2)), "'real' has weights that sum to zero"),
        (Measure(torch.ones(2, 2, 1), torch.tensor([[1.0, 1], [0, 0]])), "weights that sum to zero; at least one"),
    ],
    ids=["empty", "nan", "infinite-block", "negative", "nan-weight", "no-mass", "group-without-mass"],
)
def test_unusable_values_are_refused(measure: Measure, message: str):
    with pytest.raises(InvalidInput, match=message):
        measure.checked("real")


def test_usable_values_are_returned():
    measure = Measure(torch.ones(2, 3, dtype=torch.uint8))
    assert measure.checked() is measure


def test_group_numbers_out_of_range_are_refused():
    with pytest.raises(InvalidInput, match=r"group numbers must lie in 0 .. 1, got 2"):
        Grouping.of(torch.tensor([0, 2]), 2)


def test_negative_group_numbers_are_refused():
    with pytest.raises(InvalidInput, match=r"group numbers must lie in 0 .. 1, got -1"):
        Grouping.of(torch.tensor([0, -1]), 2)


def test_conditioning_twice_is_refused():
    with pytest.raises(InvalidInput, match="grouped already; condition the flat one"):
        Measure(points(2, 1)).as_groups().conditioned(Grouping.single(2))


def test_merging_with_and_without_labels_is_refused():
    with pytest.raises(InvalidInput, match="some of the measures to be merged have labels and some have none"):
        Measure.merged([Measure(points(2, 1)), Measure(points(2, 1), labels=torch.zeros(2))])


def test_merging_different_blocks_is_refused():
    with pytest.raises(InvalidInput, match=r"measures to be merged have different blocks: \['a'\] and \['b'\]"):
        Measure.merged([Measure({"a": points(2, 1)}), Measure({"b": points(2, 1)})])


def test_merging_other_groups_is_refused():
    flat, three = Measure(points(2, 1)), Measure(points(6, 1).view(3, 2, 1), torch.ones(3, 2))
    with pytest.raises(InvalidInput, match="a measure with 3 groups and one with no groups cannot be merged"):
        Measure.merged([three, flat])
    with pytest.raises(InvalidInput, match="with 3 groups and one with 1 groups"):
        Measure.merged([three, flat.as_groups()])


def test_merging_nothing_is_refused():
    with pytest.raises(InvalidInput, match="no measures to merge; give at least one"):
        Measure.merged([])


# Two measures that do not fit each other

REAL = Measure(torch.ones(3, 2))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Measure(torch.ones(3, 5)), r"points of shape \(2,\) and \(5,\) cannot be compared"),
        (Measure(torch.ones(3, 2).double()), r"points are torch.float32 on cpu and torch.float64 on cpu; convert one"),
        (REAL.as_groups(), "one measure is grouped and the other is not"),
        (Measure({"a": torch.ones(3, 2)}), r"different blocks: \[''\] and \['a'\]"),
        (Measure(torch.full((3, 2), math.nan)), "'nu' has points that are not finite"),
    ],
    ids=["dimension", "dtype", "grouping", "blocks", "values"],
)
def test_measures_that_do_not_fit_each_other_are_refused(other: Measure, message: str):
    with pytest.raises(InvalidInput, match=message):
        MMD()(REAL, other)


def test_different_numbers_of_groups_are_refused():
    three = Measure(torch.ones(3, 4, 2), torch.ones(3, 4))
    with pytest.raises(InvalidInput, match="the measures have 3 and 1 groups"):
        MMD()(three, REAL.as_groups())


def test_class_numbers_are_whole():
    measure = Measure(points(3, 2), labels=torch.tensor([0.2, 1.7, 1.0]))
    with pytest.raises(InvalidInput, match="class numbers"):
        _ = measure.classes
    with pytest.raises(InvalidInput, match="class numbers"):
        measure.with_label_vectors(2)
