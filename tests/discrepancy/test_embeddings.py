"""Embeddings: what they take, numbers from a sample, and random features against the kernel they stand for."""

import math

import numpy as np
import pytest
import torch

from discrepancy import MMD, Gaussian
from discrepancy.embeddings import Features, Identity, Layers, Logits, RandomFourier, Standardised
from discrepancy.errors import InvalidInput, NumericalWarning
from discrepancy.kernels import Laplace, Matern, Median
from discrepancy.measure import Measure
from discrepancy.networks import ConvNet


@pytest.fixture
def taken(generator):
    """What a context offers of 5 small images."""
    network = ConvNet(width=4, depth=2, activation="swish")  # smooth: no feature is constant
    points = torch.randn(5, 2, 8, 8, generator=generator)
    parameters = network.initial(generator, (2, 8, 8), 3)
    return {"points": points} | network(parameters, points, ("features", "layers", "logits"))


@pytest.mark.parametrize(
    ("embedding", "name"),
    [(Identity(), "points"), (Features(), "features"), (Logits(), "logits")],
    ids=lambda item: str(item),
)
def test_an_embedding_gives_what_it_names(embedding, name, taken):
    assert embedding.takes == {name}
    assert embedding(taken) is taken[name]


def test_layers_are_named_blocks(taken):
    assert Layers().takes == {"layers"}
    extra = taken | {"layer1.mean": torch.zeros(4)}
    blocks = Layers()(extra)
    assert blocks.keys() == {"layer1", "layer2"}
    assert blocks["layer2"] is taken["layer2"]


@pytest.mark.parametrize("shape", [(3,), (3, 4, 5)], ids=["vectors", "images"])
def test_standardised_has_mean_zero_and_spread_one(shape, generator):
    scale = torch.tensor([0.1, 1.0, 30.0], dtype=torch.double).view(3, *[1] * (len(shape) - 1))
    points = torch.randn(11, *shape, generator=generator, dtype=torch.double) * scale + 7
    values = Standardised().resolve(Measure(points))({"points": points}).transpose(0, 1).flatten(1).numpy()
    np.testing.assert_allclose(values.mean(1), 0, atol=1e-12)
    np.testing.assert_allclose(values.std(1), 1, rtol=1e-12)


def test_standardised_knows_weights():
    points = torch.tensor([[0.0], [1.0], [5.0]], dtype=torch.double)
    weights = torch.tensor([2.0, 6.0, 0.0], dtype=torch.double)
    resolved = Standardised().resolve(Measure(points, weights))
    assert resolved.mean == pytest.approx((0.75,))
    assert resolved.std == pytest.approx((math.sqrt(0.1875),))


def test_standardised_keeps_numbers_that_are_given(generator):
    embedding = Standardised(mean=(1.0, 2.0), std=(2.0, 4.0))
    sample = Measure(torch.randn(7, 2, generator=generator))
    assert embedding.resolve(sample) == embedding
    values = embedding({"points": torch.tensor([[3.0, 6.0]])})
    torch.testing.assert_close(values, torch.ones(1, 2))


def test_standardised_of_what_a_network_gives(taken):
    resolved = Standardised(of=Features()).resolve(Measure(taken))
    assert resolved.takes == {"features"}
    values = resolved(taken)
    torch.testing.assert_close(values.mean(0), torch.zeros(values.shape[1]), atol=1e-5, rtol=0)
    torch.testing.assert_close(values.std(0, correction=0), torch.ones(values.shape[1]), atol=1e-4, rtol=0)


def test_a_constant_feature_keeps_its_units_and_says_so():
    points = torch.tensor([[1.0, 0.1], [3.0, 0.1], [4.0, 0.1]])
    with pytest.warns(NumericalWarning, match=r"1 features of 'standardised' are constant .* \(number 1\)"):
        resolved = Standardised().resolve(Measure(points))
    assert resolved.std is not None
    assert resolved.std[1] == 1.0
    shifted = resolved({"points": torch.tensor([[1.0, 0.6]])})
    assert shifted[0, 1].item() == pytest.approx(0.5)


def test_random_fourier_is_the_formula(generator):
    embedding = RandomFourier(features=6, lengthscale=2.5)
    draws = embedding.draw(generator, {"points": (2, 3)})
    points = torch.randn(4, 2, 3, generator=generator, dtype=torch.double)
    frequencies = draws["frequencies"].double().numpy() / 2.5
    angles = points.flatten(1).numpy() @ frequencies
    truth = math.sqrt(2 / 6) * np.concatenate([np.cos(angles), np.sin(angles)], 1)
    np.testing.assert_allclose(embedding({"points": points}, draws).numpy(), truth, rtol=1e-12, atol=1e-12)


