"""Recipes: families of small labelled sets of varying quality, from real data, by whatever means.

A recipe makes its sets in independent runs, each of one set or of several (the stages of a descent). The names of all the
sets are known before any is made, so that a study which was interrupted makes only what is missing.
"""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.errors import InvalidInput
from discrepancy.parts import Part
from objectives.condensation import check_finite, result
from objectives.contexts import Context
from objectives.data.real import RealData
from objectives.engine.compile import Policy
from objectives.engine.runtime import Runtime
from objectives.rng import rng
from objectives.solvers import Descent, Problem, Solver
from objectives.synthetic.artefact import SyntheticSet
from objectives.synthetic.parameterisation import Decoded, Parameterisation
from objectives.synthetic.pixels import Pixels
from objectives.terms.objective import Objective

__all__ = ["Averaged", "Blurred", "Centres", "Condensed", "Mislabelled", "Noise", "Noisy", "Random", "Recipe", "Task"]

CENTRES_FROM = 1000
"""Examples of a class among which cluster centres are sought."""


@dataclass(frozen=True, eq=False)
class Task:
    """What a run of a recipe works on: the real data, examples a class, the seed of this run, and where it computes."""

    data: RealData
    per_class: int
    seed: int
    device: torch.device = torch.device("cpu")  # noqa: RUF009  (a constant)
    policy: Policy = "auto"

    def real(self, per_class: int | None = None) -> Float[Tensor, "m ..."]:
        """Random distinct real examples, sorted by class, in normalised units."""
        size = self.per_class if per_class is None else per_class
        self.data.require(size, "this set")
        return self.normalised(self.data.class_batch(self.rng("real"), size))

    def normalised(self, rows: Tensor) -> Float[Tensor, "m ..."]:
        """The training examples with these numbers."""
        return self.data.normalised(rows)

    def rng(self, name: str) -> torch.Generator:
        return rng(self.seed, name)

    def made(self, points: Float[Tensor, "m ..."]) -> SyntheticSet:
        """The set of these points, sorted by class, with hard labels and equal weights."""
        slots = torch.arange(self.data.count).repeat_interleave(self.per_class)
        whole = Decoded(points, torch.ones(len(points)), slots, slots, torch.zeros_like(slots))
        return SyntheticSet.of(whole, self.data, {"points": points}, {"data": self.data.name, "seed": self.seed})


class Recipe(Part, family=True):
    """A way to make small sets; a family of sets in the study."""

    @property
    @abstractmethod
    def runs(self) -> tuple[tuple[str, ...], ...]:
        """The names of the sets that each run makes, in order."""

    @abstractmethod
    def make(self, run: int, task: Task) -> Iterator[SyntheticSet]:
        """The sets of one run, in the order of their names."""


class Repeated(Recipe):
    """A recipe whose runs differ by their seed alone."""

    count: int

    @property
    def runs(self) -> tuple[tuple[str, ...], ...]:
        return tuple((str(number),) for number in range(self.count))

    def make(self, run: int, task: Task) -> Iterator[SyntheticSet]:
        yield task.made(self.points(task))

    @abstractmethod
    def points(self, task: Task) -> Float[Tensor, "m ..."]:
        """The points of one set, sorted by class."""


