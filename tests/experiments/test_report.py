"""Reports: one record, whatever the form; and what the commands put into it."""

import base64
import csv
import io
import json
import re
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from discrepancy.errors import InvalidInput
from experiments.config import known
from experiments.evaluate import PROTOCOLS, Comparison
from experiments.evaluate.records import Evaluation
from experiments.method import Method
from experiments.plan import Plan
from experiments.report import (
    Column,
    Fact,
    Facts,
    Interval,
    Listing,
    MeanStd,
    Notes,
    Picture,
    Report,
    Section,
    Table,
    as_csv,
    as_html,
    as_json,
    as_markdown,
    as_text,
    progress,
    save,
)
from experiments.report.evaluation import evaluation_report
from experiments.report.figures import blank
from experiments.report.files import prepare
from experiments.report.lists import kinds_report, methods_report
from experiments.report.record import BYTES, COUNT, SECONDS, Cell, Form, fixed, scientific, significant
from experiments.report.summary import facts_report, plan_report
from experiments.report.values import shown
from objectives.storage import StorageError

TABLE = Table(
    columns=(Column("set"), Column("accuracy", fixed(1), unit="%", key="mean"), Column("stored", BYTES)),
    rows=(("dm <b>|*", MeanStd(61.25, 0.5), 25_600), ("random [x]", "failed", None)),
)
NOTES = Notes(("a <script>alert(1)</script> & b",))


def report(*parts: Table | Facts | Notes | Listing | Picture, **more: object) -> Report:
    return Report(title="A <title>", sections=(Section("Part one", parts),), **more)  # pyright: ignore[reportArgumentType]


def piped() -> Console:
    return Console(file=StringIO(), force_terminal=False)


def terminal(width: int = 100) -> Console:
    return Console(file=StringIO(), force_terminal=True, width=width, color_system=None)


# --- values -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (None, fixed(1), "-"),
        (float("nan"), fixed(1), "-"),
        (float("inf"), fixed(1), "∞"),
        ("failed", fixed(1), "failed"),
        (1234.56, fixed(1), "1,234.6"),
        (1234567, COUNT, "1,234,567"),
        (0.012345, significant(3), "0.0123"),
        (12345.6, significant(3), "12,346"),
        (0.00012345, significant(3), "1.23e-04"),
        (0.0, significant(3), "0"),
        (0.000123, scientific(1), "1.2e-04"),
        (900, BYTES, "900 B"),
        (25_600, BYTES, "25.0 KiB"),
        (4.21, SECONDS, "4.2 s"),
        (75.0, SECONDS, "75 s"),
        (725.0, SECONDS, "12 min 05 s"),
        (3725.0, SECONDS, "1 h 02 min"),
        (Interval(0.1, 12.0), significant(3), "[0.1, 12]"),
        (MeanStd(61.25, 0.5), fixed(1), "61.2 ± 0.5"),
        (MeanStd(61.25), fixed(1), "61.2"),
        (True, Form(), "yes"),
    ],
    ids=str,
)
def test_values_as_text(value: Cell, form: Form, text: str) -> None:
    assert shown(value, form) == text


def test_a_row_must_fit_its_columns() -> None:
    with pytest.raises(ValueError, match="a row has 1 cells, the table 2 columns"):
        Table(columns=(Column("a"), Column("b")), rows=(("1",),))


# --- forms --------------------------------------------------------------------------------------------------------------


def test_a_piped_table_is_plain_aligned_lines() -> None:
    assert as_text(report(TABLE, NOTES), piped()).split("\n") == [
        "Part one",
        "set         accuracy %    stored",
        "dm <b>|*    61.2 ± 0.5  25.0 KiB",
        "random [x]      failed         -",
        "a <script>alert(1)</script> & b",
    ]


def test_a_table_on_a_terminal_has_a_rule_and_is_not_cut() -> None:
    title, heading, rule, *rows = as_text(report(TABLE), terminal()).split("\n")
    assert title == "Part one"
    assert heading.split() == ["set", "accuracy", "%", "stored"]
    assert set(rule.strip()) == {"─"}
    assert [row.split() for row in rows] == [
        ["dm", "<b>|*", "61.2", "±", "0.5", "25.0", "KiB"],
        ["random", "[x]", "failed", "-"],
    ]
    wide = Table(columns=(Column("name"), Column("n", COUNT)), rows=(("w" * 30, 12345),))
    narrow = as_text(report(wide), terminal(20))
    assert narrow.count("w") == 30
    assert "12,345" in narrow


def test_details_and_pictures_are_not_on_a_terminal() -> None:
    sections = (Section("one", (NOTES,)), Section("two", (Notes(("hidden",)),), detail=True))
    found = Report(title="t", sections=sections)
    assert "hidden" not in as_text(found, piped())
    assert "hidden" in as_markdown(found)
    assert "hidden" in as_html(found)


