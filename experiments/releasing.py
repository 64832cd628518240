"""The release of a private run: where its ledger is, and that it is made once."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from discrepancy.errors import InvalidInput
from discrepancy.parts import user_path
from experiments.data.base import Source
from experiments.experiment import Experiment
from objectives.data.released import Released
from objectives.privacy.budget import Privacy
from objectives.privacy.curator import asked, private, public_spec, rehearsed
from objectives.privacy.storing import read_release, save_release
from objectives.solvers import Problem

__all__ = ["LEDGER", "default_ledger", "released", "with_ledger"]

LEDGER = "privacy-ledger.jsonl"


def default_ledger(source: Source) -> Path:
    """Beside a file or folder that the user has named; for data with a name of their own in ``discrepancy`` in the user's data
    folder (XDG_DATA_HOME, else ~/.local/share), which is not emptied as a cache is."""
    if source.location is not None:
        return Path(source.location).parent / LEDGER
    home = user_path("XDG_DATA_HOME", os.environ.get("XDG_DATA_HOME") or "~/.local/share")
    return home / "discrepancy" / LEDGER


def with_ledger(experiment: Experiment) -> Privacy:
    """What the experiment states, with the path of its ledger."""
    privacy = experiment.privacy
    assert privacy is not None
    path = default_ledger(experiment.data) if privacy.ledger is None else user_path("ledger", privacy.ledger)
    return replace(privacy, ledger=str(path))


def released(
    experiment: Experiment,
    problem: Problem,
    file: Path,
    before: Callable[[], None],
    progress: Callable[[int, int], None] | None = None,
) -> Problem:
    """The problem with the release in the place of the data: the one in the file, or a new one. That is charged first, and kept
    in the file before it is used.

    Args:
        before: called before the file is written.
        progress: called with the examples that are summed up, and all.

    Raises:
        InvalidInput: if the file is damaged, the budget is spent, or the problem needs more than a release.
        StorageError: if the ledger or the file cannot be written.
    """
    privacy = with_ledger(experiment)
    if file.exists():
        rehearsed(problem, privacy, experiment.solver)
        kept = read_release(file, public_spec(problem.data), len(problem.data))
        if kept.about.get("asked") != asked(problem, {name for _, name, _ in kept.sums or {}}):
            raise InvalidInput(
                f"'{file}' was released for another seed, context or term, so its sums mean nothing here; restore the "
                "configuration, or start anew with --out"
            )
        return replace(problem, data=kept)

    folder = Path(str(privacy.ledger)).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(
            f"the folder '{folder}' of the ledger cannot be made ({error.strerror or error}); name another file with "
            "--set privacy.ledger=FILE"
        ) from error

    def keep(made: Released) -> None:
        before()
        save_release(made, file)

    return private(problem, privacy, experiment.solver, progress=progress, keep=keep)
