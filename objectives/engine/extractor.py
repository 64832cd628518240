"""Where both sides are embedded: the context's network and augmentation, applied to examples in chunks of one shape.

The network's outputs are computed once for a batch and shared by all the terms. Chunks bound the memory, keep activations in a
processor's cache, and give a compiled function one shape.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from discrepancy.errors import InvalidInput
from discrepancy.networks.base import NetworkParameters
from discrepancy.networks.norms import warn_of_few
from discrepancy.networks.tangent import JACOBIAN, jacobians
from objectives.contexts import Context, Draw
from objectives.data.labelled import LabelledData
from objectives.engine.batches import Batches
from objectives.engine.compile import Compiled, Policy, compiles, eager_seconds, padded
from objectives.engine.memory import available_bytes, chunk_examples, graph_bytes
from objectives.rng import rng
from objectives.terms.objective import TRAINED

__all__ = ["PART_EXAMPLES", "Extractor"]

PART_EXAMPLES = 4096
"""Real examples that are augmented and summarised together; the network sees them in smaller chunks."""


class Extractor:
    """A context bound to data.

    Args:
        take: what the terms take of the network.
        examples: synthetic examples of a step.
        steps: steps that are planned; with them ``policy="auto"`` decides whether compilation pays.
        dtype: of examples and of networks, which are drawn in float32 whatever it is.

    Raises:
        InvalidInput: if the context does not suit the data or what is taken, or a step does not fit into the memory.
    """

    def __init__(
        self,
        data: LabelledData,
        context: Context,
        take: frozenset[str],
        *,
        seed: int,
        examples: int,
        steps: int,
        device: torch.device,
        policy: Policy,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.data, self.context, self.seed, self.device = data, context, seed, device
        self.examples, self.dtype = examples, dtype
        self.real_examples = sum(n if context.batch == "all" else min(n, context.batch) for n in data.per_class)
        named = sorted(take - {"points", "gradient"})
        self.take = tuple(name for name in named if not name.startswith(TRAINED))
        self.trained_take = tuple(name.removeprefix(TRAINED) for name in named if name.startswith(TRAINED))
        self.has_network = take != {"points"} or context.sampling.lasts is not None
        self.second_order = "gradient" in take
        self.plain_take = tuple(name for name in self.take if name != JACOBIAN)
        self.batches = Batches(data, context, seed)
        self._check()
        self.augment = context.augment and context.augment.for_data(mirror=data.mirror)
        self.has_both = bool(self.trained_take) and (bool(self.take) or self.second_order)
        self.shapes: dict[str, tuple[int, ...]] = {"points": data.shape}
        self.multiplications, self.graph_bytes, self.chunk, self.whole_batches = 0, 0, 4096, False
        network = context.network
        if self.has_network and network is not None:
            self.shapes |= network.shapes(data.shape, data.outputs, self.plain_take)
            if JACOBIAN in self.take:
                weights = sum(value.numel() for value in self.parameters(0).values())
                self.shapes[JACOBIAN], self.graph_bytes = (weights,), weights * self.dtype.itemsize
            gradient = ("gradient",) if self.second_order or JACOBIAN in self.take else ()
            for names in filter(None, (self.plain_take, self.trained_take, gradient)):
                self.graph_bytes += graph_bytes(network, data.shape, data.outputs, names)
            for names in filter(None, (self.plain_take or self.trained_take, ("logits",) if gradient else ())):
                self.multiplications += network.multiplications(data.shape, data.outputs, names)
            self.chunk = chunk_examples(network, data.shape, data.outputs, device)
            self.whole_batches = not network.pointwise
        work = eager_seconds(self.multiplications * self.images(steps, examples), device)
        self.compiles = JACOBIAN not in self.take and compiles(policy, work, device)
        functions = self._forward, self._forward, self._trained_forward, self._answers
        self.real_forward, self.synthetic_forward, self.trained_forward, self.learning_forward = (
            Compiled(function) if self.compiles else function for function in functions
        )
        free = available_bytes(device)
        self.recompute = (
            bool(named) and not self.second_order and not self.whole_batches and examples * self.graph_bytes > free // 2
        )
        self.working_bytes = self.graph_bytes * (
            (min(self.chunk, examples) if self.recompute else examples) + self.size(self.real_examples)
        )
        if self.working_bytes > free:
            raise InvalidInput(
                f"a step needs about {self.working_bytes / 2**30:.2g} GiB and {free / 2**30:.2g} GiB are free; use a narrower "
                "network, fewer examples a class, a smaller batch, or smaller images"
            )

    def _check(self) -> None:
        context, network = self.context, self.context.network
        if context.training_schedule is not None and self.has_network:
            self.data.require_classes(f"the context '{context.kind}', whose networks learn by cross-entropy,")
        if self.has_network and network is None:
            names = " and ".join(f"'{name}'" for name in (*self.take, *(["gradient"] if self.second_order else [])))
            raise InvalidInput(
                f"a term takes {names} of the context's network, but it has none; give the context a 'network'"
            )
        if self.trained_take and not context.has_trained:
            raise InvalidInput(
                f"a term takes '{TRAINED}{self.trained_take[0]}', but '{context.kind}' has no trained network beside the "
                "current one; use the context 'interpolated', or take it of the current network"
            )
        if network is not None and not network.pointwise and context.batch == "all":
            raise InvalidInput(
                f"'{network.kind}' with batch normalisation is not pointwise, so 'all' real data cannot be streamed through "
                "it; give 'batch' a number or choose another 'norm'"
            )
        if network is not None and not network.pointwise and JACOBIAN in self.take:
            raise InvalidInput(
                f"a term takes the 'jacobian' of each example, but '{network.kind}' with batch normalisation is not pointwise; "
                "choose another 'norm'"
            )
        if network is not None and self.has_network:
            if self.second_order:  # each class alone goes through the network
                warn_of_few(network, self.examples // self.data.count, "a class")
            else:
                warn_of_few(network, self.examples, "a synthetic set")
        if context.augment is not None and len(self.data.shape) != 3:
            raise InvalidInput(
                f"'augment' needs images (C, H, W); these examples have shape {self.data.shape}: remove it"
            )

    def images(self, steps: int, examples: int) -> int:
        """Forward passes of one example that so many steps take, a backward pass counted as two."""
        passes = steps if self.context.n_draws is None else min(steps, self.context.n_draws)
        schedule, taught = self.context.training_schedule, 0
        if schedule is not None:
            learned = len(self.data.train) if schedule.training.on == "real" else examples
            rounds = self.context.rounds(steps)
            taught = 3 * rounds * schedule.training.images(learned)
            if schedule.watch is not None:
                taught += (steps + rounds) * sum(min(n, schedule.watch.examples) for n in self.data.per_class)
        looked = self.context.choices(steps) * len(self.data.train)
        return passes * self.real_examples + steps * 3 * (1 + self.has_both) * examples + taught + looked

    def size(self, n: int) -> int:
        """The rows of each chunk that ``n`` examples are cut into: all chunks alike, and the last one filled up."""
        return n if self.whole_batches else math.ceil(n / math.ceil(n / self.chunk))

    def parameters(self, number: int) -> NetworkParameters:
        """The initial weights of the context's network of this number."""
        network = self.context.network
        if network is None or not self.has_network:
            return {}
        affine = self.context.training_schedule is not None
        shape, outputs = self.data.shape, self.data.outputs
        initial = network.initial(rng(self.seed, "network", number), shape, outputs, affine=affine)
        return {name: value.to(self.device, self.dtype) for name, value in initial.items()}

    def augmentation(self, number: int) -> Mapping[str, Tensor]:
        """The draw of the augmentation of this number: a row a class, which the two sides share, or a row an image, those of
        the real batch first."""
        if self.augment is None:
            return {}
        rows = self.data.count if self.augment.per == "class" else self.real_examples + self.examples
        return self.augment.draw(rng(self.seed, "augment", number), rows, self.data.shape)

    def augmented(self, points: Tensor, augmentation: Mapping[str, Tensor], labels: Tensor, first: int) -> Tensor:
        """``points`` under the rows of the draw that belong to their classes, or to images numbered from ``first`` on."""
        if self.augment is None:
            return points
        rows = labels if self.augment.per == "class" else torch.arange(first, first + len(points))
        return self.augment(points, augmentation, rows)

    def _answers(self, parameters: NetworkParameters, points: Tensor) -> dict[str, Tensor]:
        assert self.context.network is not None
        return self.context.network(parameters, points, ("logits",))

    def _forward(self, parameters: NetworkParameters, points: Tensor) -> dict[str, Tensor]:
        network = self.context.network
        assert network is not None
        outputs = network(parameters, points, self.plain_take) if self.plain_take else {}
        return outputs | ({JACOBIAN: jacobians(network, parameters, points)} if JACOBIAN in self.take else {})

    def _trained_forward(self, parameters: NetworkParameters, points: Tensor) -> dict[str, Tensor]:
        assert self.context.network is not None
        return self.context.network(parameters, points, self.trained_take)

    def taken(
        self, parameters: NetworkParameters, points: Tensor, forward: Any = None, size: int | None = None
    ) -> dict[str, Tensor]:
        """Everything that the terms take of these points, in chunks of one ``size`` (by default what suits their number)."""
        if not self.take:
            return {"points": points}
        return {"points": points} | self._in_chunks(forward or self._forward, parameters, points, size)

    def taken_trained(self, parameters: NetworkParameters, points: Tensor, plain: bool = False) -> dict[str, Tensor]:
        """The same of the trained network with these weights, under the names that the terms have for it; ``plain`` where no
        gradient is wanted, since compiled code has one mode."""
        if not self.trained_take:
            return {}
        forward = self._trained_forward if plain else self.trained_forward
        found = self._in_chunks(forward, parameters, points, None)
        return {f"{TRAINED}{name}": value for name, value in found.items()}

    def _in_chunks(
        self, forward: Any, parameters: NetworkParameters, points: Tensor, size: int | None
    ) -> dict[str, Tensor]:
        size, pieces = size or self.size(len(points)), []
        for chunk in points.split(size):
            outputs = forward(parameters, padded(chunk, size))
            pieces.append({name: value[: len(chunk)] for name, value in outputs.items()})
        return pieces[0] if len(pieces) == 1 else {n: torch.cat([piece[n] for piece in pieces]) for n in pieces[0]}

    def normalised(self, indices: Tensor) -> Tensor:
        """These real examples in normalised units."""
        return self.data.normalisation.apply(self.data.train.points[indices].to(self.device), self.dtype)

    @torch.no_grad()
    def real(self, indices: Tensor, parameters: NetworkParameters) -> dict[str, Tensor]:
        """What is taken of these real examples, without augmentation."""
        return self.taken(parameters, self.normalised(indices))

    def label_vectors(self, indices: Tensor) -> Tensor | None:
        """The labels of real examples as rows (c,), or their targets; None where they have neither."""
        vectors = self.data.label_vectors(indices)
        return None if vectors is None else vectors.to(self.device, self.dtype)

    @torch.no_grad()
    def logits(self, indices: Tensor, parameters: NetworkParameters) -> Tensor:
        """What the network answers to these real examples, without augmentation."""
        return self._seen(indices, parameters, "logits")

    def _seen(self, indices: Tensor, parameters: NetworkParameters, name: str) -> Tensor:
        network = self.context.network
        assert network is not None
        chunks = indices.split(self.size(len(indices)))
        return torch.cat([network(parameters, self.normalised(chunk), (name,))[name] for chunk in chunks])

    def features(self, indices: Tensor, parameters: NetworkParameters) -> Tensor:
        """The features of these real examples as vectors, without augmentation."""
        return self._seen(indices, parameters, "features").flatten(1)

    @torch.no_grad()
    def rows(self, draw: Draw, parameters: NetworkParameters) -> Tensor:
        """The real examples of a draw."""
        return self.batches.rows(draw, lambda members: self.features(members, parameters))

    @torch.no_grad()
    def real_parts(
        self, draw: Draw, parameters: NetworkParameters, augmentation: Mapping[str, Tensor], examples: int | None = None
    ) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """The real batch of a draw in parts of about so many examples: what is taken, and which examples they are."""
        indices = self.rows(draw, parameters)
        size = self.size(len(indices))
        part = examples or PART_EXAMPLES
        if self.take:
            part = max(1, part // size) * size
        if len(indices) > part:
            indices = indices[_mixed(self.data.strata[indices])]
        for first, rows in enumerate(indices.split(part)):
            augmented = self.augmented(self.normalised(rows), augmentation, self.data.strata[rows], first * part)
            yield self.taken(parameters, augmented, self.real_forward, size), rows


def _mixed(labels: Tensor) -> Tensor:
    """An order of examples sorted by class in which every stretch holds the classes in proportion: a part of one class would be
    padded to as many points in each of the others."""
    sizes = torch.bincount(labels)
    within = torch.arange(len(labels)) - (sizes.cumsum(0) - sizes)[labels]
    return ((within + 0.5) / sizes[labels]).argsort(stable=True)
