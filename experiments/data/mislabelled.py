"""Data some of whose training labels are wrong, for experiments on what guards against that."""

from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from discrepancy.errors import InvalidInput
from experiments.data.base import Source
from objectives.data.labelled import LabelledData
from objectives.data.labels import Labels
from objectives.rng import rng

__all__ = ["Mislabelled"]


class Mislabelled(Source, kind="mislabelled"):
    """Another source in which a ``share`` of the training examples of each class, chosen at random, have the label of another
    class, each of these with the same probability (symmetric label noise). The test examples keep their labels.

    Of n examples of a class, ``share`` · n are mislabelled, rounded.

    Args:
        of: the source; what this one is named after. Its labels must be class numbers.
        share: of each class, > 0 and at most 1.
        seed: of the choice, and of the wrong labels.
    """

    of: Source
    share: float = 0.4
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InvalidInput(f"'share' must be > 0 and at most 1, got {self.share}")

    @property
    def original(self) -> Source:
        return self.of

    @property
    def title(self) -> str:
        return f"{self.of.title}-mislabelled-{100 * self.share:g}"

    def at(self, root: str) -> Source:
        return replace(self, of=self.of.at(root))

    def load(self) -> LabelledData:
        data = self.of.load()
        data.train.require_classes("'mislabelled'")
        examples, classes = data.train.rows(), len(data.classes)
        if examples.labels.kind != "hard":
            raise InvalidInput(
                f"'mislabelled' needs labels that are class numbers, but those of '{data.name}' are soft"
            )
        labels = Labels("hard", self.wrong(examples.labels.numbers, classes))
        test = None if data.test is None else data.test.rows()
        return LabelledData.made(data.spec, replace(examples, labels=labels), test)

    def wrong(self, numbers: Int[Tensor, " n"], classes: int) -> Int[Tensor, " n"]:
        """These labels, some of them wrong."""
        found, generator = numbers.clone(), rng(self.seed, "mislabelled")
        for label in range(classes):
            members = (numbers == label).nonzero()[:, 0]
            chosen = members[torch.randperm(len(members), generator=generator)[: round(self.share * len(members))]]
            moved = torch.randint(1, classes, (len(chosen),), generator=generator)
            found[chosen] = (label + moved) % classes
        return found
