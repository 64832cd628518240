"""Options and assignments change a configuration in the same way, however the file is spelled."""

from pathlib import Path
from typing import Any

import pytest
from families import Blend, Colour, Grey, House, Red

from experiments import commands
from experiments.config import ConfigError, build, merge, override, write_yaml
from experiments.data import Images, Npz, Source, Torchvision, source_named
from experiments.method import method_tree
from experiments.report import Report

SPELLED: dict[str, Any] = {
    "absent": None,
    "name": "digits",
    "kind": {"kind": "torchvision", "name": "MNIST", "root": "/elsewhere"},
    "short": {"torchvision": "CIFAR10"},
    "images": {"kind": "images", "path": "others", "size": 16, "channels": 1},
    "held out": {"held_out": {"of": "digits", "fraction": 0.2}},
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "imgs").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def planned(monkeypatch: pytest.MonkeyPatch, tree: Any, **options: Any) -> Any:
    """The experiment that ``condense run FILE`` makes of a file with this tree, and its folder."""
    Path("mine.yaml").write_text(write_yaml(tree))
    made: list[Any] = []

    def run(experiment: Any, folder: Any, *_: Any) -> Report:
        made.append((experiment, folder.path))
        return Report(title="", sections=())

    monkeypatch.setattr("experiments.commands.running._run", run)
    commands.run("mine.yaml", **options)
    return made[0]


@pytest.mark.parametrize("before", SPELLED.values(), ids=SPELLED)
@pytest.mark.parametrize("data", ["digits", "mnist", "imgs", "some.npz", "{kind: images, path: imgs, size: 16}"])
def test_data_replace_those_of_the_file(before: Any, data: str, here: Path, monkeypatch: pytest.MonkeyPatch):
    tree = {**method_tree("random"), **({} if before is None else {"data": before})}
    experiment, _ = planned(monkeypatch, tree, data=data)
    assert experiment.data == source_named(data)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("{kind: images, path: imgs, size: 16}", Images(path="imgs", size=16)),
        ("{npz: some.npz}", Npz(path="some.npz")),
        ("{torchvision: mnist}", Torchvision(name="MNIST", root="/root")),
        (
            "{held_out: {of: {torchvision: mnist}}}",
            build(Source, {"held_out": {"of": {"torchvision": {"name": "MNIST", "root": "/root"}}}}),
        ),
    ],
)
def test_data_are_named_in_yaml(text: str, source: Source):
    assert source_named(text, root="/root") == source


def test_data_in_yaml_are_checked_like_a_configuration():
    with pytest.raises(ConfigError, match=r"^data\.siez: unknown key; did you mean 'size'"):
        source_named("{kind: images, path: imgs, siez: 16}")


def test_an_assignment_changes_the_data_that_are_named(here: Path, monkeypatch: pytest.MonkeyPatch):
    experiment, _ = planned(monkeypatch, method_tree("random"), data="imgs", changes=["data.size=8"])
    assert experiment.data == Images(path="imgs", size=8)


@pytest.mark.parametrize(
    "synthetic",
    [
        None,
        "pixels",
        {"pixels": None},
        {"pixels": {"per_class": 2, "examples": 33}},
        {"kind": "pixels", "examples": 33},
    ],
    ids=["absent", "name", "short", "short with settings", "kind"],
)
def test_a_number_a_class_is_that_of_the_file_changed(synthetic: Any, here: Path, monkeypatch: pytest.MonkeyPatch):
    tree = {**method_tree("dm"), "data": "digits", "synthetic": synthetic}
    if synthetic is None:
        del tree["synthetic"]
    for options in ({"per_class": 3}, {"changes": ["synthetic.per_class=3", "synthetic.examples=null"]}):
        experiment, _ = planned(monkeypatch, tree, **options)
        assert (experiment.synthetic.per_class, experiment.synthetic.examples) == (3, None)


def test_changes_go_into_parts_that_are_written_in_short():
    tree = {
        "wall": {"grey": 0.25},
        "door": {"blend": {"of": {"grey": {"gamma": 2.0}}}},
        "jobs": {"a": {"paint": {"grey": 0.5}}},
    }
    changed = override(tree, ["wall.gamma=3", "door.share=0.1", "door.of.level=0.75", "jobs.a.paint.gamma=4"], House)
    house = build(House, changed)
    assert house.wall == Grey(level=0.25, gamma=3.0)
    assert house.door == Blend(of=Grey(level=0.75, gamma=2.0), share=0.1)
    assert dict(house.jobs)["a"].paint == Grey(gamma=4.0)
    assert tree["wall"] == {"grey": 0.25}
    assert build(House, override(tree, ["wall.grey=0.125"], House)).wall == Grey(level=0.125)
    assert build(House, merge(tree, {"wall": {"gamma": 3.0}}, House)).wall == Grey(level=0.25, gamma=3.0)
    assert build(House, merge(tree, {"wall": {"grey": {"gamma": 3.0}}}, House)).wall == Grey(level=0.25, gamma=3.0)
    assert build(House, merge(tree, {"wall": {"red": None}}, House)).wall == Red()


def test_changes_of_what_is_not_there_change_the_default():
    default = Blend(of=Grey(level=0.125), share=0.25)

    class Shed(Colour, kind="shed_by_test"):
        paint: Colour = default

    try:
        changed = override({}, ["paint.share=0.75", "paint.of.gamma=2"], Shed)
        assert build(Shed, changed).paint == Blend(of=Grey(level=0.125, gamma=2.0), share=0.75)
        assert build(Shed, override({}, ["paint.kind=grey", "paint.level=0.75"], Shed)).paint == Grey(level=0.75)
        assert build(Shed, merge({}, {"paint": {"share": 0.75}}, Shed)).paint == Blend(of=default.of, share=0.75)
        assert build(Shed, merge({}, {"paint": {"grey": 0.75}}, Shed)).paint == Grey(level=0.75)
    finally:
        Colour.members.pop("shed_by_test")


def test_default_folders_differ_where_runs_do(here: Path, monkeypatch: pytest.MonkeyPatch):
    tree = {**method_tree("dm"), "data": "digits"}
    settings: list[dict[str, Any]] = [
        {},
        {"seed": 1},
        {"per_class": 2},
        {"data": "imgs"},
        {"data": "imgs.v1"},
        {"data": "imgs.v2"},
        {"data": "some.npz"},
        {"validation": True},
    ]
    for name in ("imgs.v1", "imgs.v2"):
        (here / name).mkdir()
    folders = [str(planned(monkeypatch, tree, **options)[1]) for options in settings]
    assert folders[:3] == ["runs/mine-digits-10", "runs/mine-digits-10-seed1", "runs/mine-digits-2"]
    assert len(set(folders)) == len(folders)
