"""What may be known of a data set without looking at an example."""

import functools
from abc import ABC, abstractmethod
from dataclasses import dataclass

from discrepancy.errors import InvalidInput
from objectives.data.units import Normalisation

__all__ = ["DataSpec", "Described", "listed"]


@dataclass(frozen=True)
class DataSpec:
    """The shape of an example, the classes, and the units.

    Args:
        name: what the data set is called.
        shape: of one example, without the axis of the examples.
        classes: names of the classes; empty where there are none.
        normalisation: from the units of the source to those in which networks see examples.
        mirror: whether an image and its mirror image have the same label.
        limits: the range of valid values in the units of the source, for instance (0, 255); None where it is not known.
        target_units: of a regression, from the targets' own units to those in which they are compared and learned: one mean and
            standard deviation for each column.

    Raises:
        InvalidInput: for a single class, two classes of one name, or a normalisation of another number of channels.
    """

    name: str
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    normalisation: Normalisation
    mirror: bool = False
    limits: tuple[float, float] | None = None
    target_units: Normalisation | None = None

    def __post_init__(self) -> None:
        if self.classes and (len(self.classes) < 2 or len(set(self.classes)) != len(self.classes)):
            raise InvalidInput(
                f"'{self.name}' must have at least two classes with different names, got {listed(self.classes)}"
            )
        if len(self.normalisation.mean) not in (1, self.shape[0]):
            raise InvalidInput(
                f"the normalisation of '{self.name}' has {len(self.normalisation.mean)} channels, "
                f"but its examples have shape {self.shape}"
            )

    @property
    def count(self) -> int:
        """The number of classes c; 1 where there are none, and all examples are treated as one class."""
        return len(self.classes) or 1

    @property
    def outputs(self) -> int:
        """The outputs of a network for these data: one for each class or target; one where there are no labels."""
        return len(self.target_units.mean) if self.target_units is not None else self.count


class Described(ABC):
    """Whatever has a :class:`DataSpec`, with the fields of it as its own."""

    @property
    @abstractmethod
    def spec(self) -> DataSpec:
        """What may be known without looking at an example."""

    @property
    def name(self) -> str:
        return self.spec.name

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return self.spec.shape

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; empty where there are none."""
        return self.spec.classes

    @functools.cached_property
    def normalisation(self) -> Normalisation:
        return self.spec.normalisation

    @property
    def mirror(self) -> bool:
        return self.spec.mirror

    @property
    def limits(self) -> tuple[float, float] | None:
        return self.spec.limits

    @property
    def target_units(self) -> Normalisation | None:
        return self.spec.target_units

    @functools.cached_property
    def count(self) -> int:
        """The number of classes; 1 where there are none."""
        return self.spec.count

    @property
    def outputs(self) -> int:
        """The outputs of a network for these data."""
        return self.spec.outputs

    def require_labels(self) -> None:
        """Refuse data without labels where networks are to be trained on them.

        Raises:
            InvalidInput: saying what to do instead.
        """
        if not self.classes and self.target_units is None:
            raise InvalidInput(
                f"'{self.name}' has no labels, so no network can be trained on it and evaluated; see how far a set is from it: "
                "condense compare"
            )

    def require_classes(self, what: str, remedy: str = "leave it out") -> None:
        """Refuse data without classes for what needs them; ``remedy`` is what to do instead.

        Raises:
            InvalidInput: saying what it is, and what the data have.
        """
        if not self.classes:
            have = "no labels" if self.target_units is None else "targets and no classes"
            raise InvalidInput(f"{what} needs classes, but '{self.name}' has {have}; {remedy}")


def listed(names: tuple[str, ...] | list[str]) -> str:
    """The first five names in quotes, and how many more there are."""
    return ", ".join(f"'{name}'" for name in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
