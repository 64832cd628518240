"""Sets that are condensed in closed form, and ridge regression in numpy."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from discrepancy import Parameters, Ridge
from discrepancy.embeddings import Embedding, Features, Identity, RandomCosine
from discrepancy.networks import MLP, ConvNet, Coupling, Network
from objectives import LabelledData, Match, Pixels, Pool, SyntheticSet, condense
from objectives.engine.runtime import Runtime
from objectives.rng import rng
from objectives.solvers import ClosedForm

__all__ = [
    "C",
    "D",
    "DOUBLE",
    "LEAKY",
    "PENALTY",
    "SHAPE",
    "SIZES",
    "SPACES",
    "condensed",
    "data",
    "error",
    "features",
    "labels_of",
    "match",
    "ridge",
    "tolerance",
    "vectors",
]


SIZES, PENALTY = (17, 30, 23), 0.02
DOUBLE = Runtime(dtype=torch.float64)
C, SHAPE = len(SIZES), (2, 4, 5)
D = math.prod(SHAPE)
LEAKY = MLP(width=None, depth=2, activation="leaky_relu", slope=0.1, bias=False)
SPACES: dict[str, tuple[Embedding, Network | None]] = {
    "linear": (Identity(), None),
    "leaky": (Features(), LEAKY),
    "convolution": (Features(), ConvNet(width=2, depth=2, norm="none", activation="leaky_relu", pooling="average")),
    "coupling": (Features(), Coupling(width=16)),
    "cosine": (RandomCosine(lengthscale=6.0), None),
    "fewer cosines": (RandomCosine(features=11, lengthscale=6.0), None),
    "deep linear, wide": (Features(), MLP(width=50, depth=3, activation="identity", bias=False)),
}


@pytest.fixture
def data() -> LabelledData:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(C).repeat_interleave(torch.tensor(SIZES))
    means = torch.randn(C, *SHAPE, generator=generator, dtype=torch.float64)
    return LabelledData.of(means[labels] + torch.randn(len(labels), *SHAPE, generator=generator).double(), labels)


def match(via: Embedding | None = None, real: Ridge | None = None, own: float = 0.0, intercept: bool = False) -> Match:
    learner = real or Ridge(penalty=PENALTY, intercept=intercept)
    return Match(
        Parameters(learner=learner, synthetic=replace(learner, penalty=own, relative=False)),
        via=via or Identity(),
        by="none",
    )


def condensed(
    data: LabelledData, space: tuple[Embedding, Network | None], term: Match | None = None, **changes
) -> SyntheticSet:
    via, network = space
    solver = ClosedForm(
        **{key: changes.pop(key) for key in ("condense", "root", "precision", "nearest") if key in changes}
    )
    settings = {"per_class": 1, "start": "noise", **changes}
    return condense(
        data,
        term or match(via),
        context=Pool(size=1, network=network),
        synthetic=Pixels(**settings),
        solver=solver,
        dtype=torch.float64,
    )


def features(data: LabelledData, space: tuple[Embedding, Network | None], points: Tensor) -> np.ndarray:
    """Of points in the units of the source, by the weights and frequencies that the streams of the run say."""
    via, network = space
    normalised = data.normalisation.apply(points, torch.float64)
    taken, draws = {"points": normalised}, None
    if network is not None:
        initial = network.initial(rng(0, "network", 0), data.shape, data.outputs, affine=False)
        parameters = {name: value.double() for name, value in initial.items()}
        taken |= network(parameters, normalised, ("features",))
    if isinstance(via, RandomCosine):
        draws = via.draw(rng(0, "random", "parameters", "0", "0", "0", "1.0"), {"points": data.shape})
    found = via(taken, draws)
    assert isinstance(found, Tensor)
    return found.flatten(1).numpy()


def ridge(x: np.ndarray, y: np.ndarray, penalty: float, intercept: bool = False) -> np.ndarray:
    """min E ‖W x + b - y‖² + λ ‖W‖², of least norm for λ = 0."""
    if intercept:
        x, y = x - x.mean(0), y - y.mean(0)
    if penalty == 0:
        return np.linalg.lstsq(x, y, rcond=1e-11)[0].T
    d = x.shape[1]
    x, y = np.vstack([x, np.sqrt(penalty * len(x)) * np.eye(d)]), np.vstack([y, np.zeros((d, y.shape[1]))])
    return np.linalg.lstsq(x, y)[0].T


def vectors(data: LabelledData) -> np.ndarray:
    return np.eye(C)[data.train.strata.numpy()]


def labels_of(made: SyntheticSet) -> np.ndarray:
    assert made.labels is not None
    return made.labels.numpy() if made.labels.ndim == 2 else np.eye(C)[made.labels.numpy()]


def error(found: np.ndarray, sought: np.ndarray) -> float:
    return float(np.linalg.norm(found - sought) / np.linalg.norm(sought))


def tolerance(made: SyntheticSet) -> float:
    return 100 * float(np.finfo(np.float64).eps) * made.record["findings"]["condition"]
