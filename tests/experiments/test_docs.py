"""The generators of docs/: what they read of sources and docstrings, and the picture of sets side by side."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from discrepancy.errors import InvalidInput
from experiments.docs import __main__ as command
from experiments.docs.markdown import first_sentence, flow, prose, table
from experiments.docs.methods import conformance_tests
from experiments.docs.picture import DPI, side_by_side
from experiments.docs.sources import Declaration, Module, Sources
from objectives.data.labels import Labels
from objectives.data.units import Normalisation
from objectives.synthetic.artefact import SyntheticSet

SOURCE = '''"""A module."""

from typing import ClassVar
from dataclasses import dataclass, field

from pack.other import helper

__all__ = ["LIMIT", "Part", "Plain", "Record", "call", "helper"]

LIMIT: int = 3
"""The most."""


class Part(Base, kind="part"):
    """A part."""

    shared: ClassVar[int] = 1
    first: int = field(kw_only=False)
    second: "str | None" = None

    @property
    def size(self) -> int:
        """How many."""

    def _hidden(self) -> None:
        """Not shown."""

    def bare(self) -> None: ...


@dataclass(frozen=True)
class Record:
    name: str
    values: dict[str, int] = field(default_factory=dict)


class Plain:
    def __init__(self, a: int, *rest: int, b: float = 1.0) -> None: ...


def call(x: "Float[Tensor, 'n d']", /, y: int = 2, *, scale: float = 1.0, name: str = 'none', **options: int) -> int:
    """Calls."""
'''

DOCSTRING = """The ``value`` of :class:`~a.b.Thing`:

    f(x) = ``x``

Args:
    x: one
        line.
    y: two.

References:
    First: a paper;
    a second one.

References: A paper.

>>> 1 + 1
2

- an item
  goes on
    and on
