"""Results as tables: drawn with rules on a terminal, plain aligned lines where the output is piped."""

import re
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.config import Kind
from experiments.evaluate import Comparison, Evaluation, Protocol
from experiments.experiment import Method
from experiments.plan import Plan

__all__ = ["evaluation", "facts", "kinds", "methods", "plan", "table"]


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[str] = (), console: Console | None = None
) -> str:
    """Rows of text under their headings, ``numeric`` columns to the right.

    Args:
        console: decides on the form; standard output by default.
    """
    console = console or Console()
    if not console.is_terminal:
        return _plain(columns, rows, numeric)
    drawn = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for name in columns:
        drawn.add_column(name, justify="right" if name in numeric else "left", no_wrap=name in numeric, overflow="fold")
    for row in rows:
        drawn.add_row(*(escape(cell) for cell in row))
    with console.capture() as captured:
        console.print(drawn)
    return captured.get().rstrip("\n")


def _plain(columns: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[str]) -> str:
    """Columns two spaces apart; the heading is a line like the others."""
    lines = [columns, *rows] if any(columns) else list(rows)
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))] if lines else []
    padded = [
        "  ".join(
            cell.rjust(width) if name in numeric else cell.ljust(width)
            for cell, width, name in zip(line, widths, columns, strict=True)
        )
        for line in lines
    ]
    return "\n".join(line.rstrip() for line in padded)


def facts(values: Mapping[str, Any]) -> str:
    """Names and values, a line each."""
    shown = [(name.replace("_", " "), _shown(name, value)) for name, value in values.items()]
    width = max((len(name) for name, _ in shown), default=0)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in shown)


def evaluation(found: Comparison) -> str:
    """Test accuracy (of a regression: error) of a condensed set beside its controls: mean and standard deviation over n
    networks."""
    part = "validation" if any(row.validation for row in found.rows.values()) else "test"
    first = next(iter(found.rows.values()))
    measured = (f"{part} accuracy %", "std") if first.accuracies else (f"{part} RMSE", "std", "R²")
    measured += (f"{part} MSE",) if first.risk else ()
    rows = [
        [
            name,
            str(row.examples),
            row.labels,
            *_measured(row),
            str(row.n),
            size(row.stored_bytes),
            duration(row.seconds),
        ]
        for name, row in found.rows.items()
    ]
    columns = ("set", "examples", "labels", *measured, "n", "stored", "time")
    how = ("protocol", "last epoch") if isinstance(found.protocol, Protocol) else ("learned by", "in closed form")
    about = (
        f"{found.data}, {how[0]} {found.protocol.title} ({first.protocol_hash}), {first.test_examples} {part} examples, "
        f"{how[1]}, seed {first.seed}, torch {found.torch} on {found.device}"
    )
    return "\n".join([table(columns, rows, (columns[1], *columns[3:])), about, *_scores(found), *_teacher(found)])


def _scores(found: Comparison) -> list[str]:
    if not isinstance(found.protocol, Protocol) or not any(row.labels == "scores" for row in found.rows.values()):
        return []
    return ["the labels are scores and no distributions: every network learned by squares (loss: squared)"]


def _measured(row: Evaluation) -> list[str]:
    """The mean and the standard deviation of accuracies, in %, or of errors, with the mean share of the variance explained."""
    if row.accuracies:
        risk = [f"{fmean(row.risk):.4g}"] if row.risk else []
        return [f"{100 * row.mean:.1f}", f"{100 * row.std:.1f}" if row.n > 1 else "-", *risk]
    return [f"{row.mean:.4g}", f"{row.std:.2g}" if row.n > 1 else "-", f"{fmean(row.r2):.3f}"]


def _teacher(found: Comparison) -> list[str]:
    if found.teacher is None:
        return []
    about = found.teacher
    right = f", right on {100 * about['accuracy']:.1f} % of {about['on']}" if "accuracy" in about else ""
    return [f"labels of one teacher for every set: {about['config']['network']['kind']}{right} ({about['hash']})"]


def plan(found: Plan) -> str:
    """What a run will cost."""
    return facts(
        {
            "device": found.device,
            "steps": f"{found.steps:,}",
            "synthetic examples": f"{found.examples:,} of shape {' x '.join(map(str, found.shape))}",
            "time": f"about {duration(found.seconds)}{', compiled' if found.compiled else ''}",
            "forward passes": f"{found.forward_passes:,} images, {found.multiplications:.2g} multiplications",
            "memory": f"about {size(found.memory_bytes)} of {size(found.available_bytes)} available",
            "stored": size(found.stored_bytes),
        }
    )


def methods(found: Sequence[Method]) -> str:
    """The packaged methods with their sources."""
    return table(("method", "title", "source"), [(item.name, item.title, item.source) for item in found])


def kinds(families: Mapping[str, Sequence[Kind]]) -> str:
    """Every kind with the first line of its description, and its fields below."""
    blocks = []
    for family, members in families.items():
        lines = [family]
        for kind in members:
            lines.append(f"  {kind.kind}{f': {_prose(kind.summary)}' if kind.summary else ''}")
            for item in kind.fields:
                default = "required" if item.required else f"default {_yaml(item.default)}"
                lines.append(f"      {item.name}: {item.values}; {default}")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def size(count: int) -> str:
    """Bytes in the largest fitting unit."""
    amount, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"


def duration(seconds: float) -> str:
    """Seconds as a reader says them."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _shown(name: str, value: Any) -> str:
    if name.endswith("_bytes") and isinstance(value, int):
        return size(value)
    if name == "seconds" and isinstance(value, int | float):
        return duration(value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _prose(text: str) -> str:
    """Without the marks of a docstring."""
    return re.sub(r":\w+:`([^`]*)`", r"\1", text).replace("``", "")


def _yaml(value: Any) -> str:
    """A default as it would be written in a configuration, on one line."""
    match value:
        case dict():
            return f"{{{', '.join(f'{key}: {_yaml(item)}' for key, item in value.items())}}}"
        case list():
            return f"[{', '.join(_yaml(item) for item in value)}]"
        case None | "":
            return "null" if value is None else "''"
        case bool():
            return str(value).lower()
    return str(value)