LAWS = {
    "gaussian": ({"law": "gaussian"}, Gaussian(lengthscale=1.7)),
    "laplace": ({"law": "laplace"}, Laplace(lengthscale=1.7)),
    "matern-3/2": ({"law": "matern"}, Matern(lengthscale=1.7)),
    "matern-5/2": ({"law": "matern", "smoothness": 2.5}, Matern(lengthscale=1.7, smoothness=2.5)),
}


@pytest.mark.parametrize("orthogonal", [False, True], ids=["independent", "orthogonal"])
@pytest.mark.parametrize(("law", "kernel"), LAWS.values(), ids=LAWS.keys())
def test_random_fourier_estimates_the_kernel_of_its_law(law, kernel, orthogonal, generator):
    embedding = RandomFourier(features=40_000, lengthscale=1.7, orthogonal=orthogonal, **law)
    points = torch.randn(7, 3, generator=generator, dtype=torch.double)
    features = embedding({"points": points}, embedding.draw(generator, {"points": (3,)}))
    torch.testing.assert_close(features @ features.T, kernel(points, points), atol=5 / math.sqrt(20_000), rtol=0)
    torch.testing.assert_close(features.square().sum(1), torch.ones(7, dtype=torch.double))


@pytest.mark.parametrize("orthogonal", [False, True], ids=["independent", "orthogonal"])
@pytest.mark.parametrize(("law", "kernel"), LAWS.values(), ids=LAWS.keys())
def test_random_fourier_is_unbiased(law, kernel, orthogonal, generator):
    embedding = RandomFourier(features=4, lengthscale=1.7, orthogonal=orthogonal, **law)
    x = torch.tensor([[0.0, 0.0], [1.0, 0.5]], dtype=torch.double)
    draws = (embedding({"points": x}, embedding.draw(generator, {"points": (2,)})) for _ in range(1000))
    products = torch.stack([first @ second for first, second in draws])
    error = products.std() / math.sqrt(len(products))
    assert abs(products.mean() - kernel(x, x)[0, 1]) < 4 * error


@pytest.mark.parametrize(("law", "kernel"), LAWS.values(), ids=LAWS.keys())
def test_linear_mmd_on_random_features_is_that_of_the_kernel(law, kernel, generator):
    embedding = RandomFourier(features=40_000, lengthscale=1.7, **law)
    draws = embedding.draw(generator, {"points": (3,)})
    x, y = torch.randn(11, 3, generator=generator), torch.randn(5, 3, generator=generator) + 0.5
    value = MMD()(*(Measure(embedding({"points": side}, draws)) for side in (x, y)))
    assert value.item() == pytest.approx(MMD(kernel=kernel)(Measure(x), Measure(y)).item(), abs=0.02)


@pytest.mark.parametrize("count", [3, 5, 13])
def test_orthogonal_frequencies_are_orthogonal_in_blocks_of_d(count, generator):
    embedding = RandomFourier(features=2 * count, law="laplace", orthogonal=True)
    frequencies = embedding.draw(generator, {"points": (5,)})["frequencies"]
    assert frequencies.shape == (5, count)
    for block in frequencies.split(5, 1):
        directions = block / block.norm(dim=0)
        torch.testing.assert_close(directions.mT @ directions, torch.eye(block.shape[1]), atol=1e-5, rtol=0)


def test_orthogonal_frequencies_are_as_long_as_independent_ones():
    """‖ω‖² has mean d and variance 2d."""
    embedding = RandomFourier(features=2 * 3000, orthogonal=True)
    frequencies = embedding.draw(torch.Generator().manual_seed(0), {"points": (6,)})["frequencies"]
    squares = frequencies.square().sum(0)
    assert squares.mean().item() == pytest.approx(6, abs=4 * math.sqrt(12 / 3000))
    assert squares.var().item() == pytest.approx(12, rel=0.15)


def test_orthogonal_features_have_less_error(generator):
    points = torch.randn(20, 16, generator=generator, dtype=torch.double)
    kernel = Gaussian(lengthscale=4.0)(points, points)
    errors = []
    for orthogonal in (False, True):
        embedding = RandomFourier(features=32, lengthscale=4.0, orthogonal=orthogonal)
        drawn = (embedding({"points": points}, embedding.draw(generator, {"points": (16,)})) for _ in range(100))
        errors.append(torch.stack([(f @ f.T - kernel).square().mean() for f in drawn]).mean())
    assert errors[1] < 0.6 * errors[0]


