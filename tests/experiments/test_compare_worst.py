"""Robust discrepancies in ``condense compare``: the worst case, covers in the norm and units of attacks, robust means."""

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from comparing import QUICK, digits, folder, printed, row
from scipy.spatial.distance import cdist

from discrepancy import (
    MMD,
    EnergyDistance,
    Gaussian,
    JointMMD,
    Measure,
    MedianOfMeans,
    Moments,
    Sinkhorn,
    SlicedWasserstein,
    SmoothCover,
    TrimmedMean,
)
from discrepancy.embeddings import Features, Identity, Layers
from discrepancy.errors import Unsupported
from discrepancy.kernels import Median
from discrepancy.networks import ConvNet
from experiments.cli import main
from experiments.compare import compare, request_of
from experiments.compare.embedding import Embedded
from experiments.compare.estimates import Bound
from experiments.compare.sides import side_of
from experiments.compare.worst import worst_case
from experiments.data import source_named
from objectives.attacks.joint import JointAscent
from objectives.data.labelled import LabelledData
from objectives.engine.runtime import Runtime
from objectives.rng import rng

__all__ = ["digits", "folder"]

SYMMETRIC = (
    MMD(kernel=Gaussian(lengthscale=Median())),
    MMD(),
    EnergyDistance(),
    SlicedWasserstein(),
    Moments(),
    Sinkhorn(),
    JointMMD(),
)


@dataclass(frozen=True)
class Few:
    """Two files as YAML, and their points by class, for values in 0 .. 1."""

    real: str
    other: str
    points: list[np.ndarray]
    others: list[np.ndarray]


def gaussian_mmd(x: np.ndarray, y: np.ndarray, length: float) -> np.ndarray:
    """Σ k(x, x') / n² - 2 Σ k(x, y) / (n m) + Σ k(y, y') / m², of many samples x (s, n) at once, in one dimension."""

    def mean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.exp(-((a[..., :, None] - b[..., None, :]) ** 2) / (2 * length**2)).mean((-2, -1))

    return mean(x, x) - 2 * mean(x, y) + mean(y, y)


@pytest.mark.parametrize("limits", [None, (0.0, 3.0)], ids=["any-values", "limits"])
def test_it_is_the_largest_of_all_points_of_a_grid(limits: tuple[float, float] | None, tmp_path: Path, capsys) -> None:
    """Three real points and one other on a line, each real one moved by every multiple of ε / 10 up to ε, in units of the
    source, or of the range of valid values, beyond which no point moves."""
    x, y, eps, length = np.array([0.1, 1.0, 2.9]), np.array([1.2]), 0.25, 0.8
    np.savez(tmp_path / "real.npz", x=x[:, None])
    np.savez(tmp_path / "other.npz", x=y[:, None])
    real = {"kind": "npz", "path": str(tmp_path / "real.npz")} | ({} if limits is None else {"limits": list(limits)})
    other = real | {"path": str(tmp_path / "other.npz")}
    low, high = limits or (-np.inf, np.inf)
    reach = eps * (1.0 if limits is None else high - low)
    moves = np.array(list(itertools.product(np.linspace(-reach, reach, 21), repeat=3)))
    scale = float(x.std())  # values are compared in normalised units
    truth = gaussian_mmd((x + moves).clip(low, high) / scale, y / scale, length).max()
    plain = float(gaussian_mmd(x / scale, y / scale, length))
    tree = {"real": real, "sets": {"other": other}, "by": "none", "resamples": 10, "permutations": 19}
    tree |= {"discrepancies": {"mmd": {"kind": "mmd", "kernel": {"gaussian": {"lengthscale": length}}}}}
    worst = {"eps": eps, "steps": 20, "restarts": 2}
    answer = compare(request_of(tree | {"worst": worst}))
    unknown = [note for note in answer.notes if note.startswith("the limits of the values of") and "the radius" in note]
    assert len(unknown) == (limits is None)
    (found,) = answer.rows
    assert found.worst is not None
    assert found.worst.real == 3
    assert found.worst.plain == pytest.approx(plain, rel=1e-5)
    assert found.value == pytest.approx(plain, rel=1e-5)
    assert truth * (1 - 2e-3) <= found.worst.largest <= truth * (1 + 2e-3)
    assert truth > 1.1 * plain


@pytest.fixture(scope="module")
def few(digits: LabelledData, tmp_path_factory: pytest.TempPathFactory) -> Few:
    """Two files of three classes of digits: the first twelve examples of each, and the next two; values in 0 .. 1, by class."""
    path, train = tmp_path_factory.mktemp("few"), digits.train
    points, written = [], []
    for name, chosen in (("few", slice(0, 12)), ("two", slice(12, 14))):
        rows = [members[chosen] for members in train.members[:3]]
        points.append([train.points[own].double().flatten(1).numpy() / 16 for own in rows])
        file, flat = path / f"{name}.npz", torch.cat(rows)
        np.savez(file, x=train.points[flat].numpy(), y=train.labels.numbers[flat].numpy())
        written.append(f"{{kind: npz, path: {file}, limits: [0, 16]}}")
    return Few(*written, *points)


