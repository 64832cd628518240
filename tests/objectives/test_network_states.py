"""Networks in training: a round is torch's own descent, each schedule trains what it says, and a resumed run finds them."""

from typing import Any

import pytest
import torch
from small import NETWORK, images, start
from torch import Tensor
from torch.nn import functional

from discrepancy import MMD, InvalidInput
from discrepancy.embeddings import Features
from objectives import Fresh, Interpolated, Match, Queue, Renewed, Siamese, Trained, Training, Watch
from objectives.contexts import Context
from objectives.rng import rng
from objectives.solvers import Descent
from objectives.training.batch_gradient import PlainGradient
from objectives.training.trainer import NetworkTrainer, TrainingData

ON_REAL = Training(on="real", steps=2, batch=8, lr=0.05, momentum=0.5)
ON_SYNTHETIC = Training(on="synthetic", steps=2, batch=4, lr=0.05)
CONTEXTS: dict[str, Context] = {
    "trained-on-synthetic": Trained(network=NETWORK, training=ON_SYNTHETIC, keep=3, batch=5),
    "trained-on-real": Trained(network=NETWORK, training=ON_REAL, before=1, keep=3, batch=5, augment=Siamese()),
    "watched": Trained(
        network=NETWORK,
        training=ON_SYNTHETIC,
        keep=3,
        batch=5,
        watch=Watch(window=2, examples=10, settled=0.12, moved=0.1, most=4),
    ),
    "queue": Queue(network=NETWORK, size=3, first=2, every=3, trained_after=2, training=ON_REAL, batch=5),
    "renewed": Renewed(network=NETWORK, size=2, keep=2, training=ON_SYNTHETIC, batch=5),
    "renewed-by-adam": Renewed(
        network=NETWORK,
        size=2,
        keep=2,
        training=Training(on="synthetic", steps=2, batch=4, lr=0.01, optimizer="adam", loss="squared"),
        batch=5,
    ),
    "interpolated": Interpolated(network=NETWORK, size=2, training=ON_REAL, trained=2, batch=5),
}


GRADIENT = PlainGradient(NETWORK, "cross_entropy", 64)


def solving(context: Context, steps: int = 6, **options: Any) -> Any:
    return start(
        images(), Match(MMD(), via=Features()), Descent(lr=0.5, momentum=0.5, steps=steps, **options), context=context
    )


def weights(run: Any, step: int) -> dict[str, Tensor]:
    return dict(run.engine.networks.parameters(run.engine.networks.draw(step)))


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_a_round_is_the_descent_of_torch():
    """Written out: v = 0.9 v + (∇ℓ + 0.1 θ), θ = θ - 0.05 v, with ℓ the weighted mean cross-entropy of a batch."""
    training = Training(steps=3, batch=4, lr=0.05, momentum=0.9, weight_decay=0.1)
    generator = torch.Generator().manual_seed(0)
    points, labels = torch.randn(10, 1, 8, 8, generator=generator), torch.arange(10) % 3
    mass = torch.rand(10, generator=generator) + 0.5
    initial = NETWORK.initial(generator, (1, 8, 8), 3)
    network_trainer = NetworkTrainer(training, initial)
    network_trainer.round(GRADIENT, TrainingData.of_tensors(points, labels, mass, 3), rng(0, "x"))

    order = rng(0, "x")
    seen = torch.cat([torch.randperm(10, generator=order)[:8], torch.randperm(10, generator=order)[:4]])
    theta = {name: value.clone() for name, value in initial.items()}
    speed = {name: torch.zeros_like(value) for name, value in initial.items()}
    for rows in seen.split(4):
        leaves = {name: value.clone().requires_grad_(True) for name, value in theta.items()}
        logits = NETWORK(leaves, points[rows], ("logits",))["logits"]
        surprise = -(functional.log_softmax(logits, 1)[torch.arange(4), labels[rows]])
        loss = (mass[rows] * surprise).sum() / mass[rows].sum()
        for (name, value), slope in zip(leaves.items(), torch.autograd.grad(loss, list(leaves.values())), strict=True):
            speed[name] = 0.9 * speed[name] + slope + 0.1 * value.detach()
            theta[name] = value.detach() - 0.05 * speed[name]
    assert network_trainer.rounds == 1
    for name, value in network_trainer.parameters.items():
        torch.testing.assert_close(value, theta[name])