def test_random_fourier_draws_depend_on_the_generator_only():
    embedding = RandomFourier(features=4)
    first, again = (embedding.draw(torch.Generator().manual_seed(2), {"points": (3,)}) for _ in range(2))
    other = embedding.draw(torch.Generator().manual_seed(3), {"points": (3,)})
    assert torch.equal(first["frequencies"], again["frequencies"])
    assert not torch.equal(first["frequencies"], other["frequencies"])


def test_random_fourier_has_the_right_gradient(generator):
    embedding = RandomFourier(features=4, lengthscale=0.7)
    draws = embedding.draw(generator, {"points": (3,)})
    points = torch.randn(2, 3, generator=generator, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: embedding({"points": x}, draws), points)


def test_random_fourier_measures_its_length(generator):
    points = torch.randn(9, 3, generator=generator, dtype=torch.double)
    resolved = RandomFourier(lengthscale=Median(factor=0.5)).resolve(Measure(points))
    assert resolved.lengthscale == pytest.approx(0.5 * float(torch.pdist(points).quantile(0.5)))


def test_a_chain_of_embeddings_is_their_composition(taken, generator):
    chain = RandomFourier(features=6, lengthscale=Median(), of=Standardised(of=Features())).resolve(Measure(taken))
    standardised = Standardised(of=Features()).resolve(Measure(taken))(taken)
    assert chain.takes == {"features"}
    assert chain.lengthscale == pytest.approx(float(torch.pdist(standardised.double()).quantile(0.5)), rel=1e-5)
    draws = chain.draw(generator, {"points": (2, 8, 8), "features": (16,)})
    assert draws["frequencies"].shape == (16, 3)
    alone = RandomFourier(features=6, lengthscale=chain.lengthscale)({"points": standardised}, draws)
    torch.testing.assert_close(chain(taken, draws), alone)


def test_inner_random_parts_are_drawn_and_handed_on(taken, generator):
    inner = RandomFourier(features=4)
    outer = RandomFourier(features=6, of=inner)
    draws = outer.draw(generator, {"points": (2, 8, 8)})
    assert {name: tuple(value.shape) for name, value in draws.items()} == {
        "frequencies": (4, 3),
        "of.frequencies": (128, 2),
    }
    middle = inner(taken, {"frequencies": draws["of.frequencies"]})
    alone = RandomFourier(features=6)({"points": middle}, {"frequencies": draws["frequencies"]})
    torch.testing.assert_close(outer(taken, draws), alone)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RandomFourier(features=3), "'features' must be even and >= 2, got 3"),
        (lambda: RandomFourier(features=0), "'features' must be even and >= 2, got 0"),
        (lambda: RandomFourier(lengthscale=0.0), "'lengthscale' must be finite and > 0, got 0.0"),
        (lambda: RandomFourier(law="matern", smoothness=1.0), "'smoothness' must be 0.5, 1.5, 2.5, ..., got 1.0"),
        (lambda: Standardised(mean=(0.0,)), "'mean' and 'std' must both be given, or neither"),
        (lambda: Standardised(mean=(0.0,), std=(1.0, 2.0)), "must be equally long, got 1 and 2 numbers"),
        (lambda: Standardised(mean=(math.inf,), std=(1.0,)), "'mean' must be finite"),
        (lambda: Standardised(mean=(0.0,), std=(0.0,)), "'std' must be finite and > 0"),
    ],
    ids=["odd", "none", "length", "smoothness", "half", "unequal", "infinite", "no spread"],
)
def test_bad_fields_are_refused(build, message):
    with pytest.raises(InvalidInput, match=message):
        build()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda taken: Standardised()(taken), "'standardised' has no numbers yet; call resolve"),
        (lambda taken: Standardised(mean=(0.0,), std=(1.0,))(taken), "holds 1 means, but there are 2 features"),
        (lambda taken: RandomFourier(lengthscale=Median())(taken), "the rule 'median' and not yet a number"),
        (lambda taken: RandomFourier()(taken), "'random_fourier' needs its frequencies"),
        (
            lambda taken: Standardised(of=Features()).resolve(Measure(taken["points"])),
            "'features' takes 'features', which the sample lacks; it has points",
        ),
        (
            lambda taken: Standardised(of=Layers()).resolve(Measure(taken)),
            "'standardised' follows an embedding of one block, but 'layers' has layer1, layer2",
        ),
    ],
    ids=["unresolved numbers", "other size", "unresolved rule", "no draws", "not taken", "blocks"],
)
def test_misuse_is_refused(call, message, taken):
    with pytest.raises(InvalidInput, match=message):
        call(taken)
