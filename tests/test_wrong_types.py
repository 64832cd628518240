"""Arguments of a wrong type are refused by an error of the library, wherever a user can give them: no TypeError, AttributeError
or RuntimeError comes out of its middle. Walks the fields of all public parts, and the calls by hand."""

import dataclasses
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import discrepancy
import objectives
from discrepancy import (
    MMD,
    DiscrepancyError,
    Gaussian,
    Grouping,
    MeanGradients,
    Measure,
    SlicedWasserstein,
    divergences,
    embeddings,
    kernels,
    learners,
    learning,
    networks,
    recovery,
    transport,
)
from discrepancy.parts import Part
from objectives import LabelledData, Match, Normalisation, Runtime, SyntheticSet, condense

sys.path.insert(0, str(Path(__file__).parent / "objectives"))
from small import unchecked

WRONG: tuple[Any, ...] = (
    "a",
    None,
    1.5,
    1.5j,
    b"x",
    object(),
    print,
    {1},
    {"a": 1},
    ["a", "b"],
    [[1], [1, 2]],
    np.array([object()]),
    torch.ones(3, 2) * 1j,
    torch.eye(3).to_sparse(),
)
ROOMS = [
    room
    for package in (discrepancy, objectives)
    for room in (package, *(getattr(package, name) for name in package.__all__))
    if isinstance(room, ModuleType)
]
PARTS = {
    f"{item.__module__}.{item.__qualname__}": item
    for room in ROOMS
    for item in (getattr(room, name) for name in room.__all__)
    if inspect.isclass(item) and issubclass(item, Part) and "kind" in vars(item)
}
NEEDED = {
    "Joint": {"of": MMD()},
    "Scaled": {"of": Gaussian(), "factor": 2.0},
    "Chain": {"of": (), "per": "set"},
    "Match": {"match": MMD()},
}


def refused(call: Callable[[Any], Any]) -> list[str]:
    """What was not refused in words, of all the wrong values; a value may be right, and then nothing is said."""
    found = []
    with unchecked():
        for value in WRONG:
            try:
                call(value)
            except DiscrepancyError:
                continue
            except Exception as error:
                found.append(f"{value!r:.30}: {type(error).__name__}: {error!s:.80}")
    return found


@pytest.mark.parametrize("part", PARTS.values(), ids=[part.__qualname__ for part in PARTS.values()])
def test_fields_of_parts(part: type[Part]):
    needed = NEEDED.get(part.__name__, {})
    required = {item.name for item in dataclasses.fields(part) if item.default is dataclasses.MISSING}  # pyright: ignore
    for item in dataclasses.fields(part):  # pyright: ignore[reportArgumentType]
        if required - {item.name} <= needed.keys():
            assert not refused(lambda value, name=item.name: part(**{**needed, name: value})), item.name


