"""``condense compare``: how far data sets are from a real one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from discrepancy.errors import InvalidInput
from experiments.compare import compare as compared
from experiments.compare import request_of
from experiments.compare.request import DEFAULT, ComparisonRequest, discrepancies_of, named_sets
from experiments.config import Tree, override, read
from experiments.config.files import parse_value
from experiments.folder import artefact_path, is_run_folder
from experiments.report import Report
from experiments.report.comparison import comparison_report, prepare_all, save_all
from experiments.report.progress import shown

__all__ = ["compare"]

CONFIGURATIONS = (".yaml", ".yml", ".toml")


def compare(
    what: Sequence[str] = (),
    *,
    config: str | None = None,
    discrepancies: Any = None,
    via: str | None = None,
    network: str | None = None,
    networks: int | None = None,
    units: str | None = None,
    worst: float | None = None,
    by: str | None = None,
    resamples: int | None = None,
    independent: bool | None = None,
    changes: Sequence[str] = (),
    root: str | None = None,
    seed: int | None = None,
    device: str | None = None,
    out: str | Path | None = None,
    force: bool = False,
    quiet: bool = False,
) -> Report:
    """How far data sets are from a real one; the values are those of ``condense compare``. The first of ``what`` is the real
    side. Files are written into the folder ``out``, if there is one, over others of their names with ``force`` alone."""
    what = list(what)
    if config is None and len(what) == 1 and Path(what[0]).suffix in CONFIGURATIONS:
        what, config = [], what[0]
    tree: Tree = {} if config is None else read(config)
    if what:
        tree["real"] = what[0]
    if what[1:]:
        tree["sets"] = what[1:]
    if not {"real", "sets"} <= tree.keys():
        raise InvalidInput("name the real data set and at least one other: condense compare REAL SET [SET ...]")
    given = {
        "discrepancies": discrepancies,
        "via": via and _written("via", via),
        "network": network and _written("network", network),
        "networks": networks,
        "units": units,
        "by": by,
        "resamples": resamples,
        "independent": independent,
        "root": root,
        "seed": seed,
        "device": device,
    }
    tree |= {name: value for name, value in given.items() if value is not None}
    if worst is not None:
        tree["worst"] = {**(tree.get("worst") or {}), "eps": worst}
    tree = _with_results(tree)
    tree["discrepancies"] = discrepancies_of(tree.get("discrepancies") or list(DEFAULT))
    request = request_of(override(tree, changes, ComparisonRequest))
    if out is not None:
        prepare_all(Path(out), force)
    with shown("comparing (%)", 100, quiet) as advance:
        answer = compared(request, lambda done, note: advance(int(100 * done), note))
    report = comparison_report(answer)
    if out is not None:
        save_all(report, Path(out))
    return report


def _with_results(tree: Tree) -> Tree:
    """Run folders replaced by their artefacts, and sets that are listed by sets with names."""

    def result(item: Any) -> Any:
        return str(artefact_path(item)) if isinstance(item, str) and is_run_folder(item) else item

    real, sets = result(tree["real"]), tree["sets"]
    if isinstance(sets, str | list):
        sets = named_sets([result(item) for item in ([sets] if isinstance(sets, str) else sets)], real)
    elif isinstance(sets, dict):
        sets = {name: result(item) for name, item in sets.items()}
    return {**tree, "real": real, "sets": sets}


def _written(name: str, text: str) -> object:
    """A part as it stands on the command line: the name of a file, or YAML."""
    if Path(text).suffix in CONFIGURATIONS:
        return read(text)
    try:
        return parse_value(text)
    except ValueError as error:
        raise InvalidInput(f"'--{name}' cannot be read as YAML: {error}") from None
