"""How accurate networks stay when their inputs are changed: by an attacker, or by chance."""

from experiments.robust.checks import failed_checks
from experiments.robust.evaluator import RobustEvaluator
from experiments.robust.suite import WAYS, Suite, suite_for, trained_by

__all__ = ["WAYS", "RobustEvaluator", "Suite", "failed_checks", "suite_for", "trained_by"]
