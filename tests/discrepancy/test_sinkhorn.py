"""Sinkhorn."""
from dataclasses import replace

import geomloss
import torch
from contract import DiscrepancyContract

from discrepancy import Discrepancy, Measure
from discrepancy.transport.sinkhorn import Sinkhorn

TIGHT = {"tolerance": 1e-11, "iterations": 2000}


def converged_geomloss(discrepancy: Sinkhorn) -> geomloss.SamplesLoss:
    """Theirs after a thousand iterations, all at the final temperature (but for a factor 1 + 1e-8)."""
    return geomloss.SamplesLoss(
        "sinkhorn",
        cost=torch.cdist if discrepancy.p == 1 else None,
        p=discrepancy.p,
        blur=discrepancy.blur,
        reach=discrepancy.reach,
        diameter=float(discrepancy.blur) * (1 + 1e-8),  # pyright: ignore[reportArgumentType]
        scaling=1 - 1e-11,
        debias=discrepancy.debias,
        backend="tensorized",
    )


class TestSinkhorn(DiscrepancyContract):
    instances = {  # noqa: RUF012
        "balanced": Sinkhorn(blur=1.0, **TIGHT),
        "biased": Sinkhorn(blur=1.0, debias=False, **TIGHT),
        "unbalanced": Sinkhorn(blur=1.0, reach=1.5, **TIGHT),
        "distance": Sinkhorn(p=1, blur=0.5, **TIGHT),
        "distance-unbalanced": Sinkhorn(p=1, blur=0.5, reach=2.0, **TIGHT),
    }

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        assert isinstance(discrepancy, Sinkhorn)
        loss = converged_geomloss(discrepancy)
        a, b = mu.mass_of / mu.mass_of.sum(), nu.mass_of / nu.mass_of.sum()
        return loss(a, mu.points.flatten(1), b, nu.points.flatten(1)).item()

    @staticmethod
    def rescaled(discrepancy, factor):
        return None
