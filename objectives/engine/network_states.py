"""The weights of a context's networks: drawn anew from their numbers, or kept here while they are trained.

What is trained is state: it goes into the checkpoint, and a run that is resumed finds every network where it was.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.networks.base import NetworkParameters
from objectives.contexts import Draw, TrainingSchedule, Watch
from objectives.data.labels import predicted_classes
from objectives.engine.batches import Batches
from objectives.engine.bound_context import BoundContext
from objectives.rng import rng
from objectives.synthetic.parameterisation import Decoded
from objectives.training.trainer import NetworkTrainer, TrainingData

__all__ = ["NetworkStates"]


@dataclass
class Watched:
    """The current network where no schedule says when it ends, and its accuracies after the steps that it had."""

    network: int = 0
    accuracies: list[float] = field(default_factory=list)


class NetworkStates:
    """The networks of a context by number, with the rounds of training that they have had.

    Args:
        context: the context on its data.
        batches: the real examples of its draws; those of networks that are not used again are forgotten.
    """

    def __init__(self, context: BoundContext, batches: Batches) -> None:
        self.context, self.batches = context, batches
        self.training_schedule = context.context.training_schedule if context.has_network else None
        self._seed = context.runtime.seed
        self._trainers: dict[int, NetworkTrainer] = {}
        self._watched = Watched()

    def draw(self, step: int) -> Draw:
        """The draw that is current at a step, which is the step after the last one."""
        draw = self.context.context.at(step, self._seed)
        if self.training_schedule is None or self.training_schedule.watch is None:
            return draw
        return replace(draw, network=self._watched.network)

    def parameters(self, draw: Draw) -> NetworkParameters:
        """The weights at a draw; a network is trained on first use if the schedule requires it."""
        initial = self.context.initial(draw.network)
        if self.training_schedule is None:
            return initial
        trained = self._trainer(draw.network, self.training_schedule).parameters
        if draw.mixture == 1.0:
            return trained
        return {name: torch.lerp(initial[name], value, draw.mixture) for name, value in trained.items()}

    def trained(self, draw: Draw) -> NetworkParameters:
        """The weights at a draw where its network is trained, whatever the mixture."""
        return self.parameters(replace(draw, mixture=1.0))

    def accuracy(self, draw: Draw) -> Float[Tensor, ""]:
        """The training accuracy of the network of a draw."""
        assert self.training_schedule is not None
        return self._trainer(draw.network, self.training_schedule).accuracy

    def after(self, step: int, draw: Draw, synthetic: Decoded) -> None:
        """What follows a step: rounds of training."""
        schedule = self.training_schedule
        if schedule is None:
            return
        if schedule.watch is not None:
            self._watch(step, draw.network, schedule, schedule.watch, synthetic)
        else:
            for number in schedule.trained_after(step, self._seed):
                self._train(number, self._trainer(number, schedule), schedule, synthetic)
        if schedule.oldest is not None:
            oldest = schedule.oldest(step, draw.network, self._seed)
            self._trainers = {number: trainer for number, trainer in self._trainers.items() if number >= oldest}
            self.batches.forget(oldest)
        if schedule.recount is not None and (step + 1) % schedule.recount == 0:
            for trainer in self._trainers.values():
                trainer.recount()

    def later_bytes(self, steps: int) -> int:
        """What the networks in training will take that are not kept yet, in so many steps in all; for an estimate."""
        each = [trainer.nbytes for trainer in self._trainers.values()]
        return max(each, default=0) * max(0, self.context.context.kept(steps) - len(each))

    def _trainer(self, number: int, schedule: TrainingSchedule) -> NetworkTrainer:
        """A network in training; it is trained on first use if the schedule requires it."""
        if number not in self._trainers:
            trainer = self._trainers[number] = NetworkTrainer(schedule.training, self.context.initial(number))
            for _ in range(schedule.before):
                self._train(number, trainer, schedule, None)
        return self._trainers[number]

    def _watch(self, step: int, number: int, schedule: TrainingSchedule, watch: Watch, synthetic: Decoded) -> None:
        """A new network if this one's accuracy has settled, else rounds of training until it has moved."""
        trainer, after_steps = self._trainers[number], self._watched.accuracies
        after_steps.append(self._accuracy(trainer, watch, "step", step))
        spread = watch.spread(after_steps)
        last = not schedule.trained_after(len(after_steps) - 1, self._seed)
        if last or (spread is not None and spread < watch.settled):
            self._watched = Watched(number + 1)
            return
        after_rounds: list[float] = []
        while len(after_rounds) < watch.most and (watch.spread(after_rounds) or 0.0) <= watch.moved:
            self._train(number, trainer, schedule, synthetic)
            after_rounds.append(self._accuracy(trainer, watch, "round", step, len(after_rounds)))

    @torch.no_grad()
    def _accuracy(self, trainer: NetworkTrainer, watch: Watch, *names: str | int) -> float:
        """The mean over the classes of the accuracy on fresh real examples."""
        context, data = self.context, self.context.data
        rows = data.class_batch(rng(context.runtime.seed, "watch", *names), watch.examples)
        found = predicted_classes(context.output(rows, trainer.parameters, "logits")).cpu()
        labels = data.strata[rows]
        correct = torch.bincount(labels, (found == labels).double(), minlength=data.count)
        return (correct / torch.bincount(labels, minlength=data.count)).mean().item()

    def _train(
        self, number: int, trainer: NetworkTrainer, schedule: TrainingSchedule, synthetic: Decoded | None
    ) -> None:
        context = self.context
        generator = rng(context.runtime.seed, "train", number, trainer.rounds)
        if schedule.training.on == "real":
            examples = TrainingData.of_real(context.data, context.runtime.device, context.runtime.dtype)
        else:
            assert synthetic is not None
            examples = TrainingData.of_synthetic(synthetic, context.data.count)
        assert context.training_gradient is not None
        trainer.round(context.training_gradient, examples, generator)

    def state(self) -> dict[str, Any]:
        """Every network in training, and the real examples chosen by its features."""
        return {
            "trainers": {number: trainer.state() for number, trainer in self._trainers.items()},
            "batches": self.batches.state(),
            "watched": {"network": self._watched.network, "accuracies": list(self._watched.accuracies)},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self.batches.restore(state["batches"])
        if self.training_schedule is None:
            return
        training, device = self.training_schedule.training, self.context.runtime.device
        self._trainers = {
            number: NetworkTrainer.restored(training, saved, device) for number, saved in state["trainers"].items()
        }
        self._watched = Watched(**state["watched"])
