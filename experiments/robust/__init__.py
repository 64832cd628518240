"""How accurate networks stay when their inputs are changed: by an attacker, or by chance."""

from experiments.robust.checks import failed_checks
from experiments.robust.evaluator import RobustEvaluator
from experiments.robust.suite import RobustProtocol, Suite

__all__ = ["RobustEvaluator", "RobustProtocol", "Suite", "failed_checks"]
