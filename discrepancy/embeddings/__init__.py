"""Embeddings: what of an example is compared."""

from discrepancy.embeddings.base import Embedding
from discrepancy.embeddings.cosine import RandomCosine
from discrepancy.embeddings.gradient import LossGradient
from discrepancy.embeddings.invertible import Invertible, Within
from discrepancy.embeddings.maps import Attention, ChannelMeans, Normalised
from discrepancy.embeddings.network import Features, Jacobian, Layers, Logits
from discrepancy.embeddings.points import Identity, RandomFourier, Standardised

__all__ = [
    "Attention",
    "ChannelMeans",
    "Embedding",
    "Features",
    "Identity",
    "Invertible",
    "Jacobian",
    "Layers",
    "Logits",
    "LossGradient",
    "Normalised",
    "RandomCosine",
    "RandomFourier",
    "Standardised",
    "Within",
]
