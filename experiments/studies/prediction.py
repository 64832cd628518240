"""Which discrepancy predicts accuracy? For families of small sets of varying quality: every discrepancy, in several views,
beside the accuracy of networks trained on each set (or that under an attack), and their rank correlation within one size.

A condensed set is made by minimising a discrepancy, and evaluated by an accuracy. The study measures how well the discrepancy
predicts the accuracy, for sets that no method made and for sets of several methods. One family of sets is left out at a time,
since a discrepancy may order the sets of one method well and still fail between methods.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal

from discrepancy.discrepancy import Discrepancy
from discrepancy.parts import named
from experiments.config import Tree, dump, merge, override, read
from experiments.config.mistakes import refuse, suggestion, wrong_name
from experiments.data import Source, source_named
from experiments.device import wrong_device
from experiments.evaluate import PROTOCOLS, Protocol
from experiments.studies.recipes import Recipe
from experiments.studies.targets import CleanAccuracy, Target
from experiments.studies.views import Level, View

__all__ = ["Prediction", "Reference", "packaged", "prediction_tree"]


def packaged() -> Traversable:
    """The configuration that comes with the package."""
    return resources.files("experiments.studies") / "prediction.yaml"


def prediction_tree(
    file: str | Path | None = None,
    *,
    data: str | None = None,
    root: str | None = None,
    per_class: Sequence[int] | None = None,
    target: str | None = None,
    seed: int | None = None,
    device: str | None = None,
    changes: Sequence[str] = (),
) -> Tree:
    """The configuration of a study, from which ``build(Prediction, tree)`` makes the study.

    Args:
        file: a YAML or TOML file; the packaged study without.
        data: a data set by name, an .npz file, or a folder of images, in place of the file's.
        root: where torchvision's data lie.
        per_class, target, seed, device: in place of those of the file.
        changes: ``path=value`` assignments, which take precedence over everything else.
    """
    given: Tree = {}
    tree = read(file or packaged())
    if data is not None:
        tree |= {"data": dump(source_named(data, root))}
    elif root is not None:
        given["data"] = {"root": root}
    sizes = None if per_class is None else list(per_class)
    settings = {"per_class": sizes, "target": target, "seed": seed, "device": device}
    given |= {name: value for name, value in settings.items() if value is not None}
    return override(merge(tree, given, Prediction), changes, Prediction)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The discrepancy and the view that the others are compared with, by name."""

    view: str
    discrepancy: str


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The study, as one frozen value.

    Args:
        data: real data, with test examples.
        per_class: sizes of the sets; correlations are within a size.
        sets: recipes by name, a family of sets each.
        views: where sets are compared, by name.
        by_class: discrepancies between the conditional measures given the class, of which the mean is taken, by name.
        whole: discrepancies between the sets as wholes, by name; those that look at labels belong here as a rule.
        gradients: discrepancies between the mean loss gradients of each class, in the views that have a network, by name.
        real: random real examples a class with which every set is compared.
        protocol: how networks are trained on each set; all sets are evaluated by networks with the same seeds.
        target: what is to be predicted of these networks.
        validation: evaluate on a tenth of the training examples, from which no set is made, and leave the test examples.
        reference: with which discrepancy, in which view, all are compared; none without.
        resamples: of the sets, for the intervals.
        confidence: of the intervals.
    """

    data: Source
    sets: tuple[tuple[str, Recipe], ...]
    views: tuple[tuple[str, View], ...]
    by_class: tuple[tuple[str, Discrepancy], ...] = ()
    whole: tuple[tuple[str, Discrepancy], ...] = ()
    gradients: tuple[tuple[str, Discrepancy], ...] = ()
    per_class: tuple[int, ...] = (10,)
    real: int = 500
    protocol: Protocol = field(default_factory=lambda: PROTOCOLS["quick"])
    target: Target = CleanAccuracy()  # noqa: RUF009  (frozen, like every part)
    validation: bool = False
    reference: Reference | None = None
    resamples: int = 2000
    confidence: float = 0.95
    seed: int = 0
    device: str = "auto"
    compile: Literal["auto", "always", "never"] = "auto"

    def __post_init__(self) -> None:
        for name in ("sets", "views", "by_class", "whole", "gradients"):
            object.__setattr__(self, name, named(getattr(self, name)))
        refuse(self._mistakes())

    def _mistakes(self) -> Iterator[str]:
        for name in ("sets", "views", "by_class", "whole", "gradients"):
            yield from (wrong for key, _ in getattr(self, name) if (wrong := wrong_name(name, key)))
        for name, rows in (("sets", self.sets), ("views", self.views)):
            if not rows:
                yield f"'{name}' is empty; name at least one"
        if not self.discrepancies:
            yield "'by_class', 'whole' and 'gradients' are all empty; name at least one discrepancy"
        names = [name for name, _ in (*self.by_class, *self.whole, *self.gradients)]
        for name in (name for name, count in Counter(names).items() if count > 1):
            yield f"two discrepancies are named '{name}'; rename one"
        if not self.per_class or min(self.per_class) < 1 or len(set(self.per_class)) < len(self.per_class):
            yield f"'per_class' must be different sizes of at least 1, got {list(self.per_class)}"
        for name in ("real", "resamples"):
            if getattr(self, name) < 1:
                yield f"'{name}' must be at least 1, got {getattr(self, name)}"
        if not 0 < self.confidence < 1:
            yield f"'confidence' must lie strictly between 0 and 1, got {self.confidence}"
        yield from wrong_device(self.device)
        for name, view in self.views:
            for other in view.without:
                if other not in self.discrepancies:
                    near = suggestion(other, self.discrepancies)
                    yield f"'views' has '{name}' without '{other}', which is not the name of a discrepancy{near}"
        reference = self.reference
        if reference is not None and (reference.view, reference.discrepancy) not in self.pairs:
            yield (
                f"'reference' is '{reference.discrepancy}' in view '{reference.view}', which is not computed; there are the "
                f"views {', '.join(dict(self.views))} and the discrepancies {', '.join(self.discrepancies)}"
            )

    @property
    def data_name(self) -> str:
        """A short name of the data."""
        return self.data.title

    @property
    def discrepancies(self) -> dict[str, tuple[Discrepancy, Level]]:
        """All the discrepancies by name, and what they compare."""
        levels: dict[Level, tuple[tuple[str, Discrepancy], ...]]
        levels = {"class": self.by_class, "whole": self.whole, "gradients": self.gradients}
        return {name: (part, level) for level, parts in levels.items() for name, part in parts}

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Every (view, discrepancy), by name."""
        return [
            (name, other)
            for name, view in self.views
            for other, (_, level) in self.discrepancies.items()
            if (level != "gradients" or view.architecture is not None) and other not in view.without
        ]

    @property
    def keys(self) -> list[str]:
        """Every set as PER_CLASS/FAMILY/NAME, in order."""
        return [
            f"{size}/{family}/{name}"
            for size in self.per_class
            for family, recipe in self.sets
            for run in recipe.runs
            for name in run
        ]
