"""What each command of ``condense`` does: build objects from what was written, call one function, print the result."""

import argparse
import difflib
import functools
import json
from dataclasses import asdict
from pathlib import Path

import torch

from discrepancy.errors import InvalidInput
from experiments import export as exporting
from experiments.compare import compare as compared
from experiments.compare import request_of
from experiments.compare.request import DEFAULT, discrepancies_of, named_sets
from experiments.config import Tree, build, dump, known, load_parts, load_plugins, override, read, write_yaml
from experiments.config.files import parse_value
from experiments.data import HeldOut, Source, source_named
from experiments.evaluate import NAMES, by_learner, comparison, comparison_by_learner, protocol_named
from experiments.experiment import Experiment, Method, chosen_device, configured, method_tree
from experiments.folder import RunFolder
from experiments.plan import planned
from experiments.report import comparison as comparison_report
from experiments.report import grid, tables
from experiments.report.progress import shown, staged
from experiments.run import run as run_experiment
from experiments.teaching import labelled, teacher_of, teacher_tree
from objectives.condense import Progress
from objectives.engine.runtime import Runtime
from objectives.methods import available
from objectives.storage import replacing
from objectives.synthetic.artefact import SyntheticSet
from objectives.teacher import Teacher

__all__ = [
    "compare",
    "evaluate",
    "export",
    "kinds",
    "label",
    "load_parts",
    "load_plugins",
    "methods",
    "run",
    "set_threads",
    "show",
    "study",
    "sweep",
]


def set_threads(count: int) -> None:
    """Let torch use so many threads."""
    if count < 1:
        raise InvalidInput(f"'--threads' must be at least 1, got {count}")
    torch.set_num_threads(count)


# --- run ----------------------------------------------------------------------------------------------------------------


def run(options: argparse.Namespace) -> None:
    """Condense, or plan it."""
    if options.checkpoint_every < 1:
        raise InvalidInput(f"'--checkpoint-every' must be at least 1 step, got {options.checkpoint_every}")
    experiment = build(Experiment, _tree(options))
    if options.dry_run:
        plan = planned(experiment)
        print(json.dumps(asdict(plan)) if options.json else tables.plan(plan))
        return
    folder = RunFolder(options.out or _default_folder(experiment))
    options.out = folder.path
    with staged(options.quiet) as stage:
        advance = stage(f"condensing with {experiment.title}", _steps(experiment))

        def on_progress(progress: Progress) -> None:
            if progress.record.step % 10 == 0 or progress.step == progress.steps:
                advance(progress.step, f"loss {progress.loss:.4g}")

        def on_round(done: int, total: int) -> None:
            nonlocal advance
            if done == 0:
                advance(_steps(experiment), "condensed")
                advance = stage("teaching", total)
            advance(done, "")

        outcome = run_experiment(
            experiment,
            folder,
            resume=options.resume,
            checkpoint_every=options.checkpoint_every,
            on_progress=on_progress,
            on_round=on_round,
        )
    summary = {
        "artefact": str(folder.result),
        "picture": str(folder.picture),
        "examples": len(outcome.synthetic),
        "stored_bytes": outcome.synthetic.stored_bytes,
        "steps": outcome.steps,
        "seconds": round(outcome.seconds, 1),
        "peak_bytes": outcome.peak_bytes,
    }
    if experiment.teacher is not None:
        summary["teacher"] = _taught(outcome.synthetic)
    print(json.dumps(summary) if options.json else tables.facts(summary))


def _taught(synthetic: SyntheticSet) -> str:
    """``convnet, right on 98.3 % of 360 test examples``."""
    about = synthetic.record["teacher"]
    several = f"{about['networks']} x " if about["networks"] > 1 else ""
    network = about["config"]["network"]["kind"]
    return f"{several}{network}, right on {100 * about['accuracy']:.1f} % of {about['on']}"


def _tree(options: argparse.Namespace) -> Tree:
    """The configuration: a method or a file, then the options, then every --set, in this order."""
    tree = _named(options)
    changes: Tree = {}
    if options.data is not None:
        changes["data"] = dump(source_named(options.data, options.root), defaults=False)
    elif options.root is not None:
        changes["data"] = {"root": options.root}
    if options.per_class is not None and options.examples is not None:
        raise InvalidInput("give --per-class or --examples, one of them")
    if options.per_class is not None:
        said = (tree.get("synthetic") or {}).keys() & {"examples"}
        changes["synthetic"] = {"per_class": options.per_class, **dict.fromkeys(said)}
    if options.examples is not None:
        changes["synthetic"] = {"examples": options.examples}
    if options.steps is not None:
        changes["solver"] = {"steps": options.steps}
    if options.teacher is not None:
        changes["teacher"] = teacher_tree(options.teacher)
    for name in ("seed", "device"):
        if getattr(options, name) is not None:
            changes[name] = getattr(options, name)
    final = configured(tree, changes, options.set, options.features)
    return final | {"data": {"kind": HeldOut.kind, "of": final.get("data")}} if options.validation else final


