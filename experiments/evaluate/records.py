"""What goes into an evaluation and what comes out of it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from statistics import fmean, stdev
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from discrepancy.errors import InvalidInput
from objectives.data.examples import Examples
from objectives.data.labels import Labels
from objectives.data.spec import Described
from objectives.data.units import Normalisation
from objectives.synthetic.artefact import SyntheticSet
from objectives.teacher import Taught
from objectives.training.trainer import TrainingData

__all__ = ["Evaluation", "TrainingSet"]


ROUNDING = 1e-3
"""Of the sum of a soft label, enough for half precision."""


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """What networks are trained on, and learners fitted to.

    Args:
        points: ``(m, *shape)``, in normalised units, or in any with ``units``.
        labels: of any kind but ``none``.
        weights: nonnegative ``(m,)``; equal when not given. Only their ratios matter.
        units: the normalisation that is still to be applied; it is, batch by batch, so that real data stay as they are.
        stored: bytes that a user of the set has to store; those of these tensors when not given.
        factor: what the predictions of a learner are to be divided by.

    Raises:
        InvalidInput: on sizes that do not fit, values that are not finite, weights that are negative or all zero.
    """

    points: Shaped[Tensor, "m ..."]
    labels: Labels
    weights: Tensor | None = None
    units: Normalisation | None = None
    stored: int | None = None
    factor: float = 1.0

    def __post_init__(self) -> None:
        m = len(self.points)
        if m == 0:
            raise InvalidInput("the training set is empty; give at least one example")
        if not self.labels.given:
            raise InvalidInput("the training set has no labels; give some")
        values = self.labels.rows
        for name, rows in (("labels", values), ("weights", self.weights)):
            if rows is not None and len(rows) != m:
                raise InvalidInput(f"{len(rows)} {name} do not fit {m} training points; there must be one a point")
        for name, tensor in (("points", self.points), ("labels", values), ("weights", self.weights)):
            if tensor is not None and tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise InvalidInput(f"the {name} of the training set must be finite, got NaN or infinity; repair them")
        if self.weights is not None and (bool((self.weights < 0).any()) or not bool(self.weights.sum() > 0)):
            raise InvalidInput("the weights of the training set must be >= 0 and not all zero")
        if self.labels.kind == "hard" and (values.is_floating_point() or values.is_complex()):
            raise InvalidInput(f"the labels of the training set must be whole numbers, one a class, got {values.dtype}")
        if self.labels.kind != "hard" and not values.is_floating_point():
            raise InvalidInput(f"soft labels must be floating point numbers, got {values.dtype}")
        if self.labels.kind in ("soft", "teacher"):
            apart = (values.double().sum(1) - 1).abs().max()
            if bool((values < 0).any()) or float(apart) > ROUNDING:
                raise InvalidInput(
                    "soft labels of the training set must be distributions, nonnegative rows that sum to 1, got values from "
                    f"{float(values.min()):.4g} and sums up to {float(apart):.4g} apart from 1"
                )

    def __len__(self) -> int:
        return len(self.points)

    @classmethod
    def of(cls, examples: Examples, data: Described) -> "TrainingSet":
        """Real examples of these data, with the soft labels or the targets that they may have."""
        data.require_labels()
        return cls(examples.points, examples.labels, None, data.normalisation)

    @classmethod
    def made(cls, synthetic: SyntheticSet, data: Described, dtype: torch.dtype = torch.float32) -> "TrainingSet":
        """A synthetic set in the units of these data.

        Raises:
            InvalidInput: if it has no labels, or other ones than the data.
        """
        data.require_labels()
        labels, units = synthetic.labelling, data.target_units
        if synthetic.classes != data.classes:
            raise InvalidInput(
                f"the set has {_classes(synthetic.classes)}, but '{data.name}' has {_classes(data.classes)}; name the data "
                "that it was made from"
            )
        if not labels.given or (units is not None and labels.kind != "targets"):
            raise InvalidInput(f"the set has no labels, but '{data.name}' has; name the data that it was made from")
        if units is not None:
            labels = replace(labels, units=units)
        points = data.normalisation.apply(synthetic.points, dtype)
        return cls(points, labels, synthetic.weights, stored=synthetic.stored_bytes)

    def labelled(self, teacher: Taught | None) -> "TrainingSet":
        """The same examples with the labels of a teacher, if there is one; their points must be in source units."""
        return self if teacher is None else replace(self, labels=Labels("teacher", teacher(self.points)))

    @property
    def stored_bytes(self) -> int:
        if self.stored is not None:
            return self.stored
        return self.points.nbytes + self.labels.nbytes + (0 if self.weights is None else self.weights.nbytes)

    def check(self, data: Described) -> None:
        """Refuse what does not fit the data."""
        labels, values = self.labels, self.labels.rows
        regression = labels.kind == "targets"
        if tuple(self.points.shape[1:]) != data.shape:
            raise InvalidInput(
                f"training points of shape {tuple(self.points.shape[1:])} do not fit '{data.name}', whose examples have "
                f"shape {data.shape}; name the data that the set was made from"
            )
        if regression != (data.target_units is not None) or (regression and values.shape[1] != data.outputs):
            raise InvalidInput(
                f"the labels of the training set, {labels.kind}, are not those of '{data.name}'; name the data that it was "
                "made from"
            )
        if regression:
            return
        if labels.kind != "hard" and values.shape[1] != data.count:
            raise InvalidInput(
                f"{'scores' if labels.kind == 'scores' else 'soft labels'} must have {data.count} columns, one a class, got "
                f"{values.shape[1]}"
            )
        if labels.kind == "hard" and not 0 <= int(values.min()) <= int(values.max()) < data.count:
            raise InvalidInput(
                f"labels of the training set must lie in 0 .. {data.count - 1}, got {int(values.min())} .. {int(values.max())}"
            )

    def training_data(self, device: torch.device, outputs: int) -> TrainingData:
        """What a network is trained on: labels as rows, and weights whose sum over the whole set is m."""
        weights = torch.ones(len(self))
        if self.weights is not None:
            weights = (self.weights.double() * (len(self) / self.weights.double().sum())).float()
        all_points, labels, weights = self.points.to(device), self.labels.to(device), weights.to(device)

        def batch(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            here = rows.to(device)
            points, targets = all_points[here], labels.take(here).vectors(outputs)
            assert targets is not None
            points = points.float() if self.units is None else self.units.apply(points)
            return points, targets.float(), weights[here]

        return TrainingData(len(self), batch, outputs, mean_weight=1)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Test accuracies, in 0 .. 1, of networks trained from scratch by one protocol: the last epoch, all the networks.

    ``labels`` says what those of the training set are: ``hard``, ``soft``, of a ``teacher``, ``scores`` or ``targets``, and
    ``loss`` by what they were learned: ``cross_entropy`` or ``squared``. ``risk`` is the mean squared error ‖f(x) - y‖² on the
    test examples, of what a learner learned of classes. Of a regression there are
    root mean squared errors ``rmse`` in the units of the targets and coefficients of determination ``r2`` instead, each the
    mean over the targets where these are several; ``mean`` and ``std`` are those of the errors. ``robust`` holds what
    :class:`~experiments.robust.RobustEvaluator` measured of each network.
    """

    accuracies: tuple[float, ...]
    protocol: str
    protocol_hash: str
    examples: int
    stored_bytes: int
    epochs: int
    steps: int
    test_examples: int
    validation: bool
    seed: int
    seconds: float
    labels: str = "hard"
    loss: str = "cross_entropy"
    risk: tuple[float, ...] = ()
    rmse: tuple[float, ...] = ()
    r2: tuple[float, ...] = ()
    robust: tuple[Mapping[str, Any], ...] = ()

    @property
    def values(self) -> tuple[float, ...]:
        """One a network: its accuracy, or its error."""
        return self.accuracies or self.rmse

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def std(self) -> float:
        """The standard deviation over networks, divided by n - 1; 0 for a single network, which shows no spread."""
        return stdev(self.values) if self.n > 1 else 0.0

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain data."""
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        measured = ("accuracies",) if self.accuracies else ("rmse", "r2")
        kept = {
            name: value
            for name, value in plain.items()
            if name in measured or not isinstance(value, list) or (name in ("risk", "robust") and value)
        }
        return kept | {"mean": self.mean, "std": self.std, "n": self.n}


def _classes(names: tuple[str, ...]) -> str:
    if not names:
        return "no classes"
    return f"the classes {', '.join(names[:4])}" + (", ..." if len(names) > 4 else "")
