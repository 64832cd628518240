"""Configurations: what may be written, what is reported, and that writing and reading are inverse.

Properties: build(dump(x)) = x and build(read(write(dump(x)))) = x for every registered kind, in full and in brief.
"""

import importlib
import json
import math
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args, get_origin

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from discrepancy.base import FAMILIES, Part
from discrepancy.errors import InvalidInput, Unsupported
from experiments.config import (
    ConfigError,
    build,
    difference,
    dump,
    known,
    load_parts,
    load_plugins,
    merge,
    override,
    read,
    write_yaml,
)
from experiments.config.hints import alternatives, is_leaf, is_part, kinds_of, named_hint, settings_of
from experiments.data import Torchvision

for room in ("discrepancy", "objectives", "objectives.solvers", "experiments.data", "experiments.evaluate"):
    importlib.import_module(room)


class Colour(Part, family=True):
    """A family for these tests."""


class Red(Colour, kind="red"):
    pass


class Grey(Colour, kind="grey"):
    """Some grey, of a level
    and a gamma. More about it.

    And more.
    """

    shorthand: ClassVar[str] = "level"
    level: float = 0.5
    gamma: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.level <= 1:
            raise InvalidInput(f"'level' must lie in [0, 1], got {self.level}")
        if self.level == self.gamma:
            raise InvalidInput("level and gamma must differ")


class Mixed(Colour):
    """An abstract class between the family and its kinds."""


class Blend(Mixed, kind="blend"):
    shorthand: ClassVar[str] = "of"
    of: Colour
    share: float | Colour = 0.5


class Layers(Mixed, kind="layers"):
    colours: tuple[Colour, ...] = (Red(), Grey(level=0.25))
    named: tuple[tuple[str, Colour], ...] = ()
    options: tuple[tuple[str, float | int | bool | str], ...] = ()
    size: tuple[int, int] = (2, 3)


class Role(Part, family=True):
    tagged_by_field: ClassVar[bool] = True


class Paint(Role, kind="paint"):
    paint: Colour
    coats: int = 1


class Wash(Role, kind="wash"):
    wash: Literal["warm", "cold"] = "cold"


@dataclass(frozen=True)
class House:
    """A plain dataclass."""

    wall: Colour
    door: Colour | None = None
    roof: Mixed | None = None
    name: str = ""
    floors: int | Literal["many"] = 1
    height: float = 2.5
    lived_in: bool = False
    finish: Literal["matt", "gloss"] = "matt"
    jobs: tuple[tuple[str, Role], ...] = ()
    note: str | Colour = ""
    grey: Grey = field(default_factory=Grey)


def report(tree: Any, type_: Any = House) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        build(type_, tree)
    lines = str(caught.value).split("\n")
    assert lines == [str(mistake) for mistake in caught.value.mistakes]
    return lines


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


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=9) | st.sampled_from(
    ["no", "1e-5", "null", "", "~", "a: b", "0x1F"]
)
NUMBER = st.floats(allow_nan=False) | st.floats(0.01, 20) | st.sampled_from([0.0, 0.5, 1.0, 1e-5])
WHOLE = st.integers(1, 20) | st.integers()
LEAVES = {float: NUMBER, int: WHOLE, str: TEXT, bool: st.booleans(), type(None): st.none()}


WORDS = {(Torchvision, "name"): st.sampled_from(["MNIST", "CIFAR10"])}
"""Texts that a class chooses from, where its hint does not tell."""


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


REGISTERED = [cls for name in sorted(FAMILIES) for cls in kinds_of(FAMILIES[name]).values()]


