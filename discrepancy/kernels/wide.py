"""Kernels of infinitely wide, fully connected networks, in closed form.

A network of ``depth`` hidden layers, in the parameterisation of Jacot et al. with all weights and biases standard normal,

    f₀(x) = σ_w W₀ x / √d + σ_b b₀,        f_{l+1}(x) = σ_w W_l φ(f_l(x)) / √width + σ_b b_l,

has, as its widths grow, outputs that are a Gaussian process of covariance K (the NNGP kernel; what a network is whose last
layer alone is trained), and parameter gradients with ⟨∇f(x), ∇f(y)⟩ → Θ (the NTK; one whose layers are all trained). Over the
layers

    K₀ = Θ₀ = σ_w² ⟨x, y⟩ / d + σ_b²,
    K_{l+1} = σ_w² E φ(u) φ(v) + σ_b²,     Θ_{l+1} = K_{l+1} + σ_w² Θ_l E φ'(u) φ'(v),

with (u, v) normal of the covariance that K_l gives x and y. With s² = K(x, x) K(y, y) and c = K(x, y) / s,

    leaky ReLU of slope a:  E φφ = ((1 + a)² K + (1 - a)² (2/π) s (√(1 - c²) + c asin c)) / 4,
                            E φ'φ' = ((1 + a)² + (1 - a)² (2/π) asin c) / 4,
    erf:                    E φφ = (2/π) asin(2 K / r),  E φ'φ' = (4/π) / √(r² - 4 K²),  r² = (1 + 2 K(x, x)) (1 + 2 K(y, y)).

They are functions of three numbers of a pair, and of no single inner product, so they are evaluated whole. Everything is
computed in float64: where points coincide the NTK of a ReLU has a kink as ‖x - y‖ has, and its first derivative is given as
zero there, the mean of the directional ones, and so at opposite points and at the origin.

Kernels of infinitely wide *convolutional* networks are left out: they take a covariance for every pair of positions, and
their code is in JAX.
"""

import math
from abc import abstractmethod
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from discrepancy.errors import InvalidInput, Unsupported
from discrepancy.kernels.base import Kernel, Profile
from discrepancy.kernels.lengths import check_positive
from discrepancy.numerics.derivatives import safe_root
from discrepancy.parts import check_choice, check_least

__all__ = ["NNGP", "NTK", "Wide"]

WideActivation = Literal["relu", "leaky_relu", "erf"]


class Wide(Kernel):
    """A kernel of infinitely wide networks: :class:`NNGP` or :class:`NTK`, which have the same fields.

    Example:
        >>> from discrepancy import kernels
        >>> kernels.NTK().single, kernels.NTK(bias_std=0.0).degree
        (False, 2.0)
    """

    depth: int
    activation: WideActivation
    slope: float
    weight_std: float
    bias_std: float

    def __post_init__(self) -> None:
        check_least("depth", self.depth, 1)
        check_choice("activation", self.activation, get_args(WideActivation))
        if not 0 <= self.slope <= 1:
            raise InvalidInput(f"'slope' must be from 0 to 1, got {self.slope}")
        check_positive("weight_std", self.weight_std)
        if not (math.isfinite(self.bias_std) and self.bias_std >= 0):
            raise InvalidInput(f"'bias_std' must be finite and >= 0, got {self.bias_std}")

    @property
    def radial(self) -> bool:
        return False

    @property
    def single(self) -> bool:
        return False

    @property
    def degree(self) -> float | None:
        """2 for a ReLU without biases, which is of degree one in each of the two points."""
        return 2.0 if self.activation != "erf" and self.bias_std == 0 else None

    def profile(self, argument: Tensor, order: int) -> Profile:
        raise Unsupported(
            f"the kernel '{self.kind}' is a function of no single inner product; call it, or its 'diagonal'"
        )

    def __call__(self, x: Float[Tensor, "*g n d"], y: Float[Tensor, "*g m d"]) -> Float[Tensor, "*g n m"]:
        ours, theirs = x.double(), y.double()
        (own_x, _), (own_y, _) = self._own(ours), self._own(theirs)
        gram = self._affine(ours @ theirs.mT / x.shape[-1])
        tangent, closest = gram, _margin(ours)
        for of_x, of_y in zip(own_x, own_y, strict=True):
            expected, slopes = self._expected(gram, of_x[..., None], of_y[..., None, :], closest)
            gram = self._affine(expected)
            tangent = gram + self.weight_std**2 * slopes * tangent
        return self._read(gram, tangent).to(x.dtype)

    def diagonal(self, points: Float[Tensor, "*g n d"]) -> Float[Tensor, "*g n"]:
        _, (gram, tangent) = self._own(points.double())
        return self._read(gram, tangent).to(points.dtype)

    @abstractmethod
    def _read(self, gram: Tensor, tangent: Tensor) -> Tensor:
        """What is read off after the last layer."""

    def _own(self, points: Tensor) -> tuple[list[Tensor], tuple[Tensor, Tensor]]:
        """K_l(x, x) for every hidden layer, and what x has with itself after the last."""
        gram = tangent = self._affine(points.square().mean(-1))
        layers = []
        for _ in range(self.depth):
            layers.append(gram)
            expected, slopes = self._expected_own(gram)
            gram = self._affine(expected)
            tangent = gram + self.weight_std**2 * slopes * tangent
        return layers, (gram, tangent)

    def _affine(self, expected: Tensor) -> Tensor:
        return self.weight_std**2 * expected + self.bias_std**2

    def _parts(self) -> tuple[float, float]:
        """(1 + a)² / 4 and (1 - a)² / 4: of φ(z) = (1 + a)/2 z + (1 - a)/2 |z|."""
        slope = self.slope if self.activation == "leaky_relu" else 0.0
        return (1 + slope) ** 2 / 4, (1 - slope) ** 2 / 4

    def _expected(self, gram: Tensor, of_x: Tensor, of_y: Tensor, closest: float) -> tuple[Tensor, Tensor]:
        """E φφ and E φ'φ' of pairs."""
        if self.activation == "erf":
            square = (1 + 2 * of_x) * (1 + 2 * of_y)
            return 2 / math.pi * (2 * gram / square.sqrt()).asin(), 4 / math.pi * (square - 4 * gram.square()).rsqrt()
        even, odd = self._parts()
        size = safe_root(of_x) * safe_root(of_y)
        cosine = gram / torch.where(size > 0, size, torch.ones_like(size))
        bend = 2 / math.pi * odd
        return even * gram + bend * size * _arc(cosine, 0, closest), even + bend * _arc(cosine, 1, closest)

    def _expected_own(self, gram: Tensor) -> tuple[Tensor, Tensor]:
        """The same of points with themselves."""
        if self.activation == "erf":
            return 2 / math.pi * (2 * gram / (1 + 2 * gram)).asin(), 4 / math.pi * (1 + 4 * gram).rsqrt()
        total = sum(self._parts())
        return total * gram, torch.full_like(gram, total)


