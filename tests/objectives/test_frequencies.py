"""Low frequencies, against scipy's cosine transform.

1. The decoded image has the norm of its coefficients, and they come back from it, for images of any sides.
"""

import numpy as np
import pytest
import scipy.fft
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import images, table

from discrepancy.errors import InvalidInput
from objectives.data.labelled import LabelledData
from objectives.rng import rng
from objectives.synthetic.frequencies import Frequencies, cosines
from objectives.synthetic.parameterisation import Layout
from objectives.synthetic.pixels import Pixels


def oblong() -> LabelledData:
    x = torch.randint(0, 256, (12, 3, 7, 5), generator=rng(0, "oblong"))
    return LabelledData.of(x.to(torch.uint8), torch.arange(12) % 2)


@pytest.mark.parametrize("keep", [1, 3, 5])
def test_real_start_is_the_cosine_transform_of_the_examples(keep: int) -> None:
    data = oblong()
    real = Pixels(per_class=2).initial(data.train, 4)["points"].double().numpy()
    expected = np.asarray(scipy.fft.dctn(real, axes=(2, 3), norm="ortho"))[..., :keep, :keep]
    found = Frequencies(per_class=2, keep=keep).initial(data.train, 4)["coefficients"]
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("keep", [1, 3, 5])
def test_decoding_is_the_inverse_of_the_coefficients_filled_up_with_zeros(keep: int) -> None:
    data, form = oblong(), Frequencies(per_class=2, keep=keep, start="noise")
    stored = form.initial(data.train, 0)["coefficients"].double()
    filled = np.zeros((4, 3, 7, 5))
    filled[..., :keep, :keep] = stored.numpy()
    found = form.decode({"coefficients": stored}, form.layout(data.train)).points
    expected = np.asarray(scipy.fft.idctn(filled, axes=(2, 3), norm="ortho"))
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-13)


def test_all_frequencies_are_the_pixels() -> None:
    data, form = images(channels=3), Frequencies(per_class=2, keep=8)
    decoded = form.decode(form.initial(data.train, 1), form.layout(data.train)).points
    torch.testing.assert_close(decoded, Pixels(per_class=2).initial(data.train, 1)["points"], rtol=0, atol=1e-5)


def test_a_step_is_as_long_in_coefficients_as_in_pixels() -> None:
    rows = cosines(5, 7, torch.zeros((), dtype=torch.float64))
    torch.testing.assert_close(rows @ rows.T, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-14)


@settings(max_examples=30, deadline=None, database=None)
@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_decoding_keeps_the_norm(height: int, width: int, data: st.DataObject) -> None:
    keep = data.draw(st.integers(1, min(height, width)))
    form, slots = Frequencies(per_class=1, keep=keep), torch.arange(2)
    stored = torch.randn(2, 1, keep, keep, generator=rng(0, "norm"), dtype=torch.float64)
    points = form.decode({"coefficients": stored}, Layout(slots, 0 * slots, (1, height, width))).points
    assert points.shape == (2, 1, height, width)
    torch.testing.assert_close(points.square().sum(), stored.square().sum(), rtol=1e-12, atol=0)
    back = cosines(keep, height, stored) @ points @ cosines(keep, width, stored).T
    torch.testing.assert_close(back, stored, rtol=0, atol=1e-12)


def test_noise_is_smooth() -> None:
    data, form = images(), Frequencies(per_class=100, keep=4, start="noise")
    stored = form.initial(data.train, 0)
    n = stored["coefficients"].numel()
    assert abs(float(stored["coefficients"].var()) - 1) < 5 * (2 / n) ** 0.5
    assert float(form.decode(stored, form.layout(data.train)).points.var()) == pytest.approx(
        16 / 64, rel=5 * (2 / n) ** 0.5
    )


@pytest.mark.parametrize(
    ("form", "data", "message"),
    [
        (
            Frequencies(keep=6),
            oblong(),
            "'keep' must be at most 5, the number of frequencies of images of 7 x 5, got 6",
        ),
        (Frequencies(), table(), r"'frequencies' stores images \(C, H, W\), .* shape \(5,\); choose pixels"),
        (Frequencies(per_class=8), images(), "start: real needs 8 examples of each class, but '0' of 'data' has 7"),
    ],
    ids=["keep", "table", "too-few"],
)
def test_refused_for_the_data(form: Frequencies, data: LabelledData, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        form.initial(data.train, 0)


def test_refused_when_made() -> None:
    with pytest.raises(InvalidInput, match="'keep' must be at least 1, got 0"):
        Frequencies(keep=0)
    with pytest.raises(InvalidInput, match="'per_class' must be at least 1, got 0"):
        Frequencies(per_class=0)
