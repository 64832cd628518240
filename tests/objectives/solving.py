"""Small objectives, and descents that are followed step by step."""

from small import NETWORK
from torch import Tensor

from discrepancy import MMD
from discrepancy.embeddings import Features, Identity
from objectives.contexts import Fresh
from objectives.solvers import Solving
from objectives.synthetic.bases import Bases
from objectives.synthetic.formation import Formation
from objectives.synthetic.frequencies import Frequencies
from objectives.synthetic.parameterisation import Parameterisation
from objectives.terms.match import Match
from objectives.training.augmentation import Siamese

__all__ = ["DM", "FEATURES", "PIXELS", "STORED", "advanced", "assert_equal"]


PIXELS = Match(MMD(), via=Identity())
FEATURES = Match(MMD(), via=Features())
DM = Fresh(network=NETWORK, batch=5, augment=Siamese())


def advanced(solving: Solving, steps: int) -> Solving:
    for _ in range(steps):
        solving.advance()
    return solving


def assert_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    """Bit for bit."""
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert value.equal(second[name]), name


STORED: dict[str, tuple[Parameterisation, float]] = {
    "formation": (Formation(per_class=1), 0.5),
    "frequencies": (Frequencies(per_class=2, keep=4), 0.5),
    "bases": (Bases(per_class=2, number=5), 0.01),
}
"""Other forms than pixels, each with a learning rate."""
