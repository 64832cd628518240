"""Both sides as features: one network with random weights, one set of frequencies, applied to real and made examples alike."""

import torch
from torch import Tensor

from discrepancy.discrepancy import Draws
from discrepancy.embeddings.base import Embedding
from discrepancy.errors import InvalidInput
from discrepancy.measure import Measure
from discrepancy.networks import MLP, ConvNet
from discrepancy.networks.base import Network
from experiments.compare.sides import Side
from objectives.engine.bound_context import PART_EXAMPLES
from objectives.engine.engine import RESOLVE_SAMPLE
from objectives.engine.extractor import Extractor
from objectives.engine.runtime import Runtime
from objectives.rng import rng

__all__ = ["Embedded", "default_network"]


def default_network(shape: tuple[int, ...]) -> Network:
    """What embeds examples of this shape where no network is named."""
    return ConvNet() if len(shape) == 3 else MLP()


class Embedded:
    """An embedding bound to the units of the real side and to one network of its architecture, number ``number``.

    Raises:
        InvalidInput: if the network normalises over batches, so that an example's features depend on the others.
    """

    def __init__(self, real: Side, via: Embedding, network: Network | None, number: int, runtime: Runtime) -> None:
        self.real, self.runtime = real, runtime
        take = tuple(sorted(via.takes - {"points"}))
        network = (network or default_network(real.shape)) if take else None
        if network is not None and not network.pointwise:
            raise InvalidInput(
                f"'{network.kind}' normalises over the batch, so an example has no features of its own; choose "
                "another 'norm'"
            )
        self.extractor = Extractor(network, take, real.shape, max(len(real.classes), 2), runtime, affine=False)
        self.extractor.compile(runtime.compiles(self.extractor.seconds(len(real))))
        self.parameters = self.extractor.initial(rng(runtime.seed, "network", number))
        self.draws: Draws = None
        sample = torch.randperm(len(real), generator=rng(runtime.seed, "resolve"))[:RESOLVE_SAMPLE].sort().values
        self.via = via.resolve(Measure(self._taken(self._normalised(real, sample))))
        drawn = self.via.draw(rng(runtime.seed, "random", "via", number), self.extractor.shapes)
        self.draws = None if drawn is None else {name: value.to(runtime.device) for name, value in drawn.items()}

    def _normalised(self, side: Side, rows: Tensor | slice) -> Tensor:
        return self.real.normalisation.apply(side.points[rows].to(self.runtime.device))

    @torch.no_grad()
    def _taken(self, points: Tensor) -> dict[str, Tensor]:
        return {"points": points} | self.extractor(self.parameters, points, self.extractor.chunk)

    @torch.no_grad()
    def features(self, side: Side) -> dict[str, Tensor]:
        """The features of every example, by block ('' where there is only one), held once."""
        held: dict[str, Tensor] = {}
        for start in range(0, len(side), PART_EXAMPLES):
            values = self.via(self._taken(self._normalised(side, slice(start, start + PART_EXAMPLES))), self.draws)
            for name, block in Measure(values).tensors.items():
                if name not in held:
                    held[name] = block.new_empty(len(side), *block.shape[1:])
                held[name][start : start + PART_EXAMPLES] = block
        return held
