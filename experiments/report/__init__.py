"""What a command shows: one record (:class:`Report`), and renderers for a terminal, Markdown, HTML, CSV and JSON."""

from experiments.report.files import save
from experiments.report.markdown import as_markdown
from experiments.report.page import as_html
from experiments.report.plain import as_csv, as_json
from experiments.report.record import (
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
)
from experiments.report.terminal import as_text

__all__ = [
    "Column",
    "Fact",
    "Facts",
    "Interval",
    "Listing",
    "MeanStd",
    "Notes",
    "Picture",
    "Report",
    "Section",
    "Table",
    "as_csv",
    "as_html",
    "as_json",
    "as_markdown",
    "as_text",
    "save",
]
