"""A context bound to real data: its network's extractors, its augmentation, and what a step costs."""

import functools
import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from discrepancy.errors import InvalidInput
from discrepancy.networks.base import NetworkParameters
from discrepancy.networks.norms import warn_of_few
from discrepancy.networks.tangent import JACOBIAN
from objectives.contexts import Context
from objectives.data.real import RealData
from objectives.data.transform import RealTransform
from objectives.engine.batch_gradient import batch_gradient
from objectives.engine.compile import eager_seconds
from objectives.engine.extractor import Extractor
from objectives.engine.memory import graph_bytes
from objectives.engine.runtime import Runtime
from objectives.rng import rng
from objectives.terms.objective import TRAINED

__all__ = ["PART_EXAMPLES", "BoundContext"]

PART_EXAMPLES = 4096
"""The most real examples that are augmented and summarised together; the network sees them in smaller chunks."""

PART_BYTES = {"cpu": 8 << 20, "cuda": 256 << 20}
"""Of their points: on a CPU these stay in its cache, and each page of an array above 32 MiB is asked of the system anew."""


class BoundContext:
    """A context on data.

    Args:
        data: the real side.
        context: owner of the network, the augmentation and the policy for the real side.
        take: what the terms take of the network.
        runtime: where it runs.
        examples: synthetic examples of a step.
        steps: steps that are planned; with them ``compile: auto`` decides whether compilation pays.
        held: synthetic examples whose graph is held at once; by default all.
        sides: the real sides that are compared: None for the data as they are, and transforms of them.
        real_passes: forward passes of the real batch at every step beside those of the summaries.

    Raises:
        InvalidInput: if the context does not suit the data or what is taken, or a step does not fit into the memory.
    """

    def __init__(
        self,
        data: RealData,
        context: Context,
        take: frozenset[str],
        runtime: Runtime,
        *,
        examples: int,
        steps: int,
        held: int | None = None,
        sides: Collection[RealTransform | None] = (None,),
        real_passes: int = 0,
    ) -> None:
        self.sides, self.real_passes = sides, real_passes
        held = examples if held is None else held
        self.data, self.context, self.runtime, self.examples = data, context, runtime, examples
        self.real_examples = sum(n if context.batch == "all" else min(n, context.batch) for n in data.per_class)
        named = sorted(take - {"points", "gradient"})
        self.take = tuple(name for name in named if not name.startswith(TRAINED))
        self.trained_take = tuple(name.removeprefix(TRAINED) for name in named if name.startswith(TRAINED))
        self.has_network = take != {"points"} or context.sampling.lasts is not None
        self.second_order = "gradient" in take
        self._check()
        self.augment = context.augment and context.augment.for_data(mirror=data.mirror)
        self._set_extractors(steps)
        free = runtime.free_bytes
        pointwise = not self.extractor.whole_batches
        self.recompute = bool(named) and not self.second_order and pointwise and held * self.graph_bytes > free // 2
        graphs = self.graph_bytes * (min(self.extractor.chunk, held) if self.recompute else held)
        self.working_bytes = max(graphs, self._batch_bytes()) + self._gradient_bytes(held / max(examples, 1))
        if self.working_bytes > free:
            raise InvalidInput(
                f"a step needs about {self.working_bytes / 2**30:.2g} GiB and {free / 2**30:.2g} GiB are free; use a narrower "
                "network, fewer examples a class, a smaller batch, or smaller images"
            )

    def _set_extractors(self, steps: int) -> None:
        """One extractor for what the terms take of the current network, one for the trained network beside it, and one for the
        logits that networks are trained by."""
        data, network = self.data, self.context.network if self.has_network else None
        affine = self.context.training_schedule is not None  # else a scale of 1 and an offset of 0 are left out
        self.extractor, self.trained_extractor, self.logits_extractor = (
            Extractor(network, take, data.shape, data.outputs, self.runtime, affine=affine)
            for take in (self.take, self.trained_take, ("logits",))
        )
        self.graph_bytes = self.extractor.graph_bytes + self.trained_extractor.graph_bytes
        self.multiplications = self.extractor.multiplications if self.take else self.trained_extractor.multiplications
        if network is not None and (self.second_order or (JACOBIAN in self.take and self.extractor.plain_take)):
            self.multiplications += self.logits_extractor.multiplications
        if network is not None and self.second_order and JACOBIAN not in self.take:
            self.graph_bytes += graph_bytes(network, data.shape, data.outputs, ("gradient",))
        work = eager_seconds(self.multiplications * self._images(steps, self.examples), self.runtime.device)
        self.compiles = JACOBIAN not in self.take and self.runtime.compiles(work)
        for extractor in (self.extractor, self.trained_extractor, self.logits_extractor):
            extractor.compile(self.compiles)
        schedule = self.context.training_schedule if network is not None else None
        self.training_gradient = schedule and batch_gradient(
            self.logits_extractor, schedule.training, data, schedule.training.criterion, compiled=self.compiles
        )

    def _batch_bytes(self) -> int:
        """What a chunk of real examples, or of those that networks are trained on, takes."""
        schedule, trained = self.context.training_schedule, 0
        if schedule is not None:
            trained = self.logits_extractor.graph_bytes * min(schedule.training.batch, self.logits_extractor.chunk)
        each = self.logits_extractor if self.second_order else self.extractor
        return max(trained, each.graph_bytes * self.extractor.size(self.real_examples))

    def _gradient_bytes(self, held: float) -> int:
        """What gradients by the weights take where these are compared: the mean of each class on the real side, in float64, and
        of the share of the classes that is held at once on the other side that mean, its graph, and the gradient of each."""
        if not self.second_order:
            return 0
        return int(self.data.count * (2 + 6 * held) * self.logits_extractor.weight_bytes)

    @property
    def compiled(self) -> bool:
        """Whether networks run compiled so far: where a compiler fails, they go on without."""
        return any(extractor.compiled for extractor in (self.extractor, self.trained_extractor, self.logits_extractor))

    def _check(self) -> None:
        context, network, data = self.context, self.context.network, self.data
        if context.training_schedule is not None and self.has_network:
            data.require_classes(f"the context '{context.kind}', whose networks learn by cross-entropy,")
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
                warn_of_few(network, self.examples // data.count, "a class")
            else:
                warn_of_few(network, self.examples, "a synthetic set")
        if context.augment is not None and len(data.shape) != 3:
            raise InvalidInput(f"'augment' needs images (C, H, W); these examples have shape {data.shape}: remove it")

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape, for one example, of the points and of everything that is taken of the current network."""
        return self.extractor.shapes

    @functools.cached_property
    def chunk(self) -> int:
        """Rows of a chunk of real examples."""
        return self.extractor.size(self.real_examples)

    @functools.cached_property
    def part_examples(self) -> int:
        """Real examples that are embedded together: whole chunks."""
        of_bytes = PART_BYTES.get(self.runtime.device.type, PART_BYTES["cuda"])
        most = min(PART_EXAMPLES, max(1, of_bytes // (self.runtime.dtype.itemsize * math.prod(self.data.shape))))
        return max(1, most // self.chunk) * self.chunk if self.take else most

    def images(self, steps: int, examples: int) -> int:
        """Forward passes of one example that so many steps take, a backward pass counted as two."""
        data, runtime, changed = self.data, self.runtime, 0
        for transform in filter(None, self.sides):
            changed += transform.passes(data, transform.kept(data, runtime.seed, runtime.device, runtime.cache))
        return self._images(steps, examples) + changed

    def _images(self, steps: int, examples: int) -> int:
        """Those of the context's network, which may be compiled: changing the real side is not."""
        context, data = self.context, self.data
        passes = len(self.sides) * (steps if context.n_draws is None else min(steps, context.n_draws))
        passes += steps * self.real_passes
        schedule, training = context.training_schedule, 0
        if schedule is not None:
            learned = len(data) if schedule.training.on == "real" else examples
            rounds = context.rounds(steps)
            training = schedule.training.passes_each * rounds * schedule.training.images(learned)
            if schedule.watch is not None:
                training += (steps + rounds) * sum(min(n, schedule.watch.examples) for n in data.per_class)
        chosen = context.choices(steps) * len(data)
        both = bool(self.trained_take) and (bool(self.take) or self.second_order)
        return passes * self.real_examples + steps * 3 * (1 + both) * examples + training + chosen

    def initial(self, number: int) -> NetworkParameters:
        """The initial weights of the context's network of this number."""
        return self.extractor.initial(rng(self.runtime.seed, "network", number))

    # --- augmentation -------------------------------------------------------------------------------------------------

    def augmentation(self, number: int) -> Mapping[str, Tensor]:
        """The draw of the augmentation of this number.

        It has a row for each class, which the two sides share, or a row for each image, those of the real batch first."""
        if self.augment is None:
            return {}
        rows = self.data.count if self.augment.per == "class" else self.real_examples + self.examples
        return self.augment.draw(rng(self.runtime.seed, "augment", number), rows, self.data.shape)

    def augmented(
        self, points: Tensor, augmentation: Mapping[str, Tensor], labels: Tensor, places: int | Tensor
    ) -> Tensor:
        """``points`` under the rows of the draw that belong to their classes, or to images with these numbers (or numbered from
        this one on)."""
        if self.augment is None:
            return points
        if isinstance(places, int):
            places = torch.arange(places, places + len(points))
        return self.augment(points, augmentation, labels if self.augment.per == "class" else places)

    # --- real examples, without augmentation --------------------------------------------------------------------------

    def taken(self, numbers: Tensor, parameters: NetworkParameters) -> dict[str, Tensor]:
        """What is taken of these real examples."""
        points = self.normalised(numbers)
        with torch.no_grad():
            return {"points": points} | self.extractor(parameters, points, eager=True)

    def output(self, numbers: Tensor, parameters: NetworkParameters, name: str) -> Tensor:
        """One output of the network for these real examples, chunk by chunk."""
        network = self.context.network
        assert network is not None
        chunks = numbers.split(self.extractor.size(len(numbers)))
        return torch.cat([network(parameters, self.normalised(chunk), (name,))[name] for chunk in chunks])

    def features(self, numbers: Tensor, parameters: NetworkParameters) -> Tensor:
        """The features of these real examples as vectors."""
        return self.output(numbers, parameters, "features").flatten(1)

    def normalised(self, numbers: Tensor) -> Tensor:
        """These real examples in normalised units."""
        return self.data.normalised(numbers, self.runtime.device, self.runtime.dtype)

    def label_vectors(self, numbers: Tensor) -> Tensor | None:
        """The labels of real examples as rows (c,), or their targets; None where they have neither."""
        vectors = self.data.label_vectors(numbers, self.runtime.dtype)
        return None if vectors is None else vectors.to(self.runtime.device, self.runtime.dtype)
