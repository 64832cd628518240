"""Attacks: the point within a ball around each example at which a loss is largest, as far as steps of ascent find it."""

from objectives.attacks.apgd import APGD
from objectives.attacks.base import Attack, attacked
from objectives.attacks.pgd import FGSM, PGD
from objectives.attacks.threat import Ball, Threat, UnitSpace

__all__ = ["APGD", "FGSM", "PGD", "Attack", "Ball", "Threat", "UnitSpace", "attacked"]
