"""Random Fourier features with phases, which can be undone."""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.discrepancy import Draws
from discrepancy.embeddings.base import Embedding, Taken
from discrepancy.embeddings.invertible import Invertible, Within
from discrepancy.errors import InvalidInput
from discrepancy.kernels.lengths import Length, check_length, number
from discrepancy.measure import Measure
from discrepancy.networks.preimages import Preimage, least
from discrepancy.parts import check_least
from discrepancy.precision import normals

__all__ = ["RandomCosine"]

LARGEST_COSINE = 0.9


class RandomCosine(Embedding, Invertible, kind="random_cosine"):
    """Random cosine features φ(x) = √(2/p) cos(A x / l + b) of the points themselves, A (p, d) standard normal and b uniform
    on [0, 2π].

    ⟨φ(x), φ(y)⟩ is an unbiased estimate of the gaussian kernel of lengthscale l, with more variance than the pairs of
    ``random_fourier``; but where p is at most d, every vector of numbers of at most √(2/p) is reached, by
    A⁺ l (arccos(√(p/2) φ) - b), with the angles among ±arccos + 2πk that are nearest to those of chosen points, or to b:
    ``preimage`` finds them.

    Args:
        features: p; None for as many as a point has numbers.
        lengthscale: l, a number or a rule such as ``Median``.

    References:
        Random Features for Large-Scale Kernel Machines (Rahimi & Recht, 2007), algorithm 1;
        Provable and Efficient Dataset Distillation for Kernel Ridge Regression (Chen, Huang, Weng, 2024, NeurIPS), section 5,
        where l² = 1,000 and, in the code, b is uniform on [0, π].

    Raises:
        InvalidInput: if a field is out of its range; on use, without draws.

    Example:
        >>> import torch
        >>> from discrepancy import embeddings
        >>> phi = embeddings.RandomCosine(features=4)
        >>> draws = phi.draw(torch.Generator().manual_seed(0), {"points": (3,)})
        >>> phi({"points": torch.ones(5, 3)}, draws).shape
        torch.Size([5, 4])
    """

    features: int | None = None
    lengthscale: float | Length = 1.0

    def __post_init__(self) -> None:
        if self.features is not None:
            check_least("features", self.features, 1)
        check_length("lengthscale", self.lengthscale)

    @property
    def takes(self) -> frozenset[str]:
        return frozenset({"points"})

    @property
    def resolved(self) -> bool:
        return not isinstance(self.lengthscale, Length)

    def resolve(self, sample: Measure) -> "RandomCosine":
        if not isinstance(self.lengthscale, Length):
            return self
        points = sample.points["points"] if isinstance(sample.points, Mapping) else sample.points
        return replace(self, lengthscale=self.lengthscale.measured(Measure(points, sample.weights)))

    def draw(self, generator: torch.Generator, shapes: Mapping[str, tuple[int, ...]]) -> Draws:
        d = math.prod(shapes["points"])
        p = self.features or d
        frequencies = normals(generator, p, d)
        return {
            "frequencies": frequencies,
            "phases": 2 * math.pi * torch.rand(p, generator=generator, device="cpu", dtype=torch.float32),
        }

    def __call__(self, taken: Taken, draws: Draws = None) -> Float[Tensor, "n features"]:
        frequencies, phases = self._parts(draws, taken["points"])
        angles = taken["points"].flatten(1) @ frequencies.mT / number("lengthscale", self.lengthscale) + phases
        return math.sqrt(2 / len(frequencies)) * angles.cos()

    def excess(self, features: Float[Tensor, "n p"]) -> float:
        """1 where all are reached, else max |√(p/2) φ| / 0.9: up to 0.9 the arc cosine is nowhere steeper than 2.3."""
        largest = float(features.abs().max()) * math.sqrt(features.shape[1] / 2)
        return largest / LARGEST_COSINE if largest > 1 + 1e-12 else 1.0

    def preimage(self, features: Float[Tensor, "n p"], within: Within) -> Preimage:
        """As of every embedding; every feature must be at most √(2/p), and there must not be more of them than a point has
        numbers."""
        features = features.double()
        frequencies, phases = self._parts(within.draws, features)
        cosines = math.sqrt(len(frequencies) / 2) * features
        largest = float(cosines.abs().max())
        if largest > 1 + 1e-12:
            raise InvalidInput(
                f"features must be at most √(2/p) = {math.sqrt(2 / len(frequencies)):.4g}, which a cosine reaches, got "
                f"{largest * math.sqrt(2 / len(frequencies)):.4g}; scale them"
            )
        length = number("lengthscale", self.lengthscale)
        start = phases if within.near is None else within.near.to(features) @ frequencies.mT / length + phases
        angles = _angles(cosines.clamp(-1, 1), start) - phases
        points, condition = least("frequencies", frequencies, angles * length, within.nearest, within.near)
        steepest = float((1 - cosines.square()).clamp(min=torch.finfo(torch.float64).eps).rsqrt().max())
        lost = float(angles.norm() / cosines.norm().clamp(min=1e-300))  # a rounded angle moves a small cosine by much
        return Preimage(points, condition * steepest * max(1.0, lost))

    def _parts(self, draws: Draws, like: Tensor) -> tuple[Tensor, Tensor]:
        if draws is None:
            raise InvalidInput(f"'{self.kind}' needs its frequencies; pass what draw(generator, shapes) gave")
        return draws["frequencies"].to(like), draws["phases"].to(like)


def _angles(cosines: Tensor, near: Tensor) -> Tensor:
    """The angles with these cosines that are nearest to others."""
    first, turn = cosines.arccos(), 2 * math.pi
    up, down = (angle + turn * ((near - angle) / turn).round() for angle in (first, -first))
    return torch.where((up - near).abs() <= (down - near).abs(), up, down)