def _named(options: argparse.Namespace) -> Tree:
    if options.what is None:
        if options.resume and options.out is not None:
            return read(RunFolder(options.out).config)
        raise InvalidInput("name a method or a configuration file; 'condense methods' lists the methods")
    return method_tree(options.what)


def _default_folder(experiment: Experiment) -> Path:
    source = experiment.data.original
    size = experiment.synthetic.examples or experiment.synthetic.per_class
    data = getattr(source, "name", None) or getattr(source, "path", None) or source.kind
    return Path("runs") / f"{experiment.title}-{Path(str(data)).stem.lower()}-{size}"


def _steps(experiment: Experiment) -> int:
    return getattr(experiment.solver, "steps", 1)


# --- label --------------------------------------------------------------------------------------------------------------


def label(options: argparse.Namespace) -> None:
    """Label an artefact by a teacher, into an artefact of its own."""
    if options.out.exists():
        raise InvalidInput(f"'{options.out}' exists already; name another file with --out")
    if options.out.suffix != ".safetensors":
        raise InvalidInput(f"'--out' must be the name of an artefact, FILE.safetensors, got '{options.out}'")
    synthetic = SyntheticSet.load(options.artefact)
    teacher = build(Teacher, override(teacher_tree(options.teacher), options.set), "teacher")
    data = source_of(synthetic, options).load()
    with shown("teaching", max(1, teacher.number * teacher.rounds), options.quiet) as advance:
        made = labelled(
            synthetic,
            teacher,
            data,
            options.out,
            seed=options.seed,
            device=chosen_device(options.device),
            on_round=lambda done, total: advance(done, "rounds"),
        )
    summary = {"artefact": str(options.out), "teacher": _taught(made), "stored_bytes": made.stored_bytes}
    print(json.dumps(summary) if options.json else tables.facts(summary))


# --- evaluate -----------------------------------------------------------------------------------------------------------


def evaluate(options: argparse.Namespace) -> None:
    """Train networks from scratch on an artefact and on its controls, or the learner of its objective, and print the table."""
    synthetic = SyntheticSet.load(options.artefact)
    if options.protocol in NAMES:
        judge = functools.partial(comparison_by_learner, protocol=by_learner(options.set, options.networks))
    else:
        judge = functools.partial(comparison, protocol=protocol_named(options.protocol, options.set, options.networks))
    data = source_of(synthetic, options).load()
    controls = [] if options.controls == ["none"] else options.controls
    device = chosen_device(options.device)
    if options.labels == "hard":
        synthetic = synthetic.hardened()
    with shown("evaluating", 1000, options.quiet) as advance:
        teacher = None
        if synthetic.labelling.kind == "teacher" and controls:
            teacher = teacher_of(
                synthetic,
                Path(options.artefact),
                data,
                device=device,
                on_round=lambda done, total: advance(0, f"teacher {done}/{total}"),
            )
        found = judge(
            synthetic,
            data,
            controls=controls,
            teacher=teacher,
            runtime=Runtime(options.seed, device),
            validation=options.validation,
            on_progress=lambda done, note: advance(int(1000 * done), note),
        )
    print(json.dumps(found.as_dict()) if options.json else tables.evaluation(found))


def source_of(synthetic: SyntheticSet, options: argparse.Namespace) -> Source:
    if options.data is not None:
        return source_named(options.data, options.root)
    source = synthetic.record.get("config", {}).get("data")
    if source is None:
        raise InvalidInput(f"'{options.artefact}' does not say which data it was made from; name them with --data")
    return build(Source, source if options.root is None else _rooted(source, options.root))


def _rooted(source: Tree, root: str) -> Tree:
    """The source with its data at this root, that of the data of which a part is held out too."""
    if source.get("kind") == HeldOut.kind:
        return {**source, "of": _rooted(source["of"], root)}
    return {**source, "root": root}


# --- compare ------------------------------------------------------------------------------------------------------------


def compare(options: argparse.Namespace) -> None:
    """How far data sets are from a real one: a table, and the files that were asked for."""
    request = request_of(_asked(options))
    if options.out is not None:
        comparison_report.prepare(options.out)
    with shown("comparing", 1000, options.quiet) as advance:
        answer = compared(request, lambda done, note: advance(int(1000 * done), note))
    if options.csv is not None:
        with replacing(options.csv) as temporary:
            temporary.write_text(comparison_report.as_csv(answer), encoding="utf-8")
    if options.out is not None:
        comparison_report.save(answer, options.out)
    print(json.dumps(answer.as_dict()) if options.json else comparison_report.text(answer))


