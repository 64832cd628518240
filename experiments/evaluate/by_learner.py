"""The learner protocol: a set is evaluated by what the learner of its own objective learns from it, in closed form.

It is what the set was condensed for: ridge regression for an exact set, kernel ridge regression for KIP and FRePo. Which
learner, on which features, stands in the record of the artefact; or here, for sets that were condensed for something else.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from discrepancy.discrepancy import Discrepancy
from discrepancy.embeddings import Identity
from discrepancy.embeddings.base import Embedding
from discrepancy.errors import InvalidInput
from discrepancy.learning.learned import Risk
from discrepancy.learning.learners import Learner
from discrepancy.networks import Network
from discrepancy.parts import Part, check_least
from experiments.config import build, dump, override, recorded
from experiments.evaluate.protocol import complete
from objectives.contexts import Context, Fresh
from objectives.solvers import Solver
from objectives.synthetic.artefact import SyntheticSet
from objectives.terms.match import Match
from objectives.terms.objective import Objective
from objectives.training.training import Training

__all__ = ["NAMES", "ByLearner", "LearningSetup", "by_learner", "learners", "learning_setup_of"]

NAMES = ("learner", "ridge")
"""What the protocol is called on the command line."""


class ByLearner(Part, family=True, kind="learner"):
    """The learner of a set's own objective learns from the set, and predicts the test examples: of classes the largest answer
    decides. Features are those of the term that holds the learner, without augmentation.

    Where the networks (or random features) of its context come back, they are these; where every step draws new ones, they
    are new here too, of as many rounds of training as steps of the run found them with. A context that trains its networks on
    the synthetic set has them trained on the set that is evaluated: on real examples, for the controls.

    Args:
        networks: how many are drawn, if any are; and how many random real subsets.
        term: the name of the term that holds the learner; None where there is one.
        most: real examples that a learner that keeps them all (kernel ridge) learns from at once, as the control ``whole``.
        learner, via: what learns, and on which features; None for those of the artefact. With a learner alone, the points.
        whole: what learns from all the real data, where that is another learner, with another penalty.
        network, training, dtype: of the artefact; for the record.
        name: what the protocol is called; it is not in the hash.
    """

    networks: int = 5
    term: str | None = None
    most: int = 5000
    learner: Learner | None = None
    via: Embedding | None = None
    whole: Learner | None = None
    network: Network | None = None
    training: Training | None = None
    dtype: Literal["float32", "float64"] | None = None
    name: str = "learner"

    def __post_init__(self) -> None:
        for name in ("networks", "most"):
            check_least(name, getattr(self, name), 1)
        if self.learner is None and (self.via is not None or self.whole is not None):
            raise InvalidInput("'via' and 'whole' go with a 'learner' of their own; name one, or leave them out")

    @property
    def hash(self) -> str:
        """The first 12 hexadecimal digits of the SHA-256 of every field but the name."""
        described = complete(self)
        del described["name"]
        text = json.dumps(described, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def title(self) -> str:
        """``ridge on features of convnet``."""
        if self.learner is None or self.via is None:
            return self.name
        network = "" if self.network is None else f" of {self.network.kind}"
        features = "points" if self.via.kind == Identity.kind else self.via.kind + network
        return f"{self.learner.kind} on {features}"


@dataclass(frozen=True, eq=False)
class LearningSetup:
    """What an artefact says of how it is to be learned from: a match that holds the learner, by its name, the context, the
    steps of the run and its seed; by what predictions are to be divided; and the penalty that was chosen on the real side."""

    name: str
    match: Match
    context: Context
    seed: int
    steps: int
    factor: float = 1.0
    penalty: float | None = None


def by_learner(changes: Sequence[str] = (), networks: int | None = None) -> ByLearner:
    """The protocol, with ``path=value`` changes to its fields."""
    protocol = ByLearner()
    if changes:
        protocol = build(ByLearner, override(dump(protocol), changes))
    return protocol if networks is None else replace(protocol, networks=networks)


def learning_setup_of(synthetic: SyntheticSet, protocol: ByLearner, seed: int = 0) -> LearningSetup:
    """How the set is to be learned from.

    Raises:
        InvalidInput: if its record holds no learner, or several, and the protocol names none.
    """
    if protocol.learner is not None:
        context = Fresh(network=protocol.network, batch="all")
        match = Match(Risk(learner=protocol.learner), via=protocol.via or Identity(), by="none")
        return LearningSetup("learner", match, context, seed, 1)
    config = synthetic.record.get("config", {})
    if "objective" not in config or "context" not in config:
        raise _without_learner("its record has no objective")
    built = functools.partial(recorded, file="the artefact", remedy="--set learner=ridge, or --protocol quick")
    objective = built(Objective, config["objective"])
    terms = {name: cast(Match, term) for name, term in objective.terms if term.learners is not None}
    if protocol.term is not None and protocol.term not in terms:
        raise _without_learner(f"term '{protocol.term}' of its objective is not there, or holds none")
    if not terms:
        raise _without_learner("none of the terms of its objective holds one")
    name = protocol.term or next(iter(terms))
    if protocol.term is None and len(terms) > 1:
        raise InvalidInput(
            f"the terms {', '.join(terms)} hold a learner each; say which one is meant: --set term={name}"
        )
    match = _settled(name, terms[name], synthetic.record.get("resolved", {}).get(name), built)
    if match.by != "none":
        raise InvalidInput(
            f"term '{name}' is by: {match.by}, so a learner of its own learns from each part, and none from the whole set; "
            f"name a learner: --set learner=ridge"
        )
    solver = built(Solver, config["solver"]) if "solver" in config else None
    findings = synthetic.record.get("findings", {})
    return LearningSetup(
        name,
        match,
        built(Context, config["context"]),
        _whole(config.get("seed", synthetic.record.get("seed", 0))),
        1 if solver is None else solver.planned,
        float(findings.get("factor", 1.0)),
        _number(findings.get("penalty")),
    )


def _whole(value: Any) -> int:
    """A seed of the record."""
    return recorded(int, value, "the artefact", "--seed 0")


def _number(value: Any) -> float | None:
    return None if value is None else recorded(float, value, "the artefact", "--set learner=ridge")


def _settled(name: str, match: Match, resolved: Any, built: Callable[..., Any]) -> Match:
    """The match with the numbers that were chosen in the run."""
    if resolved is None:
        return match
    blocks = resolved.get("match") if isinstance(resolved, dict) else None
    if not isinstance(blocks, dict) or not blocks:
        raise _without_learner(f"what its record says of term '{name}' cannot be read")
    if len(blocks) > 1:
        raise InvalidInput(
            f"term '{name}' learns from {len(blocks)} blocks apart ({', '.join(blocks)}), and not from the whole; name a "
            "learner: --set learner=ridge"
        )
    found = built(Discrepancy, next(iter(blocks.values())))
    return replace(match, match=found, via=built(Embedding, resolved.get("via")))


def learners(match: Match, penalty: float | None) -> tuple[Learner, Learner]:
    """What learns from a small set, and from all the real data; the number stands for a penalty that was chosen."""
    learners = match.match.learners
    assert learners is not None
    small, whole = learners
    chosen = whole.with_penalty(penalty) if whole.undecided and penalty is not None else whole
    return chosen if small is whole else small, chosen


def _without_learner(why: str) -> InvalidInput:
    return InvalidInput(
        f"the artefact holds no learner to evaluate it by: {why}; train networks on it (--protocol quick), or name a learner: "
        "--set learner=ridge"
    )
