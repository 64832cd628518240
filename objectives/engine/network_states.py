"""The weights of a context's networks: drawn anew from their numbers, or kept here while they are trained.

What is trained is state: it goes into the checkpoint, and a run that is resumed finds every network where it was.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from discrepancy.networks.base import NetworkParameters
from objectives.contexts import Draw, TrainingSchedule, Watch
from objectives.engine.extractor import Extractor
from objectives.rng import rng
from objectives.synthetic.parameterisation import Decoded
from objectives.training.training import NetworkTrainer, TrainingData, real_training_data

__all__ = ["NetworkStates"]


@dataclass
class Watched:
    """The network whose turn it is, where no schedule says so, and its accuracies after the steps that it had."""

    network: int = 0
    accuracies: list[float] = field(default_factory=list)


class NetworkStates:
    """The networks of a extractor by number, with the rounds of training that they have had."""

    def __init__(self, extractor: Extractor) -> None:
        self.extractor, self.training_schedule = (
            extractor,
            extractor.context.training_schedule if extractor.has_network else None,
        )
        self._network_trainers: dict[int, NetworkTrainer] = {}
        self._watched = Watched()

    def draw(self, step: int) -> Draw:
        """The draw that is current at a step, which is the step after the last one."""
        draw = self.extractor.context.at(step, self.extractor.seed)
        if self.training_schedule is None or self.training_schedule.watch is None:
            return draw
        return replace(draw, network=self._watched.network)

    def parameters(self, draw: Draw) -> NetworkParameters:
        """The weights at a draw; a network that is met for the first time is trained first where the context says so."""
        initial = self.extractor.parameters(draw.network)
        if self.training_schedule is None:
            return initial
        trained = self._network_trainer(draw.network, self.training_schedule).parameters
        if draw.mixture == 1.0:
            return trained
        return {name: torch.lerp(initial[name], value, draw.mixture) for name, value in trained.items()}

    def trained(self, draw: Draw) -> NetworkParameters:
        """The weights at a draw where its network is trained, whatever the mixture."""
        return self.parameters(replace(draw, mixture=1.0))

    def accuracy(self, draw: Draw) -> Float[Tensor, ""]:
        """The share of the examples of its training that the network of a draw told rightly."""
        assert self.training_schedule is not None
        return self._network_trainer(draw.network, self.training_schedule).accuracy

    def after(self, step: int, draw: Draw, synthetic: Decoded) -> None:
        """What follows a step: rounds of training."""
        schedule = self.training_schedule
        if schedule is None:
            return
        if schedule.watch is not None:
            self._watch(step, draw.network, schedule, schedule.watch, synthetic)
        else:
            for number in schedule.trained_after(step, self.extractor.seed):
                self._teach(number, self._network_trainer(number, schedule), schedule, synthetic)
        if schedule.oldest is not None:
            oldest = schedule.oldest(step, draw.network, self.extractor.seed)
            self._network_trainers = {
                number: network_trainer
                for number, network_trainer in self._network_trainers.items()
                if number >= oldest
            }
            self.extractor.batches.forget(oldest)
        if schedule.recount is not None and (step + 1) % schedule.recount == 0:
            for network_trainer in self._network_trainers.values():
                network_trainer.recount()

    def _network_trainer(self, number: int, schedule: TrainingSchedule) -> NetworkTrainer:
        """A network in training; one that is met for the first time is trained first where the schedule say so."""
        if number not in self._network_trainers:
            network_trainer = self._network_trainers[number] = NetworkTrainer(
                schedule.training, self.extractor.parameters(number)
            )
            for _ in range(schedule.before):
                self._teach(number, network_trainer, schedule, None)
        return self._network_trainers[number]

    def _watch(self, step: int, number: int, schedule: TrainingSchedule, watch: Watch, synthetic: Decoded) -> None:
        """A new network if this one's accuracy has settled, else rounds of training until it has moved."""
        network_trainer, after_steps = self._network_trainers[number], self._watched.accuracies
        after_steps.append(self._accuracy(network_trainer, watch, "step", step))
        spread = watch.spread(after_steps)
        if not schedule.trained_after(len(after_steps) - 1, self.extractor.seed) or (
            spread is not None and spread < watch.settled
        ):
            self._watched = Watched(number + 1)
            return
        after_rounds: list[float] = []
        while len(after_rounds) < watch.most and (watch.spread(after_rounds) or 0.0) <= watch.moved:
            self._teach(number, network_trainer, schedule, synthetic)
            after_rounds.append(self._accuracy(network_trainer, watch, "round", step, len(after_rounds)))

    @torch.no_grad()
    def _accuracy(self, network_trainer: NetworkTrainer, watch: Watch, *names: str | int) -> float:
        """The mean over the classes of the share of fresh real examples that a network tells rightly."""
        extractor, data = self.extractor, self.extractor.data
        rows = data.class_batch(rng(extractor.seed, "watch", *names), watch.examples)
        found = extractor.logits(rows, network_trainer.parameters).argmax(1).cpu()
        labels = data.strata[rows]
        right = torch.bincount(labels, (found == labels).double(), minlength=data.count)
        return (right / torch.bincount(labels, minlength=data.count)).mean().item()

    def _teach(
        self, number: int, network_trainer: NetworkTrainer, schedule: TrainingSchedule, synthetic: Decoded | None
    ) -> None:
        generator = rng(self.extractor.seed, "train", number, network_trainer.rounds)
        network_trainer.round(self.extractor.learning_forward, self._lesson(schedule, synthetic), generator)

    def _lesson(self, schedule: TrainingSchedule, synthetic: Decoded | None) -> TrainingData:
        data, device = self.extractor.data, self.extractor.device
        if schedule.training.on == "real":
            return real_training_data(data, device, self.extractor.dtype)
        assert synthetic is not None
        points, labels = synthetic.points.detach(), synthetic.labels.detach()
        if labels.ndim == 1:
            labels = functional.one_hot(labels, data.count).to(points.dtype)
        return TrainingData(lambda rows: points[rows.to(device)], labels, synthetic.weights.detach())

    def state(self) -> dict[str, Any]:
        """Every network in training, and the real examples chosen by its features."""
        return {
            "network_trainers": {
                number: network_trainer.state() for number, network_trainer in self._network_trainers.items()
            },
            "batches": self.extractor.batches.state(),
            "watched": {"network": self._watched.network, "accuracies": list(self._watched.accuracies)},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self.extractor.batches.restore(state["batches"])
        if self.training_schedule is None:
            return
        training, device = self.training_schedule.training, self.extractor.device
        self._network_trainers = {
            number: NetworkTrainer.restored(training, saved, device)
            for number, saved in state["network_trainers"].items()
        }
        self._watched = Watched(**state["watched"])
