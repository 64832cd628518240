"""Optimal transport: how far mass has to be moved to turn one measure into another.

W_p^p(μ, ν) = min over plans π with marginals μ and ν of E_π ‖x - y‖^p
"""

from discrepancy.transport.barycentre import barycentre
from discrepancy.transport.exact import Wasserstein
from discrepancy.transport.sinkhorn import Sinkhorn
from discrepancy.transport.sliced import MaxSlicedWasserstein, SlicedWasserstein

__all__ = ["MaxSlicedWasserstein", "Sinkhorn", "SlicedWasserstein", "Wasserstein", "barycentre"]
