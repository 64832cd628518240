"""Soft labels by a teacher: a network that knows the real data says of every condensed example what it may be.

What is condensed, or chosen, is labelled afterwards: y = softmax(f(x) / T), the mean over the networks f of the teacher. The
labels belong to the set and are stored with it, (m, c) floats; so a set with a teacher's labels is compared with controls that
have labels of the same teacher (Qin, Deng and Alvarez-Melis, "A Label is Worth a Thousand Images in Dataset Distillation",
2024).
"""

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import safetensors
import safetensors.torch
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from discrepancy.errors import InvalidInput, out_of_memory
from discrepancy.networks import ConvNet, Network
from discrepancy.networks.base import NetworkParameters, Statistics
from discrepancy.parts import Part, plain, user_path
from objectives.data.labels import Labels, predicted_classes
from objectives.data.real import RealData
from objectives.data.spec import DataSpec, Described
from objectives.data.subset import Subset
from objectives.engine.batch_gradient import batch_gradient
from objectives.engine.bound_context import PART_EXAMPLES
from objectives.engine.extractor import Extractor
from objectives.engine.runtime import Runtime
from objectives.rng import rng, shuffled
from objectives.storage import write_bytes
from objectives.synthetic.artefact import SyntheticSet
from objectives.training.trainer import NetworkTrainer, TrainingData
from objectives.training.training import Training

__all__ = ["Member", "Taught", "Teacher"]

HELD_OUT = 0.1
"""Of each class: the accuracy of a teacher is measured on these where there is no test set. It does not train on them."""

BATCHES = 32
"""Batches whose means and variances, averaged, are those of batch normalisation in a teacher that has been trained."""


