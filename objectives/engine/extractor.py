"""The one place where examples go through a network: in chunks of one shape, compiled where that pays.

Chunks bound the memory, keep activations in a processor's cache, and give a compiled function one shape.
"""

import functools
import math
from typing import Any

import torch
from torch import Tensor

from discrepancy.networks.base import Network, NetworkParameters, Statistics
from discrepancy.networks.tangent import JACOBIAN, jacobians
from discrepancy.numerics.blocks import padded
from objectives.engine.compile import Compiled, eager_seconds
from objectives.engine.memory import chunk_examples, graph_bytes
from objectives.engine.runtime import Runtime

__all__ = ["Extractor"]


class Extractor:
    """(parameters, points) -> what is taken of a network, by name.

    Args:
        network: the architecture; None where nothing of a network is taken.
        take: names of outputs (``features``, ``logits``, ``layers``, ...), and ``jacobian``.
        shape: of an example.
        outputs: of the network.
        runtime: device and precision.
        affine: whether normalisations have factors and offsets among the parameters.
    """

    def __init__(
        self,
        network: Network | None,
        take: tuple[str, ...],
        shape: tuple[int, ...],
        outputs: int,
        runtime: Runtime,
        *,
        affine: bool = True,
    ) -> None:
        self.network, self.take, self.shape, self.outputs, self.runtime = network, take, shape, outputs, runtime
        self.affine = affine
        self.plain_take = tuple(name for name in take if name != JACOBIAN)
        self.chunk, self.whole_batches = UNBOUNDED, False
        if network is not None:
            self.chunk = chunk_examples(network, shape, outputs, runtime.device)
            self.whole_batches = not network.pointwise
        self._differentiable: Any = self._forward
        self._plain: Any = self._forward

    def compile(self, wanted: bool = True) -> "Extractor":
        """The same, compiled from now on if that is wanted and possible; compiled code has one gradient mode."""
        if wanted and self.compilable:
            self._differentiable, self._plain = Compiled(self._forward), Compiled(self._forward)
        return self

    @property
    def compilable(self) -> bool:
        """Whether its forward pass can be compiled."""
        return self.network is not None and JACOBIAN not in self.take

    @property
    def compiled(self) -> bool:
        """Whether its forward pass is compiled, and the compiler has not failed."""
        passes = (self._differentiable, self._plain)
        return any(isinstance(forward, Compiled) and forward.fast is not None for forward in passes)

    @functools.cached_property
    def multiplications(self) -> int:
        """Multiply-accumulates of the forward pass of one example."""
        if self.network is None or not self.take:
            return 0
        return self.network.multiplications(self.shape, self.outputs, self.plain_take or ("logits",))

    def seconds(self, examples: float) -> float:
        """A rough estimate of the time that so many examples take without compilation."""
        return eager_seconds(self.multiplications * examples, self.runtime.device)

    @functools.cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape, for one example, of the points and of each output."""
        shapes = {"points": self.shape}
        if self.network is None or not self.take:
            return shapes
        shapes |= self.network.shapes(self.shape, self.outputs, self.plain_take)
        if JACOBIAN in self.take:
            shapes[JACOBIAN] = (self.weight_bytes // self.runtime.dtype.itemsize,)
        return shapes

    @functools.cached_property
    def weight_bytes(self) -> int:
        """Bytes of the weights of a network."""
        return sum(value.nbytes for value in self.initial(torch.Generator()).values())

    @property
    def graph_bytes(self) -> int:
        """Bytes that autograd keeps for the backward pass of one example."""
        if self.network is None or not self.take:
            return 0
        kept = self.weight_bytes if JACOBIAN in self.take else 0
        if self.plain_take:
            kept += graph_bytes(self.network, self.shape, self.outputs, self.plain_take)
        if JACOBIAN in self.take:
            kept += graph_bytes(self.network, self.shape, self.outputs, ("gradient",))
        return kept

    def size(self, n: int) -> int:
        """The rows of each chunk that ``n`` examples are cut into: all chunks alike, and the last one filled up."""
        return n if self.whole_batches else math.ceil(n / math.ceil(n / self.chunk))

    def initial(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Random initial parameters on the device, drawn in float32 whatever the precision."""
        if self.network is None:
            return {}
        drawn = self.network.initial(generator, self.shape, self.outputs, affine=self.affine)
        return {name: value.to(self.runtime.device, self.runtime.dtype) for name, value in drawn.items()}

    def once(self, parameters: NetworkParameters, points: Tensor) -> dict[str, Tensor]:
        """What is taken of a single chunk, differentiable."""
        return self._differentiable(parameters, points)

    def __call__(
        self,
        parameters: NetworkParameters,
        points: Tensor,
        size: int | None = None,
        statistics: Statistics | None = None,
        *,
        eager: bool = False,
    ) -> dict[str, Tensor]:
        """What is taken of these points, in chunks of one ``size`` (by default what suits their number), differentiable where
        gradients are recorded.

        Args:
            statistics: of batch normalisation, in place of those of the batch.
            eager: never compiled, for instance in another precision than the runtime's.
        """
        if not self.take:
            return {}
        forward = self._differentiable if torch.is_grad_enabled() else self._plain
        if eager:
            forward = self._forward
        rest = () if statistics is None else (statistics,)
        size, pieces = size or self.size(len(points)), []
        if len(points) == size:
            return forward(parameters, points, *rest)
        for chunk in points.split(size):
            outputs = forward(parameters, padded(chunk, size), *rest)
            pieces.append({name: value if of_batch(name) else value[: len(chunk)] for name, value in outputs.items()})
        return pieces[0] if len(pieces) == 1 else {n: torch.cat([piece[n] for piece in pieces]) for n in pieces[0]}

    def _forward(
        self, parameters: NetworkParameters, points: Tensor, statistics: Statistics | None = None
    ) -> dict[str, Tensor]:
        network = self.network
        assert network is not None
        outputs = network(parameters, points, self.plain_take, statistics) if self.plain_take else {}
        if JACOBIAN in self.take:
            outputs[JACOBIAN] = jacobians(network, parameters, points)
        return outputs


def of_batch(name: str) -> bool:
    """Whether an output is one of the whole batch, and has no row for each example: ``layer1.mean`` and the like, which only
    networks have whose batches are not divided."""
    return "." in name


UNBOUNDED = 4096
"""Rows of a chunk where there is no network."""
