"""Views: values are those of one call of the library, and what has no value gives its reason."""

import numpy as np
import pytest
import torch
from predicting import NETWORK, digits
from torch.nn import functional

from discrepancy import MMD, Discrepancy
from discrepancy.discrepancy import SampleDiscrepancy
from discrepancy.errors import InvalidInput, NumericalWarning
from discrepancy.networks import Network
from experiments.config import ConfigError, build
from experiments.studies import views
from experiments.studies.measuring import measured
from experiments.studies.recipes import (
    Noisy,
    Random,
    Task,
)
from experiments.studies.views import View, embedded
from objectives.data.labelled import LabelledData
from objectives.rng import rng

__all__ = ["digits"]


def test_values_are_those_of_the_one_call(digits: LabelledData):
    """The mean over draws and classes of D(real, set), as discrepancy(mu, nu) has it."""
    sets = {f"2/random/{i}": next(Random().make(0, Task(digits.train, 2, seed=i))) for i in range(3)}
    real = digits.train.class_batch(torch.Generator().manual_seed(0), 7)
    view = build(View, {"via": {"kind": "random_fourier", "features": 64, "lengthscale": 5.0}, "n_draws": 2})
    draws = embedded(view, digits, real, sets, seed=3, device=torch.device("cpu"))
    found = measured(MMD(), draws, "class", names=list(sets), seed=0).values
    for key in sets:
        expected = torch.stack([MMD()(sides.both("class")[0], sides.both("class")[1][key]).mean() for sides in draws])
        assert found[key] == pytest.approx(expected.mean().item(), rel=1e-5)
    whole = measured(MMD(), draws, "whole", names=["2/random/0"], seed=0).values
    assert whole["2/random/0"] == pytest.approx(
        np.mean([MMD()(sides.real, sides.sets["2/random/0"]).item() for sides in draws]), rel=1e-4
    )
    assert not torch.equal(draws[0].real.rows, draws[1].real.rows)


class Fussy(SampleDiscrepancy, kind="fussy_by_test"):
    """Refuses single points, is infinite far away, and warns."""

    @property
    def tags(self):
        return frozenset()

    def constants(self, real, draws):
        return {}

    def compare_groups(self, summary, synthetic, draws):
        import warnings

        warnings.warn("repaired", NumericalWarning, stacklevel=2)
        if len(synthetic) < 2:
            raise InvalidInput("needs 2 points,\ngot 1")
        size = synthetic.rows.abs().amax((1, 2))
        return torch.where(size > 8, torch.inf, size)


Discrepancy.members.pop("fussy_by_test")


def test_what_cannot_be_computed_is_said(digits: LabelledData):
    sets = {
        "one": next(Random().make(0, Task(digits.train, 1, seed=0))),
        "two": next(Random().make(0, Task(digits.train, 2, seed=0))),
        "far": next(Noisy(strengths=(20.0,)).make(0, Task(digits.train, 2, seed=0))),
    }
    draws = embedded(View(), digits, torch.arange(100), sets, seed=0, device=torch.device("cpu"))
    result = measured(Fussy(), draws, "class", names=list(sets), seed=0)
    assert result.values["two"] is not None
    assert (result.values["one"], result.values["far"]) == (None, None)
    assert result.reasons == {"one": "needs 2 points, got 1", "far": "the value is inf"}
    assert result.notes == ("repaired",)


def test_gradients_are_those_of_the_mean_loss_of_each_class(digits: LabelledData, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(views, "GRADIENT_POINTS", 4)  # so that a class takes several parts
    sets = {"a": next(Random().make(0, Task(digits.train, 3, seed=0)))}
    rows = digits.train.class_batch(torch.Generator().manual_seed(0), 9)
    view = build(View, {"via": "features", "network": NETWORK})
    (sides,) = embedded(view, digits, rows, sets, seed=3, device=torch.device("cpu"))
    real, synthetic = sides.both("gradients")
    assert set(real.tensors) == set(synthetic["a"].tensors) == {"conv1.weight", "conv2.weight", "linear.weight"}
    network = build(Network, NETWORK)
    parameters = network.initial(rng(3, "network", 0), digits.shape, 10, affine=False)
    parameters = {name: value.requires_grad_() for name, value in parameters.items()}
    members = rows[digits.train.labels.numbers[rows] == 7]
    logits = network(parameters, digits.normalisation.apply(digits.train.points[members]))["logits"]
    functional.cross_entropy(logits, torch.full((9,), 7)).backward()
    for name, points in real.tensors.items():
        torch.testing.assert_close(points[7, 0], parameters[name].grad, rtol=1e-4, atol=1e-6)


def test_views_refuse_what_has_no_network():
    with pytest.raises(ConfigError, match="'via' takes 'features' of a network; give 'network' or 'trained'"):
        build(View, {"via": "features"})
    with pytest.raises(ConfigError, match="must not have batch normalisation"):
        build(View, {"via": "features", "network": {"kind": "convnet", "norm": "batch"}})
