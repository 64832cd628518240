"""Selection: the same objective, over subsets of the real examples."""

from objectives.solvers.selection.cover import KCentre
from objectives.solvers.selection.exact_cover import ExactCover
from objectives.solvers.selection.forgetting import Forgetting
from objectives.solvers.selection.greedy import GreedyMMD, Herding
from objectives.solvers.selection.random import Random
from objectives.solvers.selection.thinning import KernelThinning

__all__ = ["ExactCover", "Forgetting", "GreedyMMD", "Herding", "KCentre", "KernelThinning", "Random"]
