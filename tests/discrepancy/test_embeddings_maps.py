"""Embeddings of feature maps, by loops."""

import pytest
import torch

from discrepancy import InvalidInput, Measure
from discrepancy.embeddings import Attention, ChannelMeans, Identity, Layers, Normalised, Standardised

MAPS = {
    "layer1": torch.randn(3, 4, 2, 5, generator=torch.Generator().manual_seed(0)),
    "layer2": torch.randn(3, 2, 1, 2, generator=torch.Generator().manual_seed(1)),
    "layer2.mean": torch.zeros(3, 2),
}

KINDS = ("layer", "activation")


@pytest.mark.parametrize("power", [1.0, 4.0])
def test_attention_by_loops(power: float):
    found = Attention(power=power)(MAPS)
    assert set(found) == {"layer1", "layer2"}
    for name, looks in found.items():
        for image, row in zip(MAPS[name], looks, strict=True):
            sums = torch.tensor(
                [
                    sum(abs(float(image[c, i, j])) ** power for c in range(image.shape[0]))
                    for i in range(image.shape[1])
                    for j in range(image.shape[2])
                ]
            )
            torch.testing.assert_close(row, sums / sums.square().sum().sqrt())


def test_attention_before_the_pooling_and_without_the_last_layer():
    offered = {f"{kind}{number}": torch.full((1, 2, 2, 2), float(number)) for number in range(1, 12) for kind in KINDS}
    offered["activation2"][0, :, 0, 0] = 5.0
    assert Attention(pooled=False).takes == {"activations"}
    found = Attention(power=1.0, pooled=False, last=False)(offered)
    assert set(found) == {f"activation{number}" for number in range(1, 11)}
    torch.testing.assert_close(found["activation2"][0], torch.tensor([5.0, 2.0, 2.0, 2.0]) / 37**0.5)
    with pytest.raises(InvalidInput, match="'last' is false, but the network has one layer"):
        Attention(last=False)({"layer1": torch.ones(1, 2, 2, 2)})


def test_attention_of_nothing_is_zero_with_a_finite_gradient():
    dark = torch.zeros(2, 3, 2, 2, requires_grad=True)
    looks = Attention()({"layer1": dark})["layer1"]
    looks.sum().backward()
    assert not looks.any()
    assert dark.grad is not None
    assert bool(torch.isfinite(dark.grad).all())


def test_channel_means_by_loops():
    found = ChannelMeans()({**MAPS, "layer3": torch.ones(3, 7)})
    assert set(found) == {"layer1", "layer2", "layer3"}
    torch.testing.assert_close(found["layer1"][2, 3], MAPS["layer1"][2, 3].mean())
    torch.testing.assert_close(found["layer3"], torch.ones(3, 7))


def test_normalised_rows_have_length_one():
    points = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(2))
    points[1] = 0
    unit = Normalised(of=Identity())({"points": points})
    assert isinstance(unit, torch.Tensor)
    assert unit.shape == points.shape
    torch.testing.assert_close(unit.flatten(1).norm(dim=1), torch.tensor([1.0, 0, 1, 1, 1]))
    torch.testing.assert_close(unit[0] * points[0].norm(), points[0])
    blocks = Normalised(of=Layers())(MAPS)
    torch.testing.assert_close(blocks["layer2"].flatten(1).norm(dim=1), torch.ones(3))


def test_normalised_resolves_what_it_follows():
    points = torch.randn(5, 3, generator=torch.Generator().manual_seed(3))
    outer = Normalised(of=Standardised())
    assert not outer.resolved
    ready = outer.resolve(Measure(points))
    assert ready.resolved
    torch.testing.assert_close(
        ready({"points": points}),
        torch.nn.functional.normalize((points - points.mean(0)) / points.std(0, unbiased=False)),
    )


def test_a_layer_without_positions_is_refused():
    message = r"'attention' is a map over positions, but layer2 of the network has shape \(4,\) for an example; take a network"
    with pytest.raises(InvalidInput, match=message):
        Attention()({**MAPS, "layer2": torch.zeros(3, 4)})


def test_a_power_of_zero_is_refused():
    with pytest.raises(InvalidInput, match="'power' must be finite and > 0, got 0"):
        Attention(power=0.0)