"""


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("from pack import helper\nfrom pack.module import call, helper\n")
    (tmp_path / "pack" / "module.py").write_text(SOURCE)
    (tmp_path / "pack" / "other.py").write_text('def helper():\n    """Helps."""\n')
    (tmp_path / "pack" / "helper.py").write_text('"""A module of the same name as a function."""\n')
    return Sources(tmp_path, ("pack",))


def found(sources: Sources, name: str, module: str = "pack.module") -> Declaration:
    item = sources.find(module, name)
    assert isinstance(item, Declaration)
    return item


@pytest.mark.parametrize(
    ("name", "signature"),
    [
        ("Part", "Part(first: int, *, second: 'str | None' = None)"),
        ("Record", "Record(name: str, values: dict[str, int] = dict())"),
        ("Plain", "Plain(a: int, *rest: int, b: float = 1.0)"),
        ("LIMIT", "LIMIT = 3"),
        ("helper", "helper()"),
    ],
)
def test_a_signature_is_that_of_the_source(sources: Sources, name: str, signature: str):
    assert found(sources, name).signature == signature


def test_a_long_signature_has_an_argument_a_line(sources: Sources):
    assert found(sources, "call").signature.splitlines() == [
        "call(",
        "    x: \"Float[Tensor, 'n d']\",",
        "    /,",
        "    y: int = 2,",
        "    *,",
        "    scale: float = 1.0,",
        "    name: str = 'none',",
        "    **options: int,",
        ") -> int",
    ]


def test_names_are_found_where_they_are_defined(sources: Sources):
    assert sources.packages == ["pack"]
    assert found(sources, "call", "pack").module == "pack.module"
    assert found(sources, "helper", "pack").docstring == "Helps."
    assert isinstance(sources.find("pack", "module"), Module)
    with pytest.raises(KeyError):
        sources.find("pack.module", "nothing")


def test_what_a_class_says_of_itself(sources: Sources):
    part = found(sources, "Part")
    assert (part.kind, part.bases, part.docstring) == ("part", ["Base"], "A part.")
    assert [(item.name, item.member_signature) for item in part.members] == [("size", "size: int")]
    assert found(sources, "LIMIT").docstring == "The most."
    assert found(sources, "Record").docstring == ""


def test_a_docstring_as_markdown():
    text = prose(DOCSTRING)
    assert text.splitlines() == [
        "The `value` of `Thing`:",
        "",
        "```text",
        "f(x) = x",
        "```",
        "",
        "**Args**",
        "",
        "- `x`: one",
        "  line.",
        "- `y`: two.",
        "",
        "**References**",
        "",
        "First: a paper;",
        "a second one.",
        "",
        "**References:** A paper.",
        "",
        "```pycon",
        ">>> 1 + 1",
        "2",
        "```",
        "",
        "- an item",
        "  goes on",
        "    and on",
    ]


def test_sentences_values_and_tables():
    assert first_sentence("One\nof two. Two of two.\n\nMore.") == "One of two."
    assert flow({"a": [1, 2.5], "b": None, "c": True}) == "{a: [1, 2.5], b: null, c: true}"
    assert table(("x", "y"), [("|a|", "b\nc")]) == ["| x | y |", "| --- | --- |", "| \\|a\\| | b<br>c |"]


def test_marks_of_tests_are_found(tmp_path: Path):
    (tmp_path / "tests").mkdir()
    marked = '@pytest.mark.conformance("a", "b")\ndef test_it():\n    pass\n\n\ndef test_other():\n    pass\n'
    (tmp_path / "tests" / "test_some.py").write_text(marked)
    tests = conformance_tests(tmp_path)
    assert {name: [(test.file, test.name) for test in each] for name, each in tests.items()} == {
        name: [("tests/test_some.py", "test_it")] for name in ("a", "b")
    }


def made(count: int, side: int, value: float, classes: tuple[str, ...] = ("zero", "one")) -> SyntheticSet:
    points, labels = torch.full((2 * count, 1, side, side), value), torch.arange(2).repeat(count)
    return SyntheticSet(
        points, Labels("hard", labels), torch.ones(2 * count), classes, Normalisation((0.0,), (1.0,)), (0.0, 255.0)
    )


def test_sets_stand_side_by_side(tmp_path: Path):
    side_by_side({"left": made(3, 32, 255.0), "right": made(3, 32, 51.0)}, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        pixels = np.asarray(picture.convert("L"))
    below = pixels[-40]  # through the second row of images
    assert int((below == 51).sum()) == 3 * 64
    assert not (below[: len(below) // 2] == 51).any()
    assert pixels.shape[1] < 10 * DPI


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (made(3, 16, 0.0), "'right' must have the images and classes of 'left'"),
        (made(3, 32, 0.0, ("a", "b")), "'right' must have the images and classes of 'left'"),
        (made(3, 32, 0.0, ()), "'right' must hold images with classes"),
    ],
    ids=["shape", "names", "none"],
)
def test_sets_that_cannot_be_compared_by_eye(second: SyntheticSet, message: str, tmp_path: Path):
    with pytest.raises(InvalidInput, match=message):
        side_by_side({"left": made(3, 32, 0.0), "right": second}, tmp_path / "a.png")


def test_the_command_writes_what_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "tests").mkdir()
    (tmp_path / "docs" / "api").mkdir(parents=True)
    (tmp_path / "docs" / "api" / "old.md").write_text("old")
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.setattr(command, "pages", lambda: {tmp_path / "docs" / "api" / "new.md": "new\n"})
    monkeypatch.setattr(sys, "argv", ["docs"])
    command.main()
    assert capsys.readouterr().out.splitlines() == ["docs/api/old.md removed", "docs/api/new.md written"]
    command.main()
    assert capsys.readouterr().out == ""


def test_the_command_draws_artefacts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    made(1, 8, 3.0).save(tmp_path / "a.safetensors")
    words = ["docs", "picture", str(tmp_path / "a.png"), f"a = b={tmp_path / 'a.safetensors'}"]
    monkeypatch.setattr(sys, "argv", words)
    command.main()
    assert (tmp_path / "a.png").stat().st_size > 0
    monkeypatch.setattr(sys, "argv", [*words[:3], "nameless"])
    with pytest.raises(SystemExit):
        command.main()
    assert "expected HEADING=ARTEFACT, got 'nameless'" in capsys.readouterr().err
