"""How far apart two samples are, differentiable in one of them.

A data set is a weighted empirical measure (:class:`Measure`). A :class:`Discrepancy` says how far apart two of them are, in
two steps, since its two sides are not alike: ``summarise`` the real side once, ``compare`` a synthetic one with the summary
as often as needed. Everything here is a frozen value made of numbers and other values, so it can be written in a
configuration file and used as a key.

    >>> import torch
    >>> from discrepancy import MMD, Measure, kernels
    >>> mmd = MMD(kernel=kernels.Gaussian(lengthscale=1.5))
    >>> real, synthetic = Measure(points=torch.tensor([[0.0], [1.0], [2.0]])), Measure(points=torch.tensor([[0.5]]))
    >>> print(f"{mmd(real, synthetic):.4f}")
    0.1149
    >>> summary = mmd.summarise(real)
    >>> print(f"{mmd.compare(summary, synthetic):.4f}")
    0.1149

The parts that a discrepancy is made of have rooms of their own: ``kernels``, ``learners``, ``embeddings``, ``networks``, and
``recovery`` for the points from which ridge regression learns given weights.
"""

from typing import TYPE_CHECKING

from discrepancy.deferred import deferred

if TYPE_CHECKING:
    from discrepancy.public import *  # noqa: F403
else:
    __getattr__, __dir__ = deferred(__name__)