class NNGP(Wide, kind="nngp"):
    """The covariance K of the outputs of infinitely wide networks with random weights; O(n m (d + depth)).

    A ReLU's is once differentiable where points coincide, and twice elsewhere and on the diagonal.

    Args:
        depth: hidden layers; one more layer follows, that of the outputs.
        activation: ``relu``, ``leaky_relu`` or ``erf``.
        slope: of ``leaky_relu``, below zero.
        weight_std, bias_std: σ_w and σ_b of every layer, the last too.

    References:
        Deep Neural Networks as Gaussian Processes (Lee et al., 2018, ICLR);
        Kernel Methods for Deep Learning (Cho & Saul, 2009, NeurIPS), the arc-cosine kernels.

    Raises:
        InvalidInput: if a field is out of its range.

    Example:
        >>> import torch
        >>> from discrepancy import kernels
        >>> x, y = torch.tensor([[2.0]]), torch.tensor([[0.0], [1.0]])
        >>> kernels.NNGP(depth=1)(x, y)
        tensor([[0.1051, 4.0200]])
    """

    depth: int = 1
    activation: WideActivation = "relu"
    slope: float = 0.01
    weight_std: float = math.sqrt(2)
    bias_std: float = 0.1

    def _read(self, gram: Tensor, tangent: Tensor) -> Tensor:
        return gram


class NTK(Wide, kind="ntk"):
    """The neural tangent kernel Θ of infinitely wide networks: regression with it is the limit of gradient descent on all the
    layers; O(n m (d + depth)). The defaults are those of KIP's published code, and the parameterisation ``ntk`` of the
    library neural_tangents, with its W_std and b_std.

    Args:
        depth: hidden layers; one more layer follows, that of the outputs.
        activation: ``relu``, ``leaky_relu`` or ``erf``.
        slope: of ``leaky_relu``, below zero.
        weight_std, bias_std: σ_w and σ_b of every layer, the last too.

    References:
        Neural Tangent Kernel: Convergence and Generalization in Neural Networks (Jacot, Gabriel, Hongler, 2018, NeurIPS).

    Raises:
        InvalidInput: if a field is out of its range.

    Example:
        >>> import torch
        >>> from discrepancy import kernels
        >>> x, y = torch.tensor([[2.0]]), torch.tensor([[0.0], [1.0]])
        >>> kernels.NTK(depth=1)(x, y)
        tensor([[0.1103, 7.9850]])
    """

    depth: int = 1
    activation: WideActivation = "relu"
    slope: float = 0.01
    weight_std: float = math.sqrt(2)
    bias_std: float = 0.1

    def _read(self, gram: Tensor, tangent: Tensor) -> Tensor:
        return tangent


def _margin(points: Tensor) -> float:
    """Above the rounding error of 1 - c² at x = y; the constants were measured."""
    return (2 + 0.5 * math.sqrt(points.shape[-1])) * torch.finfo(points.dtype).eps


def _arc(cosine: Tensor, order: int, closest: float) -> Tensor:
    """√(1 - c²) + c asin c, or a derivative of it; those of order 2 and 3 are given as zero within ``closest`` of ±1, where the
    second is infinite."""
    return _Arc.apply(cosine, order, closest)  # pyright: ignore[reportReturnType]


class _Arc(Function):
    """The derivative of one order is the next."""

    generate_vmap_rule = True

    @staticmethod
    def forward(cosine: Tensor, order: int, closest: float) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        sine2 = (1 - cosine) * (1 + cosine)
        apart = sine2 > 2 * closest
        if order < 2:
            cosine = torch.where(apart, cosine, cosine.sign())
            arc = cosine.asin()
            return arc if order else torch.where(apart, sine2, torch.zeros_like(sine2)).sqrt() + cosine * arc
        inverse = torch.where(apart, sine2, torch.full_like(sine2, torch.inf)).rsqrt()
        return inverse if order == 2 else cosine * inverse**3

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        cosine, ctx.order, ctx.closest = inputs
        ctx.save_for_backward(cosine)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        if ctx.order == 3:
            raise Unsupported("kernels of wide networks have no third derivative")
        return grads[0] * _arc(ctx.saved_tensors[0], ctx.order + 1, ctx.closest), None, None
