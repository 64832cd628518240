"""Configurations: what may be written, what is reported as a mistake, and what is written back."""

import json
import math
from dataclasses import dataclass
from typing import Any

import pytest
from families import Blend, Colour, Grey, House, Layers, Paint, Red, Wash, report

from discrepancy.errors import InvalidInput
from discrepancy.parts import Part
from experiments.config import (
    ConfigError,
    build,
    dump,
)
from experiments.config.hints import settings_of
from objectives.attacks import PGD, Attack

# --- building -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ("red", Red()),
        ({"kind": "red"}, Red()),
        ({"red": None}, Red()),
        ({"red": {}}, Red()),
        ("grey", Grey()),
        ({"kind": "grey", "level": 0.25}, Grey(level=0.25)),
        ({"grey": 0.25}, Grey(level=0.25)),
        ({"grey": {"gamma": 2}}, Grey(gamma=2.0)),
        ({"blend": "red"}, Blend(of=Red())),
        ({"blend": {"grey": 0.25}}, Blend(of=Grey(level=0.25))),
        ({"blend": {"kind": "grey", "level": 0.25}}, Blend(of=Grey(level=0.25))),
        ({"blend": {"of": "red", "share": {"grey": 0}}}, Blend(of=Red(), share=Grey(level=0.0))),
        ({"blend": {"of": "red", "share": "red"}}, Blend(of=Red(), share=Red())),
        ({"layers": {"colours": [], "size": [5, 7]}}, Layers(colours=(), size=(5, 7))),
        (
            {"layers": {"named": {"b": "red", "a": {"grey": 1e-5}}}},
            Layers(named=(("b", Red()), ("a", Grey(level=1e-5)))),
        ),
    ],
    ids=lambda value: "" if isinstance(value, Part) else json.dumps(value),
)
def test_a_part_can_be_spelled_in_several_ways(tree: Any, expected: Part) -> None:
    built = build(Colour, tree)
    assert built == expected
    assert hash(built) == hash(expected)


def test_whole_numbers_become_floats_only_where_a_float_is_meant() -> None:
    level = build(Grey, {"level": 1, "gamma": 2}).level
    assert (level, type(level)) == (1.0, float)
    options = dict(build(Layers, {"options": {"a": 1, "b": 1.0, "c": True, "d": "1"}}).options)
    assert [type(value) for value in options.values()] == [int, float, bool, str]


def test_a_concrete_part_needs_no_kind_and_accepts_its_own() -> None:
    for tree in ({"level": 0.25}, {"kind": "grey", "level": 0.25}, {"grey": 0.25}):
        assert build(Grey, tree) == Grey(level=0.25)
    assert "unknown kind 'red' of colour (known: grey)" in report({"kind": "red"}, Grey)[0]


class Room(Part, family=True, kind="room"):
    grey: Grey = Grey(level=0.25, gamma=3.0)
    other: Grey | None = Grey(level=0.75)
    any_colour: Colour = Grey(level=0.25)


def test_settings_without_a_kind_change_the_default_of_a_field() -> None:
    assert build(Room, {"grey": {"level": 0.1}}).grey == Grey(level=0.1, gamma=3.0)
    assert build(Room, {"grey": {"kind": "grey", "level": 0.1}}).grey == Grey(level=0.1)
    assert build(Room, {"grey": {"grey": {"level": 0.1}}}).grey == Grey(level=0.1)
    assert build(Room, {"grey": {}}).grey == Grey(level=0.25, gamma=3.0)
    assert build(Room, {"other": {"gamma": 4}}).other == Grey(level=0.75, gamma=4.0)
    assert build(Room, {"other": None}).other is None
    assert report({"grey": {"levle": 1}}, Room) == report({"grey": {"kind": "grey", "levle": 1}}, Room)
    assert report({"grey": {"gamma": 0.25}}, Room)[0].startswith("grey: level and gamma must differ")
    assert "'kind' is missing" in report({"any_colour": {"level": 0.1, "gamma": 2}}, Room)[0]
    for room in (Room(), Room(grey=Grey()), Room(grey=Grey(level=0.1, gamma=3.0)), Room(other=Grey(gamma=2.0))):
        assert build(Room, dump(room, defaults=False)) == room


def test_a_tagged_family_is_told_by_its_field() -> None:
    tree = {"wall": "red", "jobs": {"b": {"paint": {"grey": 1}, "coats": 2}, "a": {"wash": "warm"}}}
    with pytest.raises(ConfigError, match=r"^jobs\.b\.paint\.grey: level and gamma must differ$"):
        build(House, tree)
    tree["jobs"]["b"]["paint"] = "red"
    assert build(House, tree).jobs == (("b", Paint(paint=Red(), coats=2)), ("a", Wash(wash="warm")))


