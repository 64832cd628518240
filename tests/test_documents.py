"""What the documents show is run, parsed or compared with its source; generated pages are up to date."""

import importlib
import re
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from discrepancy import Measure
from discrepancy.parts import FAMILIES
from experiments.config import build, read
from experiments.config.files import parse_value
from experiments.config.hints import kinds_of
from experiments.data import Digits
from experiments.docs import pages
from experiments.docs.api import PACKAGES, public_names
from experiments.docs.methods import conformance_tests
from experiments.docs.sources import Sources
from experiments.experiment import Experiment, configured
from experiments.parser import command_parser
from objectives import SyntheticSet
from objectives.methods import available

ROOT = Path(__file__).parents[1]
GENERATED = {path.relative_to(ROOT).as_posix() for path in pages(ROOT)}
WRITTEN = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    if path.relative_to(ROOT).as_posix() not in GENERATED
)


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(document), re.S | re.M)


def commands(document: str) -> list[str]:
    """The lines of a document's shell blocks that call ``condense``, and what stands between backquotes with its arguments;
    without those that hold a placeholder such as METHOD."""
    lines = "\n".join(blocks(document, "sh")).replace("\\\n", " ").splitlines()
    lines = [line.partition(" #")[0].rstrip() for line in lines]
    inline = [" ".join(code.split()) for code in re.findall(r"`(condense [^`]+)`", text_of(document))]
    lines += [line for line in inline if len(line.split()) > 2]
    return [line for line in lines if line.startswith("condense ") and not re.search(r"\.\.\.|[A-Z]{3}", line)]


@pytest.fixture
def namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Where the code of a document runs: in an empty folder, and without parts left over from it."""
    monkeypatch.chdir(tmp_path)
    for family in FAMILIES.values():
        monkeypatch.setattr(family, "members", dict(family.members))
    return {"__name__": __name__}


@pytest.mark.parametrize("document", [document for document in WRITTEN if blocks(document, "python")])
def test_the_python_of_a_document_runs(document: str, namespace: dict[str, Any]):
    for code in blocks(document, "python"):
        exec(compile(code, document, "exec"), namespace)


def test_the_readme_is_short_and_names_the_two_commands():
    text = text_of("README.md")
    assert len(text.splitlines()) <= 120
    assert "make demo" in text
    assert "make test" in text
    (code,) = blocks("README.md", "python")
    assert len([line for line in code.splitlines() if line]) <= 12


def test_the_readme_makes_a_set(namespace: dict[str, Any]):
    (code,) = blocks("README.md", "python")
    exec(compile(code, "README.md", "exec"), namespace)
    assert SyntheticSet.load("digits.safetensors").points.shape == (50, 1, 8, 8)


def test_the_exact_example_is_exact_and_short(namespace: dict[str, Any]):
    (code,) = blocks("docs/exact.md", "python")
    exec(compile(code, "docs/exact.md", "exec"), namespace)
    assert code.count("assert") == 2
    assert len([line for line in code.splitlines() if line]) <= 20
    assert float(namespace["noise"].std()) > 100


def test_the_configuration_that_is_shown_is_the_method_dm():
    (text,) = blocks("docs/configuration.md", "yaml")
    shown, method = parse_value(text), read(available()["dm"])
    data = {"data": {"kind": Digits.kind}}
    del method["method"]
    assert build(Experiment, configured(shown, data)) == build(Experiment, configured(method, data))


def test_an_objective_of_your_own_is_the_same_in_python_and_in_yaml(namespace: dict[str, Any]):
    code, *_ = blocks("docs/objectives.md", "python")
    (text,) = blocks("docs/objectives.md", "yaml")
    exec(compile(code, "docs/objectives.md", "exec"), namespace)
    made = build(Experiment, parse_value(text))
    assert made.objective == namespace["objective"]
    assert made.context == namespace["context"]


def test_the_discrepancy_of_the_contributing_guide_works(namespace: dict[str, Any]):
    (code,) = blocks("CONTRIBUTING.md", "python")
    exec(compile(code, "CONTRIBUTING.md", "exec"), namespace)
    x = namespace["torch"].tensor([[0.0], [2.0]])
    value = namespace["MeanVariance"]()(Measure(x), Measure(x + 1))
    assert value.item() == pytest.approx(1.0**2 + (5.0 - 2.0) ** 2)
    assert len(code[code.index("class") :].splitlines()) <= 20


@pytest.mark.parametrize("document", [document for document in WRITTEN if commands(document)])
def test_the_commands_of_a_document_are_commands(document: str, capsys: pytest.CaptureFixture[str]):
    for line in commands(document):
        words = shlex.split(line)
        try:
            options = command_parser().parse_args(words[1:])
        except SystemExit:
            pytest.fail(f"{line!r}: {capsys.readouterr().err}")
        if options.command == "run" and options.what is not None:
            assert options.what in available() or options.what.endswith(".yaml"), line


@pytest.mark.parametrize("document", [*WRITTEN, *sorted(GENERATED)])
def test_links_lead_somewhere(document: str):
    here = (ROOT / document).parent
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```", "", text_of(document), flags=re.S | re.M)):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (here / path).resolve() if path else ROOT / document
        assert file.exists(), f"{document}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.M)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{document}: {target}"


def test_generated_pages_are_up_to_date():
    made = pages(ROOT)
    stale = [path.name for path, text in made.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    left = {*(ROOT / "docs" / "api").glob("*.md")} - made.keys()
    assert not stale, f"{stale} are out of date; run 'make docs'"
    assert not left, f"{sorted(path.name for path in left)} describe nothing any more; run 'make docs'"


def test_every_packaged_method_has_a_conformance_test():
    assert set(conformance_tests(ROOT)) == set(available())


def test_every_public_name_is_in_the_reference():
    index = text_of("docs/api.md")
    for owner in public_names(Sources(ROOT, PACKAGES)):
        module = importlib.import_module(owner)
        for name in module.__all__:
            if not isinstance(getattr(module, name), ModuleType):
                described = set(re.findall(rf"\[`{name}`\]\((api/[\w.]+\.md)#{name.lower()}\)", index))
                assert described, f"{owner}.{name}"
                for page in described:
                    assert re.search(rf"^## {name}$", text_of(f"docs/{page}"), re.M), f"{owner}.{name}"


def test_every_package_that_lists_names_is_in_the_reference():
    owners = public_names(Sources(ROOT, PACKAGES))
    for package in PACKAGES:
        for file in (ROOT / package).glob("*/__init__.py"):
            name = f"{package}.{file.parent.name}"
            assert (name in owners) == hasattr(importlib.import_module(name), "__all__")


def test_every_public_name_has_a_docstring():
    missing = [
        f"{owner}.{name}"
        for owner, names in public_names(Sources(ROOT, PACKAGES)).items()
        for name, item in names.items()
        if not item.docstring
    ]
    assert not missing


def test_every_kind_is_in_a_table():
    skipped = ("by_learner", "protocol", "recipe")  # of evaluations and studies, not of a run
    kinds = [
        (family, kind)
        for family, owner in FAMILIES.items()
        for kind, cls in kinds_of(owner).items()
        if family not in skipped
        and cls.__module__.split(".")[0] in (*PACKAGES, "experiments")  # tests register parts of their own
    ]
    assert len(kinds) > 100
    for family, kind in kinds:
        page = "docs/discrepancies.md" if family == "discrepancy" else "docs/configuration.md"
        assert f"`{kind}`" in text_of(page), f"{family} {kind} has no row in {page}"
