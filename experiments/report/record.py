"""The record of what is shown: a report of titled sections, each of facts, tables, notes, listings and pictures.

Every command builds one :class:`Report`, and every form of its output is rendered from it. Cells hold values and not text; a
:class:`Form` says how the values of a column, or of a fact, are written.

    table = Table(
        columns=(Column("set"), Column("accuracy", fixed(1), unit="%"), Column("stored", BYTES)),
        rows=(("condensed", 61.3, 25_600), ("random", MeanStd(44.0, 1.2), 25_600)),
    )
    report = Report(title="digits", sections=(Section(parts=(table, Notes(("last epoch",)))),))
"""

import io
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "BYTES",
    "COUNT",
    "SECONDS",
    "TEXT",
    "Cell",
    "Column",
    "Fact",
    "Facts",
    "Form",
    "Interval",
    "Listing",
    "MeanStd",
    "Notes",
    "Part",
    "Picture",
    "Report",
    "Section",
    "Table",
    "fixed",
    "scientific",
    "significant",
]


class Interval(NamedTuple):
    """A confidence interval, or a range."""

    low: float
    high: float


class MeanStd(NamedTuple):
    """A mean with its standard deviation; None where there is a single value."""

    mean: float
    std: float | None = None


Cell = Interval | MeanStd | str | float | int | None
"""The value of a table at one place. Text stands as it is in any column; None is a missing value."""


@dataclass(frozen=True)
class Form:
    """How values are written.

    Args:
        kind: ``text``; ``count``, an integer with thousands separators; ``fixed``, with ``digits`` digits after the point;
            ``significant``, with ``digits`` significant digits; ``scientific``, with ``digits`` digits after the point and a
            power of ten; ``bytes`` and ``seconds``, in fitting units.
        digits: see ``kind``.
    """

    kind: Literal["text", "count", "fixed", "significant", "scientific", "bytes", "seconds"] = "text"
    digits: int = 0


TEXT, COUNT, BYTES, SECONDS = Form(), Form("count"), Form("bytes"), Form("seconds")


def fixed(digits: int) -> Form:
    """Numbers with this number of digits after the decimal point."""
    return Form("fixed", digits)


def significant(digits: int) -> Form:
    """Numbers with this number of significant digits."""
    return Form("significant", digits)


def scientific(digits: int) -> Form:
    """Numbers as a power of ten, with this number of digits after the decimal point."""
    return Form("scientific", digits)


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        title: of the heading, which the ``unit`` follows.
        align: ``left`` for text and ``right`` for numbers, unless it is given.
        key: the name of the column in CSV; the title if empty.
    """

    title: str
    form: Form = TEXT
    unit: str = ""
    align: Literal["left", "right"] | None = None
    key: str = ""

    @property
    def heading(self) -> str:
        return f"{self.title} {self.unit}".rstrip()

    @property
    def right(self) -> bool:
        """Whether its cells are aligned to the right."""
        return self.align == "right" or (self.align is None and self.form != TEXT)


@dataclass(frozen=True)
class Table:
    """Rows of cells under their columns.

    Args:
        rows: what a reader sees, one cell a column.
        records: what CSV holds: all the rows with all their fields, where these are more than what a reader sees; each has the
            same keys. Without them, CSV holds ``rows``.
        name: tables of the same name are one table in CSV.

    Raises:
        ValueError: if a row has not one cell for every column.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    records: tuple[Mapping[str, Any], ...] = ()
    name: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row has {len(row)} cells, the table {len(self.columns)} columns: {row}")


@dataclass(frozen=True)
class Fact:
    """A value under its name."""

    title: str
    value: Cell
    form: Form = TEXT


@dataclass(frozen=True)
class Facts:
    """Names and values, one a line."""

    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class Notes:
    """Sentences, one a line: what the columns mean, what was left out, and how the result is made again."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Listing:
    """Text that is shown as it is, such as a configuration."""

    text: str
    language: str = ""


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure, drawn when a renderer first needs it, and once.

    Args:
        title: what is to be seen; the alternative text where the picture cannot be shown.
        name: of its file, without ending.
    """

    title: str
    name: str
    draw: "Callable[[], Figure]"

    @cached_property
    def png(self) -> bytes:
        """The picture as the content of a PNG file. A letter that the font lacks is shown as a box, without a warning."""
        out = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")
            self.draw().savefig(out, format="png", dpi="figure")
        return out.getvalue()


Part = Facts | Table | Notes | Listing | Picture


@dataclass(frozen=True)
class Section:
    """Parts under a title, which may be empty. A ``detail`` is for files, and not printed on a terminal."""

    title: str = ""
    parts: tuple[Part, ...] = ()
    detail: bool = False


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a command found, once for all the forms in which it is shown.

    Args:
        title: of the page; a terminal leaves it out.
        data: all of it as plain data, for JSON.
        complete: whether all that was asked for was done; the exit status of a command is 1 where it was not.
    """

    title: str
    sections: tuple[Section, ...]
    data: Any = field(default_factory=dict)
    complete: bool = True

    @property
    def parts(self) -> tuple[Part, ...]:
        return tuple(part for section in self.sections for part in section.parts)

    @property
    def tables(self) -> tuple[Table, ...]:
        return tuple(part for part in self.parts if isinstance(part, Table))

    @property
    def pictures(self) -> tuple[Picture, ...]:
        return tuple(part for part in self.parts if isinstance(part, Picture))

    def noted(self, line: str) -> "Report":
        """The same with one more note at the end, such as where it was written."""
        return replace(self, sections=(*self.sections, Section(parts=(Notes((line,)),))))
