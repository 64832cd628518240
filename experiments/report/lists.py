"""The lists of what there is: methods and kinds."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.config import Kind, dump
from experiments.method import Method
from experiments.report.record import Column, Listing, Report, Section, Table

__all__ = ["kinds_report", "methods_report"]


def methods_report(found: Sequence[Method]) -> Report:
    """The packaged methods with their sources."""
    columns = (Column("method"), Column("title"), Column("source"))
    table = Table(columns=columns, rows=tuple((item.name, item.title, item.source) for item in found))
    return Report(title="Methods", sections=(Section(parts=(table,)),), data=[dump(method) for method in found])


def kinds_report(families: Mapping[str, Sequence[Kind]]) -> Report:
    """Every kind with the first line of its description, and its fields below."""
    sections = tuple(
        Section(family, (Listing("\n".join(line for kind in members for line in _kind(kind))),))
        for family, members in families.items()
    )
    return Report(title="Kinds", sections=sections, data=dict(families))


def _kind(kind: Kind) -> list[str]:
    lines = [f"  {kind.kind}{f': {_prose(kind.summary)}' if kind.summary else ''}"]
    for item in kind.fields:
        default = "required" if item.required else f"default {_yaml(item.default)}"
        lines.append(f"      {item.name}: {item.values}; {default}")
    return lines


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
