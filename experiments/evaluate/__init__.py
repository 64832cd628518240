"""Evaluation of a small training set: by networks trained on it from scratch, or by the learner of its objective."""

from experiments.evaluate.by_learner import NAMES, ByLearner, by_learner
from experiments.evaluate.controls import (
    CONTROLS,
    Comparison,
    Selection,
    comparison,
    control,
    herding,
    random_control,
    selected_control,
    whole_budget,
    whole_control,
)
from experiments.evaluate.learner_comparison import comparison_by_learner
from experiments.evaluate.protocol import PROTOCOLS, Protocol, protocol_named
from experiments.evaluate.records import Evaluation, TrainingSet
from experiments.evaluate.seen import check_same, check_unseen, note_of_others
from experiments.evaluate.training import evaluate, evaluate_each, held_out

__all__ = [
    "CONTROLS",
    "NAMES",
    "PROTOCOLS",
    "ByLearner",
    "Comparison",
    "Evaluation",
    "Protocol",
    "Selection",
    "TrainingSet",
    "by_learner",
    "check_same",
    "check_unseen",
    "comparison",
    "control",
    "evaluate",
    "evaluate_each",
    "held_out",
    "herding",
    "comparison_by_learner",
    "note_of_others",
    "protocol_named",
    "random_control",
    "selected_control",
    "whole_budget",
    "whole_control",
]