class Teacher(Part, family=True, kind="teacher"):
    """Networks trained on the real data, whose mean prediction, softmax(logits / ``temperature``), labels what is condensed.

    They are trained for a fixed number of steps, and the accuracy that is reported, on the test examples, chooses nothing;
    where there are none, a tenth of each class is held out for it. Each example is labelled once and as it is. (SRe2L and RDED
    label every crop of every epoch anew, and the code of NCFM every augmented batch, with the teacher at hand in training.)

    Args:
        network: what is trained.
        number: of networks; their probabilities are averaged.
        training: a round of training, on real data.
        rounds: of each network; 0 takes it as it comes, which is for a ``backbone`` with weights.
        weights: safetensors files, each with the weights of a network, or of several as ``condense run`` leaves them beside an
            artefact; then nothing is trained, and ``number``, ``training`` and ``rounds`` play no part.
        temperature: T > 0; the larger, the more the labels say of other classes.

    References: Distilling the Knowledge in a Neural Network (Hinton, Vinyals and Dean, 2015), section 2; Squeeze, Recover and
    Relabel (Yin, Xing and Shen, 2023), section 3.3.
    """

    paths: ClassVar[tuple[str, ...]] = ("weights",)

    network: Network = ConvNet()
    number: int = 1
    training: Training = Training(on="real", steps=100, lr=0.01, momentum=0.9, weight_decay=5e-4)
    rounds: int = 20
    weights: tuple[str, ...] = ()
    temperature: float = 1.0

    def __post_init__(self) -> None:
        for name, least in (("number", 1), ("rounds", 0)):
            if getattr(self, name) < least:
                raise InvalidInput(f"'{name}' must be at least {least}, got {getattr(self, name)}")
        if not 0 < self.temperature < float("inf"):
            raise InvalidInput(f"'temperature' must be > 0 and finite, got {self.temperature}")
        for path in self.weights:
            user_path("weights", path)
        if self.training.on != "real":
            raise InvalidInput(f"'training' of a teacher must be on: real, got '{self.training.on}'")

    def passes(self, examples: int) -> int:
        """Forward passes of one example that training on so many takes, a backward pass counted as two."""
        return (
            0
            if self.weights
            else self.training.passes_each * self.number * self.rounds * self.training.images(examples)
        )

    def check(self, data: Described) -> None:
        """Refuse data that it cannot be taught, before anything is done.

        Raises:
            InvalidInput: if its networks do not take such examples, or the weights are not theirs.
        """
        data.require_classes("a teacher")
        self.network.shapes(data.shape, data.count, ("logits",))
        if self.weights:
            self._given(data)

    def taught(
        self,
        data: RealData,
        test: RealData | None = None,
        *,
        seed: int = 0,
        device: str | torch.device = "cpu",
        on_round: Callable[[int, int], None] | None = None,
    ) -> "Taught":
        """The teacher, once it has learned the data; the same seed gives the same networks on a CPU.

        Args:
            test: examples on which its accuracy is measured; a tenth of each class of ``data`` where there are none.
            on_round: called with the rounds that are done, from none, and their total.
        """
        self.check(data)
        data.require_rows("a teacher")
        runtime, part = Runtime(seed, torch.device(device)), "test"
        if test is None and not self.weights:
            kept, held = data.divided(HELD_OUT, shuffled(rng(runtime.seed, "teacher", "held out")))
            data, test, part = Subset(data, kept), Subset(data, held), "held-out training"
        elif test is None:
            test, part = data, "training"
        members = self._given(data) or [self._trained(data, number, runtime, on_round) for number in range(self.number)]
        made = Taught(self, tuple(members), data.spec, runtime)
        return replace(made, measured=TeacherAccuracy(part, len(test), made.accuracy(test)))

    def label(
        self,
        synthetic: SyntheticSet,
        data: RealData,
        test: RealData | None = None,
        *,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> SyntheticSet:
        """The set with this teacher's labels, after it has learned the data."""
        return self.taught(data, test, seed=seed, device=device).label(synthetic)

    def _trained(
        self, data: RealData, number: int, runtime: Runtime, on_round: Callable[[int, int], None] | None
    ) -> "Member":
        network, report = self.network, on_round or (lambda done, total: None)
        extractor = Extractor(network, ("logits",), data.shape, data.count, runtime)
        gradient = batch_gradient(extractor, self.training, data, self.training.criterion)
        trainer = NetworkTrainer(self.training, extractor.initial(rng(runtime.seed, "teacher", number, "network")))
        examples = TrainingData.of_real(data, runtime.device)
        done, total = number * self.rounds, self.number * self.rounds
        report(done, total)
        for turn in range(self.rounds):
            trainer.round(gradient, examples, rng(runtime.seed, "teacher", number, "train", turn))
            report(done + turn + 1, total)
        parameters = trainer.parameters
        if network.pointwise:
            return Member(parameters)
        order = torch.randperm(len(data), generator=rng(runtime.seed, "teacher", number, "statistics"))
        parts = order.split(self.training.batch)
        batches = [rows for rows in parts[:BATCHES] if len(rows) == len(parts[0])]
        return Member(parameters, _statistics(network, parameters, [examples.batch(rows)[0] for rows in batches]))

    def _given(self, data: Described) -> list["Member"]:
        """The networks in the files."""
        expected = self.network.initial(torch.Generator(), data.shape, data.count) if self.weights else {}
        return [
            _member(path, tensors, expected, self.network)
            for path in self.weights
            for tensors in _by_network(_read(path))
        ]


@dataclass(frozen=True, eq=False)
class Member:
    """One network of a teacher: its weights, and the statistics of its batch normalisation where it has some."""

    parameters: NetworkParameters
    statistics: Statistics | None = None

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All its numbers by name, as they are stored."""
        pairs = {} if self.statistics is None else self.statistics
        moments = {
            f"{STATISTICS}{layer}.{what}": value
            for layer, pair in pairs.items()
            for what, value in zip(("mean", "variance"), pair, strict=True)
        }
        return {name: value.detach().cpu() for name, value in (dict(self.parameters) | moments).items()}


STATISTICS = "statistics."


@dataclass(frozen=True)
class TeacherAccuracy:
    """The accuracy of a teacher, in 0 .. 1, on so many examples of a part of the data."""

    part: str
    examples: int
    accuracy: float


@dataclass(frozen=True, eq=False)
class Taught:
    """A teacher that has learned: a map from examples in source units to distributions over the classes."""

    teacher: Teacher
    members: tuple[Member, ...]
    spec: DataSpec
    runtime: Runtime
    measured: TeacherAccuracy | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        return self.spec.classes

    @functools.cached_property
    def _extractor(self) -> Extractor:
        spec = self.spec
        return Extractor(self.teacher.network, ("logits",), spec.shape, spec.count, self.runtime)

    @torch.no_grad()
    def __call__(self, points: Shaped[Tensor, "m ..."]) -> Float[Tensor, "m c"]:
        """The mean of softmax(logits / temperature) over the networks, on the CPU."""
        found, device = [], self.runtime.device
        for chunk in points.split(self._extractor.chunk):
            x = self.spec.normalisation.apply(chunk.to(device))
            each = [self.logits(member, x) / self.teacher.temperature for member in self.members]
            found.append(torch.stack([logits.softmax(-1) for logits in each]).mean(0).cpu())
        return torch.cat(found)

    def logits(self, member: "Member", points: Float[Tensor, "m ..."]) -> Float[Tensor, "m c"]:
        """The logits of one network for points in normalised units, differentiable in these."""
        statistics = member.statistics and {
            name: (mean.to(points), variance.to(points)) for name, (mean, variance) in member.statistics.items()
        }
        parameters = {name: value.to(points) for name, value in member.parameters.items()}
        return self._extractor(parameters, points, len(points), statistics)["logits"]

    def accuracy(self, data: RealData) -> float:
        """The share of real examples that it classifies correctly."""
        correct = 0
        for examples, _ in data.parts(torch.arange(len(data)), PART_EXAMPLES):
            correct += int((predicted_classes(self(examples.points)) == examples.numbers("class").cpu()).sum())
        return correct / len(data)

    def label(self, synthetic: SyntheticSet) -> SyntheticSet:
        """The set with this teacher's labels in place of its own. What each example was made for stays known as its slot.

        Raises:
            InvalidInput: if the set has other classes or other examples than the teacher.
        """
        if synthetic.classes != self.classes:
            raise InvalidInput(
                f"the teacher knows {len(self.classes)} classes and the set has {len(synthetic.classes)}, or other ones; name "
                "the data that the set was made from"
            )
        return replace(
            synthetic,
            labelling=Labels("teacher", self(synthetic.points), slots=synthetic.numbers),
            record={**synthetic.record, "teacher": self.record},
        )

    @property
    def hash(self) -> str:
        """The first 12 hexadecimal digits of the SHA-256 of all the weights."""
        digest = hashlib.sha256()
        for member in self.members:
            for name, value in sorted(member.tensors.items()):
                digest.update(f"{name}{tuple(value.shape)};".encode())
                digest.update(value.contiguous().numpy().data)
        return digest.hexdigest()[:12]

    @property
    def record(self) -> dict[str, Any]:
        """What is to be known of the teacher, as plain data."""
        measured = self.measured
        return {
            "config": {"kind": self.teacher.kind, **plain(vars(self.teacher))},
            "networks": len(self.members),
            "seed": self.runtime.seed,
            "hash": self.hash,
            **(
                {}
                if measured is None
                else {"accuracy": measured.accuracy, "on": f"{measured.examples} {measured.part} examples"}
            ),
        }

    def save(self, path: Path) -> None:
        """Write the weights, which can be given to a teacher as ``weights``, and what is known of them."""
        tensors = {
            f"{number}/{name}": value.clone().contiguous()
            for number, member in enumerate(self.members)
            for name, value in member.tensors.items()
        }
        write_bytes(path, safetensors.torch.save(tensors, {"teacher": json.dumps(self.record)}))


def _statistics(network: Network, parameters: NetworkParameters, batches: Sequence[Tensor]) -> Statistics:
    """Means and unbiased variances of every batch normalisation, averaged over batches of one size."""
    with torch.no_grad():
        seen = [network(parameters, points, ("statistics",)) for points in batches]
    found = {}
    for name in seen[0]:
        layer, _, what = name.rpartition(".")
        if what == "mean":
            count = seen[0][f"{layer}.count"]
            mean = torch.stack([item[name] for item in seen]).mean(0)
            variance = torch.stack([item[f"{layer}.variance"] for item in seen]).mean(0)
            found[layer] = (mean, variance * count / (count - 1).clamp(min=1))
    return found


def _read(path: str) -> dict[str, Tensor]:
    place = user_path("weights", path)
    if not place.is_file():
        raise InvalidInput(f"'weights' must be paths of safetensors files, got '{path}', where there is none")
    try:
        return safetensors.torch.load_file(place)
    except (safetensors.SafetensorError, OSError) as error:
        if out_of_memory(error):
            raise
        raise InvalidInput(
            f"'weights' names '{path}', which is not a safetensors file ({error}); write it by safetensors.torch.save_file"
        ) from None


def _by_network(tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """The tensors of each network; names begin with its number where there are several in a file."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, slash, rest = name.partition("/")
        found.setdefault(number if slash else "", {})[rest if slash else name] = value
    return [found[number] for number in sorted(found, key=lambda text: (len(text), text))]


def _member(path: str, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], network: Network) -> Member:
    """The weights as those of the network.

    Raises:
        InvalidInput: if some are missing, too many, or of another shape.
    """
    moments = {name.removeprefix(STATISTICS): v for name, v in tensors.items() if name.startswith(STATISTICS)}
    weights = {name: value.float() for name, value in tensors.items() if not name.startswith(STATISTICS)}
    wrong = [
        *(f"'{name}' is missing" for name in expected if name not in weights),
        *(f"'{name}' is not one of its weights" for name in weights if name not in expected),
        *(
            f"'{name}' has shape {tuple(value.shape)}, not {tuple(expected[name].shape)}"
            for name, value in weights.items()
            if name in expected and value.shape != expected[name].shape
        ),
    ]
    if not network.pointwise and not moments:
        wrong.append(
            f"means and variances of batch normalisation, '{STATISTICS}LAYER.mean' and '.variance', are missing"
        )
    if wrong:
        more = f", and {len(wrong) - 1} more such" if len(wrong) > 1 else ""
        raise InvalidInput(
            f"'weights': '{path}' does not hold the weights of this {network.kind}: {wrong[0]}{more}; give the 'network' that "
            "they belong to"
        )
    layers = {name.rpartition(".")[0] for name in moments}
    statistics = {layer: (moments[f"{layer}.mean"], moments[f"{layer}.variance"]) for layer in sorted(layers)}
    return Member(weights, statistics or None)
