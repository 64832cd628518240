"""Embeddings: what of an example is compared."""

from discrepancy.embeddings.base import Embedding
from discrepancy.embeddings.gradient import LossGradient
from discrepancy.embeddings.network import Features, Layers, Logits
from discrepancy.embeddings.points import Identity, RandomFourier, Standardised

__all__ = ["Embedding", "Features", "Identity", "Layers", "Logits", "LossGradient", "RandomFourier", "Standardised"]