X, Y = torch.randn(12, 3, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 2
MU, NU = Measure(X), Measure(X[:5])
PLAIN, DRAWN = MMD(kernel=Gaussian()), SlicedWasserstein()
DRAWS = DRAWN.draw(torch.Generator().manual_seed(0), (3,))
SUMMARY = DRAWN.summarise(MU, DRAWS)
NETWORK = networks.MLP(width=4, depth=1)
PARAMETERS = NETWORK.initial(torch.Generator().manual_seed(0), (3,), 2)
MATCH = Match(MMD(), by="class")
SMALL = {"per_class": 1, "steps": 1, "compile": "never"}
SQUARE = torch.eye(4, dtype=torch.float64)
CALLS: dict[str, Callable[[Any], Any]] = {
    "D(value, nu)": lambda value: DRAWN(value, NU, DRAWS),
    "D(mu, value)": lambda value: DRAWN(MU, value, DRAWS),
    "D(mu, nu, value)": lambda value: PLAIN(MU, NU, value),
    "summarise": lambda value: MeanGradients().summarise(value),
    "compare to": lambda value: DRAWN.compare(value, NU, DRAWS),
    "compare": lambda value: DRAWN.compare(SUMMARY, value, DRAWS),
    "compare with": lambda value: DRAWN.compare(SUMMARY, NU, value),
    "merge": lambda value: DRAWN.merge(SUMMARY, value, DRAWS),
    "draw": lambda value: DRAWN.draw(value, (3,)),
    "Measure": Measure,
    "blocks": lambda value: Measure({"a": value}),
    "weights": lambda value: Measure(X, value),
    "labels": lambda value: Measure(X, labels=value),
    "Grouping.of": lambda value: Grouping.of(value, 2),
    "count": lambda value: Grouping.of(Y, value),
    "Grouping.single": Grouping.single,
    "conditioned": MU.conditioned,
    "merged": Measure.merged,
    "select": MU.as_groups().select,
    "split": lambda value: [*MU.split(value)],
    "classes": lambda value: Measure(X, labels=Y).with_label_vectors(value),
    "median": kernels.Median().measured,
    "nearest_distances": lambda value: divergences.nearest_distances(X, X, value),
    "label_rows": learners.label_rows,
    "standardised": embeddings.Standardised().resolve,
    "barycentre": lambda value: transport.barycentre(value, 2, generator=torch.Generator()),
    "atoms": lambda value: transport.barycentre([MU, NU], value, generator=torch.Generator()),
    "loss_gradients of": lambda value: learning.loss_gradients(value, PARAMETERS, X, Y),
    "mean_loss_gradients": lambda value: learning.mean_loss_gradients(NETWORK, PARAMETERS, value),
    "LabelledData.of": lambda value: LabelledData.of(value, Y),
    "normalisation": lambda value: LabelledData.of(X, Y, normalisation=value),
    "limits": lambda value: LabelledData.of(X, Y, limits=value),
    "names of classes": lambda value: LabelledData.of(X, Y, classes=value),
    "points of a network": lambda value: NETWORK(PARAMETERS, value),
    "parameters of a network": lambda value: NETWORK(value, X),
    **{
        f"taken of {part.__name__}": lambda value, part=part: part()(value)
        for part in (embeddings.Identity, embeddings.Features, embeddings.Logits, embeddings.Layers)
    },
    "fit of ridge": learners.Ridge().fit,
    "fit of kernel_ridge": learners.KernelRidge().fit,
    "fit of class_means": learners.ClassMeans().fit,
    "condense": lambda value: condense(value, MATCH, **SMALL),
    "objective": lambda value: condense((X, Y), value, **SMALL),
    "Normalisation": lambda value: Normalisation(value, (1.0,)),
    "measured": Normalisation.measured,
    "device": lambda value: Runtime(device=value),
    "seed": lambda value: Runtime(seed=value),
    "load": SyntheticSet.load,
    **{
        f"condense, {name}": lambda value, name=name: condense((X, Y), MATCH, **{**SMALL, name: value})
        for name in ("context", "synthetic", "solver", "per_class", "steps", "teacher", "device", "dtype", "on_step")
    },
    **{
        f"recovery.{name}": lambda value, name=name: getattr(recovery, name)(
            value,
            *[SQUARE] * (name in ("conditioned", "duals", "labels_for", "learned", "reachable", "nearest_solution")),
        )
        for name in recovery.__all__
    },
}


@pytest.mark.parametrize("name", CALLS)
def test_arguments(name: str):
    assert not refused(CALLS[name])


@pytest.mark.parametrize(
    "form", [np.asarray, torch.Tensor.tolist, lambda x: x.numpy()[::-1][::-1]], ids=["array", "list", "view"]
)
def test_points_without_weights_need_no_measure(form: Callable[[torch.Tensor], Any]):
    expected = PLAIN(MU, NU)
    for pair in ((form(X), NU), (X, form(X[:5])), (Measure(form(X)), Measure(form(X[:5])))):
        torch.testing.assert_close(PLAIN(*pair).float(), expected)


def test_whole_numbers_that_no_float_holds_are_refused():
    nanoseconds = torch.tensor([1_700_000_000_000_000_001, 1_700_000_000_000_000_002])
    with pytest.raises(discrepancy.InvalidInput, match="beyond 2\\^53"):
        PLAIN(nanoseconds, nanoseconds)
