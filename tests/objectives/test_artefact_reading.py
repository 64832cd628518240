"""An artefact that anybody may have made: each tensor and each line of its metadata is refused in words if it is unsound."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from discrepancy.errors import InvalidInput
from objectives.data.units import Normalisation
from objectives.synthetic.artefact import SyntheticSet

TENSORS = {
    "points": torch.arange(12.0).reshape(3, 4),
    "weights": torch.ones(3),
    "labels": torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.25, 0.75]]),
}
ABOUT: dict[str, Any] = {
    "format": 1,
    "classes": ["a", "b"],
    "normalisation": {"mean": [0.0], "std": [1.0]},
    "limits": [0, 20],
    "labels": "soft",
    "target_units": None,
    "config": {"data": {"kind": "digits"}},
}
HARD = {"labels": "hard"}
NUMBERS = torch.tensor([0, 1, 1])


def written(path: Path, tensors: dict[str, Any], about: dict[str, Any]) -> Path:
    kept = {name: value for name, value in {**TENSORS, **tensors}.items() if value is not None}
    safetensors.torch.save_file(kept, path, {"discrepancy": json.dumps({**ABOUT, **about})})
    return path


def test_a_sound_one_is_read(tmp_path: Path) -> None:
    found = SyntheticSet.load(written(tmp_path / "x.safetensors", {}, {}))
    assert (found.classes, found.limits, found.labelling.kind, len(found)) == (("a", "b"), (0, 20), "soft", 3)
    assert found.normalisation == Normalisation((0.0,), (1.0,))
    assert found.record == {"config": ABOUT["config"]}


@pytest.mark.parametrize(
    ("tensors", "about", "message"),
    [
        ({"points": None}, {}, "has no tensor 'points'"),
        ({"extra": torch.ones(1)}, {}, "a tensor 'extra', which no artefact has"),
        ({"points": torch.ones(3, 2, 2)}, {}, r"points of shape \(3, 2, 2\)"),
        ({"points": torch.full((3, 4), torch.nan)}, {}, "points that are NaN or infinite"),
        ({"points": torch.ones(3, 4).half()}, {}, "points of type torch.float16"),
        ({"weights": torch.ones(2)}, {}, r"weights of shape \(2,\) for 3 points"),
        ({"weights": torch.tensor([1.0, -1.0, 1.0])}, {}, "weights that are negative, or all zero"),
        ({"labels": TENSORS["labels"] * 2}, {}, "labels that are not distributions"),
        ({"labels": TENSORS["labels"][:, :1].clone()}, {}, r"labels of shape \(3, 1\) for 2 classes"),
        ({"labels": NUMBERS.float()}, HARD, "labels of shape .* type torch.float32, not a class number a point"),
        ({"labels": NUMBERS * 99}, HARD, r"labels outside of 0 \.\. 1"),
        ({"slots": NUMBERS - 1}, {}, r"slots outside of 0 \.\. 1"),
        ({}, {"labels": "loud"}, "labels of a kind that is not known"),
        ({}, {"labels": "teacher"}, "the labels of a teacher, of which its record says nothing"),
        (
            {},
            {"labels": "teacher", "teacher": {"config": {"network": {"width": 3}}, "hash": "a", "seed": 0}},
            "a teacher in its record without the kind of its network",
        ),
        ({}, {"labels": "none"}, "though it says that it has no labels"),
        ({}, {"classes": ["a", "a"]}, "two classes of the same name"),
        ({}, {"classes": ["a", 3]}, "'classes' that are not a list of names"),
        ({}, {"normalisation": {"mean": [0.0, 1.0], "std": [1.0, 1.0]}}, "2 means and 2 deviations, .* for 4 channels"),
        (
            {},
            {"normalisation": {"mean": [1e400], "std": [1.0]}},
            "'normalisation.mean' that is not a list of finite numbers",
        ),
        ({}, {"limits": [3, 1]}, "'limits' that are not two numbers, the lower one first"),
        ({}, {"seconds": "1"}, "'seconds' in its record that is not int or float"),
        ({}, {"decoder": {"kind": "bases", "examples": None}}, "a 'decoder' in its record that does not say how many"),
        ({}, {"config": []}, "'config' in its record that is not dict"),
    ],
    ids=lambda value: value.strip("'")[:24] if isinstance(value, str) else "",
)
def test_an_unsound_one_is_refused(
    tmp_path: Path, tensors: dict[str, Any], about: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=rf"'.*x.safetensors' is .*{message}"):
        SyntheticSet.load(written(tmp_path / "x.safetensors", tensors, about))


@pytest.mark.parametrize(
    ("value", "message"),
    [("x" * 200_000, "hold a text of more than 100,000 letters"), ([[]], "are nested too deeply")],
    ids=["long", "deep"],
)
def test_metadata_have_bounds(tmp_path: Path, value: Any, message: str) -> None:
    for _ in range(100 if isinstance(value, list) else 0):
        value = [value]
    with pytest.raises(InvalidInput, match=f"the metadata of .* {message}"):
        SyntheticSet.load(written(tmp_path / "x.safetensors", {}, {"extra": value}))
