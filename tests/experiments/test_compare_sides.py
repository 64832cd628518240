"""Which data sets a comparison takes, and what it compares of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from comparing import artefact, digits, folder, printed, row

from discrepancy import MMD, Measure
from experiments.compare.sides import overlap, side_of
from objectives import Match, condense
from objectives.data.labelled import LabelledData
from objectives.data.labels import Labels
from objectives.solvers import Herding
from objectives.synthetic.artefact import SyntheticSet

__all__ = ["digits", "folder"]


def test_only_independent_samples_have_p_values(folder: Path, tmp_path: Path, digits: LabelledData, capsys):
    some = artefact(digits, 20, train=True)
    np.savez(tmp_path / "copies.npz", x=some.points.numpy(), y=some.numbers.numpy())
    arguments = ["digits:test", folder / "one.safetensors", tmp_path / "copies.npz", "--by", "none"]
    found = printed(capsys, "digits", *arguments, "--discrepancies", "energy_distance")
    assert 0 < row(found, set="digits:test")["p"] <= 1
    assert row(found, set="one")["p"] is None
    assert row(found, set="copies")["p"] is None
    forced = printed(capsys, "digits", *arguments, "--discrepancies", "energy_distance", "--independent")
    assert row(forced, set="copies")["p"] is not None
    assert any("'one' is a set that was made" in note for note in forced["notes"])
    refused = printed(capsys, "digits", *arguments, "--discrepancies", "energy_distance", "--no-independent")
    assert all(row["p"] is None for row in refused["rows"])


@pytest.mark.parametrize("what", ["itself", "copy in float32", "part", "herded"])
def test_what_shares_examples_with_the_real_side_is_measured_as_it_is(
    what: str, tmp_path: Path, digits: LabelledData, capsys
):
    """No correction for a finite real side, which would make the distance of a set from itself negative, and no interval."""
    points, labels = digits.train.points, digits.train.labels.numbers
    kept = torch.arange(0, len(points), 3 if what == "part" else 1)
    other = tmp_path / "set.safetensors"
    if what == "herded":
        condense(digits, Match(MMD(), by="class"), solver=Herding(), per_class=2).save(other)
        kept = torch.tensor(SyntheticSet.load(other).record["chosen"])
    elif what != "itself":
        other = tmp_path / "set.npz"
        np.savez(other, x=points[kept].float().numpy(), y=labels[kept].numpy())
    found = printed(
        capsys, "digits", "digits" if what == "itself" else other, "--by", "none", "--discrepancies", "mean,moments"
    )
    units = digits.normalisation.apply(points).flatten(1)
    truth = float(MMD()(Measure(units), Measure(units[kept])))
    mean, moments = found["rows"]
    assert mean["estimate"] == mean["value"] == pytest.approx(truth, rel=1e-3, abs=1e-6)
    assert moments["estimate"] == moments["value"] >= 0
    assert all(found[key] is None for found in (mean, moments) for key in ("low", "high", "error", "p"))
    assert (mean["yardstick"]["k"] or 1e9) > (1.5 if what == "herded" else 100)
    assert any(
        "100% of the examples are in both, so the values are those of the two sets as" in n for n in found["notes"]
    )


def test_the_points_of_a_test_are_dealt_out_in_units_of_both_sides(
    tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
):
    """Units of the real side alone would put small samples of many features apart where nothing differs."""
    values = np.random.default_rng(0).standard_t(3, size=(39, 8))
    for name, rows, names in (("a", slice(0, 24), ["u", "v"]), ("b", slice(24, 39), ["v", "w"])):
        np.savez(tmp_path / f"{name}.npz", x=values[rows], y=np.arange(39)[rows] % 2, classes=names)
    dealt: list[Measure] = []

    def spy(discrepancy: object, real: Measure, other: Measure, *_: object) -> float:
        dealt.append(Measure.merged([real, other]))
        assert (len(real), len(other)) == (24, 15)
        return 1.0

    monkeypatch.setattr("experiments.compare.comparing.p_value", spy)
    sets = [tmp_path / "a.npz", tmp_path / "b.npz", "--by", "none"]
    printed(capsys, *sets, "--discrepancies", "mean,joint_mmd")
    for pooled in dealt:
        points = pooled.tensors[""].double()
        torch.testing.assert_close(points.mean(0), torch.zeros(8).double(), atol=1e-6, rtol=0)
        torch.testing.assert_close(points.std(0, correction=0), torch.ones(8).double(), atol=1e-6, rtol=0)
    labels = dealt[1].labels
    assert labels is not None
    assert labels.sum(0).tolist() == [12.0, 12.0 + 8.0, 7.0]  # the classes u, v and w of both
    printed(capsys, *sets, "--discrepancies", "mean", "--via", "layers", "--network", "{kind: mlp, width: 4, depth: 2}")
    assert len(dealt[2].tensors) > 1


def test_a_file_without_a_test_part_is_taken_whole(tmp_path: Path, digits: LabelledData, capsys):
    some = artefact(digits, 2, train=True)
    np.savez(tmp_path / "two.npz", x=some.points.numpy(), y=some.numbers.numpy())
    side = side_of("two", str(tmp_path / "two.npz"))
    assert len(side) == 20
    assert len(side_of("two", f"{tmp_path / 'two.npz'}:train")) == 10
    assert len(side_of("all", "digits:all")) == 1797
    assert overlap(side, side_of("digits", "digits")) == 1.0
    assert overlap(side, side_of("digits", "digits:test")) == 0.0


def test_points_without_labels_are_compared_without_classes(tmp_path: Path, digits: LabelledData, capsys):
    np.savez(tmp_path / "bare.npz", x=digits.train.points[:50].numpy())
    found = printed(capsys, "digits", tmp_path / "bare.npz", "--discrepancies", "mean")
    assert [row["group"] for row in found["rows"]] == ["all"]
    assert "'bare' has no labels, so only the whole sets are compared" in found["notes"]


def test_soft_labels_share_a_point_out(tmp_path: Path, digits: LabelledData, capsys):
    """A point that is half a 3 and half an 8 counts half in each class; two points of weight 1/2 do as one."""
    hard = artefact(digits, 3)
    rows = torch.nn.functional.one_hot(hard.numbers, 10).float()
    soft = replace(hard, labelling=Labels("soft", rows))
    halved = replace(
        hard,
        points=torch.cat([hard.points, hard.points]),
        labelling=Labels("hard", torch.cat([hard.numbers, hard.numbers])),
        weights=torch.full((60,), 0.5),
    )
    blurred = rows.clone()
    blurred[hard.numbers == 3] = 0.5 * (torch.eye(10)[3] + torch.eye(10)[8])
    sets = {"hard": hard, "soft": soft, "halved": halved, "blurred": replace(soft, labelling=Labels("soft", blurred))}
    for name, item in sets.items():
        item.save(tmp_path / f"{name}.safetensors")
    files = [tmp_path / f"{name}.safetensors" for name in sets]
    found = printed(capsys, "digits", *files, "--by", "class", "--discrepancies", "energy_distance")
    for group in ("class 3", "classes"):
        values = [row(found, set=name, group=group)["estimate"] for name in ("hard", "soft", "halved")]
        assert values == pytest.approx([values[0]] * 3, rel=1e-5)
    assert row(found, set="blurred", group="class 8")["examples"] == 6
    assert row(found, set="blurred", group="class 3")["estimate"] == pytest.approx(
        row(found, set="hard", group="class 3")["estimate"], rel=1e-5
    )


def test_classes_are_matched_by_name(tmp_path: Path, digits: LabelledData, capsys):
    """The same set with its classes numbered the other way round, and one without a class."""
    some = artefact(digits, 3)
    turned = Labels("hard", 9 - some.numbers)
    replace(some, labelling=turned, classes=some.classes[::-1]).save(tmp_path / "turned.safetensors")
    some.save(tmp_path / "plain.safetensors")
    kept = some.numbers != 7
    labels = Labels("hard", some.numbers[kept])
    lacking = replace(some, points=some.points[kept], labelling=labels, weights=some.weights[kept])
    lacking.save(tmp_path / "lacking.safetensors")
    files = [tmp_path / f"{name}.safetensors" for name in ("turned", "plain", "lacking")]
    found = printed(capsys, "digits", *files, "--by", "class", "--discrepancies", "mean")
    turned, plain = ([row["estimate"] for row in found["rows"] if row["set"] == name] for name in ("turned", "plain"))
    assert turned == plain
    assert row(found, set="lacking", group="class 7")["estimate"] is None
    assert row(found, set="lacking", group="classes")["estimate"] is None
    assert (
        row(found, set="lacking", group="class 6")["estimate"] == row(found, set="plain", group="class 6")["estimate"]
    )
    assert any("class 7 of 'lacking': there is no example" in note for note in found["notes"])


def test_a_cap_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr("experiments.compare.estimates.CAPS", {"wasserstein": 50})
    found = printed(capsys, "digits", folder / "one.safetensors", "--by", "none", "--discrepancies", "wasserstein")
    assert "wasserstein, all: 50 random points of the 1,437 of 'digits'" in found["notes"]
    assert found["rows"][0]["estimate"] > 0


def test_what_looks_at_labels_compares_everything_at_once(folder: Path, capsys: pytest.CaptureFixture[str]):
    found = printed(capsys, "digits", folder / "one.safetensors", "--by", "class", "--discrepancies", "joint_mmd,mean")
    assert [row["group"] for row in found["rows"] if row["discrepancy"] == "joint_mmd"] == ["all"]
    assert row(found, discrepancy="mean", group="classes")
