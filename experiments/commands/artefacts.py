"""The commands that take an artefact: label, evaluate, show and export."""

import contextlib
import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from discrepancy.errors import InvalidInput
from discrepancy.parts import paths_in, user_path
from experiments import export as exporting
from experiments.config import ConfigError, build, override, read, recorded, write_yaml
from experiments.config.mistakes import suggestion
from experiments.data import Source, source_named
from experiments.device import chosen_device
from experiments.evaluate import (
    NAMES,
    LearnerEvaluator,
    NetworkEvaluator,
    by_learner,
    check_same,
    comparison,
    note_of_others,
    protocol_named,
)
from experiments.folder import RunFolder, artefact_path
from experiments.report import Report, curves, grid
from experiments.report.evaluation import evaluation_report, teacher_in_words
from experiments.report.files import made, save_png
from experiments.report.progress import shown
from experiments.report.robust import robust_report
from experiments.report.summary import artefact_report, facts_report, listing_report, text_report
from experiments.robust import RobustEvaluator, RobustProtocol
from experiments.teaching import beside, labelled, teacher_of, teacher_tree
from objectives.data.labelled import LabelledData
from objectives.engine.runtime import Runtime
from objectives.methods import available
from objectives.storage import StorageError, check_free
from objectives.synthetic.artefact import SyntheticSet
from objectives.teacher import Teacher

__all__ = ["evaluate", "export", "label", "show", "source_of"]


def label(
    artefact: str | Path,
    *,
    out: str | Path,
    teacher: str = "convnet",
    data: str | None = None,
    root: str | None = None,
    changes: Sequence[str] = (),
    seed: int = 0,
    device: str = "auto",
    force: bool = False,
    quiet: bool = False,
) -> Report:
    """Label an artefact by a teacher, into an artefact of its own, with the teacher beside it; the values are those of
    ``condense label``."""
    out = Path(out)
    check_free([out, beside(out)], force)
    if out.suffix != ".safetensors":
        raise InvalidInput(f"'--out' must be the name of an artefact, FILE.safetensors, got '{out}'")
    synthetic = SyntheticSet.load(artefact_path(artefact))
    made(out.parent)
    taught = build(Teacher, override(teacher_tree(teacher), changes, Teacher), "teacher")
    loaded = _loaded(synthetic, artefact, data, root)
    with shown("teaching", max(1, taught.number * taught.rounds), quiet) as advance:
        relabelled, weights = labelled(
            synthetic,
            taught,
            loaded,
            seed=seed,
            device=chosen_device(device),
            on_round=lambda done, total: advance(done, "rounds"),
        )
    weights.save(beside(out))
    relabelled.save(out)
    summary = {
        "artefact": str(out),
        "teacher": teacher_in_words(relabelled.record["teacher"]),
        "stored_bytes": relabelled.stored_bytes,
    }
    return facts_report(f"Labels of {out.name}", summary)


def evaluate(
    artefact: str | Path,
    *,
    protocol: str = "quick",
    changes: Sequence[str] = (),
    networks: int | None = None,
    data: str | None = None,
    root: str | None = None,
    controls: Sequence[str] = ("random", "herding"),
    labels: Literal["own", "hard"] = "own",
    validation: bool = False,
    robust: bool = False,
    eps: Sequence[float] | None = None,
    attacks: Sequence[str] | None = None,
    attacked: int | None = None,
    training: Sequence[str] | None = None,
    seed: int = 0,
    device: str = "auto",
    quiet: bool = False,
) -> Report:
    """Train networks from scratch, or the learner of the objective, on an artefact and on its controls; the values are those of
    ``condense evaluate``. ``controls`` are any of random, herding and whole.

    With ``robust`` the networks are attacked too: in balls of the radii ``eps``, by ``attacks``, on as many test examples as
    ``attacked`` says, after each way of ``training`` (natural, adversarial)."""
    lists = {"eps": eps, "attacks": attacks, "training": training}
    given: dict[str, Any] = {name: tuple(value) for name, value in lists.items() if value is not None}
    given |= {} if attacked is None else {"examples": attacked}
    if given and not robust:
        unused = next(iter(given)).replace("examples", "attacked")
        raise InvalidInput(f"'--{unused}' is a setting of a robust evaluation; add --robust")
    path = artefact_path(artefact)
    synthetic = SyntheticSet.load(path)
    if labels == "hard":
        synthetic = synthetic.hardened()
    if robust and protocol in NAMES:
        raise InvalidInput("a robust evaluation attacks networks; name a protocol that trains them, such as quick")
    if protocol in NAMES:
        own = by_learner(changes, networks)
        evaluator_of = functools.partial(LearnerEvaluator, synthetic, protocol=own)
    else:
        evaluator_of = functools.partial(NetworkEvaluator, protocol=protocol_named(protocol, changes, networks))
    loaded = _loaded(synthetic, artefact, data, root)
    controls = [] if list(controls) == ["none"] else list(controls)
    chosen = chosen_device(device)
    with shown("evaluating (%)", 100, quiet) as advance:
        teacher = None
        if synthetic.labelling.kind == "teacher" and controls:
            teacher = teacher_of(
                synthetic,
                path,
                loaded,
                device=chosen,
                on_round=lambda done, total: advance(0, f"teacher {done}/{total}"),
            )
        options = {"data": loaded, "runtime": Runtime(seed, chosen), "validation": validation, "teacher": teacher}
        suite, evaluators = None, {"": evaluator_of(**options)}
        if robust:
            asked = RobustProtocol(**given)
            suite = asked.suite(loaded)
            ways = asked.protocols(protocol_named(protocol, changes, networks), suite)
            evaluators = {way: RobustEvaluator(protocol=own, suite=suite, **options) for way, own in ways.items()}
        note, found = note_of_others(synthetic, loaded), {}
        for place, (way, evaluator) in enumerate(evaluators.items()):
            compared = comparison(
                synthetic,
                evaluator,
                controls=controls,
                on_progress=lambda done, what, place=place: advance(int(100 * (place + done) / len(evaluators)), what),
            )
            found[way] = replace(compared, notes=() if note is None else (note,))
    drawn = grid.picture(synthetic)
    return evaluation_report(found[""], drawn) if suite is None else robust_report(found, suite, drawn)


