"""Teachers on the command line: how one is written, where its weights lie, and how it comes back for an evaluation."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from discrepancy.errors import InvalidInput
from discrepancy.parts import user_path
from experiments.config import Tree, read, recorded
from experiments.config.files import parse_value
from objectives.data.labelled import LabelledData
from objectives.synthetic.artefact import SyntheticSet
from objectives.synthetic.reading import metadata_of, tensors_of
from objectives.teacher import Taught, Teacher

__all__ = ["Rounds", "beside", "labelled", "teacher_of", "teacher_tree"]

Rounds = Callable[[int, int], None]
"""Called with the rounds of training that are done, and their total."""


def beside(artefact: Path) -> Path:
    """Where the weights of an artefact's teacher lie."""
    return artefact.with_suffix(".teacher.safetensors")


def teacher_tree(text: str) -> Tree:
    """A teacher as it is written on the command line: the kind of a network, YAML, a YAML file, or the weights of a teacher
    that 'condense' has left beside an artefact.

    Raises:
        InvalidInput: if it is none of these.
    """
    path = user_path("--teacher", text)
    if path.suffix == ".safetensors":
        return {**_recorded(path), "weights": [text]}
    if path.suffix in (".yaml", ".yml", ".toml"):
        return read(path)
    try:
        tree = parse_value(text)
    except ValueError as error:
        raise InvalidInput(f"'--teacher' cannot be read as YAML: {error}") from None
    if isinstance(tree, str):
        return {"network": tree}
    if not isinstance(tree, dict):
        raise InvalidInput(f"'--teacher' must be a network, YAML, or a file, got '{text}'; try --teacher convnet")
    return tree


def _recorded(path: Path) -> Tree:
    instead = (
        f"no file of a teacher; for weights of your own, name their network too: --teacher '{{network: convnet, weights: "
        f"[{path}]}}'"
    )
    _, metadata = tensors_of(path, "the weights of a teacher (FILE.teacher.safetensors)")
    config = metadata_of(path, metadata, "teacher", instead).get("config")
    if not isinstance(config, dict):
        raise InvalidInput(f"'{path}' is a safetensors file but {instead}")
    tree = {**config, "weights": []}
    recorded(Teacher, tree, path, "--teacher '{network: ..., weights: [...]}'")
    return tree


def labelled(
    synthetic: SyntheticSet,
    teacher: Teacher,
    data: LabelledData,
    *,
    seed: int,
    device: torch.device,
    on_round: Rounds | None = None,
) -> tuple[SyntheticSet, Taught]:
    """The set with the labels of a teacher, and the teacher, whose weights belong beside it."""
    started = time.perf_counter()
    taught = teacher.taught(data.train, data.test, seed=seed, device=device, on_round=on_round)
    made = taught.label(synthetic)
    about = {**made.record["teacher"], "seconds": round(time.perf_counter() - started, 2)}
    return replace(made, record={**made.record, "teacher": about}), taught


def teacher_of(
    synthetic: SyntheticSet, artefact: Path, data: LabelledData, *, device: torch.device, on_round: Rounds | None = None
) -> Taught:
    """The teacher that has labelled an artefact, for the labels of its controls: from the weights beside it where these are the
    ones, else taught again, which on another machine gives nearly the same.

    Raises:
        InvalidInput: if the artefact's teacher was given by weights that are no longer there.
    """
    about = synthetic.record["teacher"]
    weights, remedy = beside(artefact), "condense label ARTEFACT --teacher WEIGHTS.safetensors"
    given = {**about["config"], "weights": []}
    teacher = recorded(Teacher, given, artefact, remedy)
    if weights.exists():
        found = replace(teacher, weights=(str(weights),)).taught(data.train, data.test, device=device)
        if found.hash == about["hash"]:
            return found
    recorded(Teacher, about["config"], artefact, remedy)
    return teacher.taught(data.train, data.test, seed=about["seed"], device=device, on_round=on_round)
