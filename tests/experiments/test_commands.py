"""The commands from Python with plain values; a run folder in place of an artefact; reports as files."""

import json
from pathlib import Path

import pytest

from discrepancy.errors import InvalidInput
from experiments import commands
from experiments.cli import main
from experiments.report import as_text
from objectives.synthetic.artefact import SyntheticSet

SMALL = {"changes": ["network.width=4", "epochs=2"], "networks": 1, "quiet": True}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands") / "run"
    made = commands.run(
        "dm",
        data="digits",
        per_class=1,
        steps=12,
        changes=["context.network.width=4", "context.batch=8"],
        out=folder,
        quiet=True,
    )
    assert made.data["artefact"] == str(folder / "result.safetensors")
    assert made.data["steps"] == 12
    assert made.complete
    return folder


def test_a_run_folder_stands_for_its_result(template: Path, tmp_path: Path) -> None:
    by_folder = commands.evaluate(template, controls=["random"], **SMALL).data
    by_file = commands.evaluate(template / "result.safetensors", controls=["random"], **SMALL).data
    for found in (by_folder, by_file):
        for row in found["rows"].values():
            del row["seconds"]
    assert by_folder == by_file
    assert list(by_folder["rows"]) == ["condensed", "random"]
    assert commands.show(str(template)).data == commands.show(str(template / "result.safetensors")).data
    assert f"10 examples in {tmp_path / 'a.npz'}" in as_text(commands.export(template, tmp_path / "a.npz"))
    settings = {"discrepancies": "mean", "by": "none", "resamples": 10, "quiet": True}
    apart = [
        commands.compare(["digits", str(what)], **settings) for what in (template, template / "result.safetensors")
    ]
    assert apart[0].data["rows"] == apart[1].data["rows"]
    assert list(apart[0].data["sets"]) == ["run"]
    turned = commands.compare([str(template), "digits"], **settings)
    assert (turned.data["real"]["examples"], turned.data["sets"]["digits"]["examples"]) == (10, 1437)


def test_a_configuration_of_a_comparison_names_run_folders_too(template: Path, tmp_path: Path) -> None:
    tree = {"real": "digits", "discrepancies": "mean", "by": "none", "resamples": 10}
    for sets in ({"mine": str(template)}, [str(template)]):
        (tmp_path / "a.yaml").write_text(json.dumps({**tree, "sets": sets}))
        found = commands.compare([str(tmp_path / "a.yaml")], quiet=True)
        assert found.data["sets"].keys() == {"mine" if isinstance(sets, dict) else "run"}


