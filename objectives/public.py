"""The public names of ``objectives``, which loads them when one of them is first used."""

from discrepancy import reductions
from discrepancy.reductions import Reduction
from objectives.attacks import APGD, FGSM, PGD, Attack, Threat
from objectives.condensation import Progress, condense
from objectives.contexts import Context, Fresh, Interpolated, Pool, Queue, Renewed, Trained, Watch
from objectives.covering import CoveringBound, covering_bound
from objectives.covering_numbers import CoveringNumber, covering_number
from objectives.data.examples import Examples
from objectives.data.in_memory import InMemory
from objectives.data.labelled import LabelledData
from objectives.data.labels import Labels
from objectives.data.real import RealData
from objectives.data.sampling import ClusteredRows, RandomRows, Sampling
from objectives.data.spec import DataSpec
from objectives.data.transform import RealTransform
from objectives.data.units import Normalisation
from objectives.engine.runtime import Runtime
from objectives.privacy.budget import Privacy
from objectives.privacy.gaussian import best_true_positive_rate, gaussian_delta, gaussian_epsilon, gaussian_mu
from objectives.solvers import (
    ClosedForm,
    Descent,
    ExactCover,
    Forgetting,
    GreedyMMD,
    Herding,
    KCentre,
    KernelThinning,
    LabelSolve,
    Solver,
    selection,
)
from objectives.synthetic.artefact import SyntheticSet
from objectives.synthetic.bases import Bases
from objectives.synthetic.formation import Formation
from objectives.synthetic.frequencies import Frequencies
from objectives.synthetic.parameterisation import Parameterisation
from objectives.synthetic.pixels import Pixels
from objectives.teacher import Taught, Teacher
from objectives.terms.match import Match
from objectives.terms.objective import Objective, Term
from objectives.terms.penalties import CrossEntropy, LabelMargin, TotalVariation
from objectives.terms.penalty import ExamplePenalty, Penalised, Penalty
from objectives.terms.smoothness import Curvature, InputGradient, Jacobian
from objectives.terms.weights import LinearWeight, StepWeight, WeightSchedule
from objectives.terms.worst import Worst
from objectives.training.augmentation import Augmentation, Chain, Siamese
from objectives.training.mixing import CutMix, Mixing
from objectives.training.training import AdversarialTraining, FlatTraining, SharpnessAwareTraining, Training
from objectives.transforms import Adversarial, Confident, Corrupted, Reweighted

__all__ = [
    "Privacy",
    "best_true_positive_rate",
    "gaussian_delta",
    "gaussian_epsilon",
    "gaussian_mu",
    "Worst",
    "Curvature",
    "InputGradient",
    "Jacobian",
    "Adversarial",
    "Confident",
    "Corrupted",
    "RealTransform",
    "Reweighted",
    "APGD",
    "AdversarialTraining",
    "Attack",
    "FGSM",
    "FlatTraining",
    "Threat",
    "PGD",
    "SharpnessAwareTraining",
    "Augmentation",
    "Bases",
    "Chain",
    "ClusteredRows",
    "Context",
    "DataSpec",
    "InMemory",
    "Labels",
    "RealData",
    "Runtime",
    "WeightSchedule",
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
    "CoveringBound",
    "CoveringNumber",
    "ExactCover",
    "ExamplePenalty",
    "KCentre",
    "KernelThinning",
    "LabelSolve",
    "LabelMargin",
    "LabelledData",
    "LinearWeight",
    "Match",
    "Mixing",
    "Normalisation",
    "Objective",
    "Parameterisation",
    "Penalised",
    "Penalty",
    "Pixels",
    "Pool",
    "Progress",
    "Queue",
    "RandomRows",
    "Sampling",
    "Reduction",
    "Renewed",
    "Siamese",
    "Solver",
    "StepWeight",
    "SyntheticSet",
    "Taught",
    "Teacher",
    "Term",
    "TotalVariation",
    "Trained",
    "Watch",
    "Training",
    "condense",
    "covering_bound",
    "covering_number",
    "reductions",
    "selection",
]
