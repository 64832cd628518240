"""Sweeps: every cell once, whatever happens in between; tables that say what the run folders say; mistakes all at once."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
import torch

from discrepancy.errors import DiscrepancyError
from experiments.cli import main
from experiments.config import ConfigError, build, dump, read, write_yaml
from experiments.evaluate import PROTOCOLS
from experiments.folder import RunFolder
from experiments.sweeps import command
from experiments.sweeps.cell import Job, Report, perform
from experiments.sweeps.command import available
from experiments.sweeps.folder import SweepFolder
from experiments.sweeps.running import Child, job_of
from experiments.sweeps.sweep import Sweep
from objectives.artefact import SyntheticSet
from objectives.methods import available as methods

CONDENSE = [sys.executable, "-c", "import sys; from experiments.cli import main; sys.exit(main())"]

TINY: dict[str, Any] = {
    "title": "Tiny",
    "data": ["digits"],
    "per_class": [1, 2],
    "methods": {
        "dm": {"set": ["solver.steps=4", "context.batch=4"], "at": {"2": ["solver.steps=5"]}},
        "random": {"shared": False},
    },
    "set": ["context.network.width=4"],
    "controls": ["whole"],
    "protocol": {"name": "quick", "set": ["network.width=4", "epochs=2"], "networks": 2},
    "device": "cpu",
}


def here(imports: tuple[str, ...] = (), threads: int | None = None) -> Callable[[Job, Report, Path], str | None]:
    """Does a job in this process: the same code without the seconds that a process takes to start."""

    def work(job: Job, report: Report, log: Path) -> str | None:
        try:
            perform(build(Job, dump(job)), report)
        except DiscrepancyError as error:
            return str(error)
        return None

    return work


@pytest.fixture(autouse=True)
def _rough_estimates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.plan.TRYING_SECONDS", 0.0)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "Child", here)


def written(path: Path, **changes: Any) -> str:
    path.write_text(write_yaml({**TINY, **changes}))
    return str(path)


def sweep(file: str, out: Path, *options: str) -> int:
    return main(["sweep", file, "--out", str(out), "--quiet", *options])


def rows_in(out: Path) -> dict[str, dict[str, Any]]:
    """The rows of the report by DATA/SIZE/NAME[/NETWORK]."""
    rows = json.loads((out / "report.json").read_text())["rows"]
    return {"/".join(filter(None, (r["data"], str(r["per_class"]), r["name"], r["network"]))): r for r in rows}


def files_in(out: Path) -> dict[str, tuple[int, bytes]]:
    """When every file of the cells was written, and what it holds."""
    found = (path for path in (out / "cells").rglob("*") if path.is_file() and path.name not in (".lock", "log.txt"))
    return {str(path.relative_to(out)): (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "Child", here)
        assert sweep(written(folder / "tiny.yaml"), folder / "out") == 0
    return folder


@pytest.fixture
def finished(template: Path, tmp_path: Path, in_process: None) -> Path:
    """A folder in which everything is done; its file lies beside it."""
    return Path(shutil.copytree(template, tmp_path / "finished")) / "out"


def lines_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


# --- the whole pass ---------------------------------------------------------------------------------------------------------


def test_the_table_says_what_the_run_folders_say(finished: Path, capsys: pytest.CaptureFixture[str]):
    rows = rows_in(finished)
    assert list(rows) == [f"digits/{size}/{name}" for size in (1, 2) for name in ("dm", "random", "whole")]
    for key, row in rows.items():
        folder = finished / "cells" / key / "0"
        (judged,) = json.loads((folder / "evaluation.json").read_text())["rows"].values()
        accuracies = [100 * value for value in judged["accuracies"]]
        assert row["accuracies"] == pytest.approx(accuracies)
        assert (row["mean"], row["std"], row["n"]) == (
            pytest.approx(fmean(accuracies)),
            pytest.approx(stdev(accuracies)),
            2,
        )
        assert row["protocol_hash"] == judged["protocol_hash"]
        assert row["protocol"] == "quick (changed)"
        assert row["stored_bytes"] == judged["stored_bytes"]
        if row["control"]:
            assert not RunFolder(folder).result.exists()
            assert row["seconds"] is None
            continue
        made = SyntheticSet.load(RunFolder(folder).result)
        assert row["seconds"] == made.record["seconds"]
        assert row["peak_bytes"] == made.record["memory"]["peak_bytes"]
        assert row["steps"] == made.record["steps"]
        assert row["stored_bytes"] == made.stored_bytes
        assert row["examples"] == len(made) == 10 * row["per_class"]
        assert made.record["config"]["synthetic"]["per_class"] == row["per_class"]
    assert rows["digits/1/dm"]["steps"] == 4
    assert rows["digits/2/dm"]["steps"] == 5
    assert rows["digits/1/whole"]["examples"] == 1437


def test_every_form_of_the_table_has_the_same_rows(finished: Path, capsys: pytest.CaptureFixture[str]):
    capsys.readouterr()
    assert main(["sweep", "--out", str(finished), "--report-only", "--quiet"]) == 0
    said = capsys.readouterr().out
    markdown = (finished / "table.md").read_text()
    lines = lines_of(finished / "table.csv")
    assert len(lines) == 6
    for row in rows_in(finished).values():
        assert f"{row['mean']:.1f}" in said
        assert f"| {row['name']}{' (control)' if row['control'] else ''} | {row['mean']:.1f} |" in markdown
    assert [float(line["mean"]) for line in lines] == [row["mean"] for row in rows_in(finished).values()]
    assert "digits, 2 a class" in said
    assert "2 epochs without augmentation" in said
    assert f"computed with torch {torch.__version__} on cpu" in said
    assert "# Tiny" in markdown
    assert main(["sweep", "--out", str(finished), "--report-only", "--quiet", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 6


def test_several_sets_of_a_method_are_one_row(tmp_path: Path, in_process: None):
    methods = {"dm": {"set": ["solver.steps=4", "context.batch=4"]}}
    file = written(tmp_path / "tiny.yaml", sets=2, per_class=[1], controls=[], methods=methods)
    assert sweep(file, tmp_path / "out") == 0
    row = rows_in(tmp_path / "out")["digits/1/dm"]
    assert (row["n"], row["sets"], row["done"]) == (4, 2, 2)
    sets = [SyntheticSet.load(tmp_path / f"out/cells/digits/1/dm/{number}/result.safetensors") for number in (0, 1)]
    assert [made.record["seed"] for made in sets] == [0, 1]
    assert not torch.equal(sets[0].points, sets[1].points)
    assert row["seconds"] == pytest.approx(fmean(made.record["seconds"] for made in sets))


def test_under_other_networks(tmp_path: Path, in_process: None, capsys: pytest.CaptureFixture[str]):
    cross = {"networks": {"mlp": {"kind": "mlp", "width": 4}}, "set": ["epochs=3"], "per_class": [1]}
    file, out = written(tmp_path / "tiny.yaml", cross=cross), tmp_path / "out"
    assert sweep(file, out, "--only", "dm") == 0
    assert "other networks" not in capsys.readouterr().out
    before = files_in(out)
    assert sweep(file, out, "--resume", "--portions", "cross") == 1  # random has not been condensed
    row = rows_in(out)["digits/1/dm/mlp"]
    judged = json.loads((out / "cells/digits/1/dm/0/evaluation-mlp.json").read_text())
    assert judged["protocol"]["network"]["kind"] == "mlp"
    assert judged["rows"]["condensed"]["epochs"] == 3
    assert row["accuracies"] == pytest.approx([100 * value for value in judged["rows"]["condensed"]["accuracies"]])
    assert rows_in(out)["digits/1/random/mlp"]["failures"] == ["the set of digits/1/random/0 has not been condensed"]
    said = capsys.readouterr().out
    assert "under other networks" in said
    assert "random on mlp failed" in said
    assert before.items() <= files_in(out).items()
    assert [line["network"] for line in lines_of(out / "cross.csv")] == ["mlp", "mlp"]


# --- portions, names, plans -------------------------------------------------------------------------------------------------


def keys(capsys: pytest.CaptureFixture[str], file: str, *options: str) -> list[str]:
    capsys.readouterr()
    assert main(["sweep", file, "--dry-run", "--json", "--quiet", *options]) == 0
    return [cell["cell"] for cell in json.loads(capsys.readouterr().out)["cells"]]


def test_optional_portions_and_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    portions = {"first": {"per_class": [2]}, "rest": {"methods": ["dm"], "controls": [], "optional": True}}
    cross = {"networks": {"mlp": "mlp"}, "controls": []}
    file = written(tmp_path / "tiny.yaml", portions=portions, cross=cross, per_class=[1])
    first = ["digits/2/dm/0", "digits/2/random/0", "digits/2/whole/0"]
    crossed = ["digits/2/dm/0/mlp", "digits/2/random/0/mlp", "digits/1/dm/0/mlp"]
    assert keys(capsys, file) == first
    assert keys(capsys, file, "--portions", "rest") == ["digits/1/dm/0"]
    assert keys(capsys, file, "--all") == [*first, "digits/1/dm/0", *crossed]
    assert keys(capsys, file, "--all", "--only", "dm") == [
        "digits/2/dm/0",
        "digits/1/dm/0",
        "digits/2/dm/0/mlp",
        "digits/1/dm/0/mlp",
    ]
    assert keys(capsys, file, "--only", "digits/2/r*") == ["digits/2/random/0"]
    assert main(["sweep", file, "--dry-run", "--only", "nothing", "--quiet"]) == 2
    assert "'--only' has 'nothing'" in capsys.readouterr().err
    assert main(["sweep", file, "--dry-run", "--portions", "second", "--quiet"]) == 2
    assert "none of first, rest, cross" in capsys.readouterr().err


def test_a_dry_run_says_how_long_and_touches_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    file = written(tmp_path / "tiny.yaml")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["sweep", file, "--dry-run", "--quiet", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["seconds"] == pytest.approx(sum(cell["condensing"] + cell["judging"] for cell in plan["cells"]))
    for cell in plan["cells"]:
        assert cell["judging"] > 0
        assert (cell["condensing"] > 0) == ("dm" in cell["cell"])
        assert cell["state"] == "open"
    assert main(["sweep", file, "--dry-run", "--quiet"]) == 0
    assert "6 cells, about" in capsys.readouterr().out
    assert list((tmp_path / "here").iterdir()) == []


def test_a_dry_run_of_a_folder_says_what_is_done(finished: Path, capsys: pytest.CaptureFixture[str]):
    (finished / "cells/digits/1/random/0/evaluation.json").unlink()
    (finished / "cells/digits/2/whole/0/evaluation.json").unlink()
    capsys.readouterr()
    file = str(finished.parent / "tiny.yaml")
    assert main(["sweep", file, "--out", str(finished), "--dry-run", "--quiet", "--json"]) == 0
    states = {cell["cell"]: cell["state"] for cell in json.loads(capsys.readouterr().out)["cells"]}
    assert states["digits/1/random/0"] == "begun"
    assert states["digits/2/whole/0"] == "open"
    assert states["digits/1/dm/0"] == "done"


# --- resuming ---------------------------------------------------------------------------------------------------------------


def test_a_folder_is_not_overwritten_and_a_finished_one_not_touched(finished: Path, capsys: pytest.CaptureFixture[str]):
    file, before = str(finished.parent / "tiny.yaml"), files_in(finished)
    assert sweep(file, finished) == 2
    assert "holds a sweep already; continue it with --resume" in capsys.readouterr().err
    assert main(["sweep", "--out", str(finished), "--resume", "--quiet"]) == 0
    assert files_in(finished) == before


def test_what_is_missing_is_done_and_nothing_else(finished: Path):
    gone = finished / "cells/digits/1/random/0/evaluation.json"
    gone.unlink()
    before = files_in(finished)
    assert main(["sweep", "--out", str(finished), "--resume", "--quiet"]) == 0
    after = files_in(finished)
    assert gone.exists()
    assert {name: what for name, what in after.items() if name in before} == before
    assert len(after) == len(before) + 1


def test_other_cells_are_refused_with_the_difference_and_more_are_welcome(
    finished: Path, capsys: pytest.CaptureFixture[str]
):
    before = files_in(finished)
    other = TINY["methods"] | {"dm": {"set": ["solver.steps=7", "context.batch=4"]}}
    assert sweep(written(finished.parent / "other.yaml", methods=other), finished, "--resume") == 2
    error = capsys.readouterr().err
    assert "digits/1/dm/0.experiment.solver.steps: 4 -> 7" in error
    assert "digits/2/dm/0.experiment.solver.steps: 5 -> 7" in error
    fewer = {"dm": TINY["methods"]["dm"]}
    assert sweep(written(finished.parent / "fewer.yaml", methods=fewer), finished, "--resume") == 2
    assert "digits/1/random/0" in capsys.readouterr().err
    judged = {**TINY["protocol"], "networks": 3}
    assert sweep(written(finished.parent / "judged.yaml", protocol=judged), finished, "--resume") == 2
    assert "protocol.networks: 2 -> 3" in capsys.readouterr().err
    assert files_in(finished) == before
    more = {"herding": None, **TINY["methods"]}
    assert sweep(written(finished.parent / "more.yaml", methods=more), finished, "--resume") == 0
    assert before.items() <= files_in(finished).items()
    assert "digits/2/herding" in rows_in(finished)


def test_ctrl_c_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    done: list[str] = []

    def stopped(**_: Any) -> Callable[[Job, Report, Path], str | None]:
        def work(job: Job, report: Report, log: Path) -> str | None:
            if len(done) == 2:
                raise KeyboardInterrupt
            done.append(job.folder)
            return here()(job, report, log)

        return work

    monkeypatch.setattr(command, "Child", stopped)
    methods = {"dm": {"set": ["solver.steps=2", "context.batch=4"]}, "random": {"shared": False}}
    file = written(tmp_path / "tiny.yaml", per_class=[1], methods=methods, controls=["whole", "herding"])
    assert sweep(file, tmp_path / "out") == 130
    assert f"interrupted; continue with: condense sweep --out {tmp_path / 'out'} --resume" in capsys.readouterr().err
    before = files_in(tmp_path / "out")
    assert (tmp_path / "out" / "table.md").exists()
    monkeypatch.setattr(command, "Child", here)
    assert main(["sweep", "--out", str(tmp_path / "out"), "--resume", "--quiet"]) == 0
    assert before.items() <= files_in(tmp_path / "out").items()
    assert all(row["done"] == 1 for row in rows_in(tmp_path / "out").values())


def test_killed_in_the_middle_of_a_run(tmp_path: Path, in_process: None):
    """The sweep is killed, its child stops by itself after the step under way, and the run goes on from there."""
    slow = {"dm": {"set": ["solver.steps=150", "context.batch=4"]}}
    file, out = written(tmp_path / "tiny.yaml", methods=TINY["methods"] | slow, per_class=[1]), tmp_path / "out"
    threads = str(torch.get_num_threads())
    quiet = ["--quiet", "--threads", threads]
    process = subprocess.Popen([*CONDENSE, "sweep", file, "--out", str(out), *quiet])
    folder = RunFolder(out / "cells/digits/1/dm/0")
    _wait(lambda: folder.config.exists() or process.poll() is not None)
    process.kill()
    process.wait()
    lock = folder.path / ".lock"
    _wait(lambda: not lock.exists())
    stopped = torch.load(folder.checkpoint, weights_only=True)["state"]["step"]
    assert not folder.result.exists(), "the test's run was over too soon"
    assert 0 < stopped < 150
    before = folder.metrics.read_text().splitlines()
    assert main(["sweep", "--out", str(out), "--resume", "--quiet"]) == 0
    measured = folder.metrics.read_text().splitlines()
    assert measured[: len(before)] == before
    assert [json.loads(line)["step"] for line in measured] == [*range(0, 150, 10), 149]
    assert rows_in(out)["digits/1/dm"]["seconds"] > json.loads(before[-1])["seconds"]


def _wait(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


# --- children ---------------------------------------------------------------------------------------------------------------


def child(*lines: str) -> Child:
    start = "import json, os, signal, sys, time; asked = json.loads(sys.stdin.readline())"
    return Child(command=(sys.executable, "-c", "\n".join([start, *lines])), threads=3, imports=("mine.py",))


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return job_of(build(Sweep, TINY).cells()[0], SweepFolder(tmp_path))


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


# --- mistakes and failures --------------------------------------------------------------------------------------------------


def test_a_cell_that_fails_is_shown_and_the_others_are_done(
    tmp_path: Path, in_process: None, capsys: pytest.CaptureFixture[str]
):
    broken = {"dm": {"set": ["solver.lr=1e30", "solver.steps=9"]}, "random": {"shared": False}}
    file, out = written(tmp_path / "tiny.yaml", methods=broken, per_class=[1]), tmp_path / "out"
    assert sweep(file, out) == 1
    said = capsys.readouterr().out
    row = rows_in(out)["digits/1/dm"]
    assert row["mean"] is None
    (reason,) = row["failures"]
    assert "term 'features' became" in reason
    assert f"dm failed: {reason}" in said
    assert "failed" in said.splitlines()[3]
    assert rows_in(out)["digits/1/random"]["n"] == 2
    before = {name: what for name, what in files_in(out).items() if "/dm/" not in name}
    assert main(["sweep", "--out", str(out), "--resume", "--quiet"]) == 1
    assert before.items() <= files_in(out).items()


def test_every_mistake_of_a_file_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    changes: dict[str, Any] = {
        "data": ["digits", "minst"],
        "methods": {"dmm": None, "dm": {"set": ["solver.stepz=3", "solver.lr=fast"]}, "random": {"shared": False}},
        "protocol": {"name": "quick", "set": ["epoch=2"]},
    }
    assert main(["sweep", written(tmp_path / "wrong.yaml", **changes), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "5 mistakes" in error
    assert "no data called 'minst'" in error
    assert "methods.dmm: 'dmm' is neither a method nor a file; did you mean 'dm'?" in error
    assert "methods.dm.solver.stepz: unknown key; did you mean 'steps'?" in error
    assert "methods.dm.solver.lr: expected a number, got 'fast' (text) (for digits/1, digits/2)" in error
    assert "protocol.epoch: unknown key; did you mean 'epochs'?" in error
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_run_is_said_before_anything_starts(
    tmp_path: Path, in_process: None, capsys: pytest.CaptureFixture[str]
):
    """A solver that refuses its objective, a size that the data do not have, a network that does not fit the images."""
    changes: dict[str, Any] = {
        "per_class": [2, 9999],
        "methods": {"dm": {"set": ["solver.steps=1"]}, "herding": {"set": ["objective.terms.features.by=none"]}},
        "cross": {"networks": {"vgg": "vgg"}, "optional": False, "controls": [], "per_class": [2]},
    }
    assert main(["sweep", written(tmp_path / "wrong.yaml", **changes), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "'herding' selects within classes" in error
    assert "needs 9999 examples of each class" in error
    assert "vgg" in error
    assert not (tmp_path / "out" / "cells").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": {}}, "'methods' is empty"),
        ({"sets": 0}, "'sets' must be at least 1, got 0"),
        (
            {"controls": ["randm"]},
            "'controls' names 'randm', which is none of random, herding, whole; did you mean 'random'?",
        ),
        ({"controls": ["random"]}, "'controls' and methods have the name 'random' in common"),
        ({"portions": {"a": {"data": ["mnist"]}}}, "'portions.a.data' names 'mnist', which is none of digits"),
        ({"portions": {"cross": {}}}, "'portions' has the name 'cross'"),
        ({"at": {"digts": []}}, "'at' names 'digts'"),
        ({"methods": {"a/b": {"method": "dm"}}}, "'methods' has the name 'a/b'"),
        ({"data": ["digits", "digits"]}, "names the same data twice"),
        ({"colour": 3}, "colour: unknown key"),
        ({"methods": {"dm": {"set": ["data.kind=npz", "data.path=x"]}}}, "'data' cannot be changed for a method"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_sweep_gets_one_clear_line(changes: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=re.escape(message)):
        build(Sweep, {**TINY, **changes}).cells()


def test_a_sweep_that_is_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["sweep", "matchin"]) == 2
    assert "'matchin' is neither a sweep nor a file; did you mean 'matching'?" in capsys.readouterr().err
    assert main(["sweep"]) == 2
    assert "name a sweep file, or one of: matching" in capsys.readouterr().err
    assert main(["sweep", "matching", "--out", str(tmp_path / "none"), "--report-only"]) == 2
    assert "holds no sweep" in capsys.readouterr().err


def test_a_method_file_lies_beside_the_sweep_file(tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "own.yaml").write_text(write_yaml(read(methods()["dm"])))
    own = {"mine": {"method": "own.yaml", "set": ["solver.steps=2", "context.batch=4"]}}
    file = written(tmp_path / "mine" / "tiny.yaml", methods=own, per_class=[1], controls=[])
    monkeypatch.chdir(tmp_path)
    assert sweep(file, tmp_path / "out") == 0
    monkeypatch.chdir(tmp_path / "out")
    assert main(["sweep", "--out", str(tmp_path / "out"), "--resume", "--quiet"]) == 0
    assert rows_in(tmp_path / "out")["digits/1/mine"]["steps"] == 2


# --- the packaged sweep -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def matching() -> Sweep:
    return build(Sweep, read(available()["matching"]))


def test_the_packaged_sweep_has_every_method(matching: Sweep):
    named = {item.method or name for name, item in matching.entries.items()}
    assert named >= set(methods())
    assert {"whole"} <= set(matching.controls)
    cells = matching.cells()
    first = {(cell.data, cell.per_class) for cell in cells if not cell.optional}
    assert first == {("mnist", 10), ("cifar10", 10)}
    assert {(cell.data, cell.per_class) for cell in cells} >= {
        (name, size) for name in matching.sources for size in (1, 10)
    }
    assert {cell.protocol.networks for cell in cells if not cell.optional} == {3}
    assert {cell.network for cell in cells if cell.network} == {"mlp", "lenet", "alexnet", "vgg", "resnet", "vit"}
    assert all(cell.protocol.network.pointwise for cell in cells)
    assert len({cell.key for cell in cells}) == len(cells)


def test_the_packaged_sweep_reads_back_equal(matching: Sweep):
    assert build(Sweep, dump(matching, defaults=False)) == matching


def test_nothing_of_the_packaged_sweep_has_the_published_settings(matching: Sweep):
    """Its width is reduced, and so no row of it may count as recovered."""
    vico = PROTOCOLS["vico"]
    assert all(cell.protocol.network != vico.network for cell in matching.cells())
