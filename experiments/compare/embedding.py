"""Both sides as features: one network with random weights, one set of frequencies, applied to real and made examples alike."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from discrepancy.discrepancy import Draws
from discrepancy.embeddings.base import Embedding
from discrepancy.errors import InvalidInput, Unsupported
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
        with torch.no_grad():
            self.via = via.resolve(Measure(self._taken(self.normalised(real, sample))))
        drawn = self.via.draw(rng(runtime.seed, "random", "via", number), self.extractor.shapes)
        self.draws = None if drawn is None else {name: value.to(runtime.device) for name, value in drawn.items()}

    def normalised(self, side: Side, rows: Tensor | slice) -> Tensor:
        """Examples of a side in the units of the real one."""
        return self.real.normalisation.apply(side.points[rows].to(self.runtime.device))

    def _taken(self, points: Tensor) -> dict[str, Tensor]:
        return {"points": points} | self.extractor(self.parameters, points, self.extractor.chunk)

    def blocks(self, points: Tensor) -> dict[str, Tensor]:
        """The features of normalised points, by block ('' where there is only one). Where gradients are recorded they are
        differentiable; the backward pass computes the features of a network again, chunk by chunk, to save memory."""
        if not torch.is_grad_enabled() or self.extractor.network is None:
            return self._blocks(points)
        names: list[str] = []

        def values(part: Tensor) -> tuple[Tensor, ...]:
            blocks = self._blocks(part)
            names[:] = blocks
            return tuple(blocks.values())

        found = _Recomputed.apply(values, self.extractor.chunk, points)
        return dict(zip(names, found, strict=True))

    def _blocks(self, points: Tensor) -> dict[str, Tensor]:
        return dict(Measure(self.via(self._taken(points), self.draws)).tensors)

    @torch.no_grad()
    def features(self, side: Side) -> dict[str, Tensor]:
        """The features of every example, by block ('' where there is only one), held once."""
        held: dict[str, Tensor] = {}
        for start in range(0, len(side), PART_EXAMPLES):
            for name, block in self.blocks(self.normalised(side, slice(start, start + PART_EXAMPLES))).items():
                if name not in held:
                    held[name] = block.new_empty(len(side), *block.shape[1:])
                held[name][start : start + PART_EXAMPLES] = block
        return held


class _Recomputed(Function):
    """Several functions of points, with one row for each point, in chunks of one ``size``. The backward pass computes them
    again."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        values: Callable[[Tensor], tuple[Tensor, ...]], size: int, points: Tensor
    ) -> tuple[Tensor, ...]:
        pieces = [values(part) for part in points.split(size)]
        return tuple(map(torch.cat, zip(*pieces, strict=True)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.values, ctx.size, points = inputs
        ctx.save_for_backward(points)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        if torch.is_grad_enabled():
            raise Unsupported("features that are computed again in the backward pass have first derivatives only")
        (points,) = ctx.saved_tensors
        found = []
        for part, *own in zip(points.split(ctx.size), *(grad.split(ctx.size) for grad in grads), strict=True):
            with torch.enable_grad():
                here = part.detach().requires_grad_()
                found.append(torch.autograd.grad(ctx.values(here), here, own)[0])
        return None, None, torch.cat(found)