def test_markdown_escapes_what_would_change_it() -> None:
    facts = Facts((Fact("stored", 25_600, BYTES),))
    text = as_markdown(report(TABLE, facts, NOTES, Listing("a: 1\n", "yaml")))
    assert text.split("\n") == [
        "# A &lt;title>",
        "",
        "## Part one",
        "",
        "| set | accuracy % | stored |",
        "| --- | ---: | ---: |",
        r"| dm &lt;b>\|\* | 61.2 ± 0.5 | 25.0 KiB |",
        "| random [x] | failed | - |",
        "",
        "- stored: 25.0 KiB",
        "",
        "- a &lt;script>alert(1)&lt;/script> & b",
        "",
        "```yaml",
        "a: 1",
        "```",
        "",
    ]


class Page(HTMLParser):
    """The tags of a page, whether they are balanced, its texts, and what it would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.sources: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def picture(drawings: list[int] | None = None) -> Picture:
    def draw():
        if drawings is not None:
            drawings.append(1)
        return blank(2, 1)

    return Picture('a "picture" <i>', "blank", draw)


def test_a_page_is_escaped_and_needs_no_other_file() -> None:
    drawings: list[int] = []
    whole = report(TABLE, NOTES, Facts((Fact("<x>", "<y>"),)), Listing("<z>"), picture(drawings))
    page = Page(as_html(whole))
    assert page.open == []
    assert {"script", "b", "i", "x", "y", "z", "link"}.isdisjoint(page.tags)
    assert {"A <title>", "dm <b>|*", "a <script>alert(1)</script> & b", "<x>", "<y>", "<z>"} <= set(page.texts)
    (source,) = page.sources
    kind, content = source.split(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        assert image.size == (300, 150)
    as_html(whole)
    assert len(drawings) == 1  # once for all the forms


def test_csv_holds_the_records_or_else_the_cells() -> None:
    assert list(csv.DictReader(io.StringIO(as_csv(report(TABLE))))) == [
        {"set": "dm <b>|*", "mean": "61.25; 0.5", "stored": "25600"},
        {"set": "random [x]", "mean": "failed", "stored": ""},
    ]
    records = ({"a": 1.5, "b": None, "c": ["x", 2]}, {"a": float("nan"), "b": False, "c": []})
    first = Table(columns=TABLE.columns, rows=TABLE.rows, records=records, name="one")
    second = Table(columns=(Column("z"),), rows=(("other",),), name="two")
    whole = report(first, second, first)
    assert list(csv.reader(io.StringIO(as_csv(whole)))) == [
        ["a", "b", "c"],
        *([["1.5", "", "x; 2"], ["", "False", ""]] * 2),
    ]
    assert as_csv(whole, "two").split() == ["z", "other"]
    assert as_csv(report(NOTES)) == ""
    facts = Facts((Fact("stored", 25_600, BYTES), Fact("labels", "hard")))
    assert as_csv(report(facts, NOTES)).split() == ["stored,labels", "25600,hard"]


def test_the_ending_of_a_file_chooses_its_form(tmp_path: Path) -> None:
    whole = report(TABLE, picture(), data={"a": 1})
    for ending, text in ((".html", as_html(whole)), (".csv", as_csv(whole)), (".json", as_json(whole, 1) + "\n")):
        save(whole, tmp_path / "new" / f"x{ending}")
        assert (tmp_path / "new" / f"x{ending}").read_bytes().decode() == text
    save(whole, tmp_path / "x.md")
    assert '![a "picture" &lt;i>](x-blank.png)' in (tmp_path / "x.md").read_text()
    with Image.open(tmp_path / "x-blank.png") as image:
        assert image.size == (300, 150)
    with pytest.raises(InvalidInput, match=r"must end in one of .md, .html, .csv, .json: .*; did you mean '.html'"):
        save(whole, tmp_path / "x.htm")


def test_a_folder_without_write_permission_is_said_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.report.files.os.access", lambda path, mode: False)
    with pytest.raises(StorageError, match=r"x.csv' could not be written \(its folder is read-only\)"):
        prepare(tmp_path / "x.csv")


# --- what commands show -------------------------------------------------------------------------------------------------


def evaluated(name: str, *accuracies: float, **more: object) -> tuple[str, Evaluation]:
    common = {
        "protocol": "quick",
        "protocol_hash": "abc",
        "examples": 100,
        "stored_bytes": 2560,
        "epochs": 3,
        "steps": 30,
    }
    common |= {"test_examples": 360, "validation": False, "seed": 7, "seconds": 75.0}
    return name, Evaluation(accuracies=accuracies, **(common | more))  # pyright: ignore[reportArgumentType]


def compared(*rows: tuple[str, Evaluation], **more: object) -> Comparison:
    common = {"rows": dict(rows), "protocol": PROTOCOLS["quick"], "data": "digits", "device": "cpu", "torch": "2.x"}
    return Comparison(**(common | more))  # pyright: ignore[reportArgumentType]


def test_the_table_of_an_evaluation_says_mean_std_n_and_settings() -> None:
    found = compared(evaluated("condensed", 0.5, 0.6, 0.7), evaluated("whole", 0.913))
    made = evaluation_report(found)
    heading, condensed, whole, about = as_text(made, piped()).split("\n")
    assert heading.split() == ["set", "examples", "labels", "test", "accuracy", "%", "std", "n", "stored", "time"]
    assert condensed.split() == ["condensed", "100", "hard", "60.0", "10.0", "3", "2.5", "KiB", "75", "s"]
    assert whole.split()[3:6] == ["91.3", "-", "1"]
    assert about == "digits, protocol quick (abc), 360 test examples, last epoch, seed 7, torch 2.x on cpu"
    assert made.data == found.as_dict()
    first, second = csv.DictReader(io.StringIO(as_csv(made)))
    assert (first["set"], first["accuracies"], float(first["mean"])) == ("condensed", "0.5; 0.6; 0.7", 0.6)
    assert (second["set"], second["n"]) == ("whole", "1")


def test_the_table_of_a_regression_says_errors_and_of_a_learner_the_risk() -> None:
    error = evaluated("condensed", rmse=(55.25, 56.75), r2=(0.25, 0.35), labels="targets", validation=True)
    heading, condensed, _ = as_text(evaluation_report(compared(error)), piped()).split("\n")
    assert heading.split()[3:7] == ["validation", "RMSE", "std", "R²"]
    assert condensed.split()[3:6] == ["56", "1.1", "0.300"]
    heading, row, _ = as_text(evaluation_report(compared(evaluated("condensed", 0.5, risk=(0.5,)))), piped()).split(
        "\n"
    )
    assert "test MSE" in heading
    assert row.split()[3:6] == ["50.0", "-", "0.5"]


def test_labels_of_a_teacher_and_scores_are_told() -> None:
    about = {"config": {"network": {"kind": "convnet"}}, "accuracy": 0.1, "on": "360 test examples", "hash": "ff"}
    text = as_text(evaluation_report(compared(evaluated("a", 0.5, labels="scores"), teacher=about)), piped())
    assert "labels of one teacher for every set: convnet, 10.0 % accuracy on 360 test examples (ff)" in text
    assert "the labels are scores and not probabilities" in text


def test_facts_plan_and_methods_are_readable() -> None:
    facts = facts_report("a run", {"stored_bytes": 25600, "steps": 2000, "seconds": 3725.0, "labels": "hard"})
    assert as_text(facts, piped()).split("\n") == [
        "stored bytes  25.0 KiB",
        "steps         2,000",
        "seconds       1 h 02 min",
        "labels        hard",
    ]
    assert json.loads(as_json(facts))["seconds"] == 3725.0
    cost = Plan(
        device="cpu",
        steps=2000,
        examples=100,
        shape=(1, 8, 8),
        forward_passes=1_000_000,
        multiplications=3e12,
        compiled=True,
        seconds=95.0,
        memory_bytes=3 << 20,
        available_bytes=5 << 30,
        stored_bytes=900,
    )
    planned = as_text(plan_report("a plan", cost), piped())
    for part in (
        "about 95 s, compiled",
        "100 of shape 1 x 8 x 8",
        "about 3.0 MiB of 5.0 GiB available",
        "900 B",
        "3e+12",
        "2,000",
    ):
        assert part in planned
    listed = as_text(methods_report([Method(name="dm", title="Distribution matching", source="Zhao (2023)")]), piped())
    assert re.search(r"^dm +Distribution matching +Zhao \(2023\)$", listed, re.MULTILINE)


def test_kinds_are_listed_with_their_fields_and_defaults() -> None:
    families = known()
    chosen = as_text(kinds_report({name: families[name] for name in ("kernel", "length")}), piped())
    assert chosen.startswith("kernel\n  ")
    assert "\n\nlength\n" in chosen
    assert "      lengthscale: a number or a length (median, quantile); default 1.0" in chosen
    every = as_text(kinds_report(families), piped())
    assert "      match: a discrepancy (" in every
    assert "; required\n      via: an embedding (" in every
    assert (
        "      options: a mapping from names to a number or true or false or text or a list of whole numbers; default {}"
        in every
    )
    assert (
        "network: a network (alexnet, backbone, convnet, coupling, lenet, mlp, resnet, vgg, vit) or nothing (null)"
        in every
    )
    assert ":class:" not in every


def test_the_time_left_leaves_out_what_comes_only_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Compilation before the first step, and the steps of an earlier part of a resumed run."""
    now = [0.0]
    monkeypatch.setattr("experiments.report.progress.time.monotonic", lambda: now[0])
    for first, expected in ((1, "60 s left"), (301, "12 s left")):
        now[0] = 0.0
        with progress.shown("condensing", 501) as advance:
            advance(first - 1, progress.COMPILING)
            for seconds, done in ((22.0, first), (42.0, first + 125)):
                now[0] = seconds
                advance(done, "loss 1")
        lines = capsys.readouterr().err.splitlines()
        assert lines[0] == f"condensing: {first - 1}/501, 0 s, compiling"
        assert lines[1] == f"condensing: {first}/501, 22 s, loss 1"
        assert expected in lines[2]
