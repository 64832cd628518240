"""A whole experiment as one frozen value: what is read from a configuration file and stored with its result."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch

from discrepancy.errors import InvalidInput
from experiments.config import ConfigError, Mistake, Tree, merge, override
from experiments.config.mistakes import suggestion
from experiments.config.spelling import written_out
from experiments.data.base import Source
from experiments.device import DEVICE, chosen_device
from experiments.method import Method
from objectives.contexts import Context
from objectives.data.cache import Cache
from objectives.data.labelled import LabelledData
from objectives.engine.runtime import Runtime
from objectives.privacy.budget import Privacy
from objectives.solvers import Problem, Solver
from objectives.synthetic.parameterisation import Parameterisation
from objectives.synthetic.pixels import Pixels
from objectives.teacher import Teacher
from objectives.terms.objective import Objective

__all__ = ["Experiment", "configured"]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """min over S of the objective, on these data, with this solver; a ``teacher`` labels what is found. With ``privacy`` the
    data are seen once, by a curator, who releases noisy sums."""

    data: Source
    objective: Objective
    context: Context
    solver: Solver
    synthetic: Parameterisation = Pixels()  # noqa: RUF009  (frozen, like every part)
    teacher: Teacher | None = None
    privacy: Privacy | None = None
    method: Method | None = None
    seed: int = 0
    device: str = "auto"
    compile: Literal["auto", "always", "never"] = "auto"
    dtype: Literal["float32", "float64"] = "float32"

    checks: ClassVar[Mapping[str, Any]] = DEVICE

    def __post_init__(self) -> None:
        chosen_device(self.device)
        if self.teacher is not None and self.synthetic.labels != "hard":
            raise InvalidInput(
                f"'teacher' gives every example its label, so those of synthetic, labels: {self.synthetic.labels}, would be "
                "lost; use labels: hard, or no teacher"
            )
        if self.teacher is not None and self.privacy is not None:
            raise InvalidInput("'teacher' learns from the private data themselves; leave it out, or 'privacy'")

    @property
    def title(self) -> str:
        """A short name for folders and pictures."""
        return self.method.name if self.method else "run"

    def problem(self, data: LabelledData | None = None, cache: Cache | None = None) -> Problem:
        """The data loaded, unless they are given, and everything ready to be solved."""
        loaded = self.data.load() if data is None else data
        return Problem(loaded.train, self.objective, self.context, self.synthetic, replace(self.runtime, cache=cache))

    @property
    def runtime(self) -> Runtime:
        """Seed, device, precision and what is compiled."""
        return Runtime(self.seed, chosen_device(self.device), getattr(torch, self.dtype), self.compile)


def configured(
    base: Mapping[str, Any],
    changes: Mapping[str, Any],
    assignments: Sequence[str] = (),
    features: str | None = None,
) -> Tree:
    """What :class:`Experiment` is built from: a file's tree, changed by options and then by ``path=value`` assignments.

    A file may give other settings for other numbers of examples a class, as published methods do:

        sizes:
          - {from: 1, context: {keep: 1}}
          - {from: 50, context: {keep: 50}}

    Those of the largest ``from`` that ``per_class`` reaches are written onto the file's own, below the changes; ``examples``,
    which are in all, change nothing about that. It may also have settings by name, of which ``features`` chooses one, below
    the sizes:

        features:
          fcnn: {context: {network: {kind: mlp}}}

    Raises:
        ConfigError: if the sizes or the assignments cannot be read.
        InvalidInput: if there are no settings of that name.
    """
    tree = {key: value for key, value in base.items() if key not in ("sizes", "features")}
    if features is not None:
        tree = merge(tree, _of_features(base.get("features", {}), features), Experiment)
    final = override(merge(tree, changes, Experiment), assignments, Experiment)
    if "sizes" not in base:
        return final
    each, synthetic = _sizes(base["sizes"]), written_out(Parameterisation, final.get("synthetic"))
    count = synthetic.get("per_class", Pixels().per_class) if isinstance(synthetic, Mapping) else Pixels().per_class
    reached = [size for size in each if isinstance(count, int) and size["from"] <= count]
    if not reached:
        return final
    settings = {key: value for key, value in reached[-1].items() if key != "from"}
    return override(merge(merge(tree, settings, Experiment), changes, Experiment), assignments, Experiment)


def _of_features(named: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    if name in named:
        return named[name]
    known = f"known are: {', '.join(named)}" if named else "this method has none by name; use --set"
    raise InvalidInput(f"there are no features '{name}'{suggestion(name, named)} ({known})")


def _sizes(listed: Any) -> list[Mapping[str, Any]]:
    sizes = listed if isinstance(listed, list) else [listed]
    starts: list[Any] = [size.get("from") if isinstance(size, Mapping) else None for size in sizes]
    if not all(type(start) is int for start in starts) or starts != sorted(set(starts)):
        message = "expected a list of mappings, each with 'from', a number of examples a class, in increasing order"
        raise ConfigError([Mistake("sizes", f"{message}, got from: {starts}")])
    return sizes
