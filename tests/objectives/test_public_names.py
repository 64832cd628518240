"""What ``objectives`` offers by name."""

import builtins

import torch

import objectives


def test_no_name_is_one_of_torch_or_python():
    """Sum, Mean, Max and Random stand in rooms of their own: ``from objectives import *`` hides nothing."""
    taken = {name.lower() for module in (builtins, torch) for name in dir(module)}
    classes = {name for name in objectives.__all__ if isinstance(getattr(objectives, name), type)}
    assert not {name for name in classes if name.lower() in taken}


def test_the_rooms_offer_every_reduction_and_every_selection():
    kinds = objectives.Reduction.members.values()
    offered = {getattr(objectives.reductions, name) for name in objectives.reductions.__all__}
    assert {kind for kind in kinds if kind.__module__.startswith("discrepancy")} <= offered
    assert objectives.selection.Random.kind == "random"