class Graded(Recipe):
    """A recipe with a strength: ``count`` runs for each."""

    strengths: tuple[float, ...]
    count: int

    @property
    def runs(self) -> tuple[tuple[str, ...], ...]:
        return tuple((f"{strength:g}-{number}",) for strength in self.strengths for number in range(self.count))

    def make(self, run: int, task: Task) -> Iterator[SyntheticSet]:
        yield task.made(self.points(task, self.strengths[run // self.count]))

    @abstractmethod
    def points(self, task: Task, strength: float) -> Float[Tensor, "m ..."]:
        """The points of one set, sorted by class."""


def _check_graded(strengths: tuple[float, ...], count: int, low: float, high: float | None = None) -> None:
    _check_count(count)
    if not strengths or len(set(strengths)) != len(strengths):
        raise InvalidInput(f"'strengths' must be one or more different numbers, got {strengths}")
    for strength in strengths:
        if not low < strength <= (float("inf") if high is None else high):
            rule = f"be > {low:g}" if high is None else f"lie above {low:g} and up to {high:g}"
            raise InvalidInput(f"'strengths' must {rule}, got {strength:g}")


def _check_count(count: int) -> None:
    if count < 1:
        raise InvalidInput(f"'count' must be at least 1, got {count}")


class Random(Repeated, kind="random"):
    """Real examples, at random."""

    count: int = 6

    def __post_init__(self) -> None:
        _check_count(self.count)

    def points(self, task: Task) -> Float[Tensor, "m ..."]:
        return task.real()


class Noise(Repeated, kind="noise"):
    """Normal noise in normalised units, without any trace of the data."""

    count: int = 2

    def __post_init__(self) -> None:
        _check_count(self.count)

    def points(self, task: Task) -> Float[Tensor, "m ..."]:
        return torch.randn(task.data.count * task.per_class, *task.data.shape, generator=task.rng("noise"))


class Noisy(Graded, kind="noisy"):
    """Real examples plus normal noise of standard deviation ``strengths``, in normalised units."""

    strengths: tuple[float, ...] = (0.5, 1.0, 2.0)
    count: int = 2

    def __post_init__(self) -> None:
        _check_graded(self.strengths, self.count, 0)

    def points(self, task: Task, strength: float) -> Float[Tensor, "m ..."]:
        points = task.real()
        return points + strength * torch.randn(points.shape, generator=task.rng("noise"))


class Blurred(Graded, kind="blurred"):
    """Real images under a gaussian blur whose standard deviation is ``strengths``, in pixels."""

    strengths: tuple[float, ...] = (1.0, 2.0, 4.0)
    count: int = 2

    def __post_init__(self) -> None:
        _check_graded(self.strengths, self.count, 0)

    def points(self, task: Task, strength: float) -> Float[Tensor, "m ..."]:
        if len(task.data.shape) != 3:
            raise InvalidInput(
                f"'blurred' needs images, got examples of shape {task.data.shape}; leave this recipe out"
            )
        from torchvision.transforms.v2 import functional as transforms

        images = task.real()
        reach = min(int(3 * strength + 0.5), min(images.shape[2:]) - 1)  # a border is mirrored, so it cannot be wider
        return transforms.gaussian_blur(images, [2 * reach + 1] * 2, [strength, strength])


class Averaged(Graded, kind="averaged"):
    """Each example is the mean of several random real examples of its class; ``strengths`` are their numbers."""

    strengths: tuple[float, ...] = (2.0, 5.0, 20.0)
    count: int = 1

    def __post_init__(self) -> None:
        _check_graded(self.strengths, self.count, 1)
        if any(strength != int(strength) for strength in self.strengths):
            raise InvalidInput(f"'strengths' of averages must be whole numbers, got {self.strengths}")

    def points(self, task: Task, strength: float) -> Float[Tensor, "m ..."]:
        generator, size = task.rng("real"), (task.per_class, int(strength))
        rows = [members[torch.randint(len(members), size, generator=generator)] for members in task.data.members]
        return torch.cat([task.normalised(drawn.flatten()).unflatten(0, size).mean(1) for drawn in rows])


class Mislabelled(Graded, kind="mislabelled"):
    """Real examples, of which a share (``strengths``, at least one example) belongs to other classes than its labels say."""

    strengths: tuple[float, ...] = (0.1, 0.3, 0.6)
    count: int = 2

    def __post_init__(self) -> None:
        _check_graded(self.strengths, self.count, 0, 1)

    def points(self, task: Task, strength: float) -> Float[Tensor, "m ..."]:
        points, data, generator = task.real(), task.data, task.rng("labels")
        wrong = torch.randperm(len(points), generator=generator)[: max(1, round(strength * len(points)))]
        others = (wrong // task.per_class + torch.randint(1, data.count, wrong.shape, generator=generator)) % data.count
        rows = [
            data.members[label][torch.randint(len(data.members[label]), (), generator=generator)]
            for label in others.tolist()
        ]
        points[wrong] = task.normalised(torch.stack(rows))
        return points


class Centres(Repeated, kind="centres"):
    """The centres that k-means finds in the pixels of a class; with ``nearest``, the real example nearest to each."""

    nearest: bool = False
    count: int = 2

    def __post_init__(self) -> None:
        _check_count(self.count)

    def points(self, task: Task) -> Float[Tensor, "m ..."]:
        from sklearn.cluster import KMeans

        task.data.require(task.per_class, f"recipe: {self.kind}")
        found = []
        for label, rows in enumerate(task.data.class_batch(task.rng("real"), CENTRES_FROM).split(self._sizes(task))):
            examples = task.normalised(rows)
            pixels, seed = examples.flatten(1), (task.seed + label) % 2**32
            means = KMeans(task.per_class, random_state=seed).fit(pixels.numpy())
            centres = torch.from_numpy(means.cluster_centers_).float()
            if self.nearest:
                found.append(examples[torch.cdist(centres, pixels).argmin(1)])
            else:
                found.append(centres.unflatten(1, task.data.shape))
        return torch.cat(found)

    def _sizes(self, task: Task) -> list[int]:
        return [min(CENTRES_FROM, size) for size in task.data.per_class]


class Condensed(Recipe, kind="condensed"):
    """Whatever the library's solvers make of an objective: selected examples, or a descent as it is after some stages.

    Args:
        objective, context, solver, synthetic: as in an experiment; ``per_class`` is that of the study.
        stages: steps of a descent at which its set is taken (0 is the start); without, the result of the solver.
        count: how many runs, with different seeds.
    """

    objective: Objective = field(kw_only=True)
    context: Context = field(kw_only=True)
    solver: Solver = Descent()
    synthetic: Parameterisation = Pixels()
    stages: tuple[int, ...] = ()
    count: int = 2

    def __post_init__(self) -> None:
        _check_count(self.count)
        if self.stages and not self.solver.stepwise:
            raise InvalidInput(f"'stages' has no meaning for the solver '{self.solver.kind}'; leave it out")
        if list(self.stages) != sorted(set(self.stages)) or any(stage < 0 for stage in self.stages):
            raise InvalidInput(f"'stages' must be increasing numbers of steps >= 0, got {self.stages}")

    @property
    def runs(self) -> tuple[tuple[str, ...], ...]:
        if not self.stages:
            return tuple((str(number),) for number in range(self.count))
        return tuple(tuple(f"{number}-{stage}" for stage in self.stages) for number in range(self.count))

    def make(self, run: int, task: Task) -> Iterator[SyntheticSet]:
        solver = self.solver
        if self.stages:
            solver = solver.with_steps(max(1, self.stages[-1]))
        problem = Problem(
            task.data,
            self.objective,
            self.context,
            replace(self.synthetic, per_class=task.per_class),
            Runtime(task.seed, task.device, compile=task.policy),
        )
        solving = solver.start(problem)
        for stage in self.stages or (solving.steps,):
            while solving.step < stage:
                check_finite(solving.advance())
            yield result(problem, solving)