@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")  # the shape checker does
@pytest.mark.parametrize(
    "cls", [*REGISTERED, House], ids=lambda cls: f"{getattr(cls, 'family', cls).__name__}-{cls.__name__}"
)
def test_build_inverts_dump(cls: Any) -> None:
    family = getattr(cls, "family", cls)
    quick = settings(
        max_examples=20,
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


# --- files --------------------------------------------------------------------------------------------------------------


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def test_yaml_is_version_1_2(tmp_path: Path) -> None:
    path = written(tmp_path, "a.yaml", "{by: none, on: off, lr: 1e-5, tiny: 1.0e-3, no: 010, clock: 1:30}")
    assert read(path) == {"by": "none", "on": "off", "lr": 1e-5, "tiny": 1e-3, "no": 10, "clock": "1:30"}


def test_toml_and_yaml_build_the_same(tmp_path: Path) -> None:
    toml = written(
        tmp_path, "a.toml", 'height = 1\n[wall]\ngrey = 0.25\n[jobs.b]\nwash = "warm"\n[jobs.a]\npaint = "red"\n'
    )
    yaml = written(tmp_path, "a.yaml", "height: 1\nwall: {grey: 0.25}\njobs: {b: {wash: warm}, a: {paint: red}}\n")
    assert build(House, read(toml)) == build(House, read(yaml))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "a: 1\nb:\n  c: 1\n  c: 2\n", r"a\.yaml: line 4, column 3: the key 'c' is given twice; keep one$"),
        ("a.toml", "a = 1\n[b]\nc = 1\nc = 2\n", r"a\.toml: line 4, column 6: a key is given twice; keep one$"),
        ("a.yaml", "a: [1\nb: 2\n", r"a\.yaml: line 2, column 2: expected ',' or '\]', but got ':'$"),
        ("a.toml", "a = \n", r"a\.toml: line 1, column 5: Invalid value$"),
        ("a.yaml", "a: !!python/name:os.system x", r"a\.yaml: line 1, column 4: could not determine a constructor"),
        ("a.yaml", "a: 1\n---\nb: 2\n", r"a\.yaml: line 2, column 1: but found another document$"),
        ("a.yaml", "a: \x01", r"a\.yaml: unacceptable character #x0001"),
        ("a.yaml", "", r"a\.yaml: is empty; a configuration is a mapping of keys to values$"),
        ("a.yaml", "- 1\n", r"a\.yaml: holds a list of 1; a configuration is a mapping of keys to values$"),
        ("a.yaml", "a: {1: x}", r"a\.yaml: a\.1: keys are text, got 1 \(a whole number\); put it in quotes$"),
        ("a.yaml", "a: &a [*a]", r"a\.yaml: a\.0: contains itself; an alias must not stand inside what it refers to$"),
        ("a.yaml", "a: " + "[" * 2000, r"a\.yaml: is nested too deeply$"),
        ("a.json", "{}", r"a\.json: a configuration file ends in \.yaml, \.yml or \.toml, got 'a\.json'$"),
    ],
    ids=lambda text: text[:20],
)
def test_a_bad_file_gives_one_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_gives_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml: no such file$"):
        read(tmp_path / "gone.yaml")
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(ConfigError, match=r"folder\.yaml: cannot be read: Is a directory$"):
        read(str(tmp_path / "folder.yaml"))
    (tmp_path / "latin.yaml").write_bytes("a: é".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.yaml: is not UTF-8 text \(byte 3\); save it as UTF-8$"):
        read(tmp_path / "latin.yaml")


def test_dates_are_not_taken_for_text(tmp_path: Path) -> None:
    tree = read(written(tmp_path, "a.yaml", "{wall: red, name: 2001-02-03}"))
    assert report(tree) == ["name: expected text, got 2001-02-03 (a date); put it in quotes"]


# --- merging, overriding, comparing ---------------------------------------------------------------------------------------


def test_merge_goes_into_mappings_and_replaces_another_kind() -> None:
    base = {"a": {"x": 1, "y": [1, 2]}, "wall": {"kind": "grey", "level": 1}, "door": "grey"}
    over = {"a": {"y": [3], "z": None}, "wall": {"kind": "red"}, "door": {"level": 0}}
    assert merge(base, over) == {
        "a": {"x": 1, "y": [3], "z": None},
        "wall": {"kind": "red"},
        "door": {"kind": "grey", "level": 0},
    }
    assert merge(base, {"wall": {"level": 2}})["wall"] == {"kind": "grey", "level": 2}
    assert merge(base, {"wall": {"kind": "grey", "gamma": 2}})["wall"] == {"kind": "grey", "level": 1, "gamma": 2}
    assert merge(base, {"wall": "red"})["wall"] == "red"
    assert base["wall"] == {"kind": "grey", "level": 1}


def test_override_reads_yaml_values_at_paths() -> None:
    tree = {"a": {"b": [{"c": 1}, 2]}, "door": "grey", "empty": None}
    changed = override(
        tree,
        ["a.b.0.c=1e-5", "a.b.1=[x, no]", "new.deep.key=true", "door.level=0.5", "empty.x=a=b", "gone=", "a.s='3'"],
    )
    assert changed == {
        "a": {"b": [{"c": 1e-5}, ["x", "no"]], "s": "3"},
        "door": {"kind": "grey", "level": 0.5},
        "empty": {"x": "a=b"},
        "new": {"deep": {"key": True}},
        "gone": None,
    }
    assert tree == {"a": {"b": [{"c": 1}, 2]}, "door": "grey", "empty": None}


def test_override_reports_every_bad_assignment() -> None:
    bad = ["novalue", "a..b=1", "l.2=1", "l.x=1", "n.a.b=1", "v=[1", "=3"]
    with pytest.raises(ConfigError) as caught:
        override({"l": [1, 2], "n": {"a": 3}}, bad)
    assert str(caught.value).split("\n") == [
        "--set: expected path.to.key=value, got 'novalue'",
        "--set: expected path.to.key=value, got 'a..b=1'",
        "--set l.2=1: 'l' is a list of 2; expected a position from 0 to 1, got '2'",
        "--set l.x=1: 'l' is a list of 2; expected a position from 0 to 1, got 'x'",
        "--set n.a.b=1: 'n.a' is 3 (a whole number) and has no keys",
        "--set v=[1: expected ',' or ']', but got '<stream end>' (at line 1, column 3)",
        "--set: expected path.to.key=value, got '=3'",
    ]


def test_difference_names_the_paths() -> None:
    a = {
        "solver": {"lr": 1.0, "betas": [1, 2]},
        "context": {"kind": "pool", "size": 3},
        "x": None,
        "t": {"p": 1, "q": 2},
    }
    b = {"solver": {"lr": 0.5, "betas": [1, 3, 4]}, "context": {"kind": "fresh"}, "y": True, "t": {"q": 2, "p": 1}}
    assert difference(a, b) == [
        "solver.lr: 1.0 -> 0.5",
        "solver.betas.1: 2 -> 3",
        "solver.betas.2: (absent) -> 4",
        "context.kind: pool -> fresh",
        "x: null -> (absent)",
        "t: order p, q -> order q, p",
        "y: (absent) -> true",
    ]
    assert difference({"a": 1, "n": math.nan}, {"a": 1.0, "n": math.nan}) == []
    assert difference({"a": 1}, {"a": True}) == ["a: 1 -> true"]
    assert difference("red", {"kind": "red"}) == ['red -> {"kind": "red"}']


# --- parts of a user's own ------------------------------------------------------------------------------------------------

OWN = """
from discrepancy.base import Part
from experiments.config import build

class Shape{n}(Part, family=True):
    pass

class Round{n}(Shape{n}, kind="round"):
    '''Round all over.'''
    radius: float = 1.0
"""


def test_a_users_file_registers_its_parts_once(tmp_path: Path) -> None:
    path = written(tmp_path, "my_parts.py", OWN.format(n=1))
    try:
        load_parts(path)
        family = FAMILIES["shape1"]
        load_parts(str(path))
        assert FAMILIES["shape1"] is family
        assert dump(build(family, {"round": {"radius": 3}})) == {"kind": "round", "radius": 3.0}
        (kind,) = known()["shape1"]
        assert (kind.kind, kind.summary) == ("round", "Round all over.")
        assert kind.fields == (("radius", "a number", False, 1.0),)
    finally:
        FAMILIES.pop("shape1", None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\ny = x + z\n", r"bad\.py: line 2: NameError: name 'z' is not defined$"),
        ("x = (\n", r"bad\.py: line 1: SyntaxError: '\(' was never closed$"),
        ("import sys\nsys.exit(3)\n", r"bad\.py: line 2: SystemExit: 3$"),
        (
            "from discrepancy.kernels import Kernel\nclass K(Kernel, kind='linear'):\n    pass\n",
            r"bad\.py: line 2: TypeError: the kind 'linear' of Kernel is already discrepancy\.kernels\.Linear",
        ),
    ],
    ids=["name", "syntax", "exit", "taken"],
)
def test_a_users_file_that_fails_gives_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, "bad.py", text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_parts(path)
    assert "\n" not in str(caught.value)


