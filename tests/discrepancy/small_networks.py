"""Narrow networks of each published kind, for tests of what they have in common."""

import pytest

from discrepancy.networks import VGG, AlexNet, LeNet, Network, ResNet, ViT

SMALL = {
    "lenet": LeNet(),
    "alexnet": AlexNet(width=8),
    "alexnet batch": AlexNet(width=8, norm="batch"),
    "vgg": VGG(width=4),
    "vgg batch": VGG(width=4, norm="batch"),
    "resnet": ResNet(width=4, depth=10),
    "resnet batch": ResNet(width=4, depth=10, norm="batch"),
    "resnet average": ResNet(width=4, depth=10, halving="average", norm="group"),
    "vit": ViT(width=12, depth=2),
    "vit token": ViT(width=12, depth=2, pooling="token"),
}


def each(networks: dict[str, Network]):
    return pytest.mark.parametrize("network", networks.values(), ids=networks.keys())
