"""How the packages are built: rooms import lower rooms only, real examples are read in one room, no code asks for a kind."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from discrepancy.parts import FAMILIES, Part

ROOT = Path(__file__).parents[1]

ROOMS = {
    "discrepancy": [
        {"deferred", "errors", "parts", "arrays", "scale", "precision", "reductions"},
        {"measure"},
        {"discrepancy", "calls", "summaries", "kernels", "numerics", "arguments"},
        {"networks"},
        {
            "embeddings",
            "learning",
            "mean_embeddings",
            "moments",
            "transport",
            "divergences",
            "cover",
            "datasets",
            "joint",
        },
        {"smooth_cover"},
        {"public"},
    ],
    "objectives": [
        {"rng", "storage"},
        {"data"},
        {"attacks"},
        {"synthetic"},
        {"covering"},
        {"training"},
        {"contexts"},
        {"terms"},
        {"engine"},
        {"solvers"},
        {"covering_numbers"},
        {"teacher", "methods"},
        {"privacy", "transforms"},
        {"condensation"},
        {"public"},
    ],
}
"""From lower to higher; rooms of one set may import each other."""


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_import_lower_rooms_only(package: str) -> None:
    level = {room: number for number, rooms in enumerate(ROOMS[package]) for room in rooms}
    wrong = []
    for path in modules(package):
        room = path.relative_to(ROOT / package).with_suffix("").parts[0]
        if room == "__init__":
            continue
        assert room in level, f"'{room}' of {package} is in no place; add it to ROOMS"
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == package and len(parts) > 1 and level.get(parts[1], -1) > level[room]:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong


RAW = re.compile(r"\.(train|test)\.(points|soft|targets|take)\b|\bdata\.points\b")


def test_real_examples_are_read_in_the_data_rooms_alone() -> None:
    """Elsewhere they come from ``RealData``: ``rows``, ``normalised``, ``summaries``."""
    rooms = (ROOT / "objectives" / "data", ROOT / "experiments" / "data")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for package in ("objectives", "experiments")
        for path in modules(package)
        if not any(path.is_relative_to(room) for room in rooms)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if RAW.search(line)
    ]
    assert not found


def classes_asked_for(path: Path) -> Iterator[tuple[int, type]]:
    """The classes of every ``isinstance`` of a module, with the line."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    module = importlib.import_module(name)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        asked = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance"
        if not asked or len(node.args) != 2:
            continue
        for part in ast.walk(node.args[1]):
            found = getattr(module, part.id, None) if isinstance(part, ast.Name) else None
            if isinstance(found, type):
                yield node.lineno, found


def test_no_code_above_the_discrepancies_asks_for_a_kind() -> None:
    """What a kind can do is said by its family's properties; a new kind then needs no edit elsewhere."""
    kinds = {kind for family in FAMILIES.values() for kind in family.members.values()} - set(FAMILIES.values())
    found = [
        f"{path.relative_to(ROOT)}:{line} {cls.__name__}"
        for package in ("objectives", "experiments")
        for path in modules(package)
        if path.name != "__main__.py"
        for line, cls in classes_asked_for(path)
        if issubclass(cls, Part) and cls in kinds
    ]
    assert not found