def test_the_rate_decays_at_milestones():
    training = Training(steps=1, batch=5, lr=0.05, momentum=0.9, milestones=(2, 3), decay=0.2)
    generator = torch.Generator().manual_seed(0)
    points, labels = torch.randn(5, 1, 8, 8, generator=generator), torch.arange(5) % 3
    initial = NETWORK.initial(generator, (1, 8, 8), 3)
    leaves = {name: value.clone().requires_grad_(True) for name, value in initial.items()}
    optimiser = torch.optim.SGD(leaves.values(), lr=0.05, momentum=0.9)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [2, 3], gamma=0.2)
    network_trainer = NetworkTrainer(training, initial)
    for number in range(5):
        network_trainer.round(GRADIENT, TrainingData.of_tensors(points, labels, torch.ones(5), 3), rng(number, "x"))
        optimiser.zero_grad()
        functional.cross_entropy(NETWORK(leaves, points, ("logits",))["logits"], labels).backward()
        optimiser.step()
        schedule.step()
        for name, value in network_trainer.parameters.items():
            torch.testing.assert_close(value, leaves[name].detach())
        network_trainer = NetworkTrainer.restored(training, network_trainer.state(), torch.device("cpu"))


def test_training_on_the_synthetic_set_uses_the_set_after_its_step():
    run = solving(CONTEXTS["trained-on-synthetic"])
    first = weights(run, 0)
    run.advance()
    points = run.parameters["points"]
    network_trainer = NetworkTrainer(ON_SYNTHETIC, first)
    training_data = TrainingData.of_tensors(
        points, functional.one_hot(run.slots, 3).float(), torch.ones(len(points)), 3
    )
    network_trainer.round(GRADIENT, training_data, rng(0, "train", 0, 0))
    assert same(weights(run, 1), network_trainer.parameters)
    assert not same(first, network_trainer.parameters)


def test_a_network_is_kept_for_its_steps_and_then_replaced():
    run = solving(CONTEXTS["trained-on-synthetic"])
    seen = []
    for step in range(4):
        seen.append(weights(run, step))
        run.advance()
    anew = run.engine.bound_context.initial(1)
    assert same(seen[3], dict(anew))
    assert not any(same(seen[a], seen[b]) for a in range(4) for b in range(a))
    assert len(run.engine.networks.state()["trainers"]) == 1


def accuracy(run: Any, parameters: dict[str, Tensor], *names: str | int) -> float:
    """The mean over classes of the share of right answers, on fresh real examples: ten of each, or all seven of the first."""
    data = run.problem.data
    each, generator = [], rng(0, "watch", *names)
    for label, members in enumerate(data.members):
        rows = members[torch.randperm(len(members), generator=generator)[:10]]
        logits = NETWORK(parameters, data.normalisation.apply(data.rows(rows).points), ("logits",))["logits"]
        each.append((logits.argmax(1) == label).double().mean().item())
    return sum(each) / len(each)


def test_watched_loops_end_by_the_accuracy():
    """CAFE's loops written out: a network settles after its steps, and moves in the rounds between them."""
    run = solving(CONTEXTS["watched"], steps=10)
    network, rounds, after_steps, ends, lengths = 0, 0, [], set(), []
    for step in range(10):
        assert run.engine.networks.draw(step).network == network
        parameters = weights(run, step)
        run.advance()
        after_steps.append(accuracy(run, parameters, "step", step))
        settled = len(after_steps) >= 2 and max(after_steps[-2:]) - min(after_steps[-2:]) < 0.12
        if settled or len(after_steps) == 3:
            ends.add(len(after_steps))
            network, rounds, after_steps = network + 1, 0, []
            continue
        points, labels = run.parameters["points"], functional.one_hot(run.slots, 3).float()
        training_data = TrainingData.of_tensors(points, labels, torch.ones(len(points)), 3)
        network_trainer = NetworkTrainer(ON_SYNTHETIC, parameters)
        after_rounds: list[float] = []
        while len(after_rounds) < 4 and not (len(after_rounds) >= 2 and abs(after_rounds[-1] - after_rounds[-2]) > 0.1):
            network_trainer.round(GRADIENT, training_data, rng(0, "train", network, rounds + len(after_rounds)))
            after_rounds.append(accuracy(run, network_trainer.parameters, "round", step, len(after_rounds)))
        rounds += len(after_rounds)
        lengths.append(len(after_rounds))
        assert same(weights(run, step + 1), network_trainer.parameters)
    assert ends == {2, 3}
    assert len(set(lengths)) > 1


def test_training_on_real_data_starts_before_the_first_step():
    run = solving(CONTEXTS["trained-on-real"])
    assert not same(weights(run, 0), dict(run.engine.bound_context.initial(0)))


def test_a_queue_is_joined_by_new_networks_and_left_by_the_oldest():
    """IDM's list written out: before every third step one is appended, and the first popped where there are three."""
    queue = Queue(network=NETWORK, size=3, first=2, every=3, trained_after=2, training=ON_REAL, batch=5)
    present, new = [0], 1
    for step in range(14):
        if step % 3 == 0:
            present = [*present[len(present) == 3 :], new]
            new += 1
        assert list(queue.present(step)) == present
        assert queue.at(step, 0).network in present
    assert {queue.at(step, 0).network for step in range(9, 12)} > {queue.at(9, 0).network}
    assert queue.rounds(14) == 2 * 14


