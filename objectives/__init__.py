"""What is minimised, over what, and how: objectives, contexts, synthetic sets and solvers."""

from objectives.artefact import SyntheticSet
from objectives.augment import Augmentation, Chain, Siamese
from objectives.bases import Bases
from objectives.condense import Progress, condense
from objectives.contexts import Context, Fresh, Interpolated, Pool, Queue, Renewed, Trained, Watch
from objectives.data import Examples, LabelledData, Normalisation
from objectives.formations import Formation
from objectives.frequencies import Frequencies
from objectives.mixing import CutMix, Mixing
from objectives.objective import Match, Objective, Penalised, Penalty, Term
from objectives.penalties import CrossEntropy, LabelMargin, TotalVariation
from objectives.reductions import CVaR, Max, Mean, Proportional, Reduction, Sum
from objectives.sampling import ClusteredRows, RandomRows, Sampling
from objectives.solvers import (
    ClosedForm,
    Descent,
    Forgetting,
    GreedyMMD,
    Herding,
    KCentre,
    KernelThinning,
    LabelSolve,
    Random,
    Solver,
)
from objectives.synthetic import Parameterisation, Pixels
from objectives.teacher import Taught, Teacher
from objectives.training import Training

__all__ = [
    "Augmentation",
    "Bases",
    "CVaR",
    "Chain",
    "ClusteredRows",
    "Context",
    "CrossEntropy",
    "CutMix",
    "ClosedForm",
    "Descent",
    "Examples",
    "Forgetting",
    "Formation",
    "Frequencies",
    "Fresh",
    "GreedyMMD",
    "Herding",
    "Interpolated",
    "KCentre",
    "KernelThinning",
    "LabelSolve",
    "LabelMargin",
    "LabelledData",
    "Match",
    "Max",
    "Mean",
    "Mixing",
    "Normalisation",
    "Objective",
    "Parameterisation",
    "Penalised",
    "Penalty",
    "Pixels",
    "Pool",
    "Progress",
    "Proportional",
    "Queue",
    "Random",
    "RandomRows",
    "Sampling",
    "Reduction",
    "Renewed",
    "Siamese",
    "Solver",
    "Sum",
    "SyntheticSet",
    "Taught",
    "Teacher",
    "Term",
    "TotalVariation",
    "Trained",
    "Watch",
    "Training",
    "condense",
]