def test_unions_of_leaves_parts_and_nothing() -> None:
    house = build(House, {"wall": "red", "door": None, "floors": "many", "note": "red"})
    assert (house.door, house.floors, house.note) == (None, "many", "red")
    assert build(House, {"wall": "red", "note": {"kind": "red"}}).note == Red()


@pytest.mark.parametrize(
    ("tree", "line"),
    [
        ({"heigth": 1}, "heigth: unknown key; did you mean 'height'? (known: wall, door, roof, name, floors, height, "),
        ({"wall": {"grey": {"levle": 1}}}, "wall.grey.levle: unknown key; did you mean 'level'? (known: level, gamma)"),
        ({"wall": {"kind": "red", "zzz": 1}}, "wall.zzz: unknown key (known: none)"),
        ({"wall": {"kind": "red", "gamma": 1}}, "wall.gamma: unknown key (known: none); kind: grey has it"),
        (
            {"wall": "gray"},
            "wall: unknown kind 'gray' of colour; did you mean 'grey'? (known: blend, grey, layers, red)",
        ),
        ({"wall": {"Gray": 1}}, "wall: unknown kind 'Gray' of colour; did you mean 'grey'? (known: "),
        ({"wall": {"kind": 3}}, "wall: the kind of colour must be text, got 3 (a whole number) (known: "),
        ({"wall": {"level": 1, "gamma": 2}}, "wall: 'kind' is missing (known: blend, grey, layers, red)"),
        ({"wall": {"grey": 1, "red": {}}}, "wall: names several kinds, 'grey', 'red'; keep one"),
        ({"wall": {"grey": {}, "gamma": 1}}, "wall: the settings of 'grey' belong inside it: {kind: grey, ...}"),
        ({"wall": {"red": 1}}, "wall.red: expected a mapping of settings (known: none), got 1 (a whole number)"),
        ({"wall": 3}, "wall: expected a colour (blend, grey, layers, red), got 3 (a whole number)"),
        ({"wall": {"grey": -1}}, "wall.grey: 'level' must lie in [0, 1], got -1.0"),
        ({"wall": {"kind": "grey", "level": -1}}, "wall.level: 'level' must lie in [0, 1], got -1.0"),
        ({"wall": {"kind": "grey", "level": 1}}, "wall: level and gamma must differ"),
        ({"wall": "blend"}, "wall.of: is missing; expected a colour (blend, grey, layers, red)"),
        ({"roof": "red"}, "roof: unknown kind 'red' of colour (known: blend, layers)"),
        ({"height": "abc"}, "height: expected a number, got 'abc' (text)"),
        ({"height": "1e-5"}, "height: expected a number, got '1e-5' (text); write it without quotes"),
        ({"height": True}, "height: expected a number, got true (a yes-or-no value)"),
        ({"height": math.nan}, "height: expected a number, got nan (a number)"),
        ({"height": None}, "height: expected a number, got nothing (null)"),
        ({"floors": 1.0}, "floors: expected a whole number or 'many', got 1.0 (a number)"),
        ({"floors": "mny"}, "floors: expected a whole number or 'many', got 'mny' (text); did you mean 'many'?"),
        ({"name": 3}, "name: expected text, got 3 (a whole number); put it in quotes"),
        ({"name": {"a": 1}}, "name: expected text, got a mapping with the keys a"),
        ({"lived_in": 1}, "lived_in: expected true or false, got 1 (a whole number)"),
        ({"finish": "mat"}, "finish: expected one of 'matt', 'gloss', got 'mat' (text); did you mean 'matt'?"),
        ({"door": 3}, "door: expected a colour (blend, grey, layers, red) or nothing (null), got 3 (a whole number)"),
        ({"door": "rde"}, "door: unknown kind 'rde' of colour; did you mean 'red'? (known: "),
        (
            {"door": {"blend": {"of": "red", "share": "rde"}}},
            "door.blend.share: expected a number or a colour (blend, grey, ",
        ),
        (
            {"door": {"blend": {"of": "red", "share": {"grey": {"x": 1}}}}},
            "door.blend.share.grey.x: unknown key (known: ",
        ),
        (
            {"jobs": {"a": {"pain": "red", "coats": 1}}},
            "jobs.a: needs one of the keys 'paint', 'wash', got a mapping with the ",
        ),
        (
            {"jobs": {"a": {"paint": "red", "wash": "cold"}}},
            "jobs.a: has the keys 'paint', 'wash', of which it can have only",
        ),
        ({"jobs": ["paint"]}, "jobs: expected a mapping from names to a role (paint, wash), got a list of 1"),
        (
            {"wall": {"layers": {"size": [1, 2, 3]}}},
            "wall.layers.size: expected a list of 2 whole numbers, got a list of 3",
        ),
        (
            {"wall": {"layers": {"size": [1, "2"]}}},
            "wall.layers.size.1: expected a whole number, got '2' (text); write it",
        ),
        (
            {"wall": {"layers": {"colours": "red"}}},
            "wall.layers.colours: expected a list of a colour (blend, grey, layers, ",
        ),
        (
            {"wall": {"layers": {"options": {"a": []}}}},
            "wall.layers.options.a: expected a number or true or false or text, ",
        ),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_mistake_is_told_with_its_path_and_in_words(tree: dict[str, Any], line: str) -> None:
    lines = report({"wall": "red"} | tree)
    assert len(lines) == 1
    assert lines[0].startswith(line)


def test_all_the_mistakes_are_in_one_report() -> None:
    lines = report(
        {
            "door": {"grey": 3},
            "roof": {"layers": {"colours": ["red", "rde", {"grey": "x"}], "named": {"a": 3}}},
            "flors": 2,
            "height": "tall",
        }
    )
    assert [line.split(":")[0] for line in lines] == [
        "door.grey",
        "roof.layers.colours.1",
        "roof.layers.colours.2.grey",
        "roof.layers.named.a",
        "flors",
        "height",
        "wall",
    ]


def test_a_misspelt_required_key_is_reported_once() -> None:
    known_keys = ", ".join(setting.name for setting in settings_of(House))
    assert report({"wal": "red"}) == [f"wal: unknown key; did you mean 'wall'? (known: {known_keys})"]


def test_the_report_starts_at_a_given_path() -> None:
    with pytest.raises(ConfigError, match=r"^data: unknown kind 'rde' of colour"):
        build(Colour, "rde", "data")


def test_a_hint_that_no_file_can_hold_is_our_own_bug() -> None:
    @dataclass(frozen=True)
    class Odd:
        table: dict[str, int]

    with pytest.raises(TypeError, match="'table' has the hint"):
        build(Odd, {"table": {}})


# --- dumping ------------------------------------------------------------------------------------------------------------


def test_dump_is_full_or_brief() -> None:
    house = House(wall=Grey(level=0.25), door=Red(), jobs=(("a", Wash()), ("b", Paint(paint=Red()))), note=Red())
    assert dump(house, defaults=False) == {
        "wall": {"grey": 0.25},
        "door": "red",
        "jobs": {"a": "wash", "b": {"paint": "red"}},
        "note": {"kind": "red"},  # the bare word would be text
    }
    full = dump(house)
    assert full["wall"] == {"kind": "grey", "level": 0.25, "gamma": 1.0}
    assert full["jobs"] == {"a": {"wash": "cold"}, "b": {"paint": {"kind": "red"}, "coats": 1}}
    assert list(full) == [setting.name for setting in settings_of(House)]
    assert build(House, full) == house == build(House, dump(house, defaults=False))


def test_brief_keeps_a_value_that_equals_its_default_but_is_another() -> None:
    @dataclass(frozen=True)
    class Loose:
        value: float | bool = 1.0

    assert dump(Loose(value=True), defaults=False) == {"value": True}
    assert dump(Loose(value=1.0), defaults=False) == {}


@pytest.mark.parametrize(
    "part",
    [
        Layers(named=(("b", Red()), ("a", Grey())), options=(("x", 1), ("y", "no")), size=(5, 7)),
        Paint(paint=Blend(of=Grey(level=0.25)), coats=3),
        Red(),
    ],
    ids=lambda part: part.kind,
)
def test_what_a_part_says_of_itself_can_be_built(part: Part) -> None:
    assert build(part.family, part.describe()) == part


def test_dump_refuses_what_would_be_lost() -> None:
    with pytest.raises(InvalidInput, match="names must differ, got a, a"):
        dump(Layers(named=(("a", Red()), ("a", Grey()))))


@pytest.mark.parametrize(
    ("written", "number"), [("8/255", 8 / 255), (" 1 / 3 ", 1 / 3), ("0.5/2", 0.25), (0.1, 0.1), (1, 1.0)]
)
def test_numbers_may_be_fractions(written: object, number: float) -> None:
    assert build(Attack, {"kind": "pgd", "eps": written}) == PGD(eps=number)


@pytest.mark.parametrize("written", ["8/0", "8/255/2", "eight/255", "1/-2"])
def test_what_is_no_fraction_is_refused(written: str) -> None:
    with pytest.raises(ConfigError, match="eps: expected a number"):
        build(Attack, {"kind": "pgd", "eps": written})
