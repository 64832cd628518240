"""Networks as pure functions of (parameters, points)."""

from discrepancy.networks.base import Network, Parameters, Statistics
from discrepancy.networks.convnet import ConvNet
from discrepancy.networks.mlp import MLP

__all__ = ["ConvNet", "MLP", "Network", "Parameters", "Statistics"]
