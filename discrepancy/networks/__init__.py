"""Networks as pure functions of (parameters, points)."""

from discrepancy.networks.alexnet import AlexNet
from discrepancy.networks.backbone import Backbone
from discrepancy.networks.base import Network, NetworkParameters, Statistics
from discrepancy.networks.convnet import ConvNet
from discrepancy.networks.coupling import Coupling
from discrepancy.networks.invertible import InvertibleNetwork
from discrepancy.networks.lenet import LeNet
from discrepancy.networks.mlp import MLP
from discrepancy.networks.modules import register_module
from discrepancy.networks.resnet import ResNet
from discrepancy.networks.vgg import VGG
from discrepancy.networks.vit import ViT

__all__ = [
    "AlexNet",
    "Backbone",
    "ConvNet",
    "Coupling",
    "InvertibleNetwork",
    "LeNet",
    "MLP",
    "Network",
    "NetworkParameters",
    "ResNet",
    "Statistics",
    "VGG",
    "ViT",
    "register_module",
]
