"""Views: the spaces in which two sets are compared. A view embeds the real examples and all the small sets, once.

A space that is random (features of an untrained network, random frequencies) is drawn several times, and a discrepancy is
averaged over the draws, as E_ξ in the objective. The networks of the views are none of those that made a set or judge it.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from discrepancy.embeddings import Embedding, Identity
from discrepancy.errors import InvalidInput
from discrepancy.measure import Grouping, Measure
from discrepancy.networks import Network
from discrepancy.networks.base import Parameters
from experiments.evaluate import Protocol, TrainingSet
from experiments.evaluate.training import Trainer
from objectives.artefact import SyntheticSet
from objectives.binding import moved
from objectives.compilation import Policy
from objectives.contexts import Fresh
from objectives.data import LabelledData
from objectives.stage import Stage
from objectives.streams import stream

__all__ = ["RESOLVE_SAMPLE", "Sides", "View", "embedded"]

RESOLVE_SAMPLE = 2048
"""Real examples from which data-dependent constants are turned into numbers."""


@dataclass(frozen=True, kw_only=True)
class View:
    """An embedding, and the network that it takes its features from.

    Args:
        via: the embedding.
        network: an untrained network, new for each draw.
        trained: how a network is trained on all the real training examples instead, a new one for each draw.
        draws: over how many draws a discrepancy is averaged.
    """

    via: Embedding = Identity()  # noqa: RUF009  (frozen, like every part)
    network: Network | None = None
    trained: Protocol | None = None
    draws: int = 1

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise InvalidInput(f"'draws' must be at least 1, got {self.draws}")
        if self.network is not None and self.trained is not None:
            raise InvalidInput("'network' and 'trained' exclude each other; 'trained' names its own network")
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


@dataclass(frozen=True, eq=False)
class Sides:
    """The real examples and every set as one draw of a view sees them, with labels as vectors, flat."""

    real: Measure
    sets: Mapping[str, Measure]

    def only(self, names: Collection[str]) -> "Sides":
        """The same with these sets alone."""
        return self if len(names) == len(self.sets) else Sides(self.real, {name: self.sets[name] for name in names})

    @property
    def sample(self) -> Measure:
        """Some of the real examples, of all the classes alike."""
        step = -(-len(self.real) // RESOLVE_SAMPLE)
        return self.real.select(torch.arange(0, len(self.real), step, device=self.real.mass_of.device))

    def grouped(self, by_class: bool) -> tuple[Measure, Mapping[str, Measure]]:
        """Both as grouped measures: a group a class, or a single one."""
        return self._by_class if by_class else (self.real.as_groups(), {k: v.as_groups() for k, v in self.sets.items()})

    @cached_property
    def _by_class(self) -> tuple[Measure, Mapping[str, Measure]]:
        return _conditioned(self.real), {name: _conditioned(measure) for name, measure in self.sets.items()}


def _conditioned(measure: Measure) -> Measure:
    assert measure.labels is not None
    grouping = Grouping.of(measure.labels.argmax(1).cpu(), measure.classes)
    device = measure.mass_of.device
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
    on_draw: Callable[[int], None] | None = None,
) -> list[Sides]:
    """The training examples with these numbers, and all the sets, in every draw of the view."""
    found: list[Sides] = []
    whole = torch.cat([made.normalised for made in sets.values()]).to(device)
    context = Fresh(network=view.architecture, batch=max(1, len(real) // data.count))
    stage = Stage(
        data, context, view.via.takes, seed=seed, examples=len(whole), steps=view.draws, device=device, policy=policy
    )
    embedding = view.via
    labels = data.train.labels if data.train.soft is None else data.train.soft
    for number, parameters in enumerate(_networks(view, data, stage, seed, policy)):
        if on_draw is not None:
            on_draw(number)
        taken = stage.real(real, parameters)
        if not embedding.resolved:
            step = -(-len(real) // RESOLVE_SAMPLE)
            embedding = embedding.resolve(Measure({name: value[::step] for name, value in taken.items()}))
        random = moved(embedding.draw(stream(seed, "random", number), stage.shapes), device)
        features = Measure(embedding(stage.taken(parameters, whole), random))
        start, parts = 0, {}
        for name, made in sets.items():
            rows = torch.arange(start, start + len(made), device=device)
            start += len(made)
            part = features.select(rows)
            parts[name] = Measure(part.points, made.weights.to(device), _vectors(made.labels, data.count, device))
        found.append(Sides(Measure(embedding(taken, random), None, _vectors(labels[real], data.count, device)), parts))
    return found


def _networks(view: View, data: LabelledData, stage: Stage, seed: int, policy: Policy) -> Iterator[Parameters]:
    """The weights of each draw."""
    if view.trained is None:
        yield from (stage.parameters(number) for number in range(view.draws))
        return
    trainer = Trainer(view.trained, data, len(data.train), stage.device, policy)
    examples = TrainingSet.of(data.train, data.normalisation).to(stage.device)
    for number in range(view.draws):
        with torch.enable_grad():
            parameters, _ = trainer.train(examples, seed, number)
        yield {name: value.detach() for name, value in parameters.items()}


def _vectors(labels: Tensor, classes: int, device: torch.device) -> Tensor:
    labels = labels.to(device)
    return labels.float() if labels.ndim == 2 else functional.one_hot(labels.long(), classes).float()
