"""How much memory an embedding takes, estimated on the meta device, and how much there is."""

from functools import lru_cache

import psutil
import torch
from torch import Tensor

from discrepancy.networks.base import Network
from objectives.engine.cgroups import group_bytes

__all__ = ["available_bytes", "chunk_examples", "graph_bytes"]

CHUNK_BYTES = {"cpu": 16 << 20, "cuda": 1 << 30}
"""Activations of one chunk: on a CPU they should stay in its cache, on a GPU they should fill it."""


def available_bytes(device: torch.device) -> int:
    """Memory that could be allocated now; on a CPU, within the control groups of the process."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    available, within = psutil.virtual_memory().available, group_bytes()
    return available if within is None else min(available, within)


@lru_cache(maxsize=256)
def graph_bytes(network: Network, shape: tuple[int, ...], classes: int, take: tuple[str, ...]) -> int:
    """Bytes that autograd keeps for the backward pass of one example: through what is taken of the network, or, for
    ``gradient``, through the gradient of the loss by the weights."""
    return (_kept(network, shape, classes, take, 4) - _kept(network, shape, classes, take, 2)) // 2


def _kept(network: Network, shape: tuple[int, ...], classes: int, take: tuple[str, ...], n: int) -> int:
    """Bytes kept for n examples."""
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()  # its Python object may be a new one at each call
        kept[storage._cdata] = storage.nbytes()
        return tensor

    initial = network.initial(torch.Generator(), shape, classes, affine=False)
    twice = "gradient" in take
    parameters = {name: value.to("meta").requires_grad_(twice) for name, value in initial.items()}
    points = torch.empty(n, *shape, device="meta", requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        outputs = network(parameters, points, ("logits",) if twice else take)
        held: list[object] = [outputs]  # the graph, and so every storage that was counted
        if twice:
            loss = outputs["logits"].logsumexp(1).mean()
            held.append(torch.autograd.grad(loss, list(parameters.values()), create_graph=True, allow_unused=True))
    total = sum(kept.values())
    del held
    return total


def chunk_examples(network: Network, shape: tuple[int, ...], classes: int, device: torch.device) -> int:
    """Examples that pass through the network at once: a power of two that keeps the largest activation near the budget."""
    layers = network.shapes(shape, classes, ("layers",)).values()
    largest = max(4 * 4 * torch.Size(layer).numel() for layer in layers)
    budget = CHUNK_BYTES.get(device.type, CHUNK_BYTES["cuda"])
    if device.type == "cuda":
        budget = min(budget, available_bytes(device) // 16)
    return 1 << max(4, min(12, (budget // max(largest, 1)).bit_length() - 1))
