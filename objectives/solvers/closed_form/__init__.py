"""Exact solutions of ridge regression, which need no iteration."""

from objectives.solvers.closed_form.closed_form import ClosedForm, Solved

__all__ = ["ClosedForm", "Solved"]
