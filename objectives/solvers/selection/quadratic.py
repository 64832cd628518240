"""A sum of squared MMDs as a function of the weights of the candidates of one class:

    Σ_b f_b ‖E_P φ_b - Σᵢ wᵢ φ_b(xᵢ)‖² = own - 2 ⟨w, means⟩ + ⟨w, K w⟩,   Σ w = 1,

with K = Σ_b f_b k_b over the terms and blocks b of the objective. Finite features are centred at E_P φ first, which leaves
⟨w, K w⟩ alone and is exact where the features have a large offset. All in float64. K is never held.
"""

from collections.abc import Sequence
from functools import cached_property

import torch
from jaxtyping import Float, Int
from scipy import optimize
from torch import Tensor

from discrepancy.kernels.base import Kernel
from discrepancy.mean_embeddings.gains import kernel_means, row_blocks
from discrepancy.numerics.pairwise import self_sum
from objectives.terms.bound import Candidates

__all__ = ["Quadratic", "simplex_minimum"]


class Quadratic:
    """The quadratic form of one class, for matches that are all squared MMDs."""

    def __init__(self, matches: Sequence[Candidates]) -> None:
        self.blocks = [_OfFeatures(match) if kernel_of(match).finite else _OfKernel(match) for match in matches]

    def __len__(self) -> int:
        return len(self.blocks[0])

    @cached_property
    def own(self) -> Float[Tensor, ""]:
        """The real side's own term, for weighted points taken as the measure itself, so that values are never negative."""
        return torch.stack([block.factor * block.own for block in self.blocks]).sum()

    @cached_property
    def means(self) -> Float[Tensor, " n"]:
        """E_P k(·, x) of each candidate."""
        return torch.stack([block.factor * block.means for block in self.blocks]).sum(0)

    @cached_property
    def diagonal(self) -> Float[Tensor, " n"]:
        """k(x, x) of each candidate."""
        return torch.stack([block.factor * block.diagonal for block in self.blocks]).sum(0)

    def entries(self, rows: Int[Tensor, " a"], columns: Int[Tensor, " b"]) -> Float[Tensor, "a b"]:
        """K of some candidates and others."""
        return torch.stack([block.factor * block.entries(rows, columns) for block in self.blocks]).sum(0)

    def times(self, chosen: Int[Tensor, " m"], weights: Float[Tensor, " m"]) -> Float[Tensor, " n"]:
        """K w, for weights that are zero but on the chosen ones."""
        return torch.stack([block.factor * block.times(chosen, weights) for block in self.blocks]).sum(0)

    def value(self, chosen: Int[Tensor, " m"], weights: Float[Tensor, " m"]) -> Float[Tensor, ""]:
        """The sum of squared MMDs at these weights."""
        return self.own - 2 * weights @ self.means[chosen] + weights @ self.entries(chosen, chosen) @ weights

    def optimal(self, chosen: Int[Tensor, " m"]) -> Float[Tensor, " m"]:
        """The weights of the chosen ones, nonnegative with sum one, at which the value is smallest."""
        means = self.means[chosen]
        # The Gram matrix of φ(x) - E_P φ, so that the value at w is ⟨w, G w⟩.
        return simplex_minimum(self.entries(chosen, chosen) - means[:, None] - means[None] + self.own)


def kernel_of(match: Candidates) -> Kernel:
    """The kernel of a match that is an MMD."""
    mmd = match.discrepancy.as_mmd()
    assert mmd is not None
    return mmd.kernel


class _OfFeatures:
    """One block whose kernel is finite."""

    def __init__(self, match: Candidates) -> None:
        self.features, self.rows = kernel_of(match).features, match.features.rows
        self.mean, self.factor = match.summary.mean[0], match.factor
        self.own = torch.zeros((), dtype=torch.float64, device=self.rows.device)

    def __len__(self) -> int:
        return len(self.rows)

    def _centred(self, rows: Tensor) -> Tensor:
        return self.features(rows).double() - self.mean

    @property
    def means(self) -> Tensor:
        return torch.zeros(len(self), dtype=torch.float64, device=self.rows.device)

    @property
    def diagonal(self) -> Tensor:
        return torch.cat([self._centred(part).square().sum(1) for part in row_blocks(self.rows, len(self.mean))])

    def entries(self, rows: Tensor, columns: Tensor) -> Tensor:
        right = self._centred(self.rows[columns]).mT
        return torch.cat([self._centred(part) @ right for part in row_blocks(self.rows[rows], len(self.mean))])

    def times(self, chosen: Tensor, weights: Tensor) -> Tensor:
        mixture = weights @ self._centred(self.rows[chosen])
        return torch.cat([self._centred(part) @ mixture for part in row_blocks(self.rows, len(self.mean))])


class _OfKernel:
    """One block whose kernel compares points."""

    def __init__(self, match: Candidates) -> None:
        self.kernel, self.rows, self.factor = kernel_of(match), match.features.rows, match.factor
        real = match.summary.real
        present = real.weights[0] > 0
        self.real = real.rows[0, present], real.shares[0, present]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def own(self) -> Tensor:
        points, weights = self.real
        return self_sum(self.kernel, points.double()[None], weights[None])[0]

    @property
    def means(self) -> Tensor:
        return kernel_means(self.kernel, *self.real, self.rows)

    @property
    def diagonal(self) -> Tensor:
        return torch.cat([self.kernel.diagonal(part.double()) for part in row_blocks(self.rows, self.rows.shape[1])])

    def entries(self, rows: Tensor, columns: Tensor) -> Tensor:
        right = self.rows[columns].double()
        return torch.cat([self.kernel(part.double(), right) for part in row_blocks(self.rows[rows], len(columns))])

    def times(self, chosen: Tensor, weights: Tensor) -> Tensor:
        return kernel_means(self.kernel, self.rows[chosen], weights, self.rows)


def simplex_minimum(gram: Float[Tensor, "m m"]) -> Float[Tensor, " m"]:
    """argmin of ⟨w, G w⟩ over w ≥ 0 with Σ w = 1, for G = MᵀM: the point of a convex hull nearest to the origin.

    Nonnegative least squares of (M; 1) u ≈ (0; 1) has the value ‖M w‖² / (1 + ‖M w‖²) at the best multiple u of each w, so it
    is smallest at the same w.
    """
    values, vectors = torch.linalg.eigh((gram + gram.mT) / 2)
    scale = gram.diagonal().mean().clamp(min=torch.finfo(gram.dtype).tiny)
    root = (values.clamp(min=0) / scale).sqrt()[:, None] * vectors.mT
    system = torch.cat([root, torch.ones_like(root[:1])]).cpu().numpy()
    target = torch.cat([torch.zeros(len(root)), torch.ones(1)]).numpy()
    found, _ = optimize.nnls(system, target, maxiter=100 * len(root))
    weights = torch.from_numpy(found).to(gram)
    return weights / weights.sum()
