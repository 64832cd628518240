"""NCFM: characteristic functions and calibration written out by hand, the loop in which they take turns, and its adversary."""

import math
import re
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from conformance import AUGMENTED, CASES, Sight, Trial, agree, same_value_and_gradient, trial
from small import NETWORK, images, problem
from torch import Tensor
from torch.nn import functional

from discrepancy import CharacteristicFunction
from discrepancy.embeddings import Features
from experiments.config import build, override, read
from experiments.data import Digits
from experiments.experiment import Experiment
from objectives import Match, Pool
from objectives.contexts import Draw
from objectives.methods import available

DATA = images((8, 11, 13), channels=3)
SMALL = (
    "objective.terms.features.match.frequencies=32",
    "context.size=2",
    "context.trained=2",
    "context.training.steps=2",
    "context.training.batch=8",
    "context.training.milestones=[1]",
)
LEARNED = ("objective.terms.features.match.learned=true", "objective.terms.features.match.components=3")
VARIANTS = pytest.mark.parametrize("variant", [(), LEARNED], ids=["released", "minmax"])
FEATURES, CALIBRATION = 300.0, 1.0


def small(settings: tuple[str, ...], dtype: torch.dtype = torch.float64) -> Trial:
    return trial("ncfm", (*SMALL, *settings), dtype=dtype, data=DATA)


def drawn(sight: Sight) -> Tensor:
    """The frequencies of a step, normal ones."""
    return (
        sight.trial.engine.real_side.at(sight.step).random["features"].blocks[""]["frequencies"].to(sight.trial.dtype)
    )


def scaled(normal: Tensor, scales: Tensor) -> Tensor:
    """Each frequency times exp(σ) of its component, where |σ| is held below log 10."""
    bound = math.log(10)
    return torch.stack(
        [t * torch.exp(bound * torch.tanh(scales[j % len(scales)] / bound)) for j, t in enumerate(normal)]
    )


def matching(sight: Sight, points: Tensor, label: int, t: Tensor) -> Tensor:
    """Equation 8 with α = ½: the mean over t of √(½ (|Φ| - |Ψ|)² + ½ · 2 |Φ| |Ψ| (1 - cos(arg Φ - arg Ψ)))."""
    both = []
    for side in sight.sides(points, label):
        features = sight.outputs(side, "features")["features"]
        angles = features / features.norm(dim=1, keepdim=True) @ t.T
        both.append(torch.polar(torch.ones_like(angles), angles).mean(0))
    real, synthetic = both
    lengths = (real.abs() - synthetic.abs()).square()
    turns = 2 * real.abs() * synthetic.abs() * (1 - torch.cos(real.angle() - synthetic.angle()))
    return FEATURES * (0.5 * lengths + 0.5 * turns).sqrt().mean()


def calibration(sight: Sight, points: Tensor, label: int) -> Tensor:
    """The mean cross-entropy of the class under the network as trained."""
    networks, draw = sight.trial.engine.networks, sight.trial.engine.real_side.at(sight.step).draw
    network = sight.trial.problem.context.network
    assert network is not None
    own = sight.augmented(sight.own(points, label), label)
    logits = network(networks.parameters(Draw(draw.network, draw.augmentation, draw.batch)), own, ("logits",))["logits"]
    return -CALIBRATION * functional.log_softmax(logits, 1)[:, label].mean()


def test_weights_are_those_of_the_code() -> None:
    terms = dict(small(()).problem.objective.terms)
    assert (terms["features"].weight, terms["calibration"].weight) == (FEATURES, CALIBRATION)


@pytest.mark.conformance("ncfm")
@CASES
@VARIANTS
def test_value_and_gradient(settings: tuple[str, ...], variant: tuple[str, ...], dtype: torch.dtype) -> None:
    plain = settings == ("context.augment=null",)
    some = small((*(settings if plain else ()), *variant), dtype)
    scales = torch.zeros(3, 3, 16, dtype=dtype)
    if variant:
        scales = torch.randn(3, 3, 16, generator=torch.Generator().manual_seed(1)).to(dtype)
        with torch.no_grad():
            some.engine.learned_draws.of_terms["features"][""]["scales"].copy_(scales)

    def loss(sight: Sight, parameters: Mapping[str, Tensor]) -> Tensor:
        points, normal = some.points(parameters), drawn(sight)
        return torch.stack(
            [
                matching(sight, points, label, scaled(normal, scales[label])) + calibration(sight, points, label)
                for label in sight.classes
            ]
        ).sum()

    same_value_and_gradient(some, loss)


class Adam:
    """The updates of Adam, up to their sign."""

    def __init__(self, rate: float) -> None:
        self.rate, self.first, self.second, self.count = rate, 0.0, 0.0, 0

    def move(self, slope: Tensor) -> Tensor:
        self.count += 1
        self.first = 0.9 * self.first + 0.1 * slope
        self.second = 0.999 * self.second + 0.001 * slope.square()
        return (
            self.rate * (self.first / (1 - 0.9**self.count)) / ((self.second / (1 - 0.999**self.count)).sqrt() + 1e-8)
        )


