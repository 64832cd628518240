"""Kill runs at random moments, resume them, and compare the bits: ``python tests/kills.py --kills 1000 --seed 0``.

Each run is killed up to three times, then finished. What it leaves must be what an uninterrupted run leaves: the tensors of the
result, the metrics but for their seconds, the accuracies of a sweep; and no other file. A kill is one of four:

    SIGKILL     after a random time
    write       SIGKILL in the middle of a random write: when the file is there in part, when it is whole, or just renamed
    SIGINT      after a random time; the run says how to continue, and that command is what continues it
    SIGTERM     the same

Runs are forks of one process that has imported everything, since the import takes longer than they do.
"""

import argparse
import contextlib
import hashlib
import io
import itertools
import json
import os
import random
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from experiments import commands, sweeps  # noqa: F401  (all that a run imports, before there are forks)
from experiments.cli import main as condense
from experiments.config import build, dump
from experiments.start import _leave
from experiments.sweeps.cell import Job, perform

TINY = ["--data", "digits", "--per-class", "1", "--quiet", "--threads", "1"]
NARROW = ["--set", "context.network.width=4", "--set", "context.batch=8"]
ADAM = "solver={kind: descent, optimizer: adam, lr: 0.01, steps: 40, scheduler: exponentiallr, scheduler_options: {gamma: 0.9}}"
TEACHER = "{network: {kind: convnet, width: 4, depth: 2}, rounds: 3, training: {steps: 2}}"
SWEEP = """
title: Kills
data: [digits]
per_class: [1]
methods: {dm: {set: [solver.steps=12, context.batch=8]}, random: {shared: false}}
set: [context.network.width=4]
controls: [herding]
protocol: {name: quick, set: [network.width=4, epochs=2], networks: 1}
device: cpu
"""

KINDS = ("SIGKILL", "write", "SIGINT", "SIGTERM")


@dataclass(frozen=True)
class Recipe:
    """A command without ``--out``, and what of its folder must be as it is without interruption."""

    arguments: tuple[str, ...]
    left: Callable[[Path], Any]


def left_by_run(folder: Path) -> Any:
    """The tensors of the result, of the teacher where there is one, and the metrics."""
    files = sorted(folder.glob("*.safetensors"))
    tensors = [(file.name, hash_of(safetensors.torch.load_file(file))) for file in files]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return tensors, [(line["step"], line["loss"], line["terms"]) for line in lines]


def left_by_sweep(folder: Path) -> Any:
    """The accuracies, and the tensors of all the sets."""
    rows = json.loads((folder / "report.json").read_text())["rows"]
    sets = sorted(folder.rglob("result.safetensors"))
    return [(row["name"], row["accuracies"]) for row in rows], [hash_of(safetensors.torch.load_file(s)) for s in sets]


def hash_of(tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name}{value.dtype}{tuple(value.shape)}".encode() + value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def recipes(folder: Path) -> dict[str, Recipe]:
    """What is killed: descents with the state of an optimiser, of trained networks, of an adversary and of learned labels, a
    teacher after the run, a selection, and a sweep."""
    sweep = folder / "kills.yaml"
    sweep.write_text(SWEEP)
    few = ["--set", "context.size=2", "--set", "context.trained=3", "--set", "context.training.steps=2"]
    runs = {
        "dm with adam": ["dm", *TINY, *NARROW, "--set", ADAM],
        "dm with a teacher": ["dm", *TINY, *NARROW, "--steps", "20", "--teacher", TEACHER],
        "cafe": ["cafe", *TINY, *NARROW, "--steps", "12", "--set", "context.watch={window: 2, most: 3}"],
        "idm": ["idm", *TINY, *NARROW, "--steps", "12", "--set", "context.training.batch=8"],
        "dc": ["dc", *TINY, *NARROW, "--steps", "12"],
        "ncfm": ["ncfm", *TINY, *NARROW, "--steps", "12", *few],
        "kip": ["kip", *TINY, "--steps", "20"],
        "herding": ["herding", *TINY],
    }
    made = {name: Recipe(("run", *arguments), left_by_run) for name, arguments in runs.items()}
    return made | {"a sweep": Recipe(("sweep", str(sweep), "--quiet", "--threads", "1"), left_by_sweep)}


# --- one life of a run ------------------------------------------------------------------------------------------------------


