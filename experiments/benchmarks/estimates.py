"""Estimates of a dry run beside the memory and seconds that the run takes, each method in a process of its own.

    python -m experiments.benchmarks.estimates [METHOD ...] [--data digits] [--per-class 10] [--steps 30] [--set PATH=VALUE ...]

The exit status is 1 where the estimate of memory is wrong by more than a factor of 1.5 and by more than 64 MiB.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from experiments.config import build, dump
from experiments.data import source_named
from experiments.experiment import Experiment, configured
from experiments.folder import RunFolder
from experiments.method import method_tree
from experiments.plan import planned
from experiments.run import run
from objectives.methods import available

__all__ = ["FACTOR", "SLACK", "is_near", "main"]

FACTOR, SLACK = 1.5, 64 << 20


def is_near(said: float, taken: float) -> bool:
    """Whether an estimate of memory is good enough."""
    return abs(said - taken) <= SLACK or max(said, taken) <= FACTOR * min(said, taken)


def experiment_of(
    method: str, data: str, per_class: int, steps: int | None = None, assignments: Sequence[str] = ()
) -> Experiment:
    """The packaged method on data, with at most so many steps, or rounds, where it has a number of them."""
    changes: dict[str, Any] = {
        "data": dump(source_named(data)),
        "synthetic": {"per_class": per_class, "examples": None},
    }
    made = build(Experiment, configured(method_tree(method), changes, assignments))
    for name in ("steps", "rounds"):
        if steps is not None and getattr(made.solver, name, 0) > steps:
            changes["solver"] = {name: steps}
    return build(Experiment, configured(method_tree(method), changes, assignments))


def measured(method: str, data: str, per_class: int, steps: int, assignments: Sequence[str]) -> dict[str, float]:
    """The estimate and the measurement for one method, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        # What is imported, and what torch sets up once, is not memory of the run.
        run(experiment_of("random", "digits", 1), RunFolder(Path(folder) / "random"))
        run(experiment_of("dm", "digits", 1, steps=1), RunFolder(Path(folder) / "dm"))
        experiment = experiment_of(method, data, per_class, steps, assignments)
        plan = planned(experiment)
        start = time.process_time()
        outcome = run(experiment, RunFolder(Path(folder) / "run"))
        seconds = (time.process_time() - start) / torch.get_num_threads()
    return {
        "said_bytes": plan.memory_bytes,
        "taken_bytes": outcome.peak_bytes,
        "said_seconds": plan.seconds,
        "taken_seconds": seconds,
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", metavar="METHOD")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--per-class", type=int, default=10)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="a change of the methods")
    parser.add_argument("--here", action="store_true", help="measure one method in this process")
    given = parser.parse_args(arguments)
    settings = (given.data, given.per_class, given.steps, given.set)
    if given.here:
        print(json.dumps(measured(given.methods[0], *settings)))
        return 0
    status = 0
    print(f"{'method':16} {'said':>9} {'taken':>9} MiB {'said':>9} {'taken':>9} s")
    for method in given.methods or available():
        options = ["--data", given.data, "--per-class", str(given.per_class), "--steps", str(given.steps), "--here"]
        options += [f"--set={change}" for change in given.set]
        command = [sys.executable, "-m", "experiments.benchmarks.estimates", method, *options]
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            print(f"{method:16} failed: {done.stderr.strip().splitlines()[-1]}")
            status = 1
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        near = is_near(found["said_bytes"], found["taken_bytes"])
        status |= not near
        print(
            f"{method:16} {found['said_bytes'] / 2**20:9.1f} {found['taken_bytes'] / 2**20:9.1f} {'   ' if near else 'OFF'} "
            f"{found['said_seconds']:9.2f} {found['taken_seconds']:9.2f}",
            flush=True,
        )
    return status


if __name__ == "__main__":
    sys.exit(main())
