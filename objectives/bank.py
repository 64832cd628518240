"""The weights of a context's networks: drawn anew from their numbers, or kept here while they are trained.

What is trained is state: it goes into the checkpoint, and a run that is resumed finds every network where it was.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from discrepancy.networks.base import Parameters
from objectives.contexts import Draw, Lessons
from objectives.stage import Stage
from objectives.streams import stream
from objectives.synthetic import Decoded
from objectives.training import Lesson, Trainee

__all__ = ["Bank"]


class Bank:
    """The networks of a stage by number, with the rounds of training that they have had."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.lessons = stage, stage.context.lessons if stage.has_network else None
        self._trainees: dict[int, Trainee] = {}
        self._generations: dict[int, int] = {}

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

    def after(self, step: int, draw: Draw, synthetic: Decoded) -> None:
        """What follows a step: a round of training of its network, or a new one in its place."""
        lessons = self.lessons
        if lessons is None or not lessons.between(step):
            return
        trainee = self._trainees[draw.network]
        self._teach(draw.network, trainee, lessons, synthetic)
        if lessons.most is not None and trainee.rounds >= lessons.most:
            self._generations[draw.network] = self._generations.get(draw.network, 0) + 1
            del self._trainees[draw.network]

    def _initial(self, number: int) -> dict[str, Tensor]:
        return dict(self.stage.parameters(number, self._generations.get(number, 0)))

    def _teach(self, number: int, trainee: Trainee, lessons: Lessons, synthetic: Decoded | None) -> None:
        network = self.stage.context.network
        assert network is not None
        names = "train", number, self._generations.get(number, 0), trainee.rounds
        trainee.round(network, self._lesson(lessons, synthetic), stream(self.stage.seed, *names))

    def _lesson(self, lessons: Lessons, synthetic: Decoded | None) -> Lesson:
        data, device = self.stage.data, self.stage.device
        if lessons.training.on == "real":
            train = data.train

            def real(rows: Tensor) -> Tensor:
                return data.normalisation.apply(train.points[rows].to(device))

            labels = train.labels if train.soft is None else train.soft
            return Lesson(real, labels.to(device), torch.ones(len(train), device=device))
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
