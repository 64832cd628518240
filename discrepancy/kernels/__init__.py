"""Kernels: similarities of points, with what turns real data into a lengthscale.

Kernels of the distance: :class:`Gaussian`, :class:`Mixture`, :class:`RationalQuadratic`, :class:`InverseMultiquadric` (smooth),
:class:`Laplace`, :class:`Matern`, :class:`Energy` (with a kink). Kernels of the inner product: :class:`Linear`,
:class:`Polynomial`. Both sorts add, scale and multiply: ``Gaussian() + 0.5 * Laplace()``, or ``kind: sum``, ``scaled``,
``product``. Kernels of infinitely wide networks, which stand alone: :class:`NNGP`, :class:`NTK`.
"""

from discrepancy.kernels.base import Dot, Kernel, Profile, Radial
from discrepancy.kernels.composed import Product, Scaled, Sum
from discrepancy.kernels.dot import Linear, Polynomial
from discrepancy.kernels.kinked import Energy, Laplace, Matern
from discrepancy.kernels.lengths import Length, Median, Quantile
from discrepancy.kernels.smooth import Gaussian, InverseMultiquadric, Mixture, RationalQuadratic
from discrepancy.kernels.wide import NNGP, NTK, Wide
from discrepancy.numerics.squared_distances import squared_distances

__all__ = [
    "Dot",
    "Energy",
    "Gaussian",
    "InverseMultiquadric",
    "Kernel",
    "Laplace",
    "Length",
    "Linear",
    "Matern",
    "Median",
    "Mixture",
    "NNGP",
    "NTK",
    "Polynomial",
    "Product",
    "Profile",
    "Quantile",
    "Radial",
    "RationalQuadratic",
    "Scaled",
    "Sum",
    "Wide",
    "squared_distances",
]
