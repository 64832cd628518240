"""Recipes make the sets that they promise."""

import pytest
import torch
from predicting import CONDENSED, digits

from experiments.config import build
from experiments.studies.recipes import (
    Averaged,
    Blurred,
    Centres,
    Condensed,
    Mislabelled,
    Noise,
    Noisy,
    Random,
    Recipe,
    Task,
)
from objectives.data.labelled import LabelledData

__all__ = ["digits"]


RECIPES = [
    Random(count=2),
    Noise(count=2),
    Noisy(strengths=(0.5, 2.0), count=1),
    Blurred(strengths=(1.0,)),
    Averaged(strengths=(2.0, 5.0)),
    Mislabelled(strengths=(0.3,)),
    Centres(),
    Centres(nearest=True),
    build(Recipe, CONDENSED | {"stages": [0, 2, 5]}),
    build(Recipe, CONDENSED | {"solver": "herding"}),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"{recipe.kind}-{len(recipe.runs)}")
def test_recipes_keep_their_promises(recipe: Recipe, digits: LabelledData):
    names = [name for run in recipe.runs for name in run]
    assert len(set(names)) == len(names)
    made = list(recipe.make(0, Task(digits.train, 3, seed=5)))
    again = list(recipe.make(0, Task(digits.train, 3, seed=5)))
    other = list(recipe.make(0, Task(digits.train, 3, seed=6)))
    assert len(made) == len(recipe.runs[0])
    for first, second, third in zip(made, again, other, strict=True):
        assert first.points.shape == (30, 1, 8, 8)
        torch.testing.assert_close(first.labels, torch.arange(10).repeat_interleave(3))
        torch.testing.assert_close(first.points, second.points, rtol=0, atol=0)
        if not (isinstance(recipe, Condensed) and recipe.solver.kind == "herding"):  # which has no chance in pixels
            assert not torch.equal(first.points, third.points)


def test_what_recipes_make(digits: LabelledData):
    task = Task(digits.train, 3, seed=5)
    real = task.real()
    noisy = Noisy(strengths=(2.0,)).points(task, 2.0)
    assert (noisy - real).std().item() == pytest.approx(2, abs=0.1)
    wrong = (Mislabelled().points(task, 0.2) != real).flatten(1).any(1)
    assert int(wrong.sum()) == 6
    everything = digits.normalisation.apply(digits.train.points).flatten(1)
    whose = digits.train.labels.numbers[torch.cdist(Mislabelled().points(task, 1.0).flatten(1), everything).argmin(1)]
    assert (whose != torch.arange(10).repeat_interleave(3)).all()
    sharp, soft = Blurred().points(task, 0.1), Blurred().points(task, 3.0)
    torch.testing.assert_close(sharp, real)
    assert soft.flatten(1).var(1).mean() < 0.3 * real.flatten(1).var(1).mean()
    nearest = Centres(nearest=True).points(task).flatten(1)
    assert torch.cdist(nearest, everything).min(1).values.max() < 1e-2
    centres = Centres().points(Task(digits.train, 1, seed=5))  # one centre is the mean of the class
    torch.testing.assert_close(centres, digits.train.class_means().float(), rtol=1e-4, atol=1e-4)


def test_stages_are_those_of_one_descent(digits: LabelledData):
    recipe = build(Recipe, CONDENSED | {"stages": [0, 3]})
    start, end = recipe.make(0, Task(digits.train, 2, seed=1))
    assert not torch.equal(start.points, end.points)
    alone = build(Recipe, CONDENSED | {"solver": {"kind": "descent", "steps": 3}})
    torch.testing.assert_close(next(alone.make(0, Task(digits.train, 2, seed=1))).points, end.points)
