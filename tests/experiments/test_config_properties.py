"""Writing and reading are inverse, by Hypothesis.

1. build(dump(x)) = x for objects of every registered kind, in full and in brief, and through JSON.
2. read(write_yaml(t)) = t for every tree of plain values.
"""

import importlib
import json
from dataclasses import is_dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin

import pytest
from families import House
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from discrepancy.errors import InvalidInput, Unsupported
from discrepancy.parts import FAMILIES
from experiments.config import (
    build,
    difference,
    dump,
    read,
    write_yaml,
)
from experiments.config.hints import alternatives, is_leaf, is_part, kinds_of, named_hint, settings_of
from experiments.data import Torchvision

for room in ("discrepancy", "objectives", "objectives.solvers", "experiments.data", "experiments.evaluate"):
    importlib.import_module(room)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=9) | st.sampled_from(
    ["no", "1e-5", "null", "", "~", "a: b", "0x1F"]
)
NUMBER = st.floats(allow_nan=False) | st.floats(0.01, 20) | st.sampled_from([0.0, 0.5, 1.0, 1e-5])
WHOLE = st.integers(1, 20) | st.integers(-1000, 1000)
LEAVES = {float: NUMBER, int: WHOLE, str: TEXT, bool: st.booleans(), type(None): st.none()}


WORDS = {(Torchvision, "name"): st.sampled_from(["MNIST", "CIFAR10"])}
"""Texts that a class chooses from, where its hint does not tell."""


@cache
def strategy(hint: Any, depth: int = 2) -> st.SearchStrategy[Any]:
    """Values of a hint."""
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    if is_leaf(hint):
        return LEAVES[hint]
    if len(alternatives(hint)) > 1:
        simple = [item for item in alternatives(hint) if is_leaf(item)]
        return st.one_of(
            [strategy(item, depth) for item in (alternatives(hint) if depth > 0 or not simple else simple)]
        )
    if is_part(hint):
        kinds = list(kinds_of(hint).values())
        plain = [cls for cls in kinds if not any(is_part(item.hint) and item.required for item in settings_of(cls))]
        return st.sampled_from(kinds if depth > 0 or not plain else plain).flatmap(lambda cls: objects(cls, depth - 1))
    if is_dataclass(hint):
        return objects(hint, depth - 1)
    if (named := named_hint(hint)) is not None:
        return st.dictionaries(TEXT, strategy(named, depth), max_size=3).map(lambda items: tuple(items.items()))
    arguments = get_args(hint)
    if arguments[-1] is Ellipsis:
        return st.lists(strategy(arguments[0], depth), max_size=3).map(tuple)
    return st.tuples(*(strategy(item, depth) for item in arguments))


@cache
def objects(cls: Any, depth: int = 2) -> st.SearchStrategy[Any]:
    """Valid objects of a class: some fields at their default, the rest drawn; what the class refuses is not drawn."""

    @st.composite
    def drawn(draw: st.DrawFn) -> Any:
        values = {}
        for item in settings_of(cls):
            if item.required or draw(st.booleans()):
                values[item.name] = draw(WORDS.get((cls, item.name), strategy(item.hint, depth)))
        try:
            return cls(**values)
        except (InvalidInput, Unsupported):
            assume(False)

    return drawn()


REGISTERED = {
    name: [cls for kind, cls in kinds_of(FAMILIES[name]).items() if "_by_test" not in kind] for name in sorted(FAMILIES)
}


@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")  # the shape checker does
@pytest.mark.parametrize("name", [*REGISTERED, "house"])
def test_build_inverts_dump(name: str) -> None:
    for cls in REGISTERED.get(name, [House]):
        inverts(cls)


def inverts(cls: Any) -> None:
    family = getattr(cls, "family", cls)
    quick = settings(
        max_examples=8,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
    )

    @quick
    @given(value=objects(cls))
    def check(value: Any) -> None:
        for defaults in (True, False):
            tree = dump(value, defaults=defaults)
            again = build(family, tree)
            assert again == value
            assert hash(again) == hash(value)
            assert dump(again, defaults=defaults) == tree
            assert build(family, json.loads(json.dumps(tree))) == value

    check()


JSON = st.recursive(
    st.none() | st.booleans() | WHOLE | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=9,
)


@settings(max_examples=100, deadline=None, database=None)
@given(tree=st.dictionaries(TEXT, JSON, max_size=4))
def test_yaml_reads_back_equal(tree: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("yaml") / "a.yaml"
    path.write_text(write_yaml(tree), encoding="utf-8")
    again = read(path)
    assert again == tree
    assert difference(again, tree) == []
