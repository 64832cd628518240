"""Parts and their registry; every registered discrepancy is under the contract."""

import importlib
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from contract import DiscrepancyContract, claims

from discrepancy import MMD, Discrepancy, Gaussian, Measure
from discrepancy.kernels import Kernel, Linear, Median
from discrepancy.parts import FAMILIES, Part, plain


@pytest.fixture
def family() -> Iterator[type[Part]]:
    class Shape(Part, family=True):
        pass

    yield Shape
    del FAMILIES["shape"]


def test_a_kind_registers_itself_in_its_family(family: type[Part]):
    class Square(family, kind="square"):
        side: float = 1.0

    assert FAMILIES["shape"] is family
    assert family.members == {"square": Square}
    assert Square.kind == "square"
    assert "square" not in Kernel.members


def test_an_abstract_class_between_opens_no_family(family: type[Part]):
    class Round(family):
        pass

    class Circle(Round, kind="circle"):
        pass

    assert Circle.family is family
    assert Round.members is family.members
    assert "round" not in FAMILIES


def test_a_kind_is_a_frozen_keyword_only_value():
    assert Gaussian(lengthscale=2.0) == Gaussian(lengthscale=2.0) != Gaussian(lengthscale=3.0)
    assert len({MMD(kernel=Gaussian()), MMD(kernel=Gaussian()), MMD()}) == 2
    with pytest.raises(FrozenInstanceError, match="lengthscale"):
        Gaussian().lengthscale = 2.0  # pyright: ignore
    with pytest.raises(TypeError, match="positional"):
        Gaussian(2.0)  # pyright: ignore


def test_a_taken_kind_is_refused(family: type[Part]):
    class First(family, kind="one"):
        pass

    with pytest.raises(TypeError, match=r"the kind 'one' of Shape is already .*First; choose another name"):

        class Second(family, kind="one"):
            pass


def test_a_reloaded_module_may_declare_its_kinds_again(family: type[Part]):
    def declare() -> type[Part]:
        class Same(family, kind="same"):
            pass

        return Same

    declare()
    again = declare()
    assert family.members == {"same": again}


def test_description_holds_what_differs_from_the_defaults():
    assert MMD().describe() == {"kind": "mmd"}
    assert MMD(kernel=Gaussian(lengthscale=Median(factor=0.5)), root=True).describe() == {
        "kind": "mmd",
        "kernel": {"kind": "gaussian", "lengthscale": {"kind": "median", "factor": 0.5}},
        "root": True,
    }


def test_plain_turns_tuples_into_lists():
    assert plain((1, (Linear(), "a"))) == [1, [{"kind": "linear"}, "a"]]


def test_an_interface_cannot_be_built():
    with pytest.raises(TypeError, match="abstract"):
        Kernel()  # pyright: ignore


def contract_classes() -> set[type[DiscrepancyContract]]:
    """Every subclass of the contract in this folder's test modules, and theirs."""
    for path in Path(__file__).parent.glob("test_*.py"):
        if "instances" in path.read_text():
            importlib.import_module(path.stem)
    found, left = set(), [DiscrepancyContract]
    while left:
        below = left.pop().__subclasses__()
        found.update(below)
        left.extend(below)
    return found


def test_every_discrepancy_is_under_the_contract():
    ours = {kind for kind, cls in Discrepancy.members.items() if cls.__module__.startswith("discrep")}
    under = {instance.kind for cls in contract_classes() for instance in getattr(cls, "instances", {}).values()}
    assert not ours - under, f"add a DiscrepancyContract with an instance of {sorted(ours - under)}"


def test_a_member_without_tags_fails_the_contract():
    class Silent(Discrepancy):
        tags = frozenset()  # pyright: ignore

        def summarise_groups(self, real: Measure, draws):
            return None

        def compare_groups(self, summary, synthetic: Measure, draws):
            raise AssertionError

        def merge_groups(self, first, second, draws):
            raise AssertionError

    with pytest.raises(AssertionError, match="claims no law; give it tags"):
        claims(Silent())


def test_a_member_that_forgets_tags_cannot_be_built():
    class Forgetful(Discrepancy):
        def summarise_groups(self, real: Measure, draws):
            return None

        def compare_groups(self, summary, synthetic: Measure, draws):
            raise AssertionError

        def merge_groups(self, first, second, draws):
            raise AssertionError

    with pytest.raises(TypeError, match="tags"):
        Forgetful()  # pyright: ignore
