"""Examples as sums of bases that all of them share."""

import math
from collections.abc import Mapping
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.errors import InvalidInput
from discrepancy.numerics.roots import above_rounding
from objectives.data.real import RealData
from objectives.rng import rng
from objectives.synthetic.parameterisation import Choose, Labels, Layout, Parameterisation, Weights

__all__ = ["Bases"]

Start = Literal["noise", "real"]

SAMPLE = 1024
"""Real examples, as many of each class, whose principal directions are the bases at the start."""


class Bases(Parameterisation, kind="bases"):
    """Every example is a sum of bases, which all classes share, with numbers of its own:

        x_i = Σ_k code_ik basis_k.

    Bases have the shape of an example and begin with entries of size one, codes with Σ_k code_ik² near one: one learning rate
    moves an example further by its code than by the bases, and the solver's ``rates`` can tell them apart. Stored floats:
    those of ``number`` examples for the bases, and ``number`` a code. The range of valid values is not a box in codes, so
    there is no ``clip``.

    Args:
        per_class: stored codes of each class.
        examples: all of them, in place of ``per_class``.
        number: of bases.
        start: ``real``: the bases are the principal directions (uncentred: data are centred by their normalisation) of a sample
            with as many real examples of each class, and the codes those of distinct random training examples, projected.
            ``noise``: normal bases and codes, of which examples with entries of size one are made.
        labels: ``hard``, ``soft`` or ``learned``, as of pixels.
        weights: ``equal``, or ``learned``, as of pixels.

    References:
        Remember the Past: Distilling Datasets into Addressable Memories for Neural Networks (Deng & Russakovsky, 2022),
        https://arxiv.org/abs/2206.02916; its memories and their linear addresses.
    """

    per_class: int = 10
    examples: int | None = None
    number: int = 32
    start: Start = "real"
    labels: Labels = "hard"
    weights: Weights = "equal"

    def __post_init__(self) -> None:
        self._check(get_args(Start))
        if self.number < 1:
            raise InvalidInput(f"'number' must be at least 1, got {self.number}")

    @property
    def shared(self) -> frozenset[str]:
        return frozenset({"bases"})

    def content(self, data: RealData, seed: int, choose: Choose) -> dict[str, Tensor]:
        if self.start == "noise":
            generator = rng(seed, "start")
            bases = torch.randn(self.number, *data.shape, generator=generator)
            codes = torch.randn(len(self.slots(data)), self.number, generator=generator)
            return {"bases": bases, "codes": codes / math.sqrt(self.number)}
        examples = self._real(data, choose).flatten(1).double()
        size = math.sqrt(examples.shape[1])
        directions = self._directions(data, seed)
        return {
            "bases": (size * directions).float().unflatten(1, data.shape),
            "codes": (examples @ directions.T / size).float(),
        }

    def _directions(self, data: RealData, seed: int) -> Float[Tensor, "number d"]:
        """The orthonormal directions of the largest singular values of a sample, from the smaller of its two Gram matrices."""
        rows = data.class_batch(rng(seed, "bases"), math.ceil(SAMPLE / data.count))
        data.require_rows("start: real")
        sample = data.normalised(rows).flatten(1).double()
        tall = len(sample) > sample.shape[1]
        values, vectors = torch.linalg.eigh(sample.T @ sample if tall else sample @ sample.T)
        rank = int((above_rounding(values) > 0).sum())
        if self.number > rank:
            raise InvalidInput(
                f"'number' is {self.number}, but {len(sample)} real examples span {rank} dimensions; ask for at most {rank}, "
                "or start: noise"
            )
        kept, values = vectors[:, -self.number :].flip(1), values[-self.number :].flip(0)
        return kept.T if tall else (kept / values.sqrt()).T @ sample

    def points(self, parameters: Mapping[str, Tensor], layout: Layout) -> Float[Tensor, "m ..."]:
        return (parameters["codes"] @ parameters["bases"].flatten(1)).unflatten(1, layout.shape)
