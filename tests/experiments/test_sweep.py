"""Sweeps: every cell once, whatever happens in between; tables that say what the run folders say."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
import torch
from sweeping import TINY, files_in, finished, here, in_process, lines_of, rows_in, sweep, template, written

from discrepancy.errors import InvalidInput
from experiments.cli import main
from experiments.folder import RunFolder
from experiments.report.progress import Advance
from experiments.sweeps import plan_sweep, read_results, read_sweep, run, run_sweep
from experiments.sweeps.cell import Advancing, Job
from objectives.synthetic.artefact import SyntheticSet

__all__ = ["finished", "in_process", "template"]


# --- the whole pass ---------------------------------------------------------------------------------------------------------


def test_the_table_says_what_the_run_folders_say(finished: Path, capsys: pytest.CaptureFixture[str]):
    rows = rows_in(finished)
    assert list(rows) == [f"digits/{size}/{name}" for size in (1, 2) for name in ("dm", "random", "whole")]
    for key, row in rows.items():
        folder = finished / "cells" / key / "0"
        (evaluation,) = json.loads((folder / "evaluation.json").read_text())["rows"].values()
        accuracies = [100 * value for value in evaluation["accuracies"]]
        assert row["accuracies"] == pytest.approx(accuracies)
        assert (row["mean"], row["std"], row["n"]) == (
            pytest.approx(fmean(accuracies)),
            pytest.approx(stdev(accuracies)),
            2,
        )
        assert row["protocol_hash"] == evaluation["protocol_hash"]
        assert row["protocol"] == "quick (changed)"
        assert row["stored_bytes"] == evaluation["stored_bytes"]
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


def test_the_seconds_of_a_teacher_count(tmp_path: Path, in_process: None):
    teacher = "teacher={network: {kind: convnet, width: 4, depth: 2}, rounds: 1, training: {steps: 4}}"
    methods = {"random": {"shared": False}, "taught": {"method": "random", "shared": False, "set": [teacher]}}
    file = written(tmp_path / "tiny.yaml", per_class=[1], controls=[], methods=methods)
    assert sweep(file, tmp_path / "out") == 0
    row = rows_in(tmp_path / "out")["digits/1/taught"]
    record = SyntheticSet.load(tmp_path / "out/cells/digits/1/taught/0/result.safetensors").record
    assert record["teacher"]["seconds"] > 0
    assert row["seconds"] == pytest.approx(record["seconds"] + record["teacher"]["seconds"])
    assert row["labels"] == "teacher"
    assert rows_in(tmp_path / "out")["digits/1/random"]["labels"] == "hard"


def test_under_other_networks(tmp_path: Path, in_process: None, capsys: pytest.CaptureFixture[str]):
    cross = {"networks": {"mlp": {"kind": "mlp", "width": 4}}, "set": ["epochs=3"], "per_class": [1]}
    file, out = written(tmp_path / "tiny.yaml", cross=cross), tmp_path / "out"
    assert sweep(file, out, "--only", "dm") == 0
    assert "other networks" not in capsys.readouterr().out
    before = files_in(out)
    assert sweep(file, out, "--resume", "--portions", "cross") == 0  # what is missing is condensed: the set of random
    row = rows_in(out)["digits/1/dm/mlp"]
    evaluation = json.loads((out / "cells/digits/1/dm/0/evaluation-mlp.json").read_text())
    assert evaluation["protocol"]["network"]["kind"] == "mlp"
    assert evaluation["rows"]["condensed"]["epochs"] == 3
    assert row["accuracies"] == pytest.approx([100 * value for value in evaluation["rows"]["condensed"]["accuracies"]])
    assert (out / "cells/digits/1/random/0/result.safetensors").exists()
    assert not (out / "cells/digits/1/random/0/evaluation.json").exists()
    assert "under other networks" in capsys.readouterr().out
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
    assert keys(capsys, file, "--only", "random, digits/2/whole") == first[1:]
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
        assert cell["condensing"] > 0 or "dm" not in cell["cell"]
        assert cell["state"] == "open"
    assert main(["sweep", file, "--dry-run", "--quiet"]) == 0
    assert "6 cells, about" in capsys.readouterr().out
    assert list((tmp_path / "here").iterdir()) == []


def test_a_plan_counts_what_is_condensed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """By whichever cell needs the set first."""
    cross = {"networks": {"mlp": "mlp", "wider": {"kind": "mlp", "width": 8}}, "controls": []}
    file = written(tmp_path / "tiny.yaml", cross=cross)
    for chosen, first in (((), "digits/1/dm/0"), (("--portions", "cross"), "digits/1/dm/0/mlp")):
        assert main(["sweep", file, "--dry-run", "--quiet", "--json", "--only", "digits/1/dm/*", *chosen]) == 0
        cells = json.loads(capsys.readouterr().out)["cells"]
        assert [cell["cell"] for cell in cells if cell["condensing"] > 0] == [first]


def test_a_dry_run_of_a_folder_says_what_is_done(finished: Path, capsys: pytest.CaptureFixture[str]):
    (finished / "cells/digits/1/random/0/evaluation.json").unlink()
    (finished / "cells/digits/2/whole/0/evaluation.json").unlink()
    capsys.readouterr()
    file = str(finished.parent / "tiny.yaml")
    assert main(["sweep", file, "--out", str(finished), "--dry-run", "--quiet", "--json"]) == 0
    cells = {cell["cell"]: cell for cell in json.loads(capsys.readouterr().out)["cells"]}
    assert {cell["condensing"] for cell in cells.values()} == {0}
    states = {name: cell["state"] for name, cell in cells.items()}
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
    other = {**TINY["protocol"], "networks": 3}
    assert sweep(written(finished.parent / "other.yaml", protocol=other), finished, "--resume") == 2
    assert "protocol.networks: 2 -> 3" in capsys.readouterr().err
    assert files_in(finished) == before
    more = {"herding": None, **TINY["methods"]}
    assert sweep(written(finished.parent / "more.yaml", methods=more), finished, "--resume") == 0
    assert before.items() <= files_in(finished).items()
    assert "digits/2/herding" in rows_in(finished)


def test_fields_that_came_with_a_later_version_are_at_their_defaults(
    finished: Path, capsys: pytest.CaptureFixture[str]
):
    file, cells = finished / "cells.json", json.loads((finished / "cells.json").read_text())
    older = cells["digits/1/dm/0"]
    del older["protocol"]["loss"]
    del older["protocol"]["network"]["growth"]
    del older["experiment"]["context"]["network"]["growth"]
    file.write_text(json.dumps(cells))
    before = files_in(finished)
    same = written(finished.parent / "same.yaml")
    assert sweep(same, finished, "--resume") == 0
    assert files_in(finished).keys() == before.keys()
    assert json.loads(file.read_text())["digits/1/dm/0"]["protocol"]["loss"] == "auto"
    older["experiment"]["context"]["network"]["width"] = 5
    file.write_text(json.dumps(cells))
    assert sweep(same, finished, "--resume") == 2
    error = capsys.readouterr().err
    assert "digits/1/dm/0.experiment.context.network.width: 5 -> 4" in error
    assert "growth" not in error


WORDS = dict.fromkeys(("protocol", "protocol_hash", "labels"), "a") | dict.fromkeys(
    ("examples", "stored_bytes", "epochs"), 1
)
TYPES = {"torch": "2", "device": "cpu", "rows": {"dm": {**WORDS, "accuracies": ["a"]}}}


def test_the_lock_of_a_process_that_was_killed_at_the_end_goes(finished: Path):
    lock = finished / "cells/digits/1/dm/0/.lock"
    lock.touch()
    assert sweep(str(finished.parent / "tiny.yaml"), finished, "--resume") == 0
    assert not lock.exists()


DAMAGED = ("", "[]", "{}", '{"rows": {"dm": {}}, "digits/1/dm/0": 3, "reason": 1}', "\\xff", json.dumps(TYPES))


@pytest.mark.parametrize(
    "name", ["cells.json", "cells/digits/1/dm/0/evaluation.json", "cells/digits/1/dm/0/failure.json"]
)
def test_a_damaged_file_is_named(finished: Path, name: str, capsys: pytest.CaptureFixture[str]):
    for content in DAMAGED:
        (finished / name).write_bytes(content.encode("latin-1"))
        before = files_in(finished)
        for option in ("--resume", *(["--report-only"] if "/" in name else [])):
            assert sweep(str(finished.parent / "tiny.yaml"), finished, option) == 2, content
            error = capsys.readouterr().err
            assert f"{name}' is damaged; restore it" in error
            assert len(error.splitlines()) == 1
        assert files_in(finished) == before
    (finished / name).unlink()
    assert sweep(str(finished.parent / "tiny.yaml"), finished, "--resume") == (2 if name == "cells.json" else 0)
    if name == "cells.json":
        assert "holds a sweep, but its cells.json is lost; restore it" in capsys.readouterr().err


def test_files_of_other_origin_are_not_overwritten(
    tmp_path: Path, in_process: None, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "table.csv").write_text("mine")
    assert sweep(written(tmp_path / "tiny.yaml"), tmp_path) == 2
    assert "table.csv' exists already and is not a file of a sweep" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"table.csv", "tiny.yaml"}


def test_ctrl_c_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    done: list[str] = []

    def stopped(**_: Any) -> Callable[[Job, Advancing, Path], str | None]:
        def work(job: Job, advancing: Advancing, log: Path) -> str | None:
            if len(done) == 2:
                raise KeyboardInterrupt
            done.append(job.folder)
            return here()(job, advancing, log)

        return work

    monkeypatch.setattr(run, "Child", stopped)
    methods = {"dm": {"set": ["solver.steps=2", "context.batch=4"]}, "random": {"shared": False}}
    file = written(tmp_path / "tiny.yaml", per_class=[1], methods=methods, controls=["whole", "herding"])
    assert sweep(file, tmp_path / "out", "--threads", "1", "--all", "--only", "digits/*") == 130
    advice = f"interrupted; continue with: condense sweep --out {tmp_path / 'out'} --resume --threads 1 --all --only 'digits/*'"
    assert advice in capsys.readouterr().err
    before = files_in(tmp_path / "out")
    assert (tmp_path / "out" / "table.md").exists()
    monkeypatch.setattr(run, "Child", here)
    assert main(["sweep", "--out", str(tmp_path / "out"), "--resume", "--quiet"]) == 0
    assert before.items() <= files_in(tmp_path / "out").items()
    assert all(row["done"] == 1 for row in rows_in(tmp_path / "out").values())


def test_ctrl_c_before_there_is_a_sweep_says_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.sweeps.folder.SweepFolder.adopt", stopped)
    assert sweep(written(tmp_path / "tiny.yaml"), tmp_path / "out") == 130
    assert capsys.readouterr().err == "condense: interrupted\n"


# --- from Python ------------------------------------------------------------------------------------------------------------


def test_a_sweep_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("experiments.plan.TRYING_SECONDS", 0.0)
    methods = {"dm": {"set": ["solver.steps=4", "context.batch=4"]}, "random": {"shared": False}}
    file = written(tmp_path / "tiny.yaml", per_class=[1], methods=methods)
    asked = read_sweep(file, changes=["protocol.networks=1"])
    plans = plan_sweep(asked, tmp_path / "out", only=["dm", "whole"])
    assert [(plan.cell, plan.state) for plan in plans] == [("digits/1/dm/0", "open"), ("digits/1/whole/0", "open")]
    assert not (tmp_path / "out").exists()
    with pytest.raises(InvalidInput, match="holds no sweep; run it first"):
        read_results(asked, tmp_path / "out")
    seen: list[tuple[int, int]] = []

    @contextlib.contextmanager
    def progress(title: str, total: int) -> Iterator[Advance]:
        yield lambda done, note="": seen.append((done, total))

    first = run_sweep(asked, tmp_path / "out", only=["dm"], worker=here(), progress=progress)
    assert seen
    assert all(0 <= done <= total for done, total in seen)
    assert [(row.name, row.n, row.done) for row in first.rows] == [("dm", 1, 1)]
    assert first.failures == ()
    with pytest.raises(InvalidInput, match="holds a sweep already"):
        run_sweep(asked, tmp_path / "out", worker=here())
    both = run_sweep(asked, tmp_path / "out", only=["dm", "whole"], resume=True, worker=here())
    assert [row.name for row in both.rows] == ["dm", "whole"]
    assert both.rows[0] == first.rows[0]
    assert {file.name for file in both.files} == {"table.md", "table.html", "table.csv", "report.json"}
    assert read_results(read_sweep(out=tmp_path / "out"), tmp_path / "out", only=["dm", "whole"]).rows == both.rows
    (table,) = both.report().tables
    assert [row[0] for row in table.rows] == ["dm", "whole (control)"]
    assert f'<td class="right">{both.rows[0].mean:.1f}</td>' in (tmp_path / "out" / "table.html").read_text()