def test_it_is_the_value_without_a_ball_and_larger_with_one(few: Few) -> None:
    """For every sort of symmetric discrepancy; without a ball it is the value."""
    real, side = side_of("few", source_named(few.real)), side_of("two", source_named(few.other))
    embedded = Embedded(real, Identity(), None, 0, Runtime(seed=0))
    here, there = (embedded.features(one)[""] for one in (real, side))
    labels, others = (one.label_vectors(real.classes, None) for one in (real, side))
    for discrepancy in SYMMETRIC:
        given, other = (labels, others) if discrepancy.labelled else (None, None)
        resolved = discrepancy.resolve(Measure(here, labels=given))
        draws = resolved.draw(rng(0, "random"), tuple(here.shape[1:]))
        bound, made = Bound(resolved, draws, 2), Measure(there, labels=other)
        value = bound.value(bound.summary(Measure(here, labels=given)), made)
        for eps in (0.0, 1 / 16):
            ascent, points = JointAscent(eps=eps, steps=3), embedded.normalised(real, slice(None))
            found = worst_case(ascent, embedded, points, given, {"": bound}, {"": made}, torch.Generator())
            assert found.plain == pytest.approx(value, rel=2e-3)
            assert found.largest == found.plain if eps == 0 else found.largest > value, discrepancy


def test_the_mean_is_worst_where_every_pixel_goes_its_own_way(few: Few, tmp_path: Path, capsys) -> None:
    """sup ‖mean(x + δ) - mean(s)‖² over L∞ is Σ_k max((u_k - s_k)², (l_k - s_k)²), with u and l the means of
    min(x + ε, 1) and max(x - ε, 0). The ascent reaches at least the sum over pixels that go the way in which they differ
    already. It is averaged over classes, and stands in the table."""
    eps, out = 8 / 255, tmp_path / "out"
    truth, least, plain = [], [], []
    for x, s in zip(few.points, few.others, strict=True):
        up, down = ((np.clip(x + sign * eps, 0, 1).mean(0) - s.mean(0)) ** 2 for sign in (1, -1))
        truth.append(np.maximum(up, down).sum())
        least.append(np.where(x.mean(0) > s.mean(0), up, np.where(x.mean(0) < s.mean(0), down, 0)).sum())
        plain.append(((x.mean(0) - s.mean(0)) ** 2).sum())
    words = ["--units", "range", "--discrepancies", "mean,covering_radius", "--worst", "8/255", "--by", "class"]
    assert main(["compare", few.real, few.other, *words, *QUICK, "--out", str(out)]) == 0
    said, found = capsys.readouterr().out, json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    for name, number in (("class 0", 0), ("class 1", 1), ("class 2", 2), ("classes", slice(3))):
        worst = row(found, discrepancy="mean", group=name)["worst"]
        assert worst["plain"] == pytest.approx(np.mean(plain[number]), rel=1e-4)
        assert (1 - 1e-4) * np.mean(least[number]) <= worst["largest"] <= (1 + 1e-4) * np.mean(truth[number])
        assert np.mean(plain[number]) < 0.9 * np.mean(least[number])
        assert worst["real"] == (36 if name == "classes" else 12)
    assert row(found, discrepancy="covering_radius", group="classes")["worst"] is None
    assert "covering_radius: no worst case, because it is not symmetric" in found["notes"]
    assert "plain  worst linf 8/255" in said.splitlines()[0]
    assert f"{worst['plain']:.3g}" in said
    assert f"{worst['largest']:.3g}" in said
    assert "worst_plain,worst_largest" in (out / "comparison.csv").read_text(encoding="utf-8").splitlines()[0]


