"""Configuration files, their merging and comparison, and the parts of a user's own."""

import importlib
import itertools
import json
import math
import os
import sys
import textwrap
from pathlib import Path

import pytest
from families import House, report
from jaxtyping import install_import_hook

from discrepancy.parts import FAMILIES
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
)

for room in ("discrepancy", "objectives", "objectives.solvers", "experiments.data", "experiments.evaluate"):
    importlib.import_module(room)


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


BOMB = "\n".join(
    ["a: &a [1]", *(f"{b}: &{b} [{', '.join(['*' + a] * 9)}]" for a, b in itertools.pairwise("abcdefghi"))]
)


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
        ("a.yaml", BOMB, r"a\.yaml: holds more than 20,000 values, once every alias is replaced"),
        (
            "a.yaml",
            BOMB.replace("[", "{<<: [").replace("]", "]}").replace("{<<: [1]}", "{x: 1}"),
            "holds more than 20,000",
        ),
        ("a.toml", ".".join("a" * 2000) + " = 1", r"a\.toml: is nested too deeply$"),
        ("a.yaml", "a: !!int ''", r"a\.yaml: line 1, column 4: '' is not a value of the tag !!int$"),
        ("a.yaml", "a: !!bool abc", r"a\.yaml: line 1, column 4: 'abc' is not a value of the tag !!bool$"),
        (
            "a.yaml",
            "a: !!binary ''",
            r"a\.yaml: line 1, column 4: could not determine a constructor for the tag .*binary",
        ),
        ("a.yaml", "a: " + "9" * 400, r"a\.yaml: line 1, column 4: '9{40}' is not a value of the tag !!int$"),
        ("a.yaml", "a: " + "x" * (1 << 20), r"a\.yaml: is larger than 1 MiB; a configuration is a short text$"),
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
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(ConfigError, match=r"pipe\.yaml: is not a regular file$"):
        read(tmp_path / "pipe.yaml")
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
    for bad in ("x=[a, &a [*a]]", "x={[1]: 2}", ".".join("a" * 100) + "=1"):
        with pytest.raises(ConfigError, match=r"contains itself|keys are text|at most 60 steps"):
            override({}, [bad])


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
from discrepancy.parts import Part
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
            r"bad\.py: line 2: TypeError: the kind 'linear' of Kernel is already discrepancy\.kernels\.dot\.Linear",
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


def test_a_users_file_may_be_under_a_shape_checking_hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = OWN.format(n=2) + "\nclass Pair2(Shape2, kind='pair'):\n    of: tuple[Shape2, ...] = ()\n"
    written(tmp_path, "room_under_hook.py", text)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        with install_import_hook("room_under_hook", "beartype.beartype"):
            hooked = importlib.import_module("room_under_hook")
        with pytest.raises(Exception, match="radius"):
            hooked.Round2(radius="wide")
        pair = build(hooked.Shape2, {"pair": {"of": ["round", {"round": {"radius": 2}}]}})
        assert pair == hooked.Pair2(of=(hooked.Round2(), hooked.Round2(radius=2.0)))
        assert build(hooked.Shape2, dump(pair)) == pair
    finally:
        FAMILIES.pop("shape2", None)
        sys.modules.pop("room_under_hook", None)