def start(arguments: list[str], error: Path, at_write: int | None = None) -> int:
    """The number of a new process that runs the command, and kills itself at a write if that is asked for."""
    process = os.fork()
    if process:
        return process
    status = 1
    signal.signal(signal.SIGINT, _leave)  # as in a process that has just begun
    try:
        os.setsid()
        descriptor = os.open(error, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.stdout, sys.stderr = (os.fdopen(os.dup(number), "w", buffering=1) for number in (1, 2))
        sweeps.run.Child = in_this_process
        if at_write is not None:
            kill_at(at_write)
        status = condense(arguments)
    except BaseException as found:
        os.write(2, f"Traceback: {type(found).__name__}: {found}\n".encode())
    finally:
        os._exit(status)


def in_this_process(**_: Any) -> Callable[[Job, Any, Path], str | None]:
    """Does the cells of a sweep in the process of the sweep."""

    def work(job: Job, advancing: Any, log: Path) -> str | None:
        perform(build(Job, dump(job)), advancing)
        return None

    return work


def kill_at(number: int) -> None:
    """Kill this process at the moment of this number: of each write there are three, before the file is whole, when it is, and
    when it has its name."""
    moments = itertools.count()
    fsync, replace = os.fsync, Path.replace

    def moment() -> None:
        if next(moments) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def cut(descriptor: int) -> None:
        end = os.lseek(descriptor, 0, os.SEEK_END)
        if next(moments) == number:
            os.ftruncate(descriptor, max(0, end - 7))  # of a file that grows, a part of the last line
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(descriptor)
        moment()

    def renamed(self: Path, target: Path) -> Path:
        replace(self, target)
        moment()
        return target

    os.fsync, Path.replace = cut, renamed  # pyright: ignore[reportAttributeAccessIssue]


def ended(process: int, seconds: float | None = None) -> int | None:
    """The exit status of a process, or None if it has not ended by then."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while deadline is None or time.monotonic() < deadline:
        found, status = os.waitpid(process, 0 if deadline is None else os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


class Wrong(Exception):
    """What is not as it should be."""


@contextlib.contextmanager
def place(parent: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


class Killer:
    """Kills runs of one recipe."""

    def __init__(self, recipe: Recipe, parent: Path) -> None:
        self.recipe, self.parent = recipe, parent
        with place(parent) as folder:
            began = time.monotonic()
            self._finish([*recipe.arguments, "--out", str(folder / "out")], folder)
            self.seconds = time.monotonic() - began
            self.left, self.names = recipe.left(folder / "out"), names_in(folder / "out")
        self.moments = 3 * (len(self.names) + 8)

    def life(self, chance: random.Random) -> list[str]:
        """The kinds of the kills of one run.

        Raises:
            Wrong: if it says something else than a line, or leaves something else than an uninterrupted run.
        """
        kills: list[str] = []
        with place(self.parent) as folder:
            out, error = folder / "out", folder / "error"
            first = [*self.recipe.arguments, "--out", str(out)]
            every = ["--checkpoint-every", str(chance.choice([1, 3, 7]))] if first[0] == "run" else []
            command = [*first, *every]
            for _ in range(chance.choice([1, 1, 2, 3])):
                kind = chance.choice(KINDS)
                at_write = chance.randrange(self.moments) if kind == "write" else None
                error.write_text("")
                process = start(command, error, at_write)
                status = ended(process, None if kind == "write" else chance.uniform(0, 1.05) * self.seconds)
                if status is None:
                    number = signal.SIGKILL if kind == "SIGKILL" else getattr(signal, kind)
                    os.kill(process, number)
                    status = ended(process)
                said = error.read_text()
                if "Traceback" in said or len(said.splitlines()) > 1 or status not in (0, -9, -15, 130):
                    raise Wrong(f"{kind}: status {status}, {said}")
                if status == 0:
                    break
                kills.append(kind)
                advised = said.partition("continue with: condense ")[2].strip() if status == 130 else ""
                if advised:
                    command = [*shlex.split(advised), "--quiet", *every]
                else:
                    begun = (out / ("config.yaml" if first[0] == "run" else "cells.json")).exists()
                    command = [*first, *every, *(["--resume"] if begun else [])]
            if status != 0:
                self._finish(command, folder)
            if self.recipe.left(out) != self.left:
                raise Wrong(f"{', '.join(kills)}: other bits")
            if names_in(out) != self.names:
                raise Wrong(f"{', '.join(kills)}: other files, {names_in(out) ^ self.names}")
        return kills

    def _finish(self, command: list[str], folder: Path) -> None:
        status = ended(start(command, folder / "error"))
        said = (folder / "error").read_text()
        if status != 0 or said:
            raise Wrong(f"condense {shlex.join(command)}: status {status}, {said}")


def names_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def main() -> int:
    """Kill, and print what held."""
    parser = argparse.ArgumentParser(description="Kill runs at random moments, resume them, and compare the bits.")
    parser.add_argument("--kills", type=int, default=100, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--seconds", type=float, default=float("inf"), metavar="N", help="after which no run is begun")
    parser.add_argument("--only", nargs="*", metavar="RECIPE")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with contextlib.redirect_stdout(io.StringIO()):
        condense(["run", "dm", *TINY, *NARROW, "--dry-run"])  # imports what a run imports on its way
    began, chance, done, wrong = time.monotonic(), random.Random(options.seed), Counter[tuple[str, str]](), list[str]()
    with tempfile.TemporaryDirectory() as parent:
        chosen = {name: found for name, found in recipes(Path(parent)).items() if name in (options.only or [name])}
        killers: dict[str, Killer] = {}
        while done.total() < options.kills and len(wrong) < 20 and time.monotonic() - began < options.seconds:
            name = chance.choice(list(chosen))
            try:
                killer = killers.get(name) or killers.setdefault(name, Killer(chosen[name], Path(parent)))
                done.update((name, kind) for kind in killer.life(chance))
            except Wrong as found:
                wrong.append(f"{name}: {found}")
                print(wrong[-1], flush=True)
    print(f"| {'killed':18} | " + " | ".join(f"{kind:>7}" for kind in KINDS) + " |")
    print("| --- |" + " ---: |" * len(KINDS))
    for name in chosen:
        print(f"| {name:18} | " + " | ".join(f"{done[name, kind]:7}" for kind in KINDS) + " |")
    print(f"{done.total()} kills, after {done.total()} of which the same bits; {len(wrong)} runs went wrong")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
