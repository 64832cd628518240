"""Protocols: those that are published, their hash, and what is refused."""

import dataclasses
import math
from typing import Any

import pytest

from discrepancy.errors import InvalidInput
from discrepancy.networks import MLP, ConvNet
from experiments.evaluate import (
    PROTOCOLS,
    Protocol,
    protocol_named,
)
from objectives.attacks import FGSM
from objectives.training.augmentation import Siamese
from objectives.training.mixing import CutMix


def test_published_protocol() -> None:
    vico = PROTOCOLS["vico"]
    assert (vico.networks, vico.epochs, vico.batch, vico.lr, vico.momentum) == (20, 1001, 256, 0.01, 0.9)
    assert (vico.weight_decay, vico.network, vico.augment) == (5e-4, ConvNet(width=128, depth=3), Siamese())


CHANGES = {
    "network": ConvNet(width=127),
    "networks": 19,
    "epochs": 1000,
    "batch": 255,
    "lr": 0.02,
    "momentum": 0.8,
    "weight_decay": 4e-4,
    "drop": 0.2,
    "augment": Siamese(scale=1.3),
    "optimizer": "adamw",
    "milestones": (0.5,),
    "mix": CutMix(),
    "loss": "squared",
    "attack": FGSM(),
}


@pytest.mark.parametrize("field", CHANGES)
def test_hash_sees_every_field(field: str) -> None:
    vico = dataclasses.replace(PROTOCOLS["vico"], **({"momentum": 0.0} if field == "optimizer" else {}))
    changed = dataclasses.replace(vico, **{field: CHANGES[field]})
    assert changed.hash != vico.hash
    assert changed.title == "vico (changed)"
    assert set(CHANGES) == {item.name for item in dataclasses.fields(Protocol)} - {"name", "source"}


def test_hash_is_of_what_is_done() -> None:
    vico = PROTOCOLS["vico"]
    assert dataclasses.replace(vico, source="elsewhere").hash == vico.hash
    assert Protocol(lr=1).hash == Protocol(lr=1.0).hash
    assert len(vico.hash) == 12
    assert (
        Protocol(network=MLP(), networks=1, epochs=3).hash == "d1c2f8344695"
    )  # it stands in results: it may not drift
    assert (PROTOCOLS["quick"].hash, vico.hash) == ("f9acd2099421", "813bbd49f730")


def test_protocol_by_name_with_changes() -> None:
    changed = protocol_named("vico", ["epochs=11", "network.width=8"], 2)
    assert (changed.epochs, changed.network, changed.networks) == (11, ConvNet(width=8), 2)
    assert changed.augment == Siamese()
    with pytest.raises(
        InvalidInput,
        match=r"one of quick, vico, ncfm, table, learner, or a YAML file, got 'vicco'; did you mean 'vico'\?",
    ):
        protocol_named("vicco")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", 0, "'epochs' must be >= 1, got 0"),
        ("networks", 0, "'networks' must be >= 1, got 0"),
        ("batch", -1, "'batch' must be >= 1, got -1"),
        ("lr", 0.0, "'lr' must be > 0 and finite, got 0.0"),
        ("drop", math.inf, "'drop' must be > 0 and finite, got inf"),
        ("momentum", 1.0, "'momentum' must be >= 0 and < 1, got 1.0"),
        ("weight_decay", -1.0, "'weight_decay' must be >= 0 and finite, got -1.0"),
        ("optimizer", "adamw", "'momentum' is 0.9, but adamw has none; set it to 0"),
        ("milestones", (0.5, 0.2), "'milestones' must be shares of the epochs that increase"),
        ("milestones", (1.0,), "'milestones' must be shares of the epochs that increase"),
    ],
)
def test_protocol_refuses(field: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Protocol(**{field: value})
