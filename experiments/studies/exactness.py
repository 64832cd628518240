"""The study of exact ridge regression on the command line: what ``condense study exact`` calls."""

import argparse
import functools
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from discrepancy.errors import InvalidInput
from experiments.config import Tree
from experiments.data import Source, source_named
from experiments.report import exact as report
from experiments.report import grid
from experiments.report.progress import shown
from experiments.studies.exact import Noise, Row, exact, experiment_of, iterated, recovered
from experiments.studies.folder import Lines, StudyFolder
from objectives.data.labelled import LabelledData
from objectives.synthetic.artefact import SyntheticSet

__all__ = ["run_exact"]

KIP_FEATURES = "fcnn"
"""On whose features KIP is compared, as in the paper."""


def run_exact(options: argparse.Namespace) -> None:
    """Do what is missing of the study in its folder; write its tables and print them."""
    for name in ("per_class", "seeds"):
        values = getattr(options, name)
        if min(values if isinstance(values, list) else [values]) < 1:
            raise InvalidInput(f"'--{name.replace('_', '-')}' must be at least 1, got {values}")
    if options.kip is not None and not options.kip > 0:
        raise InvalidInput(f"'--kip' must be a number of minutes > 0, got {options.kip}")
    for name, features in itertools.product(options.data, options.features):
        experiment_of(
            source_named(name, options.root), features, options.per_class[0], 0, options.device, options.precision
        )
    folder = StudyFolder(options.out or Path("runs") / "exact")
    options.out = folder.path
    with folder.locked():
        folder.adopt(_tree(options), growing=(), free=())
        rows = list(_rows(options, folder))
        hidden = list(_noise(options, folder)) if options.noise else []
    found = {"rows": [row.as_dict() for row in rows], "noise": [row.as_dict() for row in hidden]}
    folder.write_text(folder.report, json.dumps(found, indent=1))
    folder.write_text(folder.path / "table.md", report.markdown(rows, hidden))
    if options.json:
        print(json.dumps(found))
        return
    print(report.text(rows, hidden))
    print(f"\nwritten to {folder.path}: {folder.report.name}, table.md, sets/")


def _tree(options: argparse.Namespace) -> Tree:
    return {"study": "exact", "precision": options.precision, "device": options.device}


def _rows(options: argparse.Namespace, folder: StudyFolder) -> Iterator[Row]:
    """Every row that was asked for: read, where it is there, else made and written."""
    lines = Lines(folder.path / "rows.jsonl")
    known = {_key(row): row for row in (Row(**line) for line in lines.read())}
    cells = [(data, name, seed) for data in options.data for name in options.features for seed in range(options.seeds)]
    with shown("exact", len(cells), options.quiet) as advance:
        for number, (name, features, seed) in enumerate(cells):
            advance(number, f"{name} {features}")
            source = source_named(name, options.root)
            data = source.load()
            wanted = [(data.name, features, "ridge", size, seed, None) for size in options.per_class]

            def keep(size: int, synthetic: SyntheticSet, of: tuple[str, str, int] = (name, features, seed)) -> None:
                path = _set_file(folder, *of, size)
                path.parent.mkdir(parents=True, exist_ok=True)
                synthetic.save(path)
                grid.save(synthetic, path.with_suffix(".png"))

            if any(key not in known for key in wanted):
                settings = {"seed": seed, "device": options.device, "precision": options.precision}
                for row in exact(source, data, features, options.per_class, **settings, keep=keep):
                    known[_key(row)] = row
                    lines.append(row.as_dict())
            yield from (known[key] for key in wanted)
            if options.kip is None or features != KIP_FEATURES:
                continue
            for size in options.per_class:
                key = (data.name, features, "kip", size, seed, options.kip)
                if key not in known:
                    known[key] = _kip(source, data, features, size, seed, options, functools.partial(advance, number))
                    lines.append(known[key].as_dict())
                yield known[key]
        advance(len(cells), "")


def _kip(
    source: Source,
    data: LabelledData,
    features: str,
    size: int,
    seed: int,
    options: argparse.Namespace,
    note: Callable[[str], None],
) -> Row:
    def tell(step: int, spent: float) -> None:
        note(f"{data.name} {features}, kip at {size} a class: step {step}, {spent:.1f} of at most {options.kip:g} min")

    return iterated(source, data, features, size, options.kip, seed=seed, device=options.device, on_step=tell)


def _noise(options: argparse.Namespace, folder: StudyFolder) -> Iterator[Noise]:
    """Of the largest sets that are there, for each features: those of one example a class have no noise."""
    size = max(options.per_class)
    for name, features in itertools.product(options.data, options.features):
        source = source_named(name, options.root)
        synthetic = SyntheticSet.load(_set_file(folder, name, features, 0, size))
        yield from recovered(source, source.load(), features, synthetic, options.noise, device=options.device)


def _set_file(folder: StudyFolder, name: str, features: str, seed: int, size: int) -> Path:
    return folder.set_file(f"{name.lower()}-{features}-{seed}-{size}")


def _key(row: Row) -> tuple[str, str, str, int, int, float | None]:
    return row.data, row.features, row.method, row.per_class, row.seed, row.minutes
