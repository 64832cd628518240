"""Scores of classes by their mean points."""

from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from discrepancy.discrepancy import Draws, SampleSummary
from discrepancy.learning.learner import Learner, LinearPredictor, label_rows, or_one
from discrepancy.learning.risks import sample_risk
from discrepancy.measure import Measure
from discrepancy.networks.base import Network, NetworkParameters

__all__ = ["ClassMeans"]


class ClassMeans(Learner, kind="class_means"):
    """A score for each class, the product with its mean point: x ↦ (⟨m₁, x⟩, ..., ⟨m_c, x⟩) with m_k = Σᵢ wᵢ yᵢₖ xᵢ / Σᵢ wᵢ
    yᵢₖ, O(m c d).

    The mean of a class without mass is zero. Scores are not estimates of labels: a risk of them takes ``loss: cross_entropy``.

    References: CAFE: Learning to Condense Dataset by Aligning Features (Wang et al., 2022), the discrimination loss.

    Example:
        >>> import torch
        >>> from discrepancy import Measure, learners
        >>> side = Measure(torch.tensor([[1.0], [3.0], [5.0]]), labels=torch.tensor([0, 0, 1])).with_label_vectors(2)
        >>> learners.ClassMeans().fit(side.as_groups())(torch.ones(1, 1, 1))
        tensor([[[2., 5.]]], dtype=torch.float64)
    """

    needs_classes: ClassVar[bool] = True

    def fit(
        self,
        measure: Measure,
        network: Network | None = None,
        parameters: NetworkParameters | None = None,
        draws: Draws = None,
        extras: Mapping[str, Tensor] | None = None,
    ) -> LinearPredictor:
        labels = label_rows(measure)  # refuses what is no measure
        mass = measure.shares[..., None] * labels
        of_class = mass.sum(1)[..., None]
        return LinearPredictor(mass.mT @ measure.rows.double() / or_one(of_class))

    def summarise(self, real: Measure) -> SampleSummary:
        return SampleSummary(real)

    def risk(self, summary: SampleSummary, predictor: LinearPredictor) -> Float[Tensor, " g"]:
        make, tensors = predictor.parts
        return sample_risk(summary, make, *tensors)
