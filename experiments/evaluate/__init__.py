"""Evaluation of a small training set: by networks trained on it from scratch, or by the learner of its objective."""

from experiments.evaluate.by_learner import NAMES, ByLearner, by_learner
from experiments.evaluate.comparison import CONTROLS, Comparison, comparison, control
from experiments.evaluate.evaluator import Evaluator, evaluate_each, held_out
from experiments.evaluate.learner_evaluator import LearnerEvaluator
from experiments.evaluate.protocol import PROTOCOLS, Protocol, protocol_named, whole_budget
from experiments.evaluate.records import Evaluation, TrainingSet
from experiments.evaluate.seen import check_same, check_unseen, note_of_others
from experiments.evaluate.training import NetworkEvaluator, evaluate

__all__ = [
    "CONTROLS",
    "NAMES",
    "PROTOCOLS",
    "ByLearner",
    "Comparison",
    "Evaluation",
    "Evaluator",
    "LearnerEvaluator",
    "NetworkEvaluator",
    "Protocol",
    "TrainingSet",
    "by_learner",
    "check_same",
    "check_unseen",
    "comparison",
    "control",
    "evaluate",
    "evaluate_each",
    "held_out",
    "note_of_others",
    "protocol_named",
    "whole_budget",
]
