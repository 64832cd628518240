"""A match bound to data: its rules turned into numbers, and the groups of the real examples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from discrepancy.discrepancy import Discrepancy, Draws, MeanDiscrepancy
from discrepancy.embeddings.base import Embedding
from discrepancy.errors import InvalidInput
from discrepancy.measure import Grouping, Measure
from discrepancy.networks.base import NetworkParameters
from objectives.data.labelled import LabelledData
from objectives.engine.compile import padded
from objectives.engine.extractor import Extractor
from objectives.terms.objective import Match

__all__ = ["BoundMatch", "bind", "grouped", "moved"]


@dataclass(frozen=True, eq=False)
class BoundMatch:
    """A match with its numbers resolved: the embedding, a discrepancy and a shape for each block, the groups of the real
    examples (on the CPU) and their shares."""

    match: Match
    embedding: Embedding
    discrepancies: Mapping[str, Discrepancy]
    shapes: Mapping[str, tuple[int, ...]]
    groups: Tensor
    share: Tensor

    @property
    def mergeable(self) -> bool:
        return all(discrepancy.mergeable for discrepancy in self.discrepancies.values())

    @property
    def labelled(self) -> bool:
        return self.embedding.averages or any(discrepancy.labelled for discrepancy in self.discrepancies.values())

    def features(
        self,
        taken: Measure,
        groups: Tensor,
        count: int,
        draws: Draws,
        extractor: Extractor,
        parameters: NetworkParameters,
    ) -> Measure:
        """The conditional measures of the embedded examples, given what was taken of these and their groups; of an embedding
        that averages, one point a group."""
        if self.embedding.averages:
            rows = [(groups == group).nonzero()[:, 0] for group in range(count)]
            return _averaged(self.embedding, taken, rows, extractor, parameters)
        return grouped(self.embedded(taken, draws), groups, count)

    def embedded(self, taken: Measure, draws: Draws) -> Measure:
        """The features of single examples."""
        return Measure(self.embedding(taken.tensors, draws), taken.mass_of, taken.labels)


def bind(
    name: str,
    match: Match,
    extractor: Extractor,
    sample: Measure,
    parameters: NetworkParameters,
    generator: torch.Generator,
) -> BoundMatch:
    """The match with its data-dependent constants turned into numbers, from a sample of what the extractor offers.

    Raises:
        InvalidInput: if the match names blocks or groups that are not there.
    """
    data = extractor.data
    if match.by == "class":
        data.require_classes(f"term '{name}' is by: class, which")
    if "gradient" in match.via.takes:
        data.require_classes(f"term '{name}' takes the gradient of a cross-entropy, which")
    if match.match.labelled and sample.labels is None:
        raise InvalidInput(
            f"term '{name}' matches '{match.match.kind}', which looks at labels, but '{data.name}' has none; match something "
            "that looks at points alone (mmd, sinkhorn, ...)"
        )
    groups = _groups(name, match.by, data, extractor.context.batch)
    embedding = match.via.resolve(sample)
    draws = moved(embedding.draw(generator, extractor.shapes), extractor.device)
    with torch.no_grad():
        if embedding.averages:
            assert extractor.context.network is not None
            assert sample.labels is not None
            one = Measure(sample.tensors["points"][:1], labels=sample.labels[:1])
            means = embedding.mean_of(extractor.context.network, parameters, one)
            features = Measure({name: value[None] for name, value in means.items()})
        else:
            features = Measure(embedding(sample.tensors, draws), labels=sample.labels)
    unknown = sorted({block for block, _ in match.layer_weights} - set(features.tensors))
    if unknown:
        known = ", ".join(sorted(features.tensors)) or "one without a name"
        raise InvalidInput(f"'layer_weights' of term '{name}' name {unknown}, but the blocks are: {known}")
    count = data.count if match.by == "class" else int(groups.max()) + 1
    share = torch.bincount(groups, minlength=count).double() / len(groups)
    if embedding.averages and not all(
        isinstance(match.match.resolve(part), MeanDiscrepancy) for _, part in features.blocks()
    ):
        raise InvalidInput(
            f"term '{name}' has only the means of '{embedding.kind}', and '{match.match.kind}' needs single points; match "
            "mean_gradients"
        )
    discrepancies = {block: match.match.resolve(measure) for block, measure in features.blocks()}
    shapes = {block: tuple(value.shape[1:]) for block, value in features.tensors.items()}
    return BoundMatch(match, embedding, discrepancies, shapes, groups, share.to(extractor.device))


def _averaged(
    embedding: Embedding, taken: Measure, groups: Sequence[Tensor], extractor: Extractor, parameters: NetworkParameters
) -> Measure:
    """The mean of each group of rows as one point with all its mass; where no graph is kept, a chunk after the other, all of
    one size: what is missing in the last has no mass."""
    network, labels = extractor.context.network, taken.labels
    assert network is not None
    assert labels is not None
    whole = torch.is_grad_enabled() or extractor.whole_batches
    size = len(taken) if whole else extractor.size(max(len(rows) for rows in groups))
    forward = network if whole else extractor.learning_forward
    masses, sums = [], []
    for rows in groups:
        mass, total = taken.mass_of.new_zeros(()), {}
        for part in rows.to(labels.device).split(size):
            own = Measure(taken.tensors["points"][part], taken.mass_of[part], labels[part])
            weight = own.mass_of.sum()
            mass = mass + weight
            if not whole:
                shares = functional.pad(own.mass_of, (0, size - len(part)))
                own = Measure(padded(own.tensors[""], size), shares, padded(labels[part], size))
            for name, value in embedding.mean_of(forward, parameters, own).items():
                total[name] = total.get(name, 0) + weight * value
        masses.append(mass)
        sums.append(total)
    shown = next(total for total in sums if total)
    points = {
        name: torch.stack(
            [total[name] / mass if total else torch.zeros_like(like) for total, mass in zip(sums, masses, strict=True)]
        )
        for name, like in shown.items()
    }
    return Measure({name: value[:, None] for name, value in points.items()}, torch.stack(masses)[:, None])


def grouped(features: Measure, groups: Tensor, count: int) -> Measure:
    """The conditional measures given the group, 0 .. count - 1; groups on the CPU spare a GPU the wait for the sizes."""
    grouping, device = Grouping.of(groups, count), features.mass_of.device
    return features.conditioned(Grouping(grouping.index.to(device), grouping.mask.to(device)))


def moved(draws: Draws, device: torch.device) -> Draws:
    """Random parts, which are drawn on the CPU, where they are used."""
    return None if draws is None else {name: value.to(device) for name, value in draws.items()}


def _groups(name: str, by: str, data: LabelledData, batch: int | str) -> Tensor:
    """The group of every real example."""
    train = data.train
    if by == "class":
        return data.strata
    if by == "none":
        return torch.zeros_like(data.strata)
    if train.groups is None:
        raise InvalidInput(f"term '{name}' is by: group, but these data have no groups; use by: class or by: none")
    labels, groups = data.strata, train.groups
    table = torch.bincount(labels * (groups.max() + 1) + groups, minlength=data.count * (int(groups.max()) + 1))
    table = table.unflatten(0, (data.count, -1))
    others = table.sum(1, keepdim=True) - table
    certain = (table > 0) if isinstance(batch, str) else (table > 0) & (others < batch)
    missing = (~certain.any(0)).nonzero()[:, 0].tolist()
    if missing:
        raise InvalidInput(
            f"term '{name}' is by: group, but group {missing[0]} can be missing from the real batch ({batch} a class); "
            "use the context 'pool' with batch: all, or leave out groups without examples"
        )
    return groups