def test_a_folder_without_a_result_is_said_to_be_one(template: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(InvalidInput, match=r"the folder '.*images' holds no result.safetensors; name a run folder"):
        commands.evaluate(tmp_path / "images", **SMALL)
    begun = tmp_path / "begun"
    begun.mkdir()
    for name in ("config.yaml", "checkpoint.pt"):
        (begun / name).write_bytes((template / name).read_bytes())
    for command in (lambda: commands.evaluate(begun, **SMALL), lambda: commands.compare(["digits", str(begun)])):
        with pytest.raises(InvalidInput, match=r"is not finished; finish it with: condense run --out .*begun --resume"):
            command()


def test_the_artefact_of_a_run_folder_is_labelled(template: Path, tmp_path: Path) -> None:
    made = commands.label(template, out=tmp_path / "b.safetensors", teacher=TEACHER, quiet=True)
    assert SyntheticSet.load(tmp_path / "b.safetensors").labelling.kind == "teacher"
    assert made.data["teacher"].endswith(" % accuracy on 360 test examples")


@pytest.mark.parametrize("ending", ["html", "md", "csv", "json"])
def test_the_report_of_an_evaluation_as_a_file(
    template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    file = tmp_path / "new" / f"found.{ending}"
    options = ["--networks", "1", "--set", "network.width=4", "--set", "epochs=2", "--controls", "none", "--quiet"]
    assert main(["evaluate", str(template), *options, "--report", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    text = file.read_text(encoding="utf-8")
    accuracy = f"{100 * found['rows']['condensed']['mean']:.1f}"
    match ending:
        case "json":
            assert json.loads(text) == found
        case "csv":
            assert text.startswith("set,accuracies,")
        case "md":
            assert f"| condensed | 10 | hard | {accuracy} | - |" in text
            assert (file.parent / "found-examples.png").exists()
        case _:
            assert f'<td class="right">{accuracy}</td>' in text
            assert text.count("data:image/png;base64,") == 1


def test_the_report_of_a_run_has_its_pictures(template: Path, tmp_path: Path) -> None:
    assert main(["show", str(template), "--report", str(tmp_path / "run.html")]) == 0
    assert (tmp_path / "run.html").read_text(encoding="utf-8").count("data:image/png;base64,") == 2


def test_an_ending_without_a_form_is_refused_before_any_work(
    template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["evaluate", str(template)], ["compare", "digits", "digits:test"]):
        assert main([*command, "--report", str(tmp_path / "a.htm")]) == 2
        error = capsys.readouterr().err
        assert "a.htm' must end in one of .md, .html, .csv, .json" in error
        assert len(error.splitlines()) == 1


TEACHER = "{network: {kind: convnet, width: 4, depth: 2}, rounds: 1, training: {steps: 2}}"
COMPARED = ["--discrepancies", "mean", "--by", "none", "--resamples", "10", "--quiet"]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("a.npz", ["export", "RUN", "FILE"]),
        ("a.safetensors", ["label", "RUN", "--teacher", TEACHER, "--quiet", "--out", "FILE"]),
        ("a.teacher.safetensors", ["label", "RUN", "--teacher", TEACHER, "--quiet", "--out", "FOLDER/a.safetensors"]),
        ("comparison.png", ["compare", "digits", "RUN", *COMPARED, "--out", "FOLDER"]),
        ("a.csv", ["compare", "digits", "RUN", *COMPARED, "--report", "FILE"]),
        ("a.html", ["show", "RUN", "--report", "FILE"]),
        ("a-examples.png", ["show", "RUN", "--report", "FOLDER/a.md"]),
        ("a.json", ["evaluate", "RUN", "--controls", "none", "--set", "epochs=1", "--quiet", "--report", "FILE"]),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_what_exists_is_overwritten_by_force_alone(
    template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, command: list[str]
) -> None:
    places = {"RUN": str(template), "FILE": str(tmp_path / name), "FOLDER": str(tmp_path)}
    for place, path in places.items():
        command = [part.replace(place, path) for part in command]
    (tmp_path / name).write_text("mine")
    assert main(command) == 2
    assert f"{name}' exists already; name another file, or overwrite it with --force" in capsys.readouterr().err
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "mine")]
    assert main([*command, "--force"]) == 0
    assert (tmp_path / name).read_bytes() != b"mine"


def test_show_writes_a_picture_where_there_is_none_and_where_it_can(
    template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    artefact, picture = tmp_path / "a.safetensors", tmp_path / "a.png"
    artefact.write_bytes((template / "result.safetensors").read_bytes())

    def refused(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("os.open", refused)
        assert main(["show", str(artefact)]) == 0
    shown = capsys.readouterr()
    assert "1x8x8" in shown.out
    assert "a.png" not in shown.out
    assert shown.err == ""
    picture.write_text("mine")
    assert main(["show", str(artefact)]) == 0
    assert picture.read_text() == "mine"
    assert main(["show", str(artefact), "--force"]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_show_for_programs_writes_no_picture(template: Path, tmp_path: Path) -> None:
    copy = tmp_path / "a.safetensors"
    copy.write_bytes((template / "result.safetensors").read_bytes())
    assert main(["show", str(copy), "--json"]) == 0
    assert not copy.with_suffix(".png").exists()
    assert main(["show", str(copy)]) == 0
    assert copy.with_suffix(".png").exists()


def test_an_interrupted_run_says_how_to_continue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.commands.running.run_experiment", stop)
    settings = {"data": "digits", "per_class": 1, "out": tmp_path / "run", "quiet": True}
    with pytest.raises(KeyboardInterrupt, match=r"^interrupted$"):
        commands.run("dm", **settings)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("")
    with pytest.raises(KeyboardInterrupt, match=r"^interrupted; continue with: condense run --out .*run --resume$"):
        commands.run("dm", **settings)
