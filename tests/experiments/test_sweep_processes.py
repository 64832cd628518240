"""The process of a cell: how it is asked, watched and stopped, and what happens when the sweep itself is killed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import filelock
import pytest
import torch
from sweeping import TINY, finished, in_process, rows_in, template, written

from experiments.cli import main
from experiments.config import build, dump
from experiments.folder import RunFolder
from experiments.sweeps.cell import Job
from experiments.sweeps.cells import cells_of
from experiments.sweeps.folder import SweepFolder
from experiments.sweeps.running import Child, job_of
from experiments.sweeps.sweep import Sweep

__all__ = ["finished", "in_process", "template"]

CONDENSE = [sys.executable, "-c", "import sys; from experiments.cli import main; sys.exit(main())"]


def test_killed_in_the_middle_of_a_run(tmp_path: Path, in_process: None):
    """The sweep is killed, its child stops by itself after the step under way, and the run goes on from there."""
    slow = {"dm": {"set": ["solver.steps=60", "context.batch=4"]}}
    file, out = written(tmp_path / "tiny.yaml", methods=slow, per_class=[1], controls=[]), tmp_path / "out"
    threads = str(torch.get_num_threads())
    quiet = ["--quiet", "--threads", threads]
    process = subprocess.Popen([*CONDENSE, "sweep", file, "--out", str(out), *quiet])
    folder = RunFolder(out / "cells/digits/1/dm/0")
    _wait(lambda: folder.config.exists() or process.poll() is not None)
    time.sleep(0.1)
    process.kill()
    process.wait()
    with filelock.FileLock(folder.path / ".lock", timeout=120):  # until the child has let it go
        pass
    stopped = torch.load(folder.checkpoint, weights_only=True)["state"]["step"]
    assert not folder.result.exists(), "the test's run was over too soon"
    assert 0 < stopped < 60
    before = folder.metrics.read_text().splitlines()
    assert main(["sweep", "--out", str(out), "--resume", "--quiet"]) == 0
    measured = folder.metrics.read_text().splitlines()
    assert measured[: len(before)] == before
    assert [json.loads(line)["step"] for line in measured] == [*range(0, 60, 10), 59]
    assert rows_in(out)["digits/1/dm"]["seconds"] > json.loads(before[-1])["seconds"]


def _wait(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


def child(*lines: str) -> Child:
    start = "import json, os, signal, sys, time; asked = json.loads(sys.stdin.readline())"
    return Child(command=(sys.executable, "-c", "\n".join([start, *lines])), threads=3, imports=("mine.py",))


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return job_of(cells_of(build(Sweep, TINY))[0], SweepFolder(tmp_path))


def test_a_child_gets_the_job_and_tells_how_far_it_is(tmp_path: Path, job: Job):
    told: list[tuple[str, float, str]] = []
    worker = child(
        "assert asked['threads'] == 3 and asked['imports'] == ['mine.py']",
        "print(json.dumps({'stage': 'condensing', 'share': 0.5, 'note': asked['job']['folder']}))",
        "print('a warning', file=sys.stderr)",
        "print(json.dumps({'end': 'done', 'reason': ''}))",
    )
    assert worker(job, lambda *what: told.append(what), tmp_path / "log.txt") is None
    assert told == [("condensing", 0.5, job.folder)]
    assert (tmp_path / "log.txt").read_text() == "a warning\n"
    assert build(Job, dump(job)) == job


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["print(json.dumps({'end': 'failed', 'reason': 'term x became nan'}))"], "term x became nan"),
        (["os.kill(os.getpid(), signal.SIGKILL)"], "its process was ended by SIGKILL; memory may have run out"),
        (["print('Segmentation something', file=sys.stderr)", "sys.exit(3)"], "with status 3: Segmentation something"),
    ],
    ids=["failed", "killed", "died"],
)
def test_why_a_child_failed(tmp_path: Path, job: Job, lines: list[str], reason: str):
    said = child(*lines)(job, lambda *_: None, tmp_path / "log.txt")
    assert said is not None
    assert reason in said


def test_ctrl_c_asks_the_child_to_stop_and_waits_for_it(tmp_path: Path, job: Job):
    stopped = tmp_path / "stopped"
    worker = child(
        f"signal.signal(signal.SIGTERM, lambda *_: (open({str(stopped)!r}, 'w').close(), sys.exit(0)))",
        "print(json.dumps({'stage': 'condensing', 'share': 0, 'note': str(os.getpid())}), flush=True)",
        "time.sleep(60)",
    )
    pids: list[int] = []

    def report(stage: str, share: float, note: str) -> None:
        pids.append(int(note))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        worker(job, report, tmp_path / "log.txt")
    assert stopped.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)
