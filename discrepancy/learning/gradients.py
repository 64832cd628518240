"""Gradient matching: two data sets are close if they pull a network in the same direction.

The points that are compared are gradients: per-example gradients of a loss with respect to each parameter tensor (a block), or
their weighted means, which is all that :class:`MeanGradients` looks at.

    real = mean_loss_gradients(network, parameters, Measure(x, labels=labels))
    blocks = {name: gradient[None] for name, gradient in real.items() if gradient.ndim > 1}
    MeanGradients()(Measure(blocks), ...)
"""

import math
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from discrepancy.arguments import checked_arguments
from discrepancy.discrepancy import Draws, MeanDiscrepancy, MeanSummary, Tag
from discrepancy.errors import InvalidInput, Unsupported
from discrepancy.measure import Measure
from discrepancy.networks import Network, NetworkParameters
from discrepancy.networks.base import Forward
from discrepancy.numerics.derivatives import safe_root
from discrepancy.parts import check_choice

__all__ = ["MeanGradients", "loss_gradients", "mean_loss_gradients"]

Form = Literal["cosine", "mse", "l1"]


class MeanGradients(MeanDiscrepancy, kind="mean_gradients"):
    """A dissimilarity of mean gradients a = E_μ g and b = E_ν g of one parameter tensor:

        cosine: Σ over output rows r of 1 - ⟨a_r, b_r⟩ / (‖a_r‖ ‖b_r‖ + ε)
        mse:    Σ (a - b)²
        l1:     Σ |a - b|

    Points are gradients ``(out, in, ...)`` and a row is what belongs to one output; a vector is one row. Summed over the
    layers, the cosine is the loss of DC, which leaves out vectors (biases, normalisations): leave out their blocks. It is no
    metric: it is blind to the length of a row, and at equality each row gives ε / (‖a_r‖² + ε), so 1 where it is zero. The
    other two are metrics of the means, ``mse`` squared. None tells measures with equal mean gradients apart.

    The summary is a mean of p = out × in × ... numbers, which merges: O(n p) once, O(m p) a step. Not bounded, unless the
    gradients are clipped.

    Args:
        form: ``cosine``, ``mse`` or ``l1``.
        epsilon: ε of the cosine, added to the product of the norms.

    References: Dataset Condensation with Gradient Matching (Zhao, Mopuri, Bilen, 2021, ICLR), https://arxiv.org/abs/2006.05929,
    for the cosine (ε as in their code).

    Raises:
        InvalidInput: if ``form`` is unknown or ``epsilon`` is not > 0.

    Example:
        >>> import torch
        >>> from discrepancy import MeanGradients, Measure
        >>> a, b = torch.eye(2)[None], torch.tensor([[[1.0, 0.0], [0.0, -1.0]]])
        >>> round(float(MeanGradients()(Measure(a), Measure(b))), 4)  # the second row points the other way
        2.0
    """

    form: Form = "cosine"
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        check_choice("form", self.form, get_args(Form))
        if not (math.isfinite(self.epsilon) and self.epsilon > 0):
            raise InvalidInput(f"'epsilon' must be finite and > 0, got {self.epsilon}")

    @property
    def tags(self) -> frozenset[Tag]:
        claimed: set[Tag] = {
            "nonnegative",
            "symmetric",
            "mergeable",
            "splits",
            "differentiable",
            "twice-differentiable",
        }
        if self.form != "cosine":
            claimed |= {"zero-at-equality", "translation-invariant"}
        if self.form == "mse":
            claimed |= {"pulls"}
        return frozenset(claimed)

    @property
    def degree(self) -> float | None:
        return {"cosine": None, "mse": 2.0, "l1": 1.0}[self.form]

    def statistic(self, points: Float[Tensor, "g n ..."], draws: Draws) -> Float[Tensor, "g n p"]:
        return points.flatten(2) if points.ndim > 2 else points[..., None]

    def distance(self, real: Float[Tensor, "g p"], synthetic: Float[Tensor, "g p"]) -> Float[Tensor, " g"]:
        """The distance of two vectors, each one row."""
        return self._apart(real[:, None], synthetic[:, None])

    def compare_groups(self, summary: MeanSummary, synthetic: Measure, draws: Draws) -> Float[Tensor, " g"]:
        points = synthetic.tensors[""]
        rows = points.shape[2] if points.ndim > 3 else 1
        mean = self.total(synthetic, draws) / synthetic.weights.double().sum(-1, keepdim=True)
        value = self._apart(summary.mean.unflatten(-1, (rows, -1)), mean.unflatten(-1, (rows, -1)))
        return value.to(synthetic.rows.dtype)

    def _apart(self, a: Float[Tensor, "g out in"], b: Float[Tensor, "g out in"]) -> Float[Tensor, " g"]:
        if self.form == "mse":
            return (a - b).square().sum((1, 2))
        if self.form == "l1":
            return (a - b).abs().sum((1, 2))
        lengths = safe_root(a.square().sum(-1)) * safe_root(b.square().sum(-1))
        return (1 - (a * b).sum(-1) / (lengths + self.epsilon)).sum(-1)


