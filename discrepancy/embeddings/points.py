"""Embeddings of the examples themselves, and maps that follow any other embedding."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.discrepancy import Draws
from discrepancy.embeddings.base import Embedding, Taken
from discrepancy.embeddings.invertible import Invertible, Within
from discrepancy.errors import InvalidInput, NumericalWarning
from discrepancy.kernels.lengths import Length, check_length, number
from discrepancy.measure import Measure, as_measure
from discrepancy.networks.preimages import Preimage
from discrepancy.parts import check_choice
from discrepancy.precision import normals

__all__ = ["Identity", "RandomFourier", "Standardised"]


class Identity(Embedding, Invertible, kind="identity"):
    """The examples as they are, φ(x) = x, in normalised units.

    Example:
        >>> import torch
        >>> from discrepancy import embeddings
        >>> embeddings.Identity()({"points": torch.ones(2, 3)}).shape
        torch.Size([2, 3])
    """

    @property
    def takes(self) -> frozenset[str]:
        return frozenset({"points"})

    def __call__(self, taken: Taken, draws: Draws = None) -> Tensor:
        return taken["points"]

    def preimage(self, features: Float[Tensor, "n p"], within: Within) -> Preimage:
        return Preimage(features.double(), 1.0)


class Standardised(Embedding, kind="standardised"):
    """Features in units of their own spread, φ(x) = (f(x) - mean) / std, with f the embedding ``of``.

    One mean and one standard deviation (the root of the mean square) for each index of the first axis of f(x): a feature of
    a vector, a channel of an image. What is constant on the real side keeps its units, with a warning.

    Args:
        of: the embedding that is standardised; it has one block, and no random parts unless the numbers are given.
        mean, std: the numbers; from the real side when not given.

    Raises:
        InvalidInput: if only one of ``mean`` and ``std`` is given, or they do not fit; on use, before :meth:`resolve`.

    Example:
        >>> import torch
        >>> from discrepancy import Measure, embeddings
        >>> points = torch.tensor([[0.0], [2.0]])
        >>> phi = embeddings.Standardised().resolve(Measure(points))
        >>> phi({"points": points}).tolist()
        [[-1.0], [1.0]]
    """

    of: Embedding = Identity()
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise InvalidInput("'mean' and 'std' must both be given, or neither")
        if self.mean is None or self.std is None:
            return
        if len(self.mean) != len(self.std):
            raise InvalidInput(
                f"'mean' and 'std' must be equally long, got {len(self.mean)} and {len(self.std)} numbers"
            )
        if not all(math.isfinite(value) for value in self.mean):
            raise InvalidInput(f"'mean' must be finite, got {self.mean}")
        if not all(math.isfinite(value) and value > 0 for value in self.std):
            raise InvalidInput(f"'std' must be finite and > 0, got {self.std}")

    @property
    def takes(self) -> frozenset[str]:
        return self.of.takes

    @property
    def resolved(self) -> bool:
        return self.mean is not None and self.of.resolved

    @torch.no_grad()
    def resolve(self, sample: Measure) -> "Standardised":
        of = self.of.resolve(sample)
        if self.mean is not None:
            return replace(self, of=of)
        values = _followed(self, of, _taken(sample, of)).double()
        values = values.flatten(2) if values.ndim > 2 else values[..., None]
        weights = sample.weights.double().to(values)
        weights = weights / weights.sum()
        mean = torch.einsum("n,ndp->d", weights, values) / values.shape[2]
        variance = torch.einsum("n,ndp->d", weights, (values - mean[:, None]).square()) / values.shape[2]
        constant = variance.sqrt() <= 1e-12 * mean.abs()
        if bool(constant.any()):
            which = ", ".join(map(str, constant.nonzero()[:10, 0].tolist()))
            warnings.warn(
                f"{int(constant.sum())} features of 'standardised' are constant on the real side and keep their units "
                f"(number {which})",
                NumericalWarning,
                stacklevel=2,
            )
        std = torch.where(constant, torch.ones_like(variance), variance.sqrt())
        return replace(self, of=of, mean=tuple(mean.tolist()), std=tuple(std.tolist()))

    def draw(self, generator: torch.Generator, shapes: Mapping[str, tuple[int, ...]]) -> Draws:
        return self.of.draw(generator, shapes)

    def __call__(self, taken: Taken, draws: Draws = None) -> Float[Tensor, "n *features"]:
        if self.mean is None or self.std is None:
            raise InvalidInput("'standardised' has no numbers yet; call resolve(sample) with real points first")
        values = _followed(self, self.of, taken, draws)
        if values.shape[1] != len(self.mean):
            raise InvalidInput(f"'standardised' holds {len(self.mean)} means, but there are {values.shape[1]} features")
        shape = (-1, *[1] * (values.ndim - 2))
        return (values - values.new_tensor(self.mean).view(shape)) / values.new_tensor(self.std).view(shape)


class RandomFourier(Embedding, kind="random_fourier"):
    """Random Fourier features φ(x) = √(2/D) (cos ω₁ᵀf(x), ..., cos ω_{D/2}ᵀf(x), sin ω₁ᵀf(x), ...), with f the embedding
    ``of``.

    ⟨φ(x), φ(y)⟩ is an unbiased estimate of a kernel k(f(x), f(y)), and ‖φ(x)‖ = 1. MMD with a linear kernel on these features
    is MMD with that kernel, as a difference of means. The frequencies are ω = z / l for the gaussian kernel, z ~ N(0, I), and
    ω = z √(2ν / q) / l, q ~ χ²(2ν), for the Matérn kernel of smoothness ν: Student's t with 2ν degrees of freedom, in d
    dimensions. Laplace is ν = 1/2, so multivariate Cauchy.

    With ``orthogonal`` the directions of d frequencies at a time are orthogonal to each other, and their lengths are drawn as
    before. Still unbiased, with less variance where the lengthscale is not small and D/2 not much smaller than d.

    References:
        Random Features for Large-Scale Kernel Machines (Rahimi & Recht, 2007), algorithm 1;
        On the Error of Random Fourier Features (Sutherland & Schneider, 2015), for this form with pairs;
        Orthogonal Random Features (Yu, Suresh, Choromanski, Holtmann-Rice, Kumar, 2016).

    Args:
        features: D, an even number.
        lengthscale: l, a number or a rule such as ``Median``.
        of: the embedding that is followed, flattened; it has one block.
        law: the kernel of the same name.
        smoothness: ν, of the law ``matern`` alone.
        orthogonal: whether the directions are.

    Raises:
        InvalidInput: if a field is out of its range; on use, without draws.

    Example:
        >>> import torch
        >>> from discrepancy import embeddings
        >>> phi = embeddings.RandomFourier(features=8, lengthscale=2.0)
        >>> draws = phi.draw(torch.Generator().manual_seed(0), {"points": (3,)})
        >>> phi({"points": torch.ones(5, 3)}, draws).square().sum(1).round(decimals=4).tolist()
        [1.0, 1.0, 1.0, 1.0, 1.0]
    """

    features: int = 1024
    lengthscale: float | Length = 1.0
    of: Embedding = Identity()
    law: Literal["gaussian", "laplace", "matern"] = "gaussian"
    smoothness: float = 1.5
    orthogonal: bool = False

    def __post_init__(self) -> None:
        if self.features < 2 or self.features % 2:
            raise InvalidInput(f"'features' must be even and >= 2, got {self.features}")
        check_length("lengthscale", self.lengthscale)
        check_choice("law", self.law, ("gaussian", "laplace", "matern"))
        if self.smoothness <= 0 or self.smoothness % 1 != 0.5:
            raise InvalidInput(f"'smoothness' must be 0.5, 1.5, 2.5, ..., got {self.smoothness}")

    @property
    def takes(self) -> frozenset[str]:
        return self.of.takes

    @property
    def resolved(self) -> bool:
        return not isinstance(self.lengthscale, Length) and self.of.resolved

    @torch.no_grad()
    def resolve(self, sample: Measure) -> "RandomFourier":
        of, length = self.of.resolve(sample), self.lengthscale
        if isinstance(length, Length):
            length = length.measured(Measure(_followed(self, of, _taken(sample, of)), sample.weights))
        return replace(self, of=of, lengthscale=length)

    def draw(self, generator: torch.Generator, shapes: Mapping[str, tuple[int, ...]]) -> Draws:
        inner = self.of.draw(generator, shapes) or {}
        taken = {name: torch.empty(1, *shape, device="meta") for name, shape in shapes.items()}
        d = _followed(self, self.of, taken, {name: value.to("meta") for name, value in inner.items()}).numel()
        return {"frequencies": self._frequencies(d, generator)} | {f"of.{name}": value for name, value in inner.items()}

    def _frequencies(self, d: int, generator: torch.Generator) -> Float[Tensor, "d k"]:
        """ω of the lengthscale 1."""
        count = self.features // 2
        drawn = normals(generator, d, count)
        if self.orthogonal:
            norms = drawn.norm(dim=0)
            blocks = [_rotation(d, generator) for _ in range(0, count, d)]
            drawn = torch.cat(blocks, 1)[:, :count] * norms
        if self.law == "gaussian":
            return drawn
        degrees = 1 if self.law == "laplace" else round(2 * self.smoothness)
        chi = normals(generator, degrees, count).norm(dim=0)
        return drawn * (math.sqrt(degrees) / chi)

    def __call__(self, taken: Taken, draws: Draws = None) -> Float[Tensor, "n features"]:
        length = number("lengthscale", self.lengthscale)
        if draws is None:
            raise InvalidInput("'random_fourier' needs its frequencies; pass what draw(generator, shapes) gave")
        inner = {name.removeprefix("of."): value for name, value in draws.items() if name.startswith("of.")}
        values = _followed(self, self.of, taken, inner or None).flatten(1)
        angles = values @ (draws["frequencies"].to(values) / length)
        return torch.cat([angles.cos(), angles.sin()], 1) * math.sqrt(2 / self.features)


def _rotation(d: int, generator: torch.Generator) -> Float[Tensor, "d d"]:
    """A rotation or reflection, uniformly distributed."""
    rotation, triangle = torch.linalg.qr(torch.randn(d, d, generator=generator, device="cpu", dtype=torch.float64))
    return (rotation * triangle.diagonal().sign()).float()


def _taken(sample: Measure, of: Embedding) -> Taken:
    """The blocks of a sample by the names under which they were taken."""
    sample = as_measure(sample, "sample")
    taken = sample.points if isinstance(sample.points, Mapping) else {"points": sample.points}
    for name in sorted(of.takes - {"layers", "activations"} - taken.keys()):
        raise InvalidInput(f"'{of.kind}' takes '{name}', which the sample lacks; it has {', '.join(sorted(taken))}")
    return taken


def _followed(outer: Embedding, of: Embedding, taken: Taken, draws: Draws = None) -> Tensor:
    """The features of ``of``, which must be one tensor."""
    values = of(taken, draws)
    if isinstance(values, Mapping):
        raise InvalidInput(f"'{outer.kind}' follows an embedding of one block, but '{of.kind}' has {', '.join(values)}")
    return values