def test_a_users_file_that_is_missing_gives_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.py: no such file; --import takes the path of a Python file$"):
        load_parts(tmp_path / "gone.py")


def test_plugins_are_loaded_by_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "plugin_good_7.py", "LOADED = True\n")
    written(tmp_path, "plugin_bad_7.py", "raise RuntimeError('no luck')\n")
    about = tmp_path / "seven-1.0.dist-info"
    about.mkdir()
    written(about, "METADATA", "Metadata-Version: 2.1\nName: seven\nVersion: 1.0\n")
    written(about, "entry_points.txt", "[discrepancy.parts]\ngood = plugin_good_7\nbad = plugin_bad_7\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"^plug-in 'bad' of seven: RuntimeError: no luck; repair or uninstall it$"):
        load_plugins()
    assert sys.modules["plugin_good_7"].LOADED


def test_known_lists_kinds_with_their_first_sentence_and_fields() -> None:
    kinds = {kind.kind: kind for kind in known()["colour"]}
    assert list(kinds) == ["blend", "grey", "layers", "red"]
    assert (kinds["grey"].summary, kinds["red"].summary) == ("Some grey, of a level and a gamma.", "")
    assert kinds["blend"].fields[0] == ("of", "a colour (blend, grey, layers, red)", True, None)
    assert kinds["layers"].fields[0] == (
        "colours",
        "a list of a colour (blend, grey, layers, red)",
        False,
        ["red", {"grey": 0.25}],
    )
    json.dumps(known())


def test_the_real_families_are_among_the_known() -> None:
    assert {"kernel", "discrepancy", "network", "term", "solver", "source"} <= known().keys()


def test_it_works_without_and_with_the_shape_checking_hook(tmp_path: Path) -> None:
    written(
        tmp_path,
        "room_under_hook.py",
        OWN.format(n=2) + "\nclass Pair2(Shape2, kind='pair'):\n    of: tuple[Shape2, ...] = ()\n",
    )
    script = """
        import sys
        from jaxtyping import install_import_hook
        if sys.argv[1] == "hook":
            install_import_hook(["room_under_hook", "experiments.config"], "beartype.beartype")
        import room_under_hook as room
        from experiments.config import build, dump
        pair = build(room.Shape2, {"pair": {"of": ["round", {"round": {"radius": 2}}]}})
        assert pair == room.Pair2(of=(room.Round2(), room.Round2(radius=2.0))), pair
        assert build(room.Shape2, dump(pair)) == pair
    """
    path = written(tmp_path, "script.py", script)
    for mode in ("hook", "none"):
        done = subprocess.run(
            [sys.executable, str(path), mode], capture_output=True, text=True, check=False, cwd=Path.cwd()
        )
        assert done.returncode == 0, done.stderr
