"""``make bench``: every benchmark, or those named, as one table with the machine that it ran on.

python -m experiments.benchmarks [NAME ...] [--json FILE]
"""

import argparse
import importlib
import platform
from pathlib import Path
from typing import Any

import psutil
import torch

from experiments.report import Column, Notes, Report, Section, Table, as_text
from experiments.report.progress import shown
from objectives.storage import json_text, write_text

__all__ = ["main"]

BENCHMARKS = ("pairwise", "transport", "distribution_matching", "summarising", "evaluation", "robustness")


def main() -> None:
    """Run the named benchmarks, or all."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(BENCHMARKS)}; all without")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows here")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"there is no benchmark '{unknown[0]}' (known: {', '.join(BENCHMARKS)})")
    names = options.names or BENCHMARKS
    found: dict[str, list[dict[str, Any]]] = {}
    with shown("benchmarks", len(names)) as advance:
        for done, name in enumerate(names):
            advance(done, name)
            found[name] = importlib.import_module(f"experiments.benchmarks.{name}").rows()
        advance(len(names), "")
    report = _report(machine(), found)
    if options.json is not None:
        write_text(options.json, json_text(report.data, 1))
    print(as_text(report))


def _report(about: dict[str, str], found: dict[str, list[dict[str, Any]]]) -> Report:
    columns = (Column("what"), Column("measured", align="right"), Column("ratio", align="right"))
    tables = {name: Table(columns=columns, rows=tuple(map(_cells, rows)), name=name) for name, rows in found.items()}
    machine_line = Section(parts=(Notes((", ".join(f"{name} {value}" for name, value in about.items()),)),))
    return Report(
        title="Benchmarks",
        sections=(machine_line, *(Section(name, (table,)) for name, table in tables.items())),
        data={"machine": about, "rows": found},
    )


def machine() -> dict[str, str]:
    """What it ran on."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": str(psutil.cpu_count(logical=False)),
        "threads": str(torch.get_num_threads()),
        "device": device,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


def _cells(row: dict[str, Any]) -> tuple[str, str, str]:
    if "seconds" in row:
        measured = f"{1000 * row['seconds']:,.1f} ms"
    elif "megabytes" in row:
        measured = f"{row['megabytes']:,.0f} MB"
    else:
        measured = f"{row['error']:.1e}"
    ratio, (least, most) = row.get("ratio"), row.get("range", (None, None))
    spread = "" if least is None else f" ({least:.2f} to {most:.2f})"
    return row["what"], measured, "" if ratio is None else f"{ratio:.2f}x{spread}"


if __name__ == "__main__":
    main()