@checked_arguments
def loss_gradients(
    network: Network, parameters: NetworkParameters, points: Tensor, labels: Tensor, chunk: int = 64
) -> dict[str, Tensor]:
    """The gradient of each example's cross-entropy by each parameter: ``(n, *parameter_shape)`` by parameter name.

    Takes the memory of n parameter sets for the result, and of ``chunk`` graphs beside it; :func:`mean_loss_gradients` gives
    the mean alone for the price of one backward pass.

    Args:
        network: pointwise, since otherwise the loss of an example is not its own.
        parameters: at which the gradient is taken.
        points: examples ``(n, *shape)``.
        labels: class numbers ``(n,)`` or soft labels ``(n, c)``.
        chunk: examples whose gradients are computed at once.

    Raises:
        Unsupported: if the network is not pointwise.

    Example:
        >>> import torch
        >>> from discrepancy.learning import loss_gradients
        >>> from discrepancy.networks import MLP
        >>> network = MLP(width=4, depth=1)
        >>> parameters = network.initial(torch.Generator().manual_seed(0), (3,), 2)
        >>> gradients = loss_gradients(network, parameters, torch.ones(5, 3), torch.tensor([0, 1, 0, 1, 0]))
        >>> {name: tuple(value.shape) for name, value in gradients.items()}
        {'hidden1.weight': (5, 4, 3), 'hidden1.bias': (5, 4), 'linear.weight': (5, 2, 4), 'linear.bias': (5, 2)}
    """
    if not network.pointwise:
        raise Unsupported(
            f"'{network.kind}' is not pointwise (batch normalisation), so the loss of an example is not its own; use "
            f"mean_loss_gradients, or choose another 'norm'"
        )

    def loss(parameters: NetworkParameters, point: Tensor, label: Tensor) -> Tensor:
        return functional.cross_entropy(network(parameters, point[None])["logits"], label[None])

    each = torch.vmap(torch.func.grad(loss), in_dims=(None, 0, 0), chunk_size=chunk)
    return each(dict(parameters), points, labels)


@checked_arguments
def mean_loss_gradients(network: Forward, parameters: NetworkParameters, measure: Measure) -> dict[str, Tensor]:
    """The gradient of the mean cross-entropy Σ wᵢ ℓᵢ / Σ wᵢ of a labelled measure by each parameter, by parameter name.

    One backward pass. Differentiable in points, weights and labels wherever gradients are recorded. A grouped measure gives
    one gradient a group, ``(g, *parameter_shape)``.

    Raises:
        InvalidInput: if the measure has no labels.

    Example:
        >>> import torch
        >>> from discrepancy import Measure
        >>> from discrepancy.learning import mean_loss_gradients
        >>> from discrepancy.networks import MLP
        >>> network = MLP(width=4, depth=1)
        >>> parameters = network.initial(torch.Generator().manual_seed(0), (3,), 2)
        >>> gradients = mean_loss_gradients(network, parameters, Measure(torch.ones(5, 3), labels=torch.arange(5) % 2))
        >>> tuple(gradients["linear.weight"].shape)
        (2, 4)
    """
    if measure.grouped:
        groups = torch.arange(len(measure.weights), device=measure.weights.device)
        each = [mean_loss_gradients(network, parameters, measure.select(group)) for group in groups]
        return {name: torch.stack([gradients[name] for gradients in each]) for name in parameters}
    if measure.labels is None:
        raise InvalidInput("a loss looks at labels, and the measure has none; give Measure(labels=...)")
    # Plain autograd: torch.func.grad, which is not compiled here, takes 1.6 times as long.
    points, shares, labels = measure.tensors[""], measure.shares, measure.labels
    recorded = torch.is_grad_enabled() and any(side.requires_grad for side in (points, shares, labels))
    with torch.enable_grad():
        leaves = {name: value.detach().requires_grad_(True) for name, value in parameters.items()}
        losses = functional.cross_entropy(network(leaves, points)["logits"], labels, reduction="none")
        mean = shares.to(losses.dtype) @ losses
        gradients = torch.autograd.grad(mean, list(leaves.values()), create_graph=recorded, materialize_grads=True)
    return dict(zip(leaves, gradients, strict=True))
