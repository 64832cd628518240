"""Small families of parts, and a plain dataclass made of them, for the tests of configurations."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pytest

from discrepancy.errors import InvalidInput
from discrepancy.parts import Part
from experiments.config import (
    ConfigError,
    build,
)


class Colour(Part, family=True):
    """A family for these tests."""


class Red(Colour, kind="red"):
    pass


class Grey(Colour, kind="grey"):
    """Some grey, of a level
    and a gamma. More about it.

    And more.
    """

    shorthand: ClassVar[str] = "level"
    level: float = 0.5
    gamma: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.level <= 1:
            raise InvalidInput(f"'level' must lie in [0, 1], got {self.level}")
        if self.level == self.gamma:
            raise InvalidInput("level and gamma must differ")


class Mixed(Colour):
    """An abstract class between the family and its kinds."""


class Blend(Mixed, kind="blend"):
    shorthand: ClassVar[str] = "of"
    of: Colour
    share: float | Colour = 0.5


class Layers(Mixed, kind="layers"):
    colours: tuple[Colour, ...] = (Red(), Grey(level=0.25))
    named: tuple[tuple[str, Colour], ...] = ()
    options: tuple[tuple[str, float | int | bool | str], ...] = ()
    size: tuple[int, int] = (2, 3)


class Role(Part, family=True):
    tagged_by_field: ClassVar[bool] = True


class Paint(Role, kind="paint"):
    paint: Colour
    coats: int = 1


class Wash(Role, kind="wash"):
    wash: Literal["warm", "cold"] = "cold"


@dataclass(frozen=True)
class House:
    """A plain dataclass."""

    wall: Colour
    door: Colour | None = None
    roof: Mixed | None = None
    name: str = ""
    floors: int | Literal["many"] = 1
    height: float = 2.5
    lived_in: bool = False
    finish: Literal["matt", "gloss"] = "matt"
    jobs: tuple[tuple[str, Role], ...] = ()
    note: str | Colour = ""
    grey: Grey = field(default_factory=Grey)


def report(tree: Any, type_: Any = House) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        build(type_, tree)
    lines = str(caught.value).split("\n")
    assert lines == [str(mistake) for mistake in caught.value.mistakes]
    return lines
