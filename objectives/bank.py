"""The weights of a context's networks: drawn anew from their numbers, or kept here while they are trained.

What is trained is state: it goes into the checkpoint, and a run that is resumed finds every network where it was.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
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
        self._generations: dict[int, int] = {}
        self._watched = Watched()

    def draw(self, step: int) -> Draw:
        """The draw that is current at a step, which is the step after the last one."""
        draw = self.stage.context.at(step, self.stage.seed)
        if self.lessons is None or self.lessons.watch is None:
            return draw
        return replace(draw, network=self._watched.network)

    def parameters(self, draw: Draw) -> Parameters:
        """The weights at a draw; a network that is met for the first time is trained first where the context says so."""
        lessons = self.lessons
        if lessons is None:
            return self.stage.parameters(draw.network)
        if draw.network not in self._trainees:
            if lessons.passing:
                self._trainees.clear()
            trainee = self._trainees[draw.network] = Trainee(lessons.training, self._initial(draw.network))
            for _ in range(lessons.before):
                self._teach(draw.network, trainee, lessons, None)
        trained = self._trainees[draw.network].parameters
        if draw.mixture == 1.0:
            return trained
        initial = self._initial(draw.network)
        return {name: torch.lerp(initial[name], value, draw.mixture) for name, value in trained.items()}

    def trained(self, draw: Draw) -> Parameters:
        """The weights at a draw where its network is trained, whatever the mixture."""
        return self.parameters(replace(draw, mixture=1.0))

    def after(self, step: int, draw: Draw, synthetic: Decoded) -> None:
        """What follows a step: a round of training of its network, or a new one in its place."""
        lessons = self.lessons
        if lessons is not None and lessons.watch is not None:
            self._watch(step, draw.network, lessons, lessons.watch, synthetic)
            return
        if lessons is None or not lessons.between(step):
            return
        trainee = self._trainees[draw.network]
        self._teach(draw.network, trainee, lessons, synthetic)
        if lessons.most is not None and trainee.rounds >= lessons.most:
            self._generations[draw.network] = self._generations.get(draw.network, 0) + 1
            del self._trainees[draw.network]

    def _watch(self, step: int, number: int, lessons: Lessons, watch: Watch, synthetic: Decoded) -> None:
        """A new network if this one's accuracy has settled, else rounds of training until it has moved."""
        trainee, after_steps = self._trainees[number], self._watched.accuracies
        after_steps.append(self._accuracy(trainee, watch, "step", step))
        spread = watch.spread(after_steps)
        if not lessons.between(len(after_steps) - 1) or (spread is not None and spread < watch.settled):
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
        labels = data.train.labels[rows]
        right = torch.bincount(labels, (found == labels).double(), minlength=data.count)
        return (right / torch.bincount(labels, minlength=data.count)).mean().item()

    def _initial(self, number: int) -> dict[str, Tensor]:
        return dict(self.stage.parameters(number, self._generations.get(number, 0)))

    def _teach(self, number: int, trainee: Trainee, lessons: Lessons, synthetic: Decoded | None) -> None:
        names = "train", number, self._generations.get(number, 0), trainee.rounds
        trainee.round(self.stage.learning_forward, self._lesson(lessons, synthetic), stream(self.stage.seed, *names))

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
        """Every network in training."""
        return {
            "trainees": {number: trainee.state() for number, trainee in self._trainees.items()},
            "generations": dict(self._generations),
            "watched": {"network": self._watched.network, "accuracies": list(self._watched.accuracies)},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        if self.lessons is None:
            return
        training, device = self.lessons.training, self.stage.device
        self._trainees = {
            number: Trainee.restored(training, saved, device) for number, saved in state["trainees"].items()
        }
        self._generations = dict(state["generations"])
        self._watched = Watched(**state["watched"])
