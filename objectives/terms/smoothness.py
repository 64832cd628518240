"""Penalties on how fast the context's network changes around the synthetic examples."""

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.embeddings.base import Taken
from discrepancy.errors import InvalidInput, Unsupported
from discrepancy.parts import check_choice
from objectives.terms.penalty import Penalty
from objectives.training.batch_gradient import losses_of
from objectives.training.smoothness import Order, curvatures, input_gradients, squared_jacobians

__all__ = ["Curvature", "InputGradient", "Jacobian"]


class NetworkPenalty(Penalty):
    """A penalty that differentiates the context's network by its input, at the synthetic examples without augmentation, in
    normalised units: Σ wᵢ rᵢ / Σ wᵢ for a value rᵢ of each example."""

    needs_classes: ClassVar[bool] = True
    of_examples: ClassVar[bool] = True

    @property
    def takes(self) -> frozenset[str]:
        return frozenset({"logits"})

    @property
    def differentiates(self) -> bool:
        return True

    def __call__(self, taken: Taken, labels: Tensor, weights: Float[Tensor, " m"]) -> Float[Tensor, ""]:
        raise Unsupported(f"'{self.kind}' needs the network and not what is taken of it; call of_network")

    def of_network(
        self,
        classify: Callable[[Tensor], Float[Tensor, "m c"]],
        points: Float[Tensor, "m ..."],
        labels: Float[Tensor, "m c"],
        weights: Float[Tensor, " m"],
    ) -> Float[Tensor, ""]:
        values = self.values_of_network(classify, points, labels)
        return torch.dot(values, weights.to(values)) / weights.sum()

    @abstractmethod
    def values_of_network(
        self,
        classify: Callable[[Tensor], Float[Tensor, "m c"]],
        points: Float[Tensor, "m ..."],
        labels: Float[Tensor, "m c"],
    ) -> Float[Tensor, " m"]:
        """rᵢ of each example, given the network as a function of points."""


class InputGradient(NetworkPenalty, kind="input_gradient"):
    """rᵢ = ‖∇_x CE(f(xᵢ), yᵢ)‖²: to first order, how much a small change of the input can raise the loss.

    References: Improving the Adversarial Robustness and Interpretability of Deep Neural Networks by Regularizing Their Input
    Gradients (Ross & Doshi-Velez, 2018), https://arxiv.org/abs/1711.09404.
    """

    def values_of_network(
        self,
        classify: Callable[[Tensor], Float[Tensor, "m c"]],
        points: Float[Tensor, "m ..."],
        labels: Float[Tensor, "m c"],
    ) -> Float[Tensor, " m"]:
        slopes = input_gradients(lambda x: losses_of("cross_entropy", classify(x), labels), points)
        return slopes.flatten(1).square().sum(1) + 0 * points.flatten(1).sum(1)  # in the graph also of a linear map


class Jacobian(NetworkPenalty, kind="jacobian"):
    """rᵢ = ‖J_f(xᵢ)‖_F², the squared sizes of the gradients of all the logits: c backward passes for c classes.

    References: Robust Learning with Jacobian Regularization (Hoffman, Roberts & Yaida, 2019), https://arxiv.org/abs/1908.02729,
    which estimates it by random projections.
    """

    def values_of_network(
        self,
        classify: Callable[[Tensor], Float[Tensor, "m c"]],
        points: Float[Tensor, "m ..."],
        labels: Float[Tensor, "m c"],
    ) -> Float[Tensor, " m"]:
        return squared_jacobians(classify, points)


class Curvature(NetworkPenalty, kind="curvature"):
    """rᵢ = ‖∇loss(x + h z) - ∇loss(x)‖² with z = ∇loss(x) / ‖∇loss(x)‖, or |loss(x + h z) - loss(x)|, the cross-entropy's
    (:func:`~objectives.training.smoothness.curvatures`).

    Args:
        step: h, in normalised units.
        order: ``second`` (the formula of the paper) or ``first`` (that of its code, which is cheaper).

    References: GUARD (Xue et al., 2024), https://arxiv.org/abs/2403.10045, which flattens the loss of a teacher; Robustness via
    Curvature Regularization (Moosavi-Dezfooli et al., 2019).
    """

    step: float = 3.0
    order: Order = "second"

    def __post_init__(self) -> None:
        check_choice("order", self.order, get_args(Order))
        if not 0 < self.step < float("inf"):
            raise InvalidInput(f"'step' must be > 0 and finite, got {self.step}")

    def values_of_network(
        self,
        classify: Callable[[Tensor], Float[Tensor, "m c"]],
        points: Float[Tensor, "m ..."],
        labels: Float[Tensor, "m c"],
    ) -> Float[Tensor, " m"]:
        return curvatures(lambda x: losses_of("cross_entropy", classify(x), labels), points, self.step, self.order)