def test_a_queue_trains_some_of_its_networks_at_random_after_each_step():
    run = solving(CONTEXTS["queue"], steps=12)
    networks, queue = run.engine.networks, run.engine.context
    had: dict[int, int] = {}
    for step in range(12):
        run.advance()
        found = {number: saved["rounds"] for number, saved in networks.state()["trainers"].items()}
        trained_after = [number for number, rounds in found.items() if rounds != had.get(number, 0)]
        assert len(trained_after) <= queue.trained_after
        assert set(trained_after) <= set(queue.present(step))
        assert min(found) >= queue.present(step + 1).start
        assert all(found[number] == had.get(number, 0) + 1 for number in trained_after)
        had = found
    trained = {number for step in range(12) for number in queue.training_schedule.trained_after(step, 0)}
    assert len(trained) > queue.size


def test_a_pool_is_renewed_network_by_network():
    """Each network has K + 1 rounds, one more step, and then a new one in its place; ages are staggered at the start."""
    size, keep, seed = 3, 6, 5
    context = Renewed(network=NETWORK, size=size, keep=keep, training=ON_SYNTHETIC, batch=5)
    numbers = [context.at(step, seed).network for step in range(300)]
    schedule = context.training_schedule
    assert schedule is not None
    assert schedule.oldest is not None
    uses = {number: numbers.count(number) for number in set(numbers)}
    finished = range(max(numbers) - size)
    first = [uses[number] for number in range(size)]
    assert first == [keep + 2 - keep // size * (size - 1 - number) for number in range(size)]
    assert {uses[number] for number in finished if number >= size} == {keep + 2}
    assert all(len(set(numbers[step:])) > size for step in range(0, 200, 50))  # they come and go
    for step, number in enumerate(numbers[:200]):
        last = number in finished and number not in numbers[step + 1 :]
        assert list(schedule.trained_after(step, seed)) == ([] if last else [number])
        assert schedule.oldest(step, number, seed) <= min(numbers[step + 1 :])
    again = Renewed(network=NETWORK, size=size, keep=keep, training=ON_SYNTHETIC, batch=5)
    assert [again.at(step, seed).network for step in (250, 3, 299)] == [numbers[step] for step in (250, 3, 299)]
    assert numbers != [context.at(step, seed + 1).network for step in range(300)]


def test_a_renewed_pool_draws_its_networks_uniformly():
    context = Renewed(network=NETWORK, size=4, keep=1000, training=ON_SYNTHETIC, batch=5)
    counts = torch.bincount(torch.tensor([context.at(step, 0).network for step in range(900)]), minlength=4)
    assert float((counts / 900 - 0.25).abs().max()) < 0.06


def test_a_round_by_adam_on_squares():
    """Torch's own Adam on ½ ‖f(x) - y + 1/c‖², averaged, for labels that are any numbers."""
    training = Training(on="synthetic", steps=2, batch=10, lr=0.01, optimizer="adam", loss="squared")
    generator = torch.Generator().manual_seed(0)
    points, labels = torch.randn(10, 1, 8, 8, generator=generator), torch.randn(10, 3, generator=generator)
    initial = NETWORK.initial(generator, (1, 8, 8), 3)
    network_trainer = NetworkTrainer(training, initial)
    network_trainer.round(
        PlainGradient(NETWORK, training.criterion, 10),
        TrainingData.of_tensors(points, labels, torch.ones(10), 3),
        rng(0, "x"),
    )
    leaves = {name: value.clone().requires_grad_(True) for name, value in initial.items()}
    optimiser = torch.optim.Adam(leaves.values(), lr=0.01)
    for _ in range(2):
        optimiser.zero_grad()
        (0.5 * (NETWORK(leaves, points)["logits"] - (labels - 1 / 3)) ** 2).sum(1).mean().backward()
        optimiser.step()
    for name, value in network_trainer.parameters.items():
        torch.testing.assert_close(value, leaves[name].detach(), atol=2e-4, rtol=1e-3)
    assert not training.needs_classes


def test_accuracy_is_that_of_the_examples_before_they_were_learned():
    generator = torch.Generator().manual_seed(0)
    points, labels = torch.randn(10, 1, 8, 8, generator=generator), torch.arange(10) % 3
    network_trainer = NetworkTrainer(Training(steps=3, batch=4, lr=0.3), NETWORK.initial(generator, (1, 8, 8), 3))
    assert network_trainer.accuracy == 0
    order, right = rng(0, "x"), 0
    seen = torch.cat([torch.randperm(10, generator=order)[:8], torch.randperm(10, generator=order)[:4]])
    once = NetworkTrainer(Training(steps=1, batch=4, lr=0.3), network_trainer.parameters)
    for rows in seen.split(4):
        right += int((NETWORK(once.parameters, points[rows])["logits"].argmax(1) == labels[rows]).sum())
        part = TrainingData.of_tensors(points[rows], labels[rows], torch.ones(4), 3)
        once.round(GRADIENT, part, torch.Generator())
    network_trainer.round(GRADIENT, TrainingData.of_tensors(points, labels, torch.ones(10), 3), rng(0, "x"))
    torch.testing.assert_close(network_trainer.accuracy, torch.tensor(right / 12).double(), rtol=0, atol=1e-7)
    again = NetworkTrainer.restored(network_trainer.plan, network_trainer.state(), torch.device("cpu"))
    assert again.accuracy == network_trainer.accuracy
    network_trainer.recount()
    assert network_trainer.accuracy == 0


def test_accuracies_are_counted_anew():
    queue = Queue(network=NETWORK, size=1, first=1, trained_after=1, training=ON_REAL, recount=2, batch=5)
    run = solving(queue)
    shown = []
    for _ in range(4):
        run.advance()
        shown.append(run.engine.networks.state()["trainers"][0]["shown"])
    assert shown == [16, 0, 16, 0]


def test_interpolated_weights_lie_between():
    context = CONTEXTS["interpolated"]
    run = solving(context)
    draws = [context.at(step, 0) for step in range(6)]
    assert len({draw.mixture for draw in draws}) == 6
    assert {draw.network for draw in draws} == {0, 1}
    now = weights(run, 0)
    initial = run.engine.bound_context.initial(draws[0].network)
    trained = run.engine.networks._trainers[draws[0].network].parameters
    for name, value in now.items():
        torch.testing.assert_close(value, initial[name] + draws[0].mixture * (trained[name] - initial[name]))


@pytest.mark.parametrize(
    ("name", "update"),
    [*((name, "joint") for name in CONTEXTS), ("trained-on-synthetic", "per_class_shared_state")],
)
def test_a_resumed_run_continues_bit_for_bit(name: str, update: str):
    context = CONTEXTS[name]
    whole, first, second = (solving(context, update=update) for _ in range(3))
    for _ in range(6):
        whole.advance()
    for _ in range(4):
        first.advance()
    second.restore(first.state())
    for _ in range(2):
        second.advance()
    assert torch.equal(whole.parameters["points"], second.parameters["points"])


def test_training_lowers_the_loss():
    data = images()
    run = start(data, Match(MMD(), via=Features()), context=Trained(network=NETWORK, training=ON_REAL, batch=5))
    points = data.normalisation.apply(data.train.points)

    def loss(parameters: dict[str, Tensor]) -> float:
        return float(functional.cross_entropy(NETWORK(parameters, points)["logits"], data.train.labels.numbers))

    untrained = loss(weights(run, 0))
    for _ in range(3):
        run.advance()
    assert loss(weights(run, 3)) < untrained


def test_rounds_are_counted_as_work():
    fresh, trained = (
        solving(context).engine.bound_context.images(6, 6)
        for context in (Fresh(network=NETWORK, batch=5), CONTEXTS["queue"])
    )
    assert trained == fresh + 3 * (6 * 2) * 2 * 8


def test_what_is_watched_is_counted_as_work():
    """Six steps of two networks: after four of them two rounds of two minibatches, and an accuracy after each of either."""
    fresh, watched = (
        solving(context).engine.bound_context.images(6, 6)
        for context in (Fresh(network=NETWORK, batch=5), CONTEXTS["watched"])
    )
    assert watched == fresh + 3 * (4 * 2) * 2 * 4 + (6 + 4 * 2) * (7 + 10 + 10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Training(steps=0), "'steps' must be at least 1, got 0"),
        (lambda: Training(lr=0.0), "'lr' must be > 0, got 0.0"),
        (lambda: Training(momentum=-1.0), "'momentum' must be >= 0, got -1.0"),
        (lambda: Training(decay=0.0), "'decay' must be > 0 and at most 1, got 0.0"),
        (lambda: Training(milestones=(3, 3)), "'milestones' must be numbers of rounds >= 1 that increase"),
        (lambda: Trained(network=NETWORK, before=1), "'before' must be 0 where training is on: synthetic"),
        (lambda: Trained(network=NETWORK, keep=0), "'keep' must be at least 1, got 0"),
        (lambda: Queue(network=NETWORK, every=0), "'every' must be at least 1, got 0"),
        (lambda: Queue(network=NETWORK, recount=0), "'recount' must be at least 1, got 0"),
        (lambda: Queue(network=NETWORK, size=3), "'first' must be at most 'size', 3, got 4"),
        (lambda: Interpolated(network=NETWORK, training=ON_SYNTHETIC), "must be on: real, got 'synthetic'"),
    ],
)
def test_refused(make: Any, message: str):
    with pytest.raises(InvalidInput, match=message):
        make()
