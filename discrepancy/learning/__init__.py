"""Discrepancies of what is learned from the two sides, the learners, and gradient matching.

The learners stand in :mod:`discrepancy.learning.learners`, and the points from which ridge regression learns given weights in
:mod:`discrepancy.learning.recovery`; both are names of ``discrepancy`` too.
"""

from discrepancy.learning import learners, recovery
from discrepancy.learning.gradients import MeanGradients, loss_gradients, mean_loss_gradients
from discrepancy.learning.learned import Parameters, Risk

__all__ = ["MeanGradients", "Parameters", "Risk", "learners", "loss_gradients", "mean_loss_gradients", "recovery"]