@pytest.mark.conformance("ncfm")
@VARIANTS
@AUGMENTED
def test_three_steps_take_turns_on_one_optimiser(settings: tuple[str, ...], variant: tuple[str, ...]) -> None:
    """Matching of each class, then calibration of each class, each a step of AdamW on all the pixels, then the range; the
    adversary goes up once a step, by the slopes that matching had.

    In double precision: Adam's first steps are the signs of slopes, some of which are rounding errors.
    """
    plain = settings == ("context.augment=null",)
    patience = "solver.scheduler_options.patience=0"
    # In a set of so small images, decay and range have something to do.
    strong = ("solver.options.weight_decay=5.0", "solver.lr=0.03", patience)
    some = small((*(settings if plain else ()), *variant, *strong))
    stored, down, up = some.run.parameters["images"], Adam(0.03), Adam(0.1)
    scales, best, clipped = torch.zeros(3, 3, 16, dtype=torch.float64), math.inf, 0
    for _ in range(3):
        sight, total, slopes = some.sight(), 0.0, torch.zeros_like(scales)
        normal = drawn(sight)
        for turn in ("features", "calibration"):
            for label in sight.classes:
                leaf, sigma = stored.clone().requires_grad_(True), scales[label].clone().requires_grad_(True)
                points = some.points({"images": leaf})
                loss = (
                    matching(sight, points, label, scaled(normal, sigma))
                    if turn == "features"
                    else calibration(sight, points, label)
                )
                slope, *rest = torch.autograd.grad(loss, [leaf, sigma], allow_unused=True)
                if rest[0] is not None:
                    slopes[label] = rest[0]
                stored = (1 - down.rate * 5.0) * stored - down.move(slope)
                total += float(loss.detach())
        clipped += int(((stored < 0) | (stored > 1)).sum())
        stored = stored.clamp(0, 1)
        record = some.run.advance()
        agree(record.loss, torch.tensor(total, dtype=torch.float64), torch.float64)
        agree(some.run.parameters["images"], stored, torch.float64)
        if variant:
            scales = scales + up.move(slopes)
            agree(some.engine.learned_draws.of_terms["features"][""]["scales"].detach(), scales, torch.float64)
        if total < best * (1 - 1e-4):
            best = total
        else:
            down.rate *= 0.5
    assert clipped > 0


def test_terms_together_are_another_loop() -> None:
    in_turn, together = small(()), small(("solver.terms=together",))
    for some in (in_turn, together):
        some.run.advance()
    assert not torch.allclose(in_turn.run.parameters["images"], together.run.parameters["images"])


def test_networks_are_mixed_and_frequencies_new_at_every_step() -> None:
    some = small(())
    seen: dict[int, list[Tensor]] = {}
    for step in range(6):
        view = some.engine.real_side.at(step)
        initial = some.engine.bound_context.initial(view.draw.network)
        trained = some.engine.networks.trained(view.draw)
        u = view.draw.mixture
        for name, value in view.parameters.items():
            torch.testing.assert_close(value, (1 - u) * initial[name] + u * trained[name])
        seen.setdefault(view.draw.network, []).append(view.random["features"].blocks[""]["frequencies"])
    assert max(map(len, seen.values())) >= 2
    for same in seen.values():
        assert len({tuple(t.flatten().tolist()) for t in same}) == len(same)


def test_summaries_that_come_back_keep_their_frequencies() -> None:
    objective, context = Match(CharacteristicFunction(frequencies=8), via=Features()), Pool(network=NETWORK, size=3)
    engine = problem(images(), objective, context=context).engine(12)
    found: dict[Draw, set[tuple[float, ...]]] = {}
    for step in [*range(12), *range(12)]:
        if step == 0:
            engine.real_side.kept.clear()
        view = engine.real_side.at(step)
        t = view.random["characteristic_function"].blocks[""]["frequencies"]
        found.setdefault(view.draw, set()).add(tuple(t.flatten().tolist()))
    assert len(found) == 3
    assert all(len(same) == 1 for same in found.values())
    assert len(set.union(*found.values())) == 3


def test_three_and_three_steps_equal_six_bit_for_bit() -> None:
    for variant in ((), LEARNED):
        whole, part, rest = (small((*variant, "solver.steps=6")) for _ in range(3))
        for _ in range(6):
            whole.run.advance()
        for _ in range(3):
            part.run.advance()
        rest.run.restore(part.run.state())
        for _ in range(3):
            rest.run.advance()
        assert torch.equal(whole.run.parameters["images"], rest.run.parameters["images"])


def test_the_settings_that_differ_can_be_restored() -> None:
    """Every ``--set`` that the file names is accepted."""
    tree: Any = {**read(available()["ncfm"]), "data": {"kind": Digits.kind}}
    named = [word for line in tree.pop("method")["differs"] for word in re.findall(r"[a-z_.]+=[^ )]+", line)]
    assert {word.partition("=")[0] for word in named} >= {"context.batch", "objective.terms.features.match.learned"}
    made = build(Experiment, override(tree, named))
    terms: list[Any] = [term for _, term in made.objective.terms]
    features, context = terms[0], made.context
    assert (features.match.learned, features.match.components, features.match.frequencies) == (True, 64, 4096)
    assert (context.batch, context.size, context.trained, context.training.epochs) == (1024, 20, 60, 1)
    rates = {rounds: context.training.rate(rounds) for rounds in (0, 39, 40, 49, 50, 59)}
    assert rates == pytest.approx({0: 0.01, 39: 0.01, 40: 0.002, 49: 0.002, 50: 0.0004, 59: 0.0004})
