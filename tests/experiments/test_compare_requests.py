"""How a comparison is asked for, and the mistakes in asking."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from comparing import QUICK, artefact, digits, folder

from discrepancy import MMD, EnergyDistance, Gaussian, Moments
from discrepancy.kernels import Median
from experiments.cli import main
from experiments.compare import DEFAULT, compare, request_of
from experiments.compare.request import ComparisonRequest, discrepancies_of, named_sets
from experiments.compare.sides import side_of
from experiments.config import build, dump
from experiments.report import as_text
from experiments.report import comparison as report

__all__ = ["digits", "folder"]


# --- mistakes -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits"], "name the real data set and at least one other"),
        ([], "name the real data set and at least one other"),
        (["digits", "digits:tset"], "names the part 'tset'; did you mean 'test'?"),
        (["digits", "nowhere.safetensors"], "'nowhere.safetensors' is not a file"),
        (["digits", "minst"], "did you mean MNIST?"),
        (["digits", "digits:test", "--discrepancies", "mdm"], "unknown kind 'mdm' of discrepancy; did you mean 'mmd'?"),
        (["digits", "digits:test", "--discrepancies", "{mmd: {kernel: gausian}}"], "mmd.kernel: unknown kind 'gausian'"),
        (["digits", "digits:test", "--discrepancies", "mmd,mmd"], "'discrepancies' name 'mmd' twice"),
        (["digits", "digits:test", "--discrepancies", "{mmd: ["], "'discrepancies' cannot be read as YAML"),
        (["digits", "digits:test", "--by", "klass"], "by: expected one of 'class', 'none', 'both', got 'klass'"),
        (["digits", "digits:test", "--via", "featurs"], "via: unknown kind 'featurs' of embedding; did you mean 'features'?"),
        (["digits", "digits:test", "--via", "{kind: ["], "'--via' cannot be read as YAML"),
        (["digits", "digits:test", "--networks", "2"], "'identity' takes nothing of a network; use 1"),
        (["digits", "digits:test", "--resamples", "2"], "'resamples' must be at least 10, got 2"),
        (["digits", "digits:test", "--set", "confidence=95"], "'confidence' must lie strictly between 0 and 1"),
        (["digits", "digits:test", "--set", "colour=3"], "colour: unknown key"),
        (["digits", "digits:test", "--device", "cuda:99x"], "'device'"),
        (["digits", "digits:test", "--via", "features", "--network", "{kind: convnet, norm: batch}"], "choose another 'norm'"),
        (["digits", "table.npz"], "examples of 'table' have shape (3,), those of 'digits' (1, 8, 8)"),
        (["digits", "bytes.npz"], "values of 'bytes' lie in 0 .. 255, those of 'digits' in 0 .. 16"),
        (["digits", "letters.npz"], "'letters' has the class 'a', which 'digits' has not"),
        (["digits", "bare.npz", "--by", "class"], "'bare' has no labels, so it has no classes"),
        (["digits", "bare.npz", "--discrepancies", "joint_mmd"], "'joint_mmd' looks at labels, and 'bare' has none"),
        (["weighted.safetensors", "digits"], "put it behind"),
        (["single.npz", "digits", "--by", "none", "--discrepancies", "mmd"], "the median rule needs at least 2 real points"),
        (["single.npz", "digits", "--by", "none", "--discrepancies", "energy_distance"], "it needs 2 real points, got 1"),
    ],
    ids=lambda value: "-".join(value[1:])[:60] if isinstance(value, list) else "",
)  # fmt: skip
def test_a_mistake_gets_one_clear_line_and_status_2(arguments, message, digits, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    x, y = digits.train.points[:20].numpy(), digits.train.labels.numbers[:20].numpy()
    np.savez("table.npz", x=x[:, 0, 0, :3], y=y)
    np.savez("bytes.npz", x=x * 16, y=y)
    np.savez("letters.npz", x=x.astype(np.float32), y=np.array(["a", "b"] * 10))
    np.savez("bare.npz", x=x)
    np.savez("single.npz", x=x[:1])
    replace(artefact(digits, 1), weights=torch.arange(10) + 1.0).save("weighted.safetensors")
    assert main(["compare", *arguments, "--quiet"]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert len(captured.err.strip().splitlines()) <= 2


def test_interrupted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.compare.comparing.Embedded", stop)
    assert main(["compare", "digits", "digits:test", *QUICK]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_too_little_memory_is_said_before_anything_is_held(monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr("objectives.engine.runtime.available_bytes", lambda device: 1000)
    assert main(["compare", "digits", "digits:test", *QUICK]) == 2
    assert "GiB are free; take fewer features" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_said_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "file").write_text("")
    assert main(["compare", "digits", "digits:test", "--out", str(tmp_path / "file" / "out")]) == 1
    assert "cannot be made (Not a directory); name another folder" in capsys.readouterr().err


def test_progress_goes_to_standard_error(capsys: pytest.CaptureFixture[str]):
    assert (
        main(["compare", "digits", "digits:test", "--by", "none", "--discrepancies", "mean", "--resamples", "10"]) == 0
    )
    captured = capsys.readouterr()
    assert "comparing (%): 100/100" in captured.err
    assert "mean" in captured.out


# --- configurations -----------------------------------------------------------------------------------------------------------


def test_ways_to_write_discrepancies():
    wanted = MMD(kernel=Gaussian(lengthscale=Median()))
    for written in ("mmd", ["mmd"], "[mmd]", {"mmd": None}):
        (found,) = request_of({"real": "digits", "sets": ["digits:test"], "discrepancies": written}).discrepancies
        assert found == ("mmd", wanted)
    written = "{near: mmd, energy_distance: {root: true}, m: {kind: moments}, g: {mmd: {kernel: linear}}}"
    found = dict(request_of({"real": "digits", "sets": ["digits:test"], "discrepancies": written}).discrepancies)
    assert found == {"near": MMD(), "energy_distance": EnergyDistance(root=True), "m": Moments(), "g": MMD()}
    assert [*discrepancies_of([{"mmd": {"root": True}}, "mean"])] == ["mmd", "mean"]
    assert [name for name, _ in request_of({"real": "digits", "sets": "digits:test"}).discrepancies] == [*DEFAULT]


def test_a_survey_reads_back_equal():
    request = request_of(
        {"real": {"kind": "digits"}, "sets": {"t": "digits:test", "d": {"kind": "digits"}}, "via": "features"}
    )
    assert build(ComparisonRequest, dump(request)) == request
    assert replace(request, seed=1).hash != request.hash
    assert replace(request, device="cpu").hash == request.hash


def test_names_of_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    sets = ["runs/dm/result.safetensors", "a.npz", "mnist:test", "b/a.npz", "mnist", "mnist"]
    assert [*named_sets(sets, "mnist")] == ["dm", "a", "mnist:test", "b/a.npz", "mnist-2", "mnist-3"]


def test_the_python_call(folder: Path):
    seen: list[float] = []
    request = request_of(
        {
            "real": "digits",
            "sets": {"one": str(folder / "one.safetensors")},
            "discrepancies": "mean",
            "by": "none",
            "resamples": 10,
        }
    )
    answer = compare(request, lambda done, note: seen.append(done))
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0.0, 1.0)
    (only,) = answer.rows
    assert only.size is not None
    assert math.isfinite(only.size.k)
    assert "1,437 examples; intervals" in as_text(report.comparison_report(answer))
    json.dumps(answer.as_dict(), allow_nan=False)


def test_members_of_a_class_keep_their_weights(folder: Path):
    side = side_of("four", str(folder / "four" / "result.safetensors"))
    rows, weights = replace(side, weights=torch.arange(40.0)).members("3")
    assert rows.tolist() == weights.tolist() == [12, 13, 14, 15]


def test_a_picture_of_estimates_below_zero_and_of_none(folder: Path):
    request = request_of(
        {"real": "digits", "sets": {"$a_b$": "digits:test"}, "discrepancies": "mean,covering_radius", "resamples": 10}
        | {"permutations": 19}
    )
    answer = compare(request)
    low = replace(answer.rows[-1], discrepancy="mean", group="all", estimate=-0.1)
    rows = [replace(row, estimate=None) if row.discrepancy == "covering_radius" else row for row in answer.rows]
    rows = [low if row.discrepancy == "mean" and row.group == "all" else row for row in rows]
    figure = report.drawn(replace(answer, rows=tuple(rows)))
    figure.canvas.draw()
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert "10" in texts
