"""Protocols: how a network is trained on a small set before it is evaluated, completely, and under a name and a hash.

Accuracies can be compared only under one protocol, so its hash stands beside every result. The accuracy is that of the last
epoch; nothing is chosen on the test examples.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from torch import Generator, Tensor, randperm

from discrepancy.errors import InvalidInput, suggestion
from discrepancy.networks import MLP, ConvNet, Network
from discrepancy.parts import Part, check_choice
from experiments.config import build, dump, override, read
from objectives.attacks import Attack, UnitSpace
from objectives.data.labelled import LabelledData
from objectives.training.augmentation import Augmentation, Chain, Siamese
from objectives.training.batch_gradient import BatchGradient, PlainGradient
from objectives.training.mixing import CutMix, Mixing
from objectives.training.robust_gradient import AdversarialGradient
from objectives.training.trainer import TrainingPlan

__all__ = ["PROTOCOLS", "Protocol", "complete", "protocol_named", "whole_budget"]

LATER = {
    "scratch": ("optimizer", "milestones", "mix", "loss", "attack"),
    "mlp": ("slope", "bias"),
    "convnet": ("growth", "padding"),
}
"""Fields, by kind, that came after the first hashes; they are in a hash only where they differ from their defaults."""


class Protocol(Part, TrainingPlan, family=True, kind="scratch"):
    """Training from scratch by stochastic gradient descent with momentum, or AdamW, with drops of the rate.

    The loss of a batch is the mean over its examples of wᵢ · cross-entropy(yᵢ, network(xᵢ)), or of wᵢ ‖yᵢ - network(xᵢ)‖², with
    weights scaled to the mean 1 over the whole set. Without ``milestones`` the rate drops once, in the
    middle; the momentum is forgotten there, as in published code, which makes a new optimiser. Where the published count is E,
    ``epochs`` is E + 1.

    Args:
        network: what is trained, ``networks`` times, each from its own initial weights.
        epochs: passes over the set.
        batch: examples of a step; the last of an epoch may have fewer.
        lr, momentum, weight_decay: of the descent, as in ``torch.optim.SGD`` or, without momentum, ``AdamW``.
        drop: what the rate is multiplied by.
        optimizer: ``sgd`` or ``adamw``.
        milestones: the shares of the epochs after which the rate drops, while the optimiser goes on; () for the one drop.
        mix: makes examples of two, after the augmentation; None for none.
        loss: ``cross_entropy``, for classes and distributions; ``squared``, for all labels, classes as one-hot vectors;
            ``auto`` is the squared loss for targets, else the cross-entropy; scores, which have none, make it ``squared``
            (:meth:`learning`): another protocol with another hash, under which the controls are trained too.
        augment: drawn for every batch: one operation, and its strength for each example; without mirroring where that
            changes the labels of the data.
        attack: adversarial training: every minibatch is replaced by what this attack on the network makes of it; None for none.
        name, source: what the protocol is called and where it is from; they change nothing, and are not in the hash.
    """

    network: Network = ConvNet()
    networks: int = 20
    epochs: int = 1001
    batch: int = 256
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    drop: float = 0.1
    augment: Augmentation | None = None
    optimizer: Literal["sgd", "adamw"] = "sgd"
    milestones: tuple[float, ...] = ()
    mix: Mixing | None = None
    loss: Literal["auto", "cross_entropy", "squared"] = "auto"
    attack: Attack | None = None
    name: str = "own"
    source: str = ""

    def __post_init__(self) -> None:
        for name, count in (("networks", self.networks), ("epochs", self.epochs), ("batch", self.batch)):
            if count < 1:
                raise InvalidInput(f"'{name}' must be >= 1, got {count}")
        for name, value in (("lr", self.lr), ("drop", self.drop)):
            if not 0 < value < math.inf:
                raise InvalidInput(f"'{name}' must be > 0 and finite, got {value}")
        if not 0 <= self.momentum < 1:
            raise InvalidInput(f"'momentum' must be >= 0 and < 1, got {self.momentum}")
        if not 0 <= self.weight_decay < math.inf:
            raise InvalidInput(f"'weight_decay' must be >= 0 and finite, got {self.weight_decay}")
        check_choice("optimizer", self.optimizer, ("sgd", "adamw"))
        check_choice("loss", self.loss, ("auto", "cross_entropy", "squared"))
        if self.optimizer == "adamw" and self.momentum:
            raise InvalidInput(f"'momentum' is {self.momentum}, but adamw has none; set it to 0")
        if any(not 0 < share < 1 for share in self.milestones) or list(self.milestones) != sorted(set(self.milestones)):
            raise InvalidInput(f"'milestones' must be shares of the epochs that increase, got {self.milestones}")

    def learning(self, labels: str) -> "Protocol":
        """The protocol for labels of this sort (``hard``, ``soft``, ``teacher``, ``scores``, ``targets``): the same, except
        that a loss left open becomes ``squared`` for scores.

        Raises:
            InvalidInput: if labels of this sort have no cross-entropy.
        """
        if self.loss == "cross_entropy" and labels in ("scores", "targets"):
            instead = ", or evaluate the set with hard labels" if labels == "scores" else ""
            raise InvalidInput(
                f"'loss' of the protocol is cross_entropy, but the labels are {labels}, which have none; set loss: "
                f"squared{instead}"
            )
        return replace(self, loss="squared") if self.loss == "auto" and labels == "scores" else self

    def squared(self, labels: str) -> bool:
        """Whether networks learn labels of this sort by squares."""
        return self.learning(labels).loss == "squared" or labels == "targets"

    @property
    def full_rate_epochs(self) -> int:
        """Epochs before the rate drops: E // 2 + 2 of E + 1, as the published loop has it; with E < 3 it never drops."""
        return (self.epochs - 1) // 2 + 2

    def rate(self, rounds: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        if not self.milestones:
            return self.lr * (self.drop if rounds >= self.full_rate_epochs else 1.0)
        return self.lr * self.drop ** sum(rounds >= round(share * self.epochs) for share in self.milestones)

    def minibatches(self, examples: int, generator: Generator) -> Iterator[Tensor]:
        """The rows of each minibatch of an epoch."""
        return iter(randperm(examples, generator=generator).split(self.batch))

    def gradient(self, plain: PlainGradient, space: UnitSpace) -> BatchGradient:
        return plain if self.attack is None else AdversarialGradient(plain, self.attack, space)

    @property
    def passes_each(self) -> int:
        return 3 + (0 if self.attack is None else self.attack.passes)

    def restarts(self, rounds: int) -> bool:
        return not self.milestones and rounds == self.full_rate_epochs

    def steps(self, examples: int) -> int:
        """Steps that training on so many examples takes."""
        return self.epochs * math.ceil(examples / self.batch)

    def passes(self, examples: int, tests: int) -> int:
        """Forward passes of one example that each network takes, a backward pass counted as two."""
        return self.passes_each * self.epochs * examples + tests

    @property
    def hash(self) -> str:
        """The first 12 hexadecimal digits of the SHA-256 of every field, defaults included, but for the name and source, and
        for those of :data:`LATER`."""
        described = complete(self)
        del described["name"], described["source"]
        text = json.dumps(described, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def title(self) -> str:
        """The name, marked where fields differ from those of the protocol that has the name."""
        known = PROTOCOLS.get(self.name)
        return f"{self.name} (changed)" if known is not None and known.hash != self.hash else self.name


def whole_budget(examples: int, data: LabelledData, protocol: Protocol) -> Protocol:
    """The protocol with as many passes over all the data as fit into its steps on so many ``examples``, at least one."""
    epochs = max(1, protocol.steps(examples) // math.ceil(len(data.train) / protocol.batch))
    return replace(protocol, epochs=min(epochs, protocol.epochs))


def complete(value: Any) -> Any:
    """``value`` as plain data with every field; a number is the same whether written 1 or 1.0."""
    if isinstance(value, Part) and is_dataclass(value):
        held = {item.name: getattr(value, item.name) for item in fields(value)}
        later = {item.name: item.default for item in fields(value) if item.name in LATER.get(value.kind, ())}
        kept = {name: own for name, own in held.items() if name not in later or own != later[name]}
        return {"kind": value.kind} | {name: complete(own) for name, own in kept.items()}
    if isinstance(value, tuple):
        return [complete(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        protocol.name: protocol
        for protocol in (
            Protocol(
                name="quick",
                network=ConvNet(width=32),
                networks=5,
                epochs=301,
                lr=0.03,
                source="As the published protocol without augmentation (E = 300), on a narrow network and fewer of them; "
                "with the published rate, 0.01, so narrow a network is far from trained after 301 steps.",
            ),
            Protocol(
                name="vico",
                augment=Siamese(),
                source="Dataset Condensation with Distribution Matching (Zhao & Bilen, 2023), section 4.1 and its public "
                "code: E = 1000 with augmentation, 20 networks for each synthetic set, accuracy of the last epoch.",
            ),
            Protocol(
                name="ncfm",
                networks=10,
                epochs=2000,
                batch=128,
                lr=0.001,
                momentum=0.0,
                weight_decay=0.01,
                drop=0.5,
                augment=Chain(
                    of=(
                        Siamese(operations=("flip", "colour"), mode="all"),
                        Siamese(operations=("crop", "scale", "rotate")),
                    )
                ),
                optimizer="adamw",
                milestones=(0.2, 0.4, 0.6, 0.8),
                mix=CutMix(),
                source="Dataset Distillation with Neural Characteristic Function (Wang et al., 2025), section 5.1 and its "
                "public code, with hard labels; the published figures are those of the best of 20 epochs by accuracy on the "
                "test examples, and here, as everywhere, of the last epoch.",
            ),
            Protocol(
                name="table",
                network=MLP(),
                networks=5,
                epochs=301,
                source="As quick, with a multilayer perceptron and the published rate: for tables, of classes or of targets.",
            ),
        )
    }
)


def protocol_named(name: str, changes: Sequence[str] = (), networks: int | None = None) -> Protocol:
    """A protocol by its name, or read from a file, with ``path=value`` changes to its fields.

    Raises:
        InvalidInput: if there is no such name or file, or a change does not fit.
    """
    if name in PROTOCOLS:
        protocol = PROTOCOLS[name]
    elif Path(name).suffix in (".yaml", ".yml", ".toml"):
        protocol = build(Protocol, read(name))
    else:
        known = [*PROTOCOLS, "learner"]
        raise InvalidInput(
            f"'protocol' must be one of {', '.join(known)}, or a YAML file, got '{name}'{suggestion(name, known)}"
        )
    if changes:
        protocol = build(Protocol, override(dump(protocol), changes))
    return protocol if networks is None else replace(protocol, networks=networks)
