"""Imports go one way, experiments -> objectives -> discrepancy, and every public name exists."""

import ast
import importlib
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
ORDER = ("discrepancy", "objectives", "experiments")
MODULES = sorted(path for package in ORDER for path in (ROOT / package).rglob("*.py"))
LISTED = [
    path
    for path in MODULES
    if any(not isinstance(node, ast.Expr) for node in ast.parse(path.read_text(encoding="utf-8")).body)
]
"""All but those that hold nothing but a docstring."""


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    """The packages of all imports of a file, at any depth; relative imports count as an error of their own."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("(relative)" if node.level else str(node.module).split(".")[0])
    return found


def test_there_are_modules() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in MODULES} == set(ORDER)


def test_imports_go_one_way() -> None:
    for path in MODULES:
        above = ORDER[ORDER.index(path.relative_to(ROOT).parts[0]) + 1 :]
        assert not imported(path) & {*above, "tests", "(relative)"}, name_of(path)


def test_what_is_imported_is_declared() -> None:
    """Among the dependencies, or the optional ones of users; a package that comes with another one counts for itself."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = [lines for name, lines in project["optional-dependencies"].items() if name != "dev"]
    declared = {spelt(re.split(r"[^\w.-]", line)[0]) for line in sum(optional, project["dependencies"])}
    owners = packages_distributions()
    for path in MODULES:
        for package in imported(path) - set(sys.stdlib_module_names) - set(ORDER):
            assert {spelt(name) for name in owners.get(package, [package])} & declared, f"{name_of(path)}: {package}"


def spelt(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_public_names_exist() -> None:
    for path in LISTED:
        module = importlib.import_module(name_of(path))
        assert len(set(module.__all__)) == len(module.__all__), name_of(path)
        for name in module.__all__:
            assert getattr(module, name) is not None, f"{name_of(path)}.{name}"