def _loaded(synthetic: SyntheticSet, artefact: str | Path, data: str | None, root: str | None) -> LabelledData:
    """The data of :func:`source_of`; where none are named, they must be those that the artefact was made from."""
    loaded = source_of(synthetic, artefact, data, root).load()
    if data is None:
        check_same(synthetic, loaded, str(artefact))
    return loaded


def source_of(
    synthetic: SyntheticSet, artefact: str | Path, data: str | None = None, root: str | None = None
) -> Source:
    """The data that are named, or else those that an artefact was made from, at ``root`` if that is given.

    Where ``data`` are the very file or folder that the artefact was made from, they are taken as it took them: with its
    settings, and with the same part held out.

    Raises:
        InvalidInput: if the artefact does not say what it was made from, or names files: these are read only where the user
            names them.
    """
    source, where = synthetic.record.get("config", {}).get("data"), synthetic.record.get("data_path")
    if isinstance(where, str):
        source = _changed(source, "path", where)
    if data is not None:
        named = source_named(data, root)
        return _as_recorded(source, named) or named
    if source is None:
        raise InvalidInput(f"'{artefact}' does not say which data it was made from; name them with --data")
    placeless = _changed(source, "root", None)
    if root is None:
        return recorded(Source, source, artefact, "--data {path}" if placeless == source else "--root {path}")
    recorded(Source, placeless, artefact, "--data {path}")
    return build(Source, _changed(source, "root", root))


def _as_recorded(tree: Any, named: Source) -> Source | None:
    """The source that an artefact was made from, if all that it names is what the user names too."""
    try:
        found = build(Source, tree)
    except ConfigError:
        return None
    theirs, own = ([user_path("data", path).resolve() for path in paths_in(item)] for item in (found, named))
    return found if own and theirs == own else None


def _changed(source: Any, field: str, value: str | None) -> Any:
    """The source with this value of a field, or without the field; of one that is made of another, those of the other."""
    if not isinstance(source, dict):
        return source
    if "of" in source:
        return {**source, "of": _changed(source.get("of"), field, value)}
    kept = {name: own for name, own in source.items() if name != field}
    return kept if value is None else {**kept, field: value}


def show(what: str, *, picture: bool = True, force: bool = False) -> Report:
    """A method as YAML that ``run`` accepts; or the facts of an artefact, and a ``picture`` of it, written beside it unless a
    file of that name is there already, or nothing can be written there. With ``force`` the picture is written anew."""
    files = available()
    if what in files:
        tree = read(files[what])
        return listing_report(what, write_yaml(tree), tree)
    if not Path(what).exists():
        raise InvalidInput(
            f"'{what}' is neither a method nor a file{suggestion(what, files)} (methods: {', '.join(files)})"
        )
    path = artefact_path(what)
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
        facts["labels"] = f"of a teacher: {teacher_in_words(synthetic.record['teacher'])}"
    data = {**facts, "record": dict(synthetic.record)}
    file = path.with_suffix(".png")
    drawn = grid.picture(synthetic)
    if picture and drawn is not None:
        if force or not file.exists():
            with contextlib.suppress(StorageError):  # a folder that is not the reader's own
                save_png(drawn.png, file)
        if file.exists():
            facts["picture"] = str(file)
    run_folder = RunFolder(path.parent)
    pictures = [drawn, curves.picture(run_folder.metrics) if path == run_folder.result else None]
    config = write_yaml(synthetic.record["config"]) if "config" in synthetic.record else ""
    return artefact_report(what, facts, data, config, [found for found in pictures if found is not None])


def export(artefact: str | Path, to: str | Path, *, force: bool = False) -> Report:
    """Write an artefact as an image folder or ``.npz``; a file that exists is overwritten with ``force`` alone."""
    to = Path(to)
    if to.suffix == ".npz":
        check_free([to], force)
    return text_report(f"Export of {artefact}", exporting.export(SyntheticSet.load(artefact_path(artefact)), to))
