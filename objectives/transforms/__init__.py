"""Transforms of the real side: what is matched is not P but what an attack, a corruption or other weights make of it."""

from objectives.transforms.adversarial import Adversarial
from objectives.transforms.confident import Confident
from objectives.transforms.corrupted import Corrupted
from objectives.transforms.reweighted import Reweighted

__all__ = ["Adversarial", "Confident", "Corrupted", "Reweighted"]
