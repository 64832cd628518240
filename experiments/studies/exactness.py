"""The study of exact ridge regression in a folder: only what is missing there is computed."""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from discrepancy.errors import InvalidInput
from experiments.data import Source, source_named
from experiments.report import Report, grid, save
from experiments.report.progress import Shown, silent
from experiments.studies.exact import Noise, Row, exact, experiment_of, iterated, recovered
from experiments.studies.exact_report import exact_report
from experiments.studies.folder import StudyFolder
from objectives.data.labelled import LabelledData
from objectives.synthetic.artefact import SyntheticSet

__all__ = ["ExactResult", "run_exact"]

KIP_FEATURES = "fcnn"
"""On whose features KIP is compared, as in the paper."""


@dataclass(frozen=True, kw_only=True)
class ExactResult:
    """What the study found: a row for each synthetic set, and what noise hides of W, if that was asked for."""

    rows: tuple[Row, ...]
    noise: tuple[Noise, ...]
    folder: StudyFolder

    @property
    def files(self) -> tuple[Path, ...]:
        """The reports and the folder of the sets that were written."""
        folder = self.folder
        return folder.report, folder.markdown, folder.page, folder.sets

    def report(self) -> Report:
        """The tables, to be shown or saved."""
        return exact_report(self.rows, self.noise)


def run_exact(
    *,
    data: Sequence[str] = ("mnist", "cifar10"),
    features: Sequence[str] = ("linear", "fcnn", "rff"),
    per_class: Sequence[int] = (1, 10, 50),
    seeds: int = 1,
    precision: Literal["double", "mixed"] = "double",
    kip: float | None = None,
    noise: Sequence[float] = (),
    root: str | None = None,
    device: str = "auto",
    out: str | Path = "runs/exact",
    progress: Shown = silent,
) -> ExactResult:
    """Condense data sets for ridge regression in closed form, measure the accuracy after learning from the sets, and write the
    sets and the tables into a folder. What the folder holds already is read and not computed again.

        result = run_exact(data=["digits"], features=["linear"], per_class=[1, 10], out="runs/exact")
        result.rows[0].condensed, result.rows[0].original      # the two accuracies, in [0, 1]

    Args:
        data: data sets by name.
        features: those of the method ``ridge``, by name.
        per_class: the sizes of the sets, in examples a class.
        seeds: draws of the networks and of the random frequencies.
        precision: of the pass over the real data.
        kip: the minutes after which KIP is stopped, on the features of ``fcnn`` at each size; None leaves it out.
        noise: standard deviations of Z, with which the largest set of each is condensed again.
        root: where torchvision's data lie.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        out: the folder.
        progress: how progress is shown; not at all by default.

    Raises:
        InvalidInput: on a size, a number of seeds or minutes that is not positive, on unknown data or features, and if the
            folder holds a study of another precision or device.
    """
    if min(per_class, default=0) < 1:
        raise InvalidInput(f"'per_class' must be at least 1, got {list(per_class)}")
    if seeds < 1:
        raise InvalidInput(f"'seeds' must be at least 1, got {seeds}")
    if kip is not None and not kip > 0:
        raise InvalidInput(f"'kip' must be a number of minutes > 0, got {kip}")
    sources = {name: source_named(name, root) for name in data}
    for source, name in itertools.product(sources.values(), features):
        experiment_of(source, name, per_class[0], 0, device, precision)
    folder = StudyFolder(Path(out))
    running = _Running(sources, tuple(features), tuple(per_class), seeds, precision, kip, device, folder)
    with folder.locked():
        folder.adopt({"study": "exact", "precision": precision, "device": device}, growing=(), free=())
        rows = tuple(running.rows(progress))
        result = ExactResult(rows=rows, noise=tuple(running.noise(noise)), folder=folder)
    report = result.report()
    for path in (folder.report, folder.markdown, folder.page):
        save(report, path)
    return result


@dataclass(frozen=True)
class _Running:
    """The settings of a study that is computed."""

    sources: dict[str, Source]
    features: tuple[str, ...]
    per_class: tuple[int, ...]
    seeds: int
    precision: str
    kip: float | None
    device: str
    folder: StudyFolder

    def rows(self, progress: Shown) -> Iterator[Row]:
        """Every row: read where it is there, else computed and written."""
        lines = self.folder.rows
        known = {_key(row): row for row in (Row(**line) for line in lines.read())}
        cells = list(itertools.product(self.sources, self.features, range(self.seeds)))
        with progress("exact", len(cells)) as advance:
            for number, (name, features, seed) in enumerate(cells):
                advance(number, f"{name} {features}")
                source = self.sources[name]
                data = source.load()
                wanted = [(data.name, features, "ridge", size, seed, None) for size in self.per_class]
                if any(key not in known for key in wanted):
                    settings = {"seed": seed, "device": self.device, "precision": self.precision}
                    keep = functools.partial(self._keep, name, features, seed)
                    for row in exact(source, data, features, self.per_class, **settings, keep=keep):
                        known[_key(row)] = row
                        lines.append(row.as_dict())
                yield from (known[key] for key in wanted)
                if self.kip is None or features != KIP_FEATURES:
                    continue
                for size in self.per_class:
                    key = (data.name, features, "kip", size, seed, self.kip)
                    if key not in known:
                        note = functools.partial(advance, number)
                        known[key] = self._iterated(source, data, features, size, seed, self.kip, note)
                        lines.append(known[key].as_dict())
                    yield known[key]
            advance(len(cells), "")

    def _keep(self, name: str, features: str, seed: int, size: int, synthetic: SyntheticSet) -> None:
        path = self._set_file(name, features, seed, size)
        path.parent.mkdir(parents=True, exist_ok=True)
        synthetic.save(path)
        grid.save(synthetic, path.with_suffix(".png"))

    def _iterated(
        self,
        source: Source,
        data: LabelledData,
        features: str,
        size: int,
        seed: int,
        minutes: float,
        note: Callable[[str], None],
    ) -> Row:
        def on_step(step: int, spent: float) -> None:
            note(f"{data.name} {features}, kip at {size} a class: step {step}, {spent:.1f} of at most {minutes:g} min")

        return iterated(source, data, features, size, minutes, seed=seed, device=self.device, on_step=on_step)

    def noise(self, deviations: Sequence[float]) -> Iterator[Noise]:
        """Of the largest sets, for each features: those of one example a class have no noise."""
        if not deviations:
            return
        for (name, source), features in itertools.product(self.sources.items(), self.features):
            synthetic = SyntheticSet.load(self._set_file(name, features, 0, max(self.per_class)))
            yield from recovered(source, source.load(), features, synthetic, deviations, device=self.device)

    def _set_file(self, name: str, features: str, seed: int, size: int) -> Path:
        return self.folder.set_file(f"{name.lower()}-{features}-{seed}-{size}")


def _key(row: Row) -> tuple[str, str, str, int, int, float | None]:
    return row.data, row.features, row.method, row.per_class, row.seed, row.minutes
