"""Settings by examples a class: which are chosen, what stands above them, and that those of every method can be built."""

import pytest

from experiments.cli import main
from experiments.config import ConfigError, build, read
from experiments.experiment import Experiment, configured
from objectives.methods import available

BASE = {
    "synthetic": {"kind": "pixels", "per_class": 10},
    "solver": {"lr": 1.0, "steps": 5},
    "sizes": [{"from": 2, "solver": {"lr": 2.0}}, {"from": 10, "solver": {"lr": 3.0, "steps": 7}}],
}


@pytest.mark.parametrize(
    ("count", "solver"), [(1, (1.0, 5)), (2, (2.0, 5)), (9, (2.0, 5)), (10, (3.0, 7)), (99, (3.0, 7))]
)
def test_the_largest_size_that_is_reached_counts(count: int, solver: tuple[float, int]):
    for tree in (
        configured(BASE, {"synthetic": {"per_class": count}}),
        configured(BASE, {}, [f"synthetic.per_class={count}"]),
        configured({**BASE, "synthetic": {"kind": "pixels", "per_class": count}}, {}),
    ):
        assert tree == {
            "synthetic": {"kind": "pixels", "per_class": count},
            "solver": {"lr": solver[0], "steps": solver[1]},
        }


def test_without_a_number_it_is_the_usual_one():
    assert configured({**BASE, "synthetic": "pixels"}, {})["solver"]["lr"] == 3.0
    assert configured({key: value for key, value in BASE.items() if key != "synthetic"}, {})["solver"]["lr"] == 3.0


def test_changes_and_assignments_stand_above_the_sizes():
    tree = configured(BASE, {"solver": {"steps": 1}}, ["solver.lr=9.0"])
    assert tree["solver"] == {"lr": 9.0, "steps": 1}


@pytest.mark.parametrize(
    "sizes",
    [
        3,
        {"solver": {}},
        [{"solver": {}}],
        [{"from": 10}, {"from": 1}],
        [{"from": 1}, {"from": 1}],
        ["from"],
        [{"from": True}],
    ],
)
def test_sizes_that_make_no_sense_are_refused(sizes: object):
    with pytest.raises(ConfigError, match=r"sizes: expected a list of mappings, each with 'from'.*got from"):
        configured({**BASE, "sizes": sizes}, {})


@pytest.mark.parametrize("name", available())
def test_every_size_of_every_method_can_be_built(name: str):
    tree = read(available()[name])
    counts = {1, 10, 50, *(size["from"] for size in tree.get("sizes", []))}
    for count in sorted(counts):
        changed = configured(tree, {"data": {"kind": "digits"}, "synthetic": {"per_class": count}})
        assert build(Experiment, changed).synthetic.per_class == count


def test_a_mistake_in_the_chosen_size_is_reported_where_it_would_stand(capsys: pytest.CaptureFixture[str], tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text(
        "data: digits\nobjective: {terms: {x: {match: mmd}}}\ncontext: fresh\nsolver: descent\n"
        "sizes:\n  - {from: 1, solver: {momentun: 0.5}}\n"
    )
    assert main(["run", str(file), "--dry-run"]) == 2
    assert "solver.momentun" in capsys.readouterr().err