def _asked(options: argparse.Namespace) -> Tree:
    """The configuration: a file, then the data sets and the options, then every --set, in this order."""
    what, file = list(options.what), options.config
    if file is None and len(what) == 1 and Path(what[0]).suffix in (".yaml", ".yml", ".toml"):
        what, file = [], what[0]
    tree: Tree = {} if file is None else read(file)
    if what:
        tree["real"] = what[0]
    if what[1:]:
        tree["sets"] = named_sets(what[1:], what[0])
    if not {"real", "sets"} <= tree.keys():
        raise InvalidInput("name the real data set and at least one other: condense compare REAL SET [SET ...]")
    for name in ("networks", "by", "resamples", "independent", "seed", "device", "root", "discrepancies"):
        if getattr(options, name) is not None:
            tree[name] = getattr(options, name)
    for name in ("via", "network"):
        if getattr(options, name) is not None:
            tree[name] = _written(name, getattr(options, name))
    return override(
        {**tree, "discrepancies": discrepancies_of(tree.get("discrepancies") or list(DEFAULT))}, options.set
    )


def _written(name: str, text: str) -> object:
    """A part as it stands on the command line: the name of a file, or YAML."""
    if Path(text).suffix in (".yaml", ".yml", ".toml"):
        return read(text)
    try:
        return parse_value(text)
    except ValueError as error:
        raise InvalidInput(f"'--{name}' cannot be read as YAML: {error}") from None


# --- study --------------------------------------------------------------------------------------------------------------


def study(options: argparse.Namespace) -> None:
    """Run a study, or what is missing of it in its folder."""
    if options.study == "exact":
        from experiments.studies.exactness import run_exact

        run_exact(options)
        return
    from experiments.studies.command import run_predict  # brings scipy's statistics

    run_predict(options)


# --- sweep --------------------------------------------------------------------------------------------------------------


def sweep(options: argparse.Namespace) -> int:
    """Run a sweep, or what is missing of it in its folder."""
    from experiments.sweeps.command import run_sweep

    return run_sweep(options)


# --- show, export, methods, kinds -----------------------------------------------------------------------------------------


def show(options: argparse.Namespace) -> None:
    """A method as YAML, or the facts of an artefact beside a picture of it."""
    files = available()
    if options.what in files:
        tree = read(files[options.what])
        print(json.dumps(tree) if options.json else write_yaml(tree), end="" if not options.json else "\n")
        return
    path = Path(options.what)
    if not path.exists():
        close = difflib.get_close_matches(options.what, files, 1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise InvalidInput(f"'{options.what}' is neither a method nor a file{hint} (methods: {', '.join(files)})")
    synthetic = SyntheticSet.load(path)
    facts = {
        "examples": len(synthetic),
        "shape": "x".join(map(str, synthetic.points.shape[1:])),
        "classes": ", ".join(synthetic.classes) or "none",
        "labels": synthetic.labelling.kind,
        "stored_bytes": synthetic.stored_bytes,
        **{name: value for name, value in synthetic.record.items() if not isinstance(value, dict)},
    }
    if synthetic.labelling.kind == "teacher":
        facts["labels"] = f"of a teacher: {_taught(synthetic)}"
    if options.json:
        print(json.dumps({**facts, "record": dict(synthetic.record)}))
        return
    if synthetic.points.ndim == 4:
        picture = path.with_suffix(".png")
        grid.save(synthetic, picture)
        facts["picture"] = str(picture)
    print(tables.facts(facts))
    if "config" in synthetic.record:
        print(write_yaml(synthetic.record["config"]), end="")


def export(options: argparse.Namespace) -> None:
    """Write an artefact in a format of its own."""
    print(exporting.export(SyntheticSet.load(options.artefact), options.to))


def methods(options: argparse.Namespace) -> None:
    """The packaged methods."""
    found = [build(Method, read(file)["method"]) for file in available().values()]
    print(json.dumps([dump(method) for method in found]) if options.json else tables.methods(found))


def kinds(options: argparse.Namespace) -> None:
    """Every part that a configuration can name, by family."""
    families = known()
    if options.family is not None:
        if options.family not in families:
            close = difflib.get_close_matches(options.family, families, 1)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise InvalidInput(f"there is no family '{options.family}'{hint} (families: {', '.join(families)})")
        families = {options.family: families[options.family]}
    print(json.dumps(families) if options.json else tables.kinds(families))
