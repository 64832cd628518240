"""Points without labels: one group, objectives that look at points alone, and an artefact that says that it has no labels."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from discrepancy import MMD, EnergyDistance, Risk, SlicedWasserstein
from discrepancy.discrepancy import Discrepancy
from discrepancy.embeddings import Features
from discrepancy.errors import InvalidInput
from discrepancy.kernels import Gaussian
from discrepancy.networks import ConvNet
from objectives.condensation import condense
from objectives.contexts import Fresh, Pool, Queue
from objectives.data.labelled import LabelledData
from objectives.solvers import Descent, Herding
from objectives.synthetic.artefact import SyntheticSet
from objectives.synthetic.bases import Bases
from objectives.synthetic.formation import Formation
from objectives.synthetic.frequencies import Frequencies
from objectives.synthetic.parameterisation import Parameterisation
from objectives.synthetic.pixels import Pixels
from objectives.terms.match import Match
from objectives.terms.penalties import CrossEntropy, TotalVariation
from objectives.training.augmentation import Siamese

N = 19


def points(*shape: int) -> torch.Tensor:
    return torch.randn(N, *shape, generator=torch.Generator().manual_seed(3))


def unlabelled(*shape: int) -> LabelledData:
    return LabelledData.unlabelled(points(*(shape or (4,))))


def test_there_is_one_group_and_no_class() -> None:
    data = unlabelled()
    assert (data.classes, data.count, data.outputs, data.train.per_class) == ((), 1, 1, (N,))
    assert data.train.strata.tolist() == [0] * N
    assert data.train.label_vectors(torch.arange(3)) is None
    part = data.split(0.25, torch.Generator().manual_seed(0))
    assert part.test is not None
    assert (len(part.train), len(part.test)) == (14, 5)


def test_the_fingerprint_is_of_the_points() -> None:
    assert unlabelled().train.fingerprint() == unlabelled().train.fingerprint()
    assert unlabelled().train.fingerprint() != LabelledData.of(points(4), [0, 1] * 9 + [0]).train.fingerprint()


@pytest.mark.parametrize("discrepancy", [MMD(kernel=Gaussian(lengthscale=2.0)), EnergyDistance(), SlicedWasserstein()])
def test_points_are_condensed(discrepancy: Discrepancy) -> None:
    data, losses = unlabelled(), list[float]()
    made = condense(
        data,
        Match(discrepancy, by="none"),
        context=Pool(),
        synthetic=Pixels(examples=3, start="noise"),
        solver=Descent(lr=0.5, steps=20),
        on_step=lambda progress: losses.append(progress.loss),
    )
    assert made.points.shape == (3, 4)
    assert losses[-1] < losses[0]


def test_the_loss_is_that_of_numpy() -> None:
    data, losses = unlabelled(), list[float]()
    made = condense(
        data,
        Match(MMD(kernel=Gaussian(lengthscale=2.0)), by="none"),
        context=Pool(),
        synthetic=Pixels(examples=5),
        solver=Descent(lr=1e-9, steps=1),
        on_step=lambda progress: losses.append(progress.loss),
    )
    x, s = (data.normalisation.apply(side).double().numpy() for side in (data.train.points, made.points))
    gram = lambda a, b: np.exp(-np.square(a[:, None] - b[None]).sum(-1) / 8).mean()  # noqa: E731
    assert losses[0] == pytest.approx(gram(x, x) - 2 * gram(x, s) + gram(s, s), rel=1e-4)


FORMS = [Pixels(examples=2), Formation(examples=2), Frequencies(examples=2, keep=3), Bases(examples=2, number=4)]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.kind)
def test_every_form_holds_them(form: Parameterisation, tmp_path: Path) -> None:
    context = Fresh(network=ConvNet(width=4, depth=2), augment=Siamese(), batch=8)
    objective = Match(MMD(), via=Features(), by="none") + 0.1 * TotalVariation()
    solver = Descent(lr=0.01, steps=2)
    made = condense(unlabelled(1, 8, 8), objective, context=context, synthetic=form, solver=solver)
    made.save(tmp_path / "a.safetensors")
    read = SyntheticSet.load(tmp_path / "a.safetensors")
    assert read.points.shape == (2 * form.copies, 1, 8, 8)
    assert read.labels is None
    assert read.stored_bytes == sum(value.nbytes for value in read.parameters.values())


def test_the_artefact_says_that_it_has_no_labels(tmp_path: Path) -> None:
    made = condense(unlabelled(), Match(MMD(), by="none"), context=Pool(), solver=Herding(), examples=4)
    made.save(tmp_path / "a.safetensors")
    assert "labels" not in safetensors.torch.load_file(tmp_path / "a.safetensors")
    read = SyntheticSet.load(tmp_path / "a.safetensors")
    assert (read.labelling.kind, read.labels, read.classes) == ("none", None, ())
    assert read.stored_bytes == 4 * 4 * 4
    (point,) = read[2]
    assert point.equal(unlabelled().train.points[made.record["chosen"][2]])


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("labelled", "term 'risk' matches 'risk', which looks at labels, but 'data' has none"),
        ("penalty", "term 'cross_entropy' is a cross_entropy, which needs classes, but 'data' has no labels"),
        ("learned", "'labels' is learned, but 'data' has no labels; use hard"),
        ("training", "the context 'queue', whose networks learn by cross-entropy, needs classes"),
    ],
)
def test_what_needs_labels_is_refused(case: str, message: str) -> None:
    network = ConvNet(width=4, depth=2)
    objective = {"labelled": Match(Risk(), by="none"), "penalty": CrossEntropy()}.get(
        case, Match(MMD(), via=Features(), by="none")
    )
    context = Queue(network=network) if case == "training" else Pool(network=network)
    synthetic = Pixels(examples=2, labels="learned" if case == "learned" else "hard")
    with pytest.raises(InvalidInput, match=message):
        condense(unlabelled(1, 8, 8), objective, context=context, synthetic=synthetic)
