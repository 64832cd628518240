"""What ``discrepancy`` offers by name: every kind can be reached, and every name has a docstring with an example that runs."""

import doctest
import importlib
import inspect
from pathlib import Path
from types import ModuleType

import pytest

import discrepancy
import objectives
from discrepancy.parts import FAMILIES

ROOMS: dict[str, ModuleType] = {
    "discrepancy": discrepancy,
    **{name: item for name in discrepancy.__all__ if inspect.ismodule(item := getattr(discrepancy, name))},
}
NAMES = {
    f"{item.__module__}.{item.__qualname__}": item
    for room in ROOMS.values()
    for item in (getattr(room, name) for name in room.__all__)
    if inspect.isclass(item) or inspect.isfunction(item)
}
ROOT = Path(discrepancy.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
)


def test_the_rooms_have_names():
    assert {"kernels", "learners", "embeddings", "networks", "recovery", "transport"} <= ROOMS.keys()
    for name, room in ROOMS.items():
        assert room.__all__, f"'{name}' lists no public name"


@pytest.mark.parametrize("package", [discrepancy, objectives], ids=lambda package: package.__name__)
def test_no_public_name_is_that_of_a_module_of_its_package(package: ModuleType):
    """Else the import of that module would put it in the name's place."""
    folder = Path(package.__path__[0])
    modules = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert {name for name in modules & {*package.__all__} if not inspect.ismodule(getattr(package, name))} == set()
    assert set(dir(package)) == {*package.__all__}
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'nothing'"):
        package.nothing  # noqa: B018


def test_every_kind_is_a_public_name():
    for family in FAMILIES.values():
        for kind in family.members.values():
            if kind.__module__.startswith("discrepancy."):
                assert f"{kind.__module__}.{kind.__qualname__}" in NAMES, f"add '{kind.__qualname__}' to an __all__"


def test_a_public_name_has_an_example():
    for name, item in NAMES.items():
        documented = inspect.getdoc(item) or ""
        own = item.__doc__ or ""
        assert documented == inspect.cleandoc(own), f"{name} has no docstring of its own"
        assert doctest.DocTestParser().get_examples(own), f"{name} has no example; add one that runs, with >>>"


def test_the_examples_run():
    """All that stand in the package, public or not, each with nothing but its own imports."""
    failures, found = [], 0
    runner = doctest.DocTestRunner(verbose=False)
    for module in map(importlib.import_module, MODULES):
        for case in doctest.DocTestFinder(exclude_empty=True).find(module, globs={}):
            found += bool(case.examples)
            runner.run(case, out=failures.append)
    assert not failures, "".join(failures)
    assert found >= len(NAMES)


def test_an_example_that_is_wrong_fails():
    said: list[str] = []
    case = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    doctest.DocTestRunner(verbose=False).run(case, out=said.append)
    assert "Expected:" in "".join(said)
