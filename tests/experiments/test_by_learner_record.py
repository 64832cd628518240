"""What an evaluation by a learner refuses, records and prints."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from learning import NETWORK, OF_FEATURES, RIDGE, compared, digits, linear, made

from discrepancy import MMD, Ridge, Risk
from discrepancy.embeddings import Features, Layers
from discrepancy.errors import InvalidInput
from experiments.cli import main
from experiments.evaluate import (
    ByLearner,
    LearnerEvaluator,
    by_learner,
)
from objectives.contexts import Fresh, Pool
from objectives.data.labelled import LabelledData
from objectives.synthetic.artefact import SyntheticSet
from objectives.synthetic.pixels import Pixels
from objectives.terms.match import Match

__all__ = ["digits", "linear"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, linear: SyntheticSet) -> Path:
    path = tmp_path_factory.mktemp("learner")
    linear.save(path / "a.safetensors")
    return path


# --- what holds no learner --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objective", "term", "message"),
    [
        (Match(MMD()), None, "holds no learner to evaluate it by: none of the terms of its objective holds one"),
        (RIDGE, "other", "term 'other' of its objective is not there, or holds none"),
        (RIDGE.named("a") + RIDGE.named("b"), None, "the terms a, b hold a learner each; .* --set term=a"),
        (
            Match(Risk(learner=Ridge(penalty=0.1)), by="class"),
            None,
            "term 'risk' is by: class, so a learner of its own",
        ),
        (
            Match(Risk(learner=Ridge(penalty=0.1)), via=Layers(), by="none"),
            None,
            "term 'risk' (learns from . blocks apart|does not learn from single features)",
        ),
    ],
    ids=["none", "no such term", "several", "by class", "layers"],
)
def test_what_cannot_be_judged_is_refused_with_what_to_do(
    digits: LabelledData, objective: Any, term: str | None, message: str
) -> None:
    synthetic = made(digits, objective, Fresh(network=NETWORK, batch=5), Pixels(per_class=1))
    with pytest.raises(InvalidInput, match=message):
        compared(synthetic, digits, ByLearner(term=term))


def test_a_set_without_record_is_refused_and_judged_by_a_learner_that_is_named(
    digits: LabelledData, linear: SyntheticSet
) -> None:
    bare = replace(linear, record={})
    with pytest.raises(
        InvalidInput, match=r"holds no learner .* its record has no objective; train networks .* --set learner"
    ):
        compared(bare, digits, ByLearner())
    own, named = (
        compared(synthetic, digits, protocol, controls=()).rows["condensed"]
        for synthetic, protocol in ((linear, ByLearner()), (bare, by_learner(["learner={kind: ridge, penalty: 0.1}"])))
    )
    assert named.risk == own.risk


def test_other_data_are_refused(digits: LabelledData, linear: SyntheticSet) -> None:
    with pytest.raises(InvalidInput, match=r"the set has the classes a, b, .*, but 'digits' has the classes 0"):
        compared(replace(linear, classes=tuple("abcdefghij")), digits, ByLearner())
    with pytest.raises(InvalidInput, match="'via' and 'whole' go with a 'learner' of their own"):
        ByLearner(via=Features())
    with pytest.raises(InvalidInput, match="'networks' must be at least 1, got 0"):
        ByLearner(networks=0)


# --- the record -------------------------------------------------------------------------------------------------------


def test_the_hash_is_of_what_learns_and_on_what(digits: LabelledData, linear: SyntheticSet) -> None:
    protocol = LearnerEvaluator(linear, digits, ByLearner()).protocol
    same = LearnerEvaluator(made(digits, seed=3), digits, ByLearner(name="own")).protocol
    other = LearnerEvaluator(
        made(digits, Match(Risk(learner=Ridge(penalty=0.2)), by="none")), digits, ByLearner()
    ).protocol
    features = LearnerEvaluator(made(digits, OF_FEATURES, Pool(network=NETWORK)), digits, ByLearner()).protocol
    assert protocol.hash == same.hash
    assert len({protocol.hash, other.hash, features.hash, replace(protocol, networks=4).hash}) == 4
    assert (protocol.title, features.title) == ("ridge on points", "ridge on features of convnet")
    assert (protocol.dtype, features.network) == ("float64", NETWORK)


@pytest.mark.parametrize("name", ["learner", "ridge"])
def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    asked = ["evaluate", str(folder / "a.safetensors"), "--protocol", name, "--data", "digits", "--quiet"]
    assert main([*asked, "--networks", "2", "--controls", "random,whole"]) == 0
    lines = capsys.readouterr().out.splitlines()
    columns = ["set", "examples", "labels", "test accuracy %", "std", "test MSE", "n", "stored", "time"]
    assert re.split(r"\s\s+", lines[0]) == columns
    assert [line[:11].strip() for line in lines[1:6]] == ["condensed", "in float32", "in 8 bits", "random", "whole"]
    assert "digits, learner ridge on points (" in lines[6]
    assert "in closed form" in lines[6]
    assert main([*asked, "--controls", "none", "--set", "learner.penalty=3", "--json"]) == 2
    assert main([*asked, "--controls", "none", "--set", "learner={kind: ridge, penalty: 3}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["protocol"]["learner"] == {"kind": "ridge", "penalty": 3.0}
    assert found["rows"]["condensed"]["protocol_hash"] == found["protocol"]["hash"]
