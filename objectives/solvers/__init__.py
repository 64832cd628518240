"""Solvers: ways to find the synthetic set that minimises an objective."""

from objectives.solvers.base import Problem, Record, Solver, Solving
from objectives.solvers.descent import Descent
from objectives.solvers.selection import Herding, Random

__all__ = ["Descent", "Herding", "Problem", "Random", "Record", "Solver", "Solving"]
