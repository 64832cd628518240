"""Published figures: what is shipped, and when a row may be compared with one."""

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.config import ConfigError, build
from experiments.sweeps.cells import Cell, cells_of
from experiments.sweeps.folder import SweepFolder
from experiments.sweeps.published import Figure, Published, Settings, deviations, packaged, recovered
from experiments.sweeps.rows import Row, rows_of
from experiments.sweeps.sweep import Sweep
from objectives.methods import available


@pytest.fixture(scope="module")
def published() -> Published:
    return packaged()


def cell(method: str, *changes: str, per_class: int = 10, protocol: Any = "vico") -> Cell:
    tree = {"data": ["cifar10"], "per_class": [per_class], "controls": [], "protocol": protocol}
    (made,) = cells_of(build(Sweep, tree | {"methods": {method: {"set": list(changes)}}}))
    return made


@pytest.mark.parametrize(
    ("method", "data", "per_class", "accuracy"),
    [
        ("dc", "CIFAR10", 10, 44.9),
        ("dsa", "CIFAR10", 10, 52.1),
        ("dm", "CIFAR10", 10, 48.9),
        ("datadam", "CIFAR10", 10, 54.2),
        ("idm", "CIFAR10", 10, 58.6),
        ("m3d", "CIFAR10", 10, 63.5),
        ("ncfm", "CIFAR10", 10, 71.8),
        ("dc", "MNIST", 1, 91.7),
        ("idc", "FashionMNIST", 10, 86.0),
        ("whole", "CIFAR10", 50, 84.8),
    ],
)
def test_figures(published: Published, method: str, data: str, per_class: int, accuracy: float):
    figure = published.figure(method, data, per_class)
    assert figure is not None
    assert figure.accuracy == accuracy
    assert published.source(figure)


@pytest.mark.parametrize(
    ("method", "data"),
    [("random", "MNIST"), ("herding", "MNIST"), ("dm", "MNIST"), ("cafe", "MNIST"), ("m3d", "MNIST")],
)
def test_what_is_known_from_memory_alone_is_not_shipped(published: Published, method: str, data: str):
    assert published.figure(method, data, 10) is None


def test_settings_are_of_methods_that_there_are(published: Published):
    assert set(dict(published.settings)) <= set(available())


@pytest.mark.parametrize("per_class", [1, 10, 50])
@pytest.mark.parametrize("method", ["dc", "dsa", "dm"])
def test_the_published_settings_deviate_in_nothing(published: Published, method: str, per_class: int):
    settings = dict(published.settings)[method]
    judged = {"name": settings.protocol, "set": list(settings.protocol_set), "networks": 5}
    exact = cell(method, *settings.changes(per_class), per_class=per_class, protocol=judged)
    assert deviations(exact, method, published) == []


def test_whatever_is_changed_is_named(published: Published):
    changed = cell("dm", "context.network.width=32", "solver.steps=500", "context.batch=256", protocol="quick")
    found = deviations(changed, "dm", published)
    assert found is not None
    assert "context.network.width: 128 -> 32" in found
    assert "solver.steps: 20000 -> 500" in found
    assert "protocol.network.width: 128 -> 32" in found
    assert not any("batch" in line for line in found if not line.startswith("protocol"))


def test_settings_that_are_not_known_are_not_the_published_ones(published: Published):
    assert deviations(cell("herding"), "herding", published) is None


def test_recovered_is_within_a_point_or_one_standard_deviation():
    figure = Figure(method="dm", data="CIFAR10", per_class=10, accuracy=48.9, source="x")
    assert recovered(47.9, figure)
    assert recovered(49.9, figure)
    assert not recovered(47.8, figure)
    assert not recovered(50.0, figure)
    wide = Figure(method="dm", data="CIFAR10", per_class=10, accuracy=48.9, source="x", std=2.0)
    assert recovered(47.0, wide)
    assert not recovered(46.8, wide)


def test_a_row_is_judged_only_under_the_published_settings(published: Published, tmp_path: Path):
    """The same accuracy beside the same figure: recovered, not recovered, and no verdict."""
    settings = dict(published.settings)["dm"]
    judged = {"name": "vico", "set": list(settings.protocol_set), "networks": 2}
    exact = cell("dm", *settings.changes(10), protocol=judged)
    reduced = cell("dm", "solver.steps=500", protocol=judged)

    def row(of: Cell, *accuracies: float) -> Row:
        folder = SweepFolder(tmp_path / str(len(list(tmp_path.iterdir()))))
        evaluation = {
            "accuracies": accuracies,
            "examples": 100,
            "stored_bytes": 1,
            "protocol": "vico",
            "protocol_hash": of.protocol.hash,
            "epochs": 1001,
            "labels": "hard",
        }
        files = folder.files(of)
        files.run.path.mkdir(parents=True)
        whole = {"rows": {"condensed": evaluation}, "torch": "2.6", "device": "cpu"}
        files.evaluation.write_text(json.dumps(whole))
        (made,) = rows_of([of], folder, published)
        return made

    for of, accuracies, verdict, word in (
        (exact, (0.485, 0.489), True, "published"),
        (exact, (0.40, 0.41), False, "published"),
        (reduced, (0.485, 0.489), None, "changed"),
    ):
        made = row(of, *accuracies)
        assert (made.recovered, made.settings, made.published) == (verdict, word, 48.9)
        assert made.augmented


def test_a_wrong_file_is_refused():
    figure = {"method": "dm", "data": "CIFAR10", "per_class": 10, "accuracy": 48.9, "source": "x"}
    base = {"sources": {"x": "a paper"}, "settings": {}}
    assert build(Published, {**base, "figures": [figure]}).settings == ()
    with pytest.raises(ConfigError, match="two for dm on CIFAR10 at 10"):
        build(Published, {**base, "figures": [figure, figure]})
    with pytest.raises(ConfigError, match="source 'y'"):
        build(Published, {**base, "figures": [{**figure, "source": "y"}]})
    with pytest.raises(ConfigError, match="in percent"):
        build(Published, {**base, "figures": [{**figure, "accuracy": 0}]})
    assert Settings(set=("a=1",), at=(("10", ("b=2",)),)).changes(10) == ["a=1", "b=2"]
