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

from discrepancy.networks.base import Parameters
from objectives.contexts import Draw, Lessons, Watch
from objectives.stage import Stage
from objectives.streams import stream
from objectives.synthetic import Decoded
from objectives.training import Lesson, Trainee, real_lesson

__all__ = ["Bank"]


@dataclass
class Watched:
    """The network whose turn it is, where no schedule says so, and its accuracies after the steps that it had."""

    network: int = 0
    accuracies: list[float] = field(default_factory=list)


class Bank:
    """The networks of a stage by number, with the rounds of training that they have had."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.lessons = stage, stage.context.lessons if stage.has_network else None
        self._trainees: dict[int, Trainee] = {}
        self._watched = Watched()

    def draw(self, step: int) -> Draw:
        """The draw that is current at a step, which is the step after the last one."""
        draw = self.stage.context.at(step, self.stage.seed)
        if self.lessons is None or self.lessons.watch is None:
            return draw
        return replace(draw, network=self._watched.network)

    def parameters(self, draw: Draw) -> Parameters:
        """The weights at a draw; a network that is met for the first time is trained first where the context says so."""
        initial = self.stage.parameters(draw.network)
        if self.lessons is None:
            return initial
        trained = self._trainee(draw.network, self.lessons).parameters
        if draw.mixture == 1.0:
            return trained
        return {name: torch.lerp(initial[name], value, draw.mixture) for name, value in trained.items()}

    def trained(self, draw: Draw) -> Parameters:
        """The weights at a draw where its network is trained, whatever the mixture."""
        return self.parameters(replace(draw, mixture=1.0))

    def accuracy(self, draw: Draw) -> Float[Tensor, ""]:
        """The share of the examples of its training that the network of a draw told rightly."""
        assert self.lessons is not None
        return self._trainee(draw.network, self.lessons).accuracy

    def after(self, step: int, draw: Draw, synthetic: Decoded) -> None:
        """What follows a step: rounds of training."""
        lessons = self.lessons
        if lessons is None:
            return
        if lessons.watch is not None:
            self._watch(step, draw.network, lessons, lessons.watch, synthetic)
        else:
            for number in lessons.pupils(step, self.stage.seed):
                self._teach(number, self._trainee(number, lessons), lessons, synthetic)
        if lessons.oldest is not None:
            oldest = lessons.oldest(step, draw.network, self.stage.seed)
            self._trainees = {number: trainee for number, trainee in self._trainees.items() if number >= oldest}
            self.stage.batches.forget(oldest)
        if lessons.recount is not None and (step + 1) % lessons.recount == 0:
            for trainee in self._trainees.values():
                trainee.recount()

    def _trainee(self, number: int, lessons: Lessons) -> Trainee:
        """A network in training; one that is met for the first time is trained first where the lessons say so."""
        if number not in self._trainees:
            trainee = self._trainees[number] = Trainee(lessons.training, self.stage.parameters(number))
            for _ in range(lessons.before):
                self._teach(number, trainee, lessons, None)
        return self._trainees[number]

    def _watch(self, step: int, number: int, lessons: Lessons, watch: Watch, synthetic: Decoded) -> None:
        """A new network if this one's accuracy has settled, else rounds of training until it has moved."""
        trainee, after_steps = self._trainees[number], self._watched.accuracies
        after_steps.append(self._accuracy(trainee, watch, "step", step))
        spread = watch.spread(after_steps)
        if not lessons.pupils(len(after_steps) - 1, self.stage.seed) or (spread is not None and spread < watch.settled):
            self._watched = Watched(number + 1)
            return
        after_rounds: list[float] = []
        while len(after_rounds) < watch.most and (watch.spread(after_rounds) or 0.0) <= watch.moved:
            self._teach(number, trainee, lessons, synthetic)
            after_rounds.append(self._accuracy(trainee, watch, "round", step, len(after_rounds)))

    @torch.no_grad()
    def _accuracy(self, trainee: Trainee, watch: Watch, *names: str | int) -> float:
        """The mean over the classes of the share of fresh real examples that a network tells rightly."""
        stage, data = self.stage, self.stage.data
        rows = data.class_batch(stream(stage.seed, "watch", *names), watch.examples)
        found = stage.logits(rows, trainee.parameters).argmax(1).cpu()
        labels = data.strata[rows]
        right = torch.bincount(labels, (found == labels).double(), minlength=data.count)
        return (right / torch.bincount(labels, minlength=data.count)).mean().item()

    def _teach(self, number: int, trainee: Trainee, lessons: Lessons, synthetic: Decoded | None) -> None:
        generator = stream(self.stage.seed, "train", number, trainee.rounds)
        trainee.round(self.stage.learning_forward, self._lesson(lessons, synthetic), generator)

    def _lesson(self, lessons: Lessons, synthetic: Decoded | None) -> Lesson:
        data, device = self.stage.data, self.stage.device
        if lessons.training.on == "real":
            return real_lesson(data, device, self.stage.dtype)
        assert synthetic is not None
        points, labels = synthetic.points.detach(), synthetic.labels.detach()
        if labels.ndim == 1:
            labels = functional.one_hot(labels, data.count).to(points.dtype)
        return Lesson(lambda rows: points[rows.to(device)], labels, synthetic.weights.detach())

    def state(self) -> dict[str, Any]:
        """Every network in training, and the real examples chosen by its features."""
        return {
            "trainees": {number: trainee.state() for number, trainee in self._trainees.items()},
            "batches": self.stage.batches.state(),
            "watched": {"network": self._watched.network, "accuracies": list(self._watched.accuracies)},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self.stage.batches.restore(state["batches"])
        if self.lessons is None:
            return
        training, device = self.lessons.training, self.stage.device
        self._trainees = {
            number: Trainee.restored(training, saved, device) for number, saved in state["trainees"].items()
        }
        self._watched = Watched(**state["watched"])
