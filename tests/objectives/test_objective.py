"""Objectives: how terms add up, their names, and what is refused."""

import pytest
from small import unchecked

from discrepancy import MMD, Gaussian
from discrepancy.embeddings import Features, Identity, Layers
from discrepancy.errors import InvalidInput
from objectives.terms.match import Match
from objectives.terms.objective import Objective
from objectives.terms.penalties import CrossEntropy, TotalVariation
from objectives.terms.penalty import Penalised

MATCH = Match(MMD(), via=Features())


def test_sum_keeps_names_and_order() -> None:
    objective = MATCH.named("features") + 0.5 * TotalVariation() + Match(MMD(), by="none")
    assert [name for name, _ in objective.terms] == ["features", "total_variation", "mmd"]
    assert [term.weight for _, term in objective.terms] == [1.0, 0.5, 1.0]


def test_factor_reaches_every_term_and_multiplies() -> None:
    objective = 3 * (MATCH + Penalised(TotalVariation(), weight=0.5)) * 2
    assert [term.weight for _, term in objective.terms] == [6.0, 3.0]


def test_addition_leaves_the_summands_as_they_are() -> None:
    _ = 2 * MATCH + TotalVariation()
    assert MATCH.weight == 1.0


@pytest.mark.parametrize("other", [1, "mmd", None], ids=["number", "text", "none"])
def test_only_objectives_are_added(other: object) -> None:
    with unchecked(), pytest.raises(TypeError, match="unsupported operand"):
        _ = MATCH + other  # pyright: ignore[reportOperatorIssue]


def test_only_numbers_are_factors() -> None:
    with unchecked(), pytest.raises(TypeError, match="unsupported operand"):
        _ = MATCH * MATCH  # pyright: ignore[reportOperatorIssue]


def test_duplicate_names_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"two terms are named 'mmd'; give one another name with \.named"):
        _ = MATCH + Match(MMD(kernel=Gaussian(lengthscale=1.0)))


def test_an_objective_without_terms_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'terms' is empty"):
        Objective(())


def test_mapping_of_terms_and_penalties() -> None:
    with unchecked():
        made = Objective({"a": MATCH, "b": TotalVariation()})  # pyright: ignore[reportArgumentType]
    assert made == MATCH.named("a") + Penalised(TotalVariation()).named("b")
    assert hash(made) == hash(MATCH.named("a") + Penalised(TotalVariation()).named("b"))


def test_what_the_terms_take_is_joined() -> None:
    assert (MATCH + CrossEntropy() + Match(MMD(), via=Layers()).named("layers")).takes == {
        "features",
        "logits",
        "layers",
    }
    assert Match(MMD(), via=Identity()).takes == {"points"}


def test_unknown_grouping() -> None:
    with unchecked(), pytest.raises(InvalidInput, match="'by' must be one of class, group, none; got 'label'"):
        Match(MMD(), by="label")  # pyright: ignore[reportArgumentType]


def test_layer_weights_may_be_a_mapping() -> None:
    with unchecked():
        made = Match(MMD(), via=Layers(), layer_weights={"layer1": 2.0})  # pyright: ignore[reportArgumentType]
    assert made == Match(MMD(), via=Layers(), layer_weights=(("layer1", 2.0),))
    assert made.block_weight("layer1") == 2.0
    assert made.block_weight("layer2") == 1.0
