"""Gradients that train networks to withstand changes: of their inputs (adversarial training), or of their weights (SAM)."""

import torch
from torch import Tensor

from discrepancy.networks.base import NetworkParameters
from objectives.attacks import Attack, UnitSpace, attacked
from objectives.training.batch_gradient import BatchGradient, PlainGradient, losses_of
from objectives.training.smoothness import Order, curvatures

__all__ = ["AdversarialGradient", "FlatGradient", "SharpnessAwareGradient"]


class RobustGradient(BatchGradient):
    """A gradient that is made of plain ones.

    Args:
        base: the gradient at given points and weights.
    """

    def __init__(self, base: PlainGradient) -> None:
        self.base, self.criterion = base, base.criterion

    def size(self, largest: int) -> int:
        return self.base.size(largest)


class AdversarialGradient(RobustGradient):
    """The gradient of Σ wᵢ max_{‖δ‖ <= ε} loss(f(xᵢ + δ), yᵢ), at the points that an attack finds on the network as it is.

    Args:
        base: the gradient at given points.
        attack: maximises the same loss.
        space: the units of the attack.

    References: Towards Deep Learning Models Resistant to Adversarial Attacks (Madry et al., 2018), equation 2.1.
    """

    def __init__(self, base: PlainGradient, attack: Attack, space: UnitSpace) -> None:
        super().__init__(base)
        self.attack, self.space = attack, space

    def __call__(
        self,
        parameters: NetworkParameters,
        points: Tensor,
        targets: Tensor,
        weights: Tensor,
        size: int,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        space, fixed = self.space, {name: value.detach() for name, value in parameters.items()}
        found = attacked(
            self.attack,
            lambda unit: self.base.logits(fixed, space.to_normalised(unit), size),
            space.to_unit(points),
            targets,
            space.ball,
            generator,
            losses=lambda logits, labels: losses_of(self.criterion, logits, labels),
        )
        return self.base(parameters, space.to_normalised(found.points), targets, weights, size, generator)


class SharpnessAwareGradient(RobustGradient):
    """The gradient of the loss L at θ + ρ ∇L(θ) / ‖∇L(θ)‖, near the largest loss within a ball of radius ρ around the weights.

    Args:
        base: the gradient at given weights.
        radius: ρ.

    References: Sharpness-Aware Minimization for Efficiently Improving Generalization (Foret et al., 2021),
    https://arxiv.org/abs/2010.01412, equation 2 and algorithm 1.
    """

    def __init__(self, base: PlainGradient, radius: float) -> None:
        super().__init__(base)
        self.radius = radius

    def __call__(
        self,
        parameters: NetworkParameters,
        points: Tensor,
        targets: Tensor,
        weights: Tensor,
        size: int,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        there = {name: value.detach().clone().requires_grad_() for name, value in parameters.items()}
        found = self.base(there, points, targets, weights, size, generator)
        slopes = {name: value.grad for name, value in there.items() if value.grad is not None}
        lengths = [torch.linalg.vector_norm(slope, dtype=torch.float64) for slope in slopes.values()]
        length = torch.linalg.vector_norm(torch.stack(lengths))
        with torch.no_grad():
            for name, slope in slopes.items():
                there[name].add_(self.radius * (slope / length.clamp(min=torch.finfo(slope.dtype).tiny)))
                there[name].grad = None
        self.base(there, points, targets, weights, size, generator)
        for name, value in parameters.items():
            slope = there[name].grad
            if slope is not None:
                value.grad = slope if value.grad is None else value.grad + slope
        return found


class FlatGradient(RobustGradient):
    """The gradient of Σ wᵢ (loss(f(xᵢ), yᵢ) + λ rᵢ), with the curvature rᵢ of the loss along its steepest direction
    (:func:`~objectives.training.smoothness.curvatures`).

    Args:
        base: the gradient without the curvature.
        step, order: of the curvature, in the units of the points.
        factor: λ.

    References: GUARD (Xue et al., 2024), https://arxiv.org/abs/2403.10045.
    """

    def __init__(self, base: PlainGradient, step: float, order: Order, factor: float) -> None:
        super().__init__(base)
        self.step, self.factor = step, factor
        self.order: Order = order

    def __call__(
        self,
        parameters: NetworkParameters,
        points: Tensor,
        targets: Tensor,
        weights: Tensor,
        size: int,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        found = self.base(parameters, points, targets, weights, size, generator)
        network, bent = self.base.network, torch.zeros_like(found["loss"])
        for x, y, w in zip(points.split(size), targets.split(size), weights.split(size), strict=True):

            def losses(unit: Tensor, y: Tensor = y) -> Tensor:
                return losses_of(self.criterion, network(parameters, unit, ("logits",))["logits"], y)

            value = self.factor * torch.dot(w, curvatures(losses, x, self.step, self.order).to(w))
            value.backward()
            bent += value.detach()
        return found | {"loss": found["loss"] + bent}
