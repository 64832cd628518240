"""Solvers: ways to find the synthetic set that minimises an objective."""

from objectives.solvers.base import Problem, Record, Solver, Solving
from objectives.solvers.closed_form.closed_form import ClosedForm
from objectives.solvers.descent import Descent
from objectives.solvers.labels import LabelSolve
from objectives.solvers.selection import ExactCover, Forgetting, GreedyMMD, Herding, KCentre, KernelThinning, Random

__all__ = [
    "ClosedForm",
    "Descent",
    "ExactCover",
    "Forgetting",
    "GreedyMMD",
    "Herding",
    "KCentre",
    "KernelThinning",
    "LabelSolve",
    "Problem",
    "Random",
    "Record",
    "Solver",
    "Solving",
]
