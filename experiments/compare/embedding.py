"""Both sides as features: one network with random weights, one set of frequencies, applied to real and made examples alike."""

from collections.abc import Mapping

import torch
from torch import Tensor

from discrepancy.discrepancy import Draws
from discrepancy.embeddings.base import Embedding
from discrepancy.errors import InvalidInput
from discrepancy.measure import Measure
from discrepancy.networks import MLP, ConvNet
from discrepancy.networks.base import Network
from experiments.compare.sides import Side
from objectives.engine.compile import compiled, eager_seconds, padded
from objectives.engine.memory import chunk_examples
from objectives.rng import rng

__all__ = ["RESOLVE_SAMPLE", "Embedded", "default_network"]

RESOLVE_SAMPLE = 2048
"""Real examples from which data-dependent constants are turned into numbers."""

PART = 4096
"""Examples that are normalised and embedded together; the network sees them in smaller chunks."""


def default_network(shape: tuple[int, ...]) -> Network:
    """What embeds examples of this shape where no network is named."""
    return ConvNet() if len(shape) == 3 else MLP()


class Embedded:
    """An embedding bound to the units of the real side and to one network of its architecture, number ``network``.

    Raises:
        InvalidInput: if the network normalises over batches, so that an example's features depend on the others.
    """

    def __init__(
        self, real: Side, via: Embedding, network: Network | None, number: int, seed: int, device: torch.device
    ) -> None:
        self.real, self.device = real, device
        self.take = tuple(sorted(via.takes - {"points"}))
        self.network = (network or default_network(real.shape)) if self.take else None
        self.parameters: Mapping[str, Tensor] = {}
        shapes, self.chunk, work = {"points": real.shape}, PART, 0.0
        if self.network is not None:
            if not self.network.pointwise:
                raise InvalidInput(
                    f"'{self.network.kind}' normalises over the batch, so an example has no features of its own; choose "
                    "another 'norm'"
                )
            classes = max(len(real.classes), 2)
            shapes |= self.network.shapes(real.shape, classes, self.take)
            self.chunk = chunk_examples(self.network, real.shape, classes, device)
            initial = self.network.initial(rng(seed, "network", number), real.shape, classes, affine=False)
            self.parameters = {name: value.to(device) for name, value in initial.items()}
            work = eager_seconds(len(real) * self.network.multiplications(real.shape, classes, self.take), device)
        self.forward = compiled(self._forward, "auto", work, device)
        self.draws: Draws = None
        taken = self._taken(self._normalised(real, _sample(len(real), rng(seed, "resolve"))))
        self.via = via.resolve(Measure(taken))
        drawn = self.via.draw(rng(seed, "random", "via", number), shapes)
        self.draws = None if drawn is None else {name: value.to(device) for name, value in drawn.items()}

    def _forward(self, parameters: Mapping[str, Tensor], points: Tensor) -> dict[str, Tensor]:
        assert self.network is not None
        return self.network(parameters, points, self.take)

    def _normalised(self, side: Side, rows: Tensor | slice) -> Tensor:
        return self.real.normalisation.apply(side.points[rows].to(self.device))

    @torch.no_grad()
    def _taken(self, points: Tensor) -> dict[str, Tensor]:
        taken = {"points": points}
        if not self.take:
            return taken
        pieces = []
        for chunk in points.split(self.chunk):
            outputs = self.forward(self.parameters, padded(chunk, self.chunk))
            pieces.append({name: value[: len(chunk)] for name, value in outputs.items()})
        return taken | {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}

    @torch.no_grad()
    def features(self, side: Side) -> dict[str, Tensor]:
        """The features of every example, by block ('' where there is only one), held once."""
        held: dict[str, Tensor] = {}
        for start in range(0, len(side), PART):
            values = self.via(self._taken(self._normalised(side, slice(start, start + PART))), self.draws)
            for name, block in Measure(values).tensors.items():
                if name not in held:
                    held[name] = block.new_empty(len(side), *block.shape[1:])
                held[name][start : start + PART] = block
        return held


def _sample(n: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(n, generator=generator)[:RESOLVE_SAMPLE].sort().values
