"""Real examples without those whose labels are probably wrong: confident learning."""

import functools
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from discrepancy.errors import InvalidInput
from discrepancy.networks import ConvNet
from discrepancy.parts import check_least
from objectives.data.cache import Cache, Kept
from objectives.data.real import RealData
from objectives.data.spec import Described
from objectives.data.subset import Subset
from objectives.data.transform import ChangedWeights, RealTransform
from objectives.rng import rng
from objectives.teacher import Teacher
from objectives.training.training import Training

__all__ = ["Confident", "confident_classes", "out_of_sample"]


ROUNDING = 1e-6
"""Of probabilities in float32; that of cleanlab."""


def confident_classes(probabilities: Float[Tensor, "n c"], labels: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """The class of each example of which the network is confident, argmax over {l : p(l|x) >= t_l} of p(l|x), and -1 where it
    is of none. The threshold t_l is the mean of p(l|x) over the examples with label l. Probabilities that differ by 1e-6 are
    taken for equal to a threshold, and those below 1e-6 for zero, of which no network is confident. Of several classes with the
    largest probability it is the label, where that is one of them, else the first.

    The confident joint C[i, j] is the number of examples with label i and confident class j.

    Args:
        probabilities: p(l|x), out of sample.
        labels: the given ones, with an example of each class.

    Example:
        >>> import torch
        >>> from objectives.transforms.confident import confident_classes
        >>> p = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8], [0.8, 0.2]])
        >>> confident_classes(p, torch.tensor([0, 0, 1, 1])).tolist()  # t = (0.7, 0.5)
        [0, 1, 1, 0]
    """
    found = probabilities.double()
    own = functional.one_hot(labels, found.shape[1]).double()
    thresholds = (own * found).sum(0) / own.sum(0)
    confident = found >= (thresholds - ROUNDING).clamp(min=ROUNDING)
    found = found.masked_fill(~confident, -1.0)
    largest = found.amax(1)
    best = torch.where(found.gather(1, labels[:, None])[:, 0] == largest, labels, found.argmax(1))
    return best.where(largest > 0, -1)


class Confident(RealTransform, kind="confident"):
    """wᵢ = 0 for an example whose label is probably wrong, else 1: with the out-of-sample probabilities p(l|x) of a teacher and
    the thresholds t_l = mean of p(l|x) over the examples with label l, an example (x, i) is left out if it is counted off the
    diagonal of the confident joint,

        wᵢ = 0  where  j = argmax over {l : p(l|x) >= t_l} of p(l|x) exists and j ≠ i.

    Of the paper's rules this is the one without a ranking ("CL: C"): it has no share to choose. For p, each class is divided
    into ``folds``; a teacher is trained on the others, with the labels as they are, and asked about the fold. This is done
    once, when the first example is asked for. Examples stay where they are: a batch of 64 of which a third is left out has 43
    that count, and where none is left of a class, the run ends with a message.

    It finds labels that contradict what a network generalises. It does not find examples that are wrong alike in every fold,
    and it leaves out right ones that are hard, the more of them the worse the teacher is. The network of the match, and
    synthetic examples that start at real ones, see all the examples.

    Args:
        teacher: the networks that are trained for each fold; the mean of their probabilities, at the teacher's temperature.
            Trained too long, they learn wrong labels by heart; too little, they know no class.
        folds: at least 2.

    References: Confident Learning: Estimating Uncertainty in Dataset Labels (Northcutt, Jiang and Chuang, JAIR 2021),
    https://arxiv.org/abs/1911.00068, equations 1 and 2 and section 3.2. cleanlab counts the same confident joint, and keeps an
    example whose most likely class is its label.
    """

    teacher: Teacher = Teacher(
        network=ConvNet(width=32),
        training=Training(on="real", epochs=1, batch=64, optimizer="adam", lr=0.003, milestones=(14,)),
        rounds=20,
    )
    folds: int = 3

    def __post_init__(self) -> None:
        check_least("folds", self.folds, 2)
        if self.teacher.weights:
            raise InvalidInput(
                "'teacher' of 'confident' has weights, but it is trained without the examples that it is asked about; remove "
                "'weights'"
            )

    def check(self, data: Described) -> None:
        data.require_classes("'confident'", "leave the transform out")
        self.teacher.check(data)

    def applied(self, data: RealData, seed: int, device: torch.device, cache: Cache | None = None) -> RealData:
        self.check(data)
        data.require(self.folds, f"'confident' with {self.folds} folds", "folds")
        return _Pruned(data, self, seed, device)

    def passes(self, data: RealData, kept: Kept | None = None) -> int:
        asked = 2 * self.teacher.number * len(data)  # for the accuracy, and for p
        held = [sum(len(members[fold :: self.folds]) for members in data.members) for fold in range(self.folds)]
        return asked + sum(self.teacher.passes(len(data) - size) for size in held)


def out_of_sample(
    data: RealData, teacher: Teacher, folds: int, seed: int = 0, device: torch.device | str = "cpu"
) -> Float[Tensor, "n c"]:
    """p(l|x) of every example by a teacher that was trained on the other folds."""
    found = torch.zeros(len(data), data.count)
    for held in _folds(data, folds, seed):
        rest = torch.ones(len(data), dtype=torch.bool).index_fill_(0, held, False)
        asked = Subset(data, held)
        with torch.enable_grad():  # the real side runs without
            taught = teacher.taught(Subset(data, rest.nonzero()[:, 0]), asked, seed=seed, device=device)
        found[held] = taught(asked.rows().points)
    return found


def _folds(data: RealData, folds: int, seed: int) -> Iterator[Int[Tensor, " k"]]:
    """The examples of each fold, as many of each class as of the others but for one."""
    generator = rng(seed, "transform", "confident")
    mixed = [members[torch.randperm(len(members), generator=generator)] for members in data.members]
    for fold in range(folds):
        yield torch.cat([members[fold::folds] for members in mixed]).sort().values


class _Pruned(ChangedWeights):
    """Real data in which examples whose label is probably wrong have no weight."""

    def __init__(self, of: RealData, transform: Confident, seed: int, device: torch.device) -> None:
        super().__init__(of)
        self.transform, self.seed, self.device = transform, seed, device

    @functools.cached_property
    def weights(self) -> Float[Tensor, " n"]:  # pyright: ignore[reportIncompatibleMethodOverride]
        teacher, labels = self.transform.teacher, self.labels.numbers
        found = confident_classes(out_of_sample(self.of, teacher, self.transform.folds, self.seed, self.device), labels)
        kept = (found == labels) | (found < 0)
        for name, members in zip(self.classes, self.members, strict=True):
            if not kept[members].any():
                raise InvalidInput(
                    f"all the {len(members)} examples of class '{name}' look mislabelled to the teacher of 'confident'; train "
                    "it for longer ('rounds'), or leave the transform out"
                )
        return kept.float()
