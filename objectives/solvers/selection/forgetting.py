"""Selection by forgetting: examples that a network learns and loses again in the course of its training."""

from dataclasses import replace
from typing import Any, ClassVar, Literal, get_args

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from discrepancy.errors import InvalidInput
from discrepancy.networks.base import Network, NetworkParameters
from discrepancy.parts import check_choice
from objectives.data.labels import predicted_classes
from objectives.engine.batch_gradient import batch_gradient
from objectives.engine.bound_context import BoundContext
from objectives.engine.extractor import Extractor
from objectives.rng import rng
from objectives.solvers.base import Problem, Solver
from objectives.solvers.selection.base import Selecting
from objectives.training.trainer import NetworkTrainer, TrainingData
from objectives.training.training import Training

__all__ = ["Forgetting"]


class Forgetting(Solver, kind="forgetting"):
    """The real examples of each class that the context's network forgets most often, or least often: a forgetting event is a
    transition from a right answer to a wrong one, from the end of one round of training to the end of the next,

        events(x) = Σ_r [right after round r] [wrong after round r + 1],   infinite if x was never right.

    The objective plays no part. Of equal counts the first examples. The network is the first of the context's, trained from its
    initial weights on all the real data, whatever training the context may have. Each round costs its training, and one
    forward pass of all the data: in all ``rounds`` · (3 ``steps`` · ``batch`` + n) passes of one example.

    The paper looks at an example where it is in a minibatch, once an epoch; so here a round should be an epoch or less. Both
    are lower bounds on the events that a look after every step would find.

    Args:
        rounds: of training, with a look at all the examples after each.
        training: a round.
        choose: ``most`` takes those with the most events, as the paper keeps them; ``least`` those with the fewest.

    References: Toneva et al., "An Empirical Study of Example Forgetting during Deep Neural Network Learning" (2019); that
    examples never learned count as forgotten most is from its code.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"logits"})

    rounds: int = 20
    training: Training = Training(steps=100, batch=128, lr=0.01, momentum=0.9)
    choose: Literal["most", "least"] = "most"

    def __post_init__(self) -> None:
        if self.rounds < 2:
            raise InvalidInput(f"'rounds' must be at least 2, so that something can be forgotten, got {self.rounds}")
        check_choice("choose", self.choose, get_args(Literal["most", "least"]))
        if self.training.on != "real":
            raise InvalidInput("'training' of forgetting must be on: real, got 'synthetic'")

    def duration(self, problem: Problem) -> int:
        return self.rounds

    def passes(self, problem: Problem, context: BoundContext) -> int:
        n = len(problem.data)
        return self.rounds * (self.training.passes_each * self.training.images(n) + n)

    def start(self, problem: Problem) -> "_Forgetting":
        problem.data.require_classes("solver: forgetting")
        network = problem.context.network
        if network is None:
            raise InvalidInput(
                "'forgetting' trains the context's network, but it has none; give the context a 'network'"
            )
        if not network.pointwise:
            raise InvalidInput(
                f"'forgetting' asks for one example at a time, but '{network.kind}' with batch normalisation is not pointwise; "
                "choose another 'norm'"
            )
        return _Forgetting(self, problem, network)


class _Forgetting(Selecting):
    def __init__(self, solver: Forgetting, problem: Problem, network: Network) -> None:
        super().__init__(problem, solver.kind, solver.rounds)
        self.solver = solver
        data, runtime = problem.data, replace(problem.runtime, dtype=torch.float32, compile="never")
        self.extractor = Extractor(network, ("logits",), data.shape, data.count, runtime)
        number = problem.context.at(0, runtime.seed).network
        initial = self.extractor.initial(rng(runtime.seed, "network", number))
        self.gradient = batch_gradient(self.extractor, solver.training, problem.data, solver.training.criterion)
        self.trainer = NetworkTrainer(solver.training, initial)
        n = len(data)
        self.right, self.learned = torch.zeros(n, dtype=torch.bool), torch.zeros(n, dtype=torch.bool)
        self.events = torch.zeros(n, dtype=torch.long)

    def _examples(self) -> TrainingData:
        """All the real examples, with labels as rows."""
        data, device = self.problem.data, self.extractor.runtime.device

        def batch(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            examples = data.rows(rows)
            labels = examples.labels.vectors(data.count)
            assert labels is not None
            return data.normalised(examples, device), labels.to(device), torch.ones(len(rows), device=device)

        return TrainingData(len(data), batch, data.outputs)

    def _advance(self) -> Tensor:
        data, runtime = self.problem.data, self.problem.runtime
        self.trainer.round(self.gradient, self._examples(), rng(runtime.seed, "forgetting", self.step))
        right = self._predictions(self.trainer.parameters) == data.strata.cpu()
        self.events += self.right & ~right
        self.right, self.learned = right, self.learned | right
        if self.step + 1 == self.steps:
            self._chosen = self._selected()
        return self.events.float().mean()

    @torch.no_grad()
    def _predictions(self, parameters: NetworkParameters) -> Int[Tensor, " n"]:
        """The class with the largest logit, of all the real examples."""
        data, device = self.problem.data, self.extractor.runtime.device
        parts = torch.arange(len(data)).split(self.extractor.chunk)
        found = [self.extractor.once(parameters, data.normalised(part, device))["logits"] for part in parts]
        return torch.cat([predicted_classes(logits).cpu() for logits in found])

    def _selected(self) -> Tensor:
        ranks = ranked(self.events, self.learned, most=self.solver.choose == "most")
        members = zip(self.problem.data.members, self.sizes, strict=True)
        return torch.cat([rows[ranks[rows].argsort(stable=True)[:size]] for rows, size in members])

    def state(self) -> dict[str, Any]:
        counted = {"right": self.right, "learned": self.learned, "events": self.events.clone()}
        return super().state() | counted | {"trainer": self.trainer.state()}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self.right, self.learned, self.events = (state[name].cpu() for name in ("right", "learned", "events"))
        self.events = self.events.clone()
        self.trainer = NetworkTrainer.restored(self.solver.training, state["trainer"], self.problem.runtime.device)


def ranked(events: Int[Tensor, " n"], learned: Bool[Tensor, " n"], *, most: bool) -> Int[Tensor, " n"]:
    """The smaller, the earlier an example is chosen: by its events, those never learned being forgotten most of all."""
    counted = torch.where(learned, events, events.max() + 1)
    return -counted if most else counted
