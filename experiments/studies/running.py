"""Running the study: sets, then networks, then discrepancies; whatever the folder holds already is not computed again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.config import Tree, dump
from experiments.device import chosen_device
from experiments.evaluate import TrainingSet, evaluate_each, held_out
from experiments.report import Report, save
from experiments.report.files import save_png
from experiments.report.progress import Shown, silent
from experiments.studies.findings import Findings, Pair, found
from experiments.studies.folder import StudyFolder
from experiments.studies.measuring import measured
from experiments.studies.prediction import Prediction
from experiments.studies.prediction_report import ROWS, prediction_report
from experiments.studies.recipes import Task
from experiments.studies.targets import CleanAccuracy
from experiments.studies.views import embedded
from objectives.data.labelled import LabelledData
from objectives.engine.compile import WORTHWHILE_SECONDS, Policy, eager_seconds
from objectives.engine.runtime import Runtime
from objectives.rng import rng
from objectives.synthetic.artefact import SyntheticSet

__all__ = ["FREE", "GROWING", "PredictionResult", "run_prediction"]

GROWING = ("per_class", "sets", "views", "by_class", "whole", "gradients")
"""What may get further entries in a folder that holds results already."""

FREE = ("reference", "resamples", "confidence", "device", "compile")
"""What may change: the report, and where it is computed."""


@dataclass(frozen=True, kw_only=True)
class PredictionResult:
    """What the study found, and the folder where all of it lies."""

    findings: Findings
    folder: StudyFolder

    @property
    def files(self) -> tuple[Path, ...]:
        """The reports that were written."""
        folder = self.folder
        return folder.report, folder.table, folder.summary, folder.dots, folder.scatter

    def report(self, rows: int = ROWS) -> Report:
        """The tables and the pictures, to be shown or saved, with the best ``rows`` of each table; 0 for all."""
        return prediction_report(self.findings, rows)


def run_prediction(study: Prediction, out: str | Path, *, progress: Shown = silent) -> PredictionResult:
    """Make the sets of a study, train networks on each, and compute every discrepancy in every view; what its folder holds
    already is read and not computed again. The report is written into the folder: JSON, CSV, HTML and two pictures.

        study = build(Prediction, prediction_tree(data="digits", per_class=[1]))
        result = run_prediction(study, "runs/predict-digits")
        result.findings.sizes[0].rows[0].spearman      # of the discrepancy that predicts best

    Args:
        study: what is to be done.
        out: the folder; it is made if it is not there.
        progress: how progress is shown; not at all by default.

    Raises:
        InvalidInput: if the folder is in use, or holds a study with another configuration.
    """
    folder = StudyFolder(Path(out))
    with folder.locked():
        folder.adopt(kept(study), GROWING, FREE)
        running = _Running(study, folder, progress)
        running.make_sets()
        lines = running.train_networks()
        values = running.measure()
        result = PredictionResult(findings=running.described(lines, values), folder=folder)
    report = result.report()
    for path in (folder.report, folder.table, folder.summary):
        save(report, path)
    for picture, path in zip(report.pictures, (folder.dots, folder.scatter), strict=True):
        save_png(picture.png, path)
    return result


def kept(study: Prediction) -> Tree:
    """The configuration that a folder keeps, without the default target, so that older folders can be continued."""
    tree = dump(study)
    return {name: value for name, value in tree.items() if name != "target" or study.target != CleanAccuracy()}


class _Running:
    """The stages of a study; each looks at what the folder holds, and the data are read only if something is missing."""

    def __init__(self, study: Prediction, folder: StudyFolder, shown: Shown) -> None:
        self.study, self.folder, self.shown = study, folder, shown
        self.device = chosen_device(study.device)
        self._data: LabelledData | None = None

    @property
    def data(self) -> LabelledData:
        if self._data is None:
            loaded = self.study.data.load()
            self.study.target.check(loaded)
            self._data = held_out(loaded, self.study.seed) if self.study.validation else loaded
        return self._data

    def seed(self, *names: str | int) -> int:
        """The seed of a part of the study; parts that are added leave those of the others as they were."""
        return rng(self.study.seed, "study", *names).initial_seed()

    def make_sets(self) -> None:
        """Every run of a recipe of which a set is missing."""
        study, todo = self.study, []
        for size in study.per_class:
            for family, recipe in study.sets:
                for run, names in enumerate(recipe.runs):
                    keys = [f"{size}/{family}/{name}" for name in names]
                    if not all(self.folder.set_file(key).exists() for key in keys):
                        todo.append((size, family, recipe, run, keys))
        if not todo:
            return
        with self.shown("making sets", len(todo)) as advance:
            for done, (size, family, recipe, run, keys) in enumerate(todo):
                advance(done, f"{size}/{family}")
                task = Task(self.data.train, size, self.seed("sets", size, family, run), self.device, study.compile)
                for key, made in zip(keys, recipe.make(run, task), strict=True):
                    self.folder.set_file(key).parent.mkdir(parents=True, exist_ok=True)
                    made.save(self.folder.set_file(key))
            advance(len(todo), "")

    def train_networks(self) -> dict[str, dict[str, Any]]:
        """What was measured of the networks trained on each set."""
        study = self.study
        known = {line["set"]: line for line in self.folder.accuracies.read()}
        todo = [key for key in study.keys if key not in known]
        if todo:
            policy = self._policy(todo)
            with self.shown("training networks", len(todo)) as advance:
                for done, key in enumerate(todo):
                    advance(done, key)
                    made = TrainingSet.made(self._set(key), self.data)
                    runtime = Runtime(self.seed("accuracy"), self.device, compile=policy)
                    evaluator = study.target.evaluator(self.data, study.protocol, runtime)
                    evaluation = evaluate_each(evaluator, lambda trial, made=made: made)
                    known[key] = {"set": key, **study.target.line(evaluation, self.data)}
                    self.folder.accuracies.append(known[key])
                advance(len(todo), "")
        return {key: known[key] for key in study.keys}

    def _policy(self, todo: list[str]) -> Policy:
        """Compilation pays for all the sets together, if not for a single one; torch keeps what is compiled."""
        study, protocol, data = self.study, self.study.protocol, self.data
        tests = 0 if data.test is None else len(data.test)
        passes = sum(protocol.passes(int(key.split("/")[0]) * data.count, tests) for key in todo)
        work = protocol.network.multiplications(data.shape, data.count) * passes * protocol.networks
        worthwhile = eager_seconds(work, self.device) >= WORTHWHILE_SECONDS
        return "always" if study.compile == "auto" and worthwhile else study.compile

    def measure(self) -> dict[Pair, list[dict[str, Any]]]:
        """The lines of every discrepancy in every view; several of one pair hold different sets."""
        study = self.study
        known: dict[Pair, list[dict[str, Any]]] = {pair: [] for pair in study.pairs}
        for line in self.folder.values.read():
            if (line["view"], line["discrepancy"]) in known:
                known[line["view"], line["discrepancy"]].append(line)
        todo = {pair: [k for k in study.keys if all(k not in line["values"] for line in known[pair])] for pair in known}
        todo = {pair: keys for pair, keys in todo.items() if keys}
        if not todo:
            return known
        with self.shown("comparing sets", len(todo)) as advance:
            done = 0
            for view_name, view in study.views:
                names = {name: keys for (owner, name), keys in todo.items() if owner == view_name}
                if not names:
                    continue
                advance(done, f"embedding in {view_name}")
                draws = embedded(
                    view,
                    self.data,
                    self.data.train.class_batch(rng(study.seed, "study", "real"), study.real),
                    {key: self._set(key) for key in study.keys if any(key in keys for keys in names.values())},
                    seed=self.seed("view", view_name),
                    device=self.device,
                    policy=study.compile,
                )
                for name, keys in names.items():
                    advance(done, f"{name} in {view_name}")
                    part, level = study.discrepancies[name]
                    seed = self.seed("discrepancy", view_name, name)
                    result = measured(part, draws, level, names=keys, seed=seed)
                    line = {"view": view_name, "discrepancy": name, **vars(result)}
                    known[view_name, name].append(line)
                    self.folder.values.append(line)
                    done += 1
            advance(done, "")
        return known

    def described(self, measured: dict[str, dict[str, Any]], values: dict[Pair, list[dict[str, Any]]]) -> Findings:
        """The report, on what all the stages left."""
        study, lines = self.study, self.folder.accuracies.read()
        clean = {key: study.target.clean(line) for key, line in measured.items()}
        reference = study.reference and (study.reference.view, study.reference.discrepancy)
        return found(
            {key: study.target.values(line) for key, line in measured.items()},
            values,
            clean={key: own for key, own in clean.items() if own is not None},
            reference=reference,
            resamples=study.resamples,
            confidence=study.confidence,
            seed=study.seed,
            about={
                "data": study.data_name,
                "part": "validation" if study.validation else "test",
                **study.target.described(lines),
                "real": study.real,
                "protocol": study.protocol.title,
                "protocol_hash": study.protocol.hash,
                "seed": study.seed,
                "training_seconds": sum(line["seconds"] for line in lines),
            },
        )

    def _set(self, key: str) -> SyntheticSet:
        return SyntheticSet.load(self.folder.set_file(key))
