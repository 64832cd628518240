"""Views: the spaces in which two sets are compared. A view embeds the real examples and all the small sets, once.

A space that is random (features of an untrained network, random frequencies) is drawn several times, and a discrepancy is
averaged over the draws, as E_ξ in the objective. The networks of the views are none of those that made a set or evaluate it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal

import torch
from torch import Tensor

from discrepancy.embeddings import Embedding, Identity
from discrepancy.errors import InvalidInput
from discrepancy.learning.gradients import mean_loss_gradients
from discrepancy.measure import Grouping, Measure
from discrepancy.networks import Network
from discrepancy.networks.base import NetworkParameters
from experiments.evaluate import NetworkEvaluator, Protocol, TrainingSet
from objectives.contexts import Fresh
from objectives.data.labelled import LabelledData
from objectives.data.labels import Labels
from objectives.engine.bound_context import BoundContext
from objectives.engine.compile import Policy
from objectives.engine.runtime import Runtime
from objectives.rng import rng
from objectives.synthetic.artefact import SyntheticSet
from objectives.terms.features import moved

__all__ = ["Level", "Sides", "View", "embedded"]

RESOLVE_SAMPLE = 2048
"""Real examples from which data-dependent constants are turned into numbers."""

GRADIENT_POINTS = 128
"""Examples of a class whose loss is held as one graph."""


@dataclass(frozen=True, kw_only=True)
class View:
    """An embedding, and the network that it takes its features from.

    Args:
        via: the embedding.
        network: an untrained network, new for each draw.
        trained: how a network is trained on all the real training examples instead, a new one for each draw.
        n_draws: over how many draws a discrepancy is averaged.
        without: discrepancies that are not computed here, by name: those that cost too much in so many dimensions.
    """

    via: Embedding = Identity()  # noqa: RUF009  (frozen, like every part)
    network: Network | None = None
    trained: Protocol | None = None
    n_draws: int = 1
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.n_draws < 1:
            raise InvalidInput(f"'n_draws' must be at least 1, got {self.n_draws}")
        if self.network is not None and self.trained is not None:
            raise InvalidInput("'network' and 'trained' exclude each other; 'trained' names its own network")
        if "gradient" in self.via.takes:
            raise InvalidInput(
                f"'via' cannot be '{self.via.kind}', which has no single examples; use 'gradients' of the study"
            )
        taken = sorted(self.via.takes - {"points"})
        if taken and self.architecture is None:
            raise InvalidInput(f"'via' takes '{taken[0]}' of a network; give 'network' or 'trained'")
        if self.architecture is not None and not self.architecture.pointwise:
            raise InvalidInput(
                "'network' must not have batch normalisation, which mixes the sets; choose another 'norm'"
            )

    @property
    def architecture(self) -> Network | None:
        return self.network if self.trained is None else self.trained.network


Level = Literal["class", "whole", "gradients"]
"""What is compared: conditional measures given the class, whole measures, or the mean loss gradients of the classes."""

Both = tuple[Measure, Mapping[str, Measure]]
"""The real side and every set by name, grouped."""


@dataclass(frozen=True, eq=False)
class Sides:
    """The real examples and every set as one draw of a view sees them, with labels as vectors, flat; ``gradients`` makes the
    gradients of the mean losses of the classes, a point a class, for a view that has a network."""

    real: Measure
    sets: Mapping[str, Measure]
    gradients: Callable[[], Both] | None = None

    def sample(self, level: Level) -> Measure:
        """Some of the real points, of all the classes alike, flat."""
        if level == "gradients":
            real = self.both(level)[0]
            return Measure({name: points[:, 0] for name, points in real.tensors.items()})
        rows = torch.arange(0, len(self.real), _step(len(self.real)), device=self.real.weights.device)
        return self.real.select(rows)

    def both(self, level: Level) -> Both:
        """Both sides as grouped measures: a group a class, or a single one."""
        if level == "whole":
            return self.real.as_groups(), {name: measure.as_groups() for name, measure in self.sets.items()}
        return self._by_class if level == "class" else self._gradients

    @cached_property
    def _by_class(self) -> Both:
        return _conditioned(self.real), {name: _conditioned(measure) for name, measure in self.sets.items()}

    @cached_property
    def _gradients(self) -> Both:
        if self.gradients is None:
            raise InvalidInput("there is no network in this view whose loss has a gradient")
        return self.gradients()


def _conditioned(measure: Measure) -> Measure:
    assert measure.labels is not None
    grouping = Grouping.of(measure.labels.argmax(1).cpu(), measure.classes)
    device = measure.weights.device
    return measure.conditioned(Grouping(grouping.index.to(device), grouping.mask.to(device)))


@torch.no_grad()
def embedded(
    view: View,
    data: LabelledData,
    real: Tensor,
    sets: Mapping[str, SyntheticSet],
    *,
    seed: int,
    device: torch.device,
    policy: Policy = "auto",
) -> list[Sides]:
    """The training examples with these numbers, and all the sets, in every draw of the view."""
    points = torch.cat([made.normalised for made in sets.values()]).to(device)
    context = Fresh(network=view.architecture, batch=max(1, len(real) // data.count))
    runtime = Runtime(seed, device, compile=policy)
    bound = BoundContext(data.train, context, view.via.takes, runtime, examples=len(points), steps=view.n_draws)
    own = Measure(data.train.normalised(real, device), labels=bound.label_vectors(real))
    lengths, names = [len(made) for made in sets.values()], list(sets)
    weights = torch.cat([made.weights for made in sets.values()]).to(device)
    labels = torch.cat([_vectors(made, data.count, device) for made in sets.values()])
    small = dict(zip(names, _divided(Measure(points, weights, labels), lengths), strict=True))
    embedding, found = view.via, []
    for number, parameters in enumerate(_networks(view, data, bound)):
        taken = bound.taken(real, parameters)
        if not embedding.resolved:
            embedding = embedding.resolve(Measure({k: v[:: _step(len(real))] for k, v in taken.items()}))
        random = moved(embedding.draw(rng(seed, "random", number), bound.shapes), device)
        offered = {"points": points} | bound.extractor(parameters, points, eager=True)
        features = Measure(embedding(offered, random), weights, labels)
        parts = dict(zip(names, _divided(features, lengths), strict=True))
        gradients = None if view.architecture is None else partial(_both, view.architecture, parameters, own, small)
        found.append(Sides(Measure(embedding(taken, random), labels=own.labels), parts, gradients))
    return found


def _divided(measure: Measure, lengths: list[int]) -> Iterator[Measure]:
    """Consecutive parts of a flat measure."""
    start = 0
    for length in lengths:
        yield measure.select(torch.arange(start, start + length, device=measure.weights.device))
        start += length


def _step(count: int) -> int:
    return -(-count // RESOLVE_SAMPLE)


def _both(network: Network, parameters: NetworkParameters, real: Measure, sets: Mapping[str, Measure]) -> Both:
    return (
        _gradients(network, parameters, real),
        {name: _gradients(network, parameters, measure) for name, measure in sets.items()},
    )


def _gradients(network: Network, parameters: NetworkParameters, measure: Measure) -> Measure:
    """The gradient of the mean loss of each class by every parameter that is not a vector: one point a class."""
    by_class = _conditioned(measure)
    totals: dict[str, Tensor] = {}
    for part in by_class.split(GRADIENT_POINTS):
        mass = part.weights.sum(1)
        for group in (mass > 0).nonzero()[:, 0].tolist():
            own = part.select(torch.tensor(group))
            for name, gradient in mean_loss_gradients(network, parameters, own).items():
                if gradient.ndim > 1:
                    total = totals.setdefault(name, gradient.new_zeros(len(mass), 1, *gradient.shape))
                    total[group, 0] += mass[group] / by_class.weights[group].sum() * gradient
    return Measure(totals, by_class.weights.new_ones(len(by_class.weights), 1))


def _networks(view: View, data: LabelledData, bound: BoundContext) -> Iterator[NetworkParameters]:
    """The weights of each draw."""
    if view.trained is None:
        yield from (bound.initial(number) for number in range(view.n_draws))
        return
    examples = TrainingSet.of(data.train.rows(), data)
    evaluator = NetworkEvaluator(data, view.trained, runtime=bound.runtime).suited(examples)
    for number in range(view.n_draws):
        yield evaluator.trained(examples, number)[0]


def _vectors(made: SyntheticSet, classes: int, device: torch.device) -> Tensor:
    """The labels of a set as rows; of a set without labels, the classes that its examples were made for."""
    labels = made.labelling if made.labelling.given else Labels("hard", made.numbers)
    vectors = labels.vectors(classes)
    assert vectors is not None
    return vectors.float().to(device)