def test_a_random_part_of_many_examples_moves(few: Few, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr("experiments.compare.comparing.WORST_CAP", 30)
    found = printed(capsys, few.real, few.other, "--discrepancies", "mean", "--by", "none", "--worst", "0.1")
    (one,) = found["rows"]
    assert one["worst"]["real"] == 30
    assert one["real"] == 36
    assert "mean, all: the worst case is of 30 random real points of the 36" in found["notes"]


@pytest.mark.parametrize("via", [Features(), Layers()], ids=["features", "layers"])
def test_features_are_differentiated_chunk_by_chunk(via: Features | Layers, digits: LabelledData) -> None:
    """The gradient through chunks that are computed anew is that of one pass."""
    real = side_of("digits", "digits")
    embedded = Embedded(real, via, ConvNet(width=4, depth=2), 0, Runtime(seed=0))
    points = embedded.normalised(real, torch.arange(11)).requires_grad_()

    def loss(blocks: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.stack([block.square().sum() for block in blocks.values()]).sum()

    network = embedded.extractor.network
    assert network is not None
    taken = network(embedded.parameters, points, embedded.extractor.take) | {"points": points}
    expected = torch.autograd.grad(loss(dict(Measure(via(taken)).tensors)), points)[0]
    embedded.extractor.chunk = 3
    found = embedded.blocks(points)
    torch.testing.assert_close(torch.autograd.grad(loss(found), points)[0], expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(Unsupported, match="first derivatives only"):
        torch.autograd.grad(loss(embedded.blocks(points)), points, create_graph=True)


def test_layers_of_networks_are_added_and_networks_averaged(folder: Path, capsys) -> None:
    options = ["--discrepancies", "mean", "--by", "none", "--via", "layers", "--networks", "2", "--worst", "0.1"]
    options += ["--network", "{kind: convnet, width: 4, depth: 2}", "--set", "worst.steps=2"]
    (one,) = printed(capsys, "digits", folder / "one.safetensors", *options, "--set", "worst.eps=0.05")["rows"]
    assert one["worst"]["real"] == 1000
    assert 0.8 * one["value"] < one["worst"]["plain"] < 1.25 * one["value"]  # of 1,000 of 1,437 examples
    assert one["worst"]["largest"] > 1.1 * one["worst"]["plain"]


# --- covers and robust means ------------------------------------------------------------------------------------------------


def test_covering_radii_in_the_norms_and_units_of_attacks(few: Few, capsys) -> None:
    """By scipy's distances of values in 0 .. 1. Radii in normalised units are larger, by the ratio of the units."""
    both = "{one: {covering_radius: {norm: linf}}, other: {covering_radius: {norm: l2}}}"
    options = (few.real, few.other, "--discrepancies", both, "--by", "class")
    found, normalised = printed(capsys, *options, "--units", "range"), printed(capsys, *options)
    (std,) = side_of("few", source_named(few.real)).normalisation.std
    for name, metric in (("one", "chebyshev"), ("other", "euclidean")):
        for label, (x, s) in enumerate(zip(few.points, few.others, strict=True)):
            radius, group = cdist(x, s, metric).min(1).max(), f"class {label}"
            assert row(found, discrepancy=name, group=group)["value"] == pytest.approx(radius, rel=1e-5)
            assert row(normalised, discrepancy=name, group=group)["value"] == pytest.approx(16 * radius / std, rel=1e-5)


def test_smooth_covers_and_robust_means_are_those_of_the_library(few: Few, capsys) -> None:
    mean = "{kind: mmd, kernel: linear}"
    asked = (
        "{smooth: {kind: smooth_cover, norm: linf, min_temperature: 0.01, max_temperature: 0.02}, "
        f"blocks: {{kind: median_of_means, of: {mean}, blocks: 5}}, trim: {{kind: trimmed_mean, of: {mean}, share: 0.1}}}}"
    )
    found = printed(capsys, few.real, few.other, "--by", "class", "--units", "range", "--discrepancies", asked)
    real, some = (Measure(torch.from_numpy(side[2]).float()) for side in (few.points, few.others))
    truth = {
        "smooth": SmoothCover(norm="linf", min_temperature=0.01, max_temperature=0.02),
        "blocks": MedianOfMeans(of=MMD(), blocks=5),
        "trim": TrimmedMean(of=MMD(), share=0.1),
    }
    for name, discrepancy in truth.items():
        value = row(found, discrepancy=name, group="class 2")["value"]
        assert value == pytest.approx(float(discrepancy(real, some)), rel=1e-4)
    radius = cdist(few.points[2], few.others[2], "chebyshev").min(1).max()
    assert row(found, discrepancy="smooth", group="class 2")["value"] == pytest.approx(radius, abs=0.1)


# --- asking -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--worst", "8"], "'eps' is 8, but no two examples are further apart than 1 in the norm linf"),
        (["--worst", "-1"], "worst.eps: 'eps' must be >= 0"),
        (["--worst", "0.1", "--set", "worst.steps=0"], "worst.steps: 'steps' must be at least 1"),
        (
            ["--worst", "0.1", "--discrepancies", "covering_radius,classifier"],
            "got 'covering_radius' (it is not symmetric), 'classifier' (it has no gradient); add mmd or energy_distance",
        ),
        (["--units", "range", "--via", "features"], "'features' takes from a network, which sees normalised values"),
        (["--units", "bytes"], "units: expected one of 'normalised', 'range'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_gets_one_clear_line(arguments: list[str], message: str, folder: Path, capsys) -> None:
    assert main(["compare", "digits", str(folder / "one.safetensors"), "--quiet", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_range_of_unknown_limits_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("real.npz", x=np.random.default_rng(0).normal(size=(9, 2)))
    assert main(["compare", "real.npz", "real.npz", "--by", "none", "--units", "range", "--quiet"]) == 2
    assert "the limits of the values of 'real.npz' are not known" in capsys.readouterr().err


def test_requests_without_them_keep_their_hash() -> None:
    plain = {"real": "digits", "sets": ["digits:test"]}
    assert request_of(plain).hash == "35a5782feb4c"
    assert request_of(plain | {"units": "normalised", "worst": None}).hash == request_of(plain).hash
    hashes = {request_of(plain | more).hash for more in ({}, {"units": "range"}, {"worst": {"eps": 0.1}})}
    assert len(hashes) == 3
    assert request_of(plain | {"worst": {"eps": "8/255"}}).worst == JointAscent(eps=8 / 255)
