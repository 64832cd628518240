"""The artefact: what is written is read, and other files are refused by name."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from small import NETWORK, images
from torch.utils.data import DataLoader

from discrepancy import MMD
from discrepancy.embeddings import Features
from discrepancy.errors import InvalidInput
from objectives.condensation import condense
from objectives.contexts import Fresh, Pool
from objectives.data.labelled import Normalisation
from objectives.data.labels import Labels
from objectives.solvers import Descent, Random
from objectives.synthetic.artefact import FORMAT, SyntheticSet
from objectives.synthetic.bases import Bases
from objectives.synthetic.formation import Formation
from objectives.synthetic.frequencies import Frequencies
from objectives.synthetic.parameterisation import Parameterisation
from objectives.synthetic.pixels import Pixels
from objectives.terms.match import Match
from objectives.terms.penalties import CrossEntropy


def small_set(**changes: Any) -> SyntheticSet:
    given: dict[str, Any] = {
        "points": torch.arange(24.0).reshape(6, 1, 2, 2),
        "labelling": Labels("hard", torch.tensor([0, 0, 1, 1, 2, 2])),
        "weights": torch.ones(6),
        "classes": ("a", "b", "c"),
        "normalisation": Normalisation((10.0,), (5.0,)),
    }
    return SyntheticSet(**{**given, **changes})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "result.safetensors"


def assert_alone(path: Path) -> None:
    """No temporary file is left beside it."""
    assert [item.name for item in path.parent.iterdir()] == [path.name]


# --- what is written is read ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_round_trip(path: Path, soft: bool) -> None:
    synthetic = Pixels(per_class=2, labels="soft", weights="learned") if soft else Pixels(per_class=2)
    solver = Descent(lr=1.0, rates=(("labels", 0.1),) if soft else (), steps=2)
    objective = Match(MMD()) + CrossEntropy()
    context = Pool(network=NETWORK, size=1)
    made = condense(images(), objective, context=context, synthetic=synthetic, solver=solver, seed=3)
    made.save(path)
    read = SyntheticSet.load(path)
    for name in ("points", "labels", "weights"):
        assert getattr(read, name).equal(getattr(made, name))
    assert read.parameters.keys() == made.parameters.keys()
    assert all(read.parameters[name].equal(value) for name, value in made.parameters.items())
    assert (read.classes, read.normalisation, read.limits) == (made.classes, made.normalisation, made.limits)
    assert {name: read.record[name] for name in made.record} == made.record
    assert {"versions", "stored_bytes"} <= read.record.keys()
    assert_alone(path)


def test_points_are_in_source_units_and_parameters_in_normalised_ones(path: Path) -> None:
    data = images()
    made = condense(data, Match(MMD()), context=Pool(), per_class=2, steps=2)
    torch.testing.assert_close(made.normalised, made.parameters["points"], rtol=1e-5, atol=1e-5)
    (mean,), (std,) = data.normalisation.mean, data.normalisation.std
    torch.testing.assert_close(made.points, made.parameters["points"] * std + mean, rtol=1e-5, atol=1e-4)


def test_the_file_holds_points_and_labels_under_their_names(path: Path) -> None:
    small_set().save(path)
    tensors = safetensors.torch.load_file(path)
    assert tensors["points"].equal(small_set().points)
    assert tensors["labels"].equal(small_set().labelling.rows)


FORMS: dict[str, tuple[Parameterisation, int]] = {
    "formation": (Formation(per_class=1), 3 * 64 * 4),
    "frequencies": (Frequencies(per_class=2, keep=3), 6 * 9 * 4),
    "bases": (Bases(per_class=2, number=5), 5 * 64 * 4 + 6 * 5 * 4),
}
"""Other forms than pixels, each with the bytes of its parameters on images of 8 x 8 in three classes."""


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("form", FORMS)
def test_what_is_decoded_goes_with_its_decoder(path: Path, form: str, soft: bool) -> None:
    synthetic, size = FORMS[form]
    if soft:
        synthetic = replace(synthetic, labels="soft", weights="learned")
    data, solver = images(), Descent(lr=0.01, steps=2)
    objective, context = Match(MMD(), via=Features()) + CrossEntropy(), Fresh(network=NETWORK, batch=5)
    condense(data, objective, context=context, synthetic=synthetic, solver=solver).save(path)
    read = SyntheticSet.load(path)
    fields = dict(read.record["decoder"])
    decoder = Parameterisation.members[fields.pop("kind")](**fields)
    assert decoder == synthetic
    layout = decoder.layout(data.train)  # pyright: ignore[reportAttributeAccessIssue]
    decoded = decoder.decode(read.parameters, layout)  # pyright: ignore[reportAttributeAccessIssue]
    assert len(read) == (12 if form == "formation" else 6)
    torch.testing.assert_close(data.normalisation.invert(decoded.points), read.points, rtol=0, atol=1e-3)
    assert decoded.labels.equal(read.labelling.rows)
    assert decoded.weights.equal(read.weights)
    stored = len(layout)
    assert read.stored_bytes == size + (stored * (3 * 4 + 4) if soft else stored * 8)
    assert read.record["stored_bytes"] == read.stored_bytes


def test_pixels_and_selections_need_no_decoder() -> None:
    for solver in (Descent(steps=1), Random()):
        made = condense(images(), Match(MMD()), context=Pool(), per_class=2, solver=solver)
        assert "decoder" not in made.record
        assert made.stored_bytes == 6 * 64 * 4 + 6 * 8


def test_saving_again_keeps_the_record_and_counts_anew(path: Path) -> None:
    small_set(record={"seed": 4, "stored_bytes": 1, "format": 99, "versions": {"torch": "old"}}).save(path)
    read = SyntheticSet.load(path)
    assert read.record["seed"] == 4
    assert read.record["versions"] == {"torch": "old"}
    assert read.record["stored_bytes"] == small_set().stored_bytes == 24 * 4 + 6 * 8


def test_weights_are_stored_where_they_differ() -> None:
    assert small_set(weights=torch.arange(1.0, 7.0)).stored_bytes == 24 * 4 + 6 * 8 + 6 * 4


def test_tensors_that_share_memory_can_be_saved(path: Path) -> None:
    points = torch.arange(24.0).reshape(6, 1, 2, 2)
    small_set(points=points, parameters={"points": points, "part": points[:, :, :1]}).save(path)
    assert SyntheticSet.load(path).parameters["part"].equal(points[:, :, :1])


def test_it_is_a_dataset(path: Path) -> None:
    small_set().save(path)
    batches = list(DataLoader(SyntheticSet.load(path), batch_size=4))
    assert torch.cat([points for points, _ in batches]).equal(small_set().points)
    assert torch.cat([labels for _, labels in batches]).equal(small_set().labelling.rows)
    assert len(list(small_set())) == 6  # pyright: ignore[reportArgumentType]
    with pytest.raises(IndexError, match="index 6 is out of range for 6 examples"):
        _ = small_set()[6]


# --- other files ------------------------------------------------------------------------------------------------------


def test_missing(path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"result.safetensors' is not a file; give the path of an artefact"):
        SyntheticSet.load(path)
    with pytest.raises(InvalidInput, match="is not a file"):
        SyntheticSet.load(path.parent)


@pytest.mark.parametrize(
    "share", [0.0, 0.02, 0.5, 0.99], ids=["empty", "in-the-length", "in-the-header", "in-the-data"]
)
def test_truncated(path: Path, share: float) -> None:
    small_set().save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InvalidInput, match="is damaged or no safetensors file"):
        SyntheticSet.load(path)


def test_no_safetensors_at_all(path: Path) -> None:
    torch.save({"points": torch.zeros(3)}, path)
    with pytest.raises(InvalidInput, match="is damaged or no safetensors file"):
        SyntheticSet.load(path)


@pytest.mark.parametrize(
    "metadata",
    [None, {"format": "pt"}, *({"discrepancy": text} for text in ("{", "{}", "[1]", '{"format": "x"}'))],
    ids=["none", "other", "no-json", "empty", "list", "no-number"],
)
def test_foreign(path: Path, metadata: dict[str, str] | None) -> None:
    small = small_set()
    safetensors.torch.save_file(
        {"points": small.points, "labels": small.labelling.rows, "weights": small.weights}, path, metadata
    )
    with pytest.raises(InvalidInput, match="is a safetensors file but no artefact of this library"):
        SyntheticSet.load(path)


def test_newer_format(path: Path) -> None:
    newer = json.dumps({"format": FORMAT + 1, "whatever": "that has"})
    safetensors.torch.save_file({"examples": torch.zeros(3)}, path, {"discrepancy": newer})
    with pytest.raises(InvalidInput, match=f"has format {FORMAT + 1}, this version reads up to {FORMAT}; update"):
        SyntheticSet.load(path)


def test_a_record_that_is_no_json_leaves_the_old_file(path: Path) -> None:
    path.write_bytes(b"old")
    with pytest.raises(TypeError, match="not JSON serializable"):
        small_set(record={"match": MMD()}).save(path)
    assert path.read_bytes() == b"old"
    assert_alone(path)
